"""Users as the model needs them: history and features, from memory where they are fresh, else from the stores.

The history is Feast's (at most a night old) and the feedback since, each event once. Look-ups of requests that arrive
together are one read. When a store is away, what is in memory answers, however old, and the answer says so.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

from pipeline.data.sequences import Array
from pipeline.serving.batching import Batcher
from pipeline.serving.metrics import Metrics
from pipeline.serving.online_features import Known

log = logging.getLogger("pipeline.serving")

CACHED = 20_000  # users; about 2 KB each at a history of 50
FRESH_SECONDS = 60.0
LOOKUP_SECONDS = 1.0  # how long an answer waits for the stores
RETRY_SECONDS = 2.0  # so long nobody is asked again who did not answer
NOT_HISTORY = frozenset({"impression", "dislike"})  # shown is not chosen; disliked is not liked


class Happened(NamedTuple):
    """One event of a user, as the history needs it."""

    item_id: str
    event: str
    micros: int  # microseconds since 1970 UTC


@dataclass
class User:
    """What is known of a user in one target domain.

    Attributes:
        known: features as Feast gave them.
        item_ids: history, chronological, not cut.
        times: microseconds UTC, beside them.
        disliked: never to be recommended again.
        fetched: `time.monotonic` of the read.
        profiles: profile vectors by model (`content`), made when first wanted.
    """

    known: Known = field(default_factory=Known)
    item_ids: list[str] = field(default_factory=list)
    times: array[int] = field(default_factory=lambda: array("q"))
    disliked: set[str] = field(default_factory=set)
    fetched: float = 0.0
    profiles: dict[str, Array] = field(default_factory=dict)

    @property
    def has_profile(self) -> bool:
        """Does the feature store know anything of them: attributes, or what they did in any domain?"""
        return bool((self.known.profile or {}).get("attributes")) or bool(self.known.activity)

    def add(self, happened: Happened) -> None:
        """Take in an event; one that is here already changes nothing."""
        item, event, micros = happened
        if event == "dislike":
            self.disliked.add(sys.intern(item))
        if event in NOT_HISTORY:
            return
        place = bisect_right(self.times, micros)
        before = place - 1
        while before >= 0 and self.times[before] == micros:
            if self.item_ids[before] == item:
                return
            before -= 1
        self.times.insert(place, micros)
        self.item_ids.insert(place, sys.intern(item))


class FeatureReader(Protocol):
    """`OnlineFeatures.read`."""

    def read(self, project: str, target: str, domains: Sequence[str], user_ids: Sequence[str]) -> list[Known]:
        """See `OnlineFeatures`."""
        ...


class EventReader(Protocol):
    """`Feedback.newest`."""

    def newest(self, target: str, user_ids: Sequence[str], most: int) -> dict[str, list[Happened]]:
        """See `feedback.Feedback`."""
        ...


class Asked(NamedTuple):
    """Who is looked up, and where Feast has them."""

    target: str
    user_id: str
    project: str
    domains: tuple[str, ...]
    length: int


class Users:
    """The users of every target. One event loop."""

    def __init__(
        self,
        features: FeatureReader,
        events: EventReader,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._features, self._events, self._metrics, self._clock = features, events, metrics, clock
        self._cache: OrderedDict[tuple[str, str], User] = OrderedDict()
        self._reading: dict[tuple[str, str], asyncio.Task[User]] = {}
        self._arriving: dict[tuple[str, str], list[Happened]] = {}  # events of users who are being read
        self._executor = ThreadPoolExecutor(1, "users")
        self._read = Batcher(self._read_many, self._executor, most=256, wait=0)
        self._away_until = 0.0

    @property
    def away(self) -> bool:
        """Did the stores not answer lately?"""
        return self._clock() < self._away_until

    def warm(self) -> None:
        """Import Feast before the first request does; a store that is away is no fault yet."""
        try:
            self._executor.submit(self._features.read, "warm", "warm", (), ["warm"]).result(30)
        except Exception as fault:  # a project that was never materialised, or a server that is not up yet
            log.debug("feature store", exc_info=fault)

    async def get(self, asked: Asked) -> tuple[User, bool]:
        """The user, and whether a store that should have been asked was away."""
        key = (asked.target, asked.user_id)
        user = self._cache.get(key)
        now = self._clock()
        if user is not None and now - user.fetched < FRESH_SECONDS:
            self._cache.move_to_end(key)
            self._metrics.users.labels("memory").inc()
            return user, self.away
        if now < self._away_until:
            return user or User(), True
        if key not in self._reading:
            self._metrics.users.labels("store").inc()
            self._reading[key] = reading = asyncio.create_task(self._look_up(key, asked))
            reading.add_done_callback(lambda task: task.cancelled() or task.exception())  # told of by whoever waits
        try:
            # shielded: whoever stops waiting does not spoil it for the others, nor for the cache
            return await asyncio.wait_for(asyncio.shield(self._reading[key]), LOOKUP_SECONDS), False
        except Exception as fault:
            if self._clock() >= self._away_until:
                log.error("the feature store did not answer: what is in memory answers", exc_info=fault)
            self._away_until = self._clock() + RETRY_SECONDS
            self._metrics.away.labels("feature-store").set(1)
            return self._cache.get(key) or User(), True

    async def _look_up(self, key: tuple[str, str], asked: Asked) -> User:
        self._arriving[key] = []
        try:
            user = await self._read(asked)
            for happened in self._arriving[key]:
                user.add(happened)
            self._keep(key, user)
            return user
        finally:
            del self._arriving[key], self._reading[key]

    def happened(self, target: str, user_id: str, events: Iterable[Happened]) -> None:
        """Events that are on the disk now: the next answer knows them."""
        key = (target, user_id)
        user = self._cache.get(key)
        for happened in events:
            if user is not None:
                user.add(happened)
            if key in self._arriving:
                self._arriving[key].append(happened)

    def close(self) -> None:
        """End the reading thread."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _keep(self, key: tuple[str, str], user: User) -> None:
        self._metrics.away.labels("feature-store").set(0)
        user.fetched = self._clock()
        self._cache[key] = user
        self._cache.move_to_end(key)
        if len(self._cache) > CACHED:
            self._cache.popitem(last=False)

    def _read_many(self, asked: Sequence[Asked]) -> list[User]:
        """In the thread. One read for each (target, project) of the batch; there is mostly one."""
        found: dict[Asked, User] = {}
        for group in {(one.target, one.project, one.domains, one.length) for one in asked}:
            target, project, domains, length = group
            ids = list(dict.fromkeys(one.user_id for one in asked if (one.target, one.project) == (target, project)))
            known = self._features.read(project, target, domains, ids)
            newer = self._events.newest(target, ids, length)
            for user_id, told in zip(ids, known, strict=True):
                found[Asked(target, user_id, project, domains, length)] = _user(told, newer.get(user_id, ()))
        return [found[one] for one in asked]


def _user(known: Known, events: Iterable[Happened]) -> User:
    user = User(known, [sys.intern(item) for item in known.item_ids], array("q", known.times))
    for happened in events:
        user.add(happened)
    return user


def micros(moment: datetime) -> int:
    """Microseconds since 1970 UTC, exactly (a float of seconds would not be)."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
