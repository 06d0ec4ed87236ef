"""The service without HTTP: a recommendation, an event, a new item."""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from pipeline.data.pseudonyms import PUBLIC_KEY, pseudonym, secret_key
from pipeline.data.sequences import Array
from pipeline.features.feast_import import import_feast
from pipeline.lineage.database import index_url
from pipeline.serving.access import Access, keys_path
from pipeline.serving.champion import Champion, Question
from pipeline.serving.champions import Champions
from pipeline.serving.explained import explained
from pipeline.serving.faults import Refused
from pipeline.serving.feedback import Feedback, Row
from pipeline.serving.given_answers import GivenAnswers
from pipeline.serving.items import ListedItem
from pipeline.serving.messages import FeedbackEvent, NewItem, RecommendRequest
from pipeline.serving.metrics import Metrics
from pipeline.serving.online_features import OnlineFeatures
from pipeline.serving.users import Asked, Happened, User, Users, micros
from pipeline.settings import Settings

log = logging.getLogger("pipeline.serving")

NOBODY = User()


class Service:
    """Everything that answers, behind the routes.

    Attributes:
        champions, users, feedback, access, metrics: its parts.
    """

    def __init__(
        self,
        settings: Settings,
        targets: Sequence[str] | None = None,
        poll_seconds: float = 0.5,
        simulated_clock: bool = False,
    ) -> None:
        """Args:
        targets: only these; None is every target that has a champion.
        poll_seconds: how often the promotion log is looked at.
        simulated_clock: now is the newest `happened_at`, for worlds whose time is not ours.
        """
        self.settings = settings
        self._simulated: datetime | None = None
        self._simulates = simulated_clock
        self.metrics = Metrics()
        # one thread computes: the graph keeps a core busy, and the loop needs the other
        self._computing = ThreadPoolExecutor(1, "model")
        self._writing = ThreadPoolExecutor(2, "items")
        self.access = Access(keys_path(settings.home))
        self.champions = Champions(settings, self.metrics, self._computing, targets, poll_seconds, self.now)
        self.feedback = Feedback(index_url())
        self.users = Users(OnlineFeatures(settings), self.feedback, self.metrics)
        self._key: bytes | None = None
        self._given = GivenAnswers()

    def start(self) -> None:
        """Begin to load champions; requests are answered as soon as the first is there."""
        import_feast()  # here, since it hides torch from everybody while it is imported
        self.champions.start()
        self._writing.submit(self.users.warm)

    async def stop(self) -> None:
        """End the threads; what was acknowledged is on the disk already."""
        await asyncio.get_running_loop().run_in_executor(None, self.champions.stop)
        self.feedback.close()
        self.users.close()
        for executor in (self._computing, self._writing):
            executor.shutdown(wait=False, cancel_futures=True)

    def now(self) -> datetime:
        """UTC; with a simulated clock the newest moment that feedback or a champion has told."""
        if not self._simulates:
            return datetime.now(UTC)
        known = [champion.as_of for champion in self.champions.current.values()] + [self._simulated]
        return max((moment for moment in known if moment is not None), default=datetime.now(UTC))

    def degraded(self, store_away: bool = False) -> str:
        """What is away, for the header `X-Warmstart-Degraded`; empty when nothing is."""
        away = [name for name, gone in (("feature-store", store_away), ("registry", self.champions.away)) if gone]
        for name in away:
            self.metrics.degraded.labels(name).inc()
        return ", ".join(away)

    def champion(self, target: str) -> Champion:
        """What answers for a target.

        Raises:
            Refused: 404 there is no such target, 503 its champion is not loaded (yet).
        """
        champion = self.champions.current.get(target)
        if champion is not None:
            return champion
        self.known(target)
        refused = self.champions.refused.get(target)
        why = f"its champion could not be loaded: {refused.why}" if refused else "its champion is being loaded"
        raise Refused(503, f"{target}: {why}", ["path", "target"], "not_loaded", {"Retry-After": "2"})

    def known(self, target: str) -> None:
        """Refuse a target that nobody knows, with the nearest that somebody does."""
        targets = self.champions.targets
        if target in targets:
            return
        if not self.champions.looked:
            raise Refused(503, "champions are being loaded", ["path", "target"], "not_loaded", {"Retry-After": "2"})
        near = difflib.get_close_matches(target, targets, n=3, cutoff=0.4) or sorted(targets)[:6]
        hint = f"did you mean {' or '.join(near)}?" if near else "no target has a champion yet"
        raise Refused(404, f"there is no target {target[:80]!r}; {hint}", ["path", "target"], "unknown_target")

    def pseudonym(self, champion: Champion | None, user_id: str) -> str:
        """By the name the data calls them."""
        if champion is not None and champion.base.serving["pseudonyms"] == "public":
            return pseudonym(user_id, PUBLIC_KEY) or ""
        if self._key is None:
            self._key = secret_key(Path(self.settings.home))
        return pseudonym(user_id, self._key) or ""

    # recommendations

    async def recommend(
        self, target: str, asked: RecommendRequest, request_id: str, told: dict[str, Any]
    ) -> tuple[dict[str, Any], bool]:
        """The answer as JSON, and whether the feature store was away.

        Raises:
            Refused: see `champion`.
        """
        champion = self.champion(target)
        user, away = NOBODY, False
        if asked.user_id is not None:
            name = self.pseudonym(champion, asked.user_id)
            told["user"] = name
            user, away = await self.users.get(
                Asked(target, name, champion.project, champion.domains, champion.history_length)
            )
        index = champion.index
        history = [index[item] for item in user.item_ids if item in index]
        ignored = [item for item in asked.session if item not in index]
        history += [index[item] for item in asked.session if item in index]
        disliked = [index[item] for item in user.disliked if item in index]
        seen = [*history, *disliked] if asked.exclude_seen else disliked
        blocked = champion.blocked(asked.filter)
        attributes = [*((user.known.profile or {}).get("attributes") or ()), *asked.context.attributes]
        source = "model" if history else "profile" if user.has_profile or attributes else "popularity"
        profile = None
        rows: list[int] = []
        scores: list[float] = []
        notes: list[str] = []
        if source != "popularity":
            profile = self._profile(champion, user, attributes, bool(asked.context.attributes))
            try:
                question = Question(history, profile, attributes, seen, asked.k, blocked)
                rows, scores = await champion.recommend(question)
            except Exception as fault:
                log.error("the model broke", exc_info=fault, extra={"fields": {"request_id": request_id}})
                source, notes = "popularity", ["the model could not be asked"]
        if source == "popularity":
            rows, scores = champion.popular(asked.k, seen, blocked)
        elif asked.k > champion.model.top_k:
            notes.append(f"this model gives {champion.model.top_k} items at most")
        ids = champion.item_ids
        items: list[dict[str, Any]] = [
            {"item_id": ids[row], "score": score} for row, score in zip(rows, scores, strict=True)
        ]
        if asked.explain:
            if source == "model" and profile is not None:
                asked_why = partial(explained, champion, history, profile, attributes, rows)
                because = await asyncio.get_running_loop().run_in_executor(self._writing, asked_why)
                for item, carriers in zip(items, because, strict=True):
                    item["because"] = carriers
            else:
                notes.append("without a history there is no past item that carried these")
        self.metrics.answers.labels(target, source).inc()
        told["source"], told["model"], told["items"] = source, champion.label, len(items)
        self._given.keep(request_id, source, champion.label, items)
        answer = {
            "items": items,
            "source": source,
            "model": champion.label,
            "request_id": request_id,
            "ignored_items": ignored,
            "notes": notes,
        }
        return answer, away

    def _profile(self, champion: Champion, user: User, attributes: Sequence[str], asked_attributes: bool) -> Array:
        key = champion.identity.content
        found = None if asked_attributes else user.profiles.get(key)
        if found is None:
            first = user.times[0] if user.times else None
            found = champion.profile(user.known, first, attributes, micros(self.now()))
            if not asked_attributes and user is not NOBODY:
                user.profiles = {key: found}
        return found

    # feedback

    async def take(self, target: str, events: Sequence[FeedbackEvent], told: dict[str, Any]) -> tuple[int, int]:
        """Events on the disk: how many are new, and how many were there.

        Raises:
            Refused: 404 there is no such target.
            PassingFault: PostgreSQL is away.
        """
        self.known(target)
        champion = self.champions.current.get(target)
        if champion is None:
            raise Refused(503, f"{target}: its champion is being loaded", ["path", "target"], "not_loaded",
                          {"Retry-After": "2"})  # fmt: skip
        now = self.now()
        rows = [
            Row(
                event.event_id,
                target,
                self.pseudonym(champion, event.user_id),
                event.item_id,
                event.event,
                event.value,
                event.happened_at or now,
                self._given.context_of(event),
                event.request_id,
                (event.happened_at or now) if self._simulates else None,
            )
            for event in events
        ]
        try:
            fresh = await self.feedback.write(rows)
        except psycopg.DataError as fault:
            raise Refused(422, f"PostgreSQL cannot keep this: {fault.diag.message_primary}", ["body"]) from fault
        told["events"], told["fresh"] = len(rows), len(fresh)
        left = set(fresh)
        for row in rows:
            if row.event_id in left:
                left.discard(row.event_id)
                self.metrics.events.labels(target, row.event).inc()
                happened = Happened(row.item_id, row.event, micros(row.happened_at))
                self.users.happened(target, row.user_id, [happened])
        if self._simulates:
            self._simulated = max([row.happened_at for row in rows] + [self._simulated or rows[0].happened_at])
        return len(fresh), len(rows) - len(fresh)

    # new items

    async def list_item(self, target: str, asked: NewItem) -> tuple[bool, str | None]:
        """An item on the disk: can it be recommended, and if not, why?

        Raises:
            Refused: 404 there is no such target.
            PassingFault: PostgreSQL is away.
        """
        self.known(target)
        item = ListedItem(asked.item_id, asked.text, tuple(asked.attributes), asked.available_from)
        return await asyncio.get_running_loop().run_in_executor(
            self._writing, self.champions.add_item, target, item
        )  # fmt: skip
