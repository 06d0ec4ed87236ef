"""The champions that answer, and the thread that watches the promotion log for others.

A change is downloaded, loaded, asked the golden request, warmed and given the listed items while the old champion
answers; then one assignment swaps the two. A champion that cannot be loaded leaves the old one where it is, and is
told of: an error in the log, `warmstart_champion_refused`, `/readyz` and `/v1/models`.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from pipeline.compression.served_model import ServedModel
from pipeline.exit_codes import PassingFault, StageError
from pipeline.lineage.database import index_url
from pipeline.registry.champion import ALIAS, CONTENT_TAG, Version, model_name, version_of
from pipeline.registry.mlflow_rest import MlflowRest
from pipeline.serving.champion import Champion, Identity
from pipeline.serving.fetch import served_folder
from pipeline.serving.items import ItemEncoding, ListedItem, ListedItems, grown
from pipeline.serving.last_champions import LastChampions
from pipeline.serving.log_heads import LogHeads
from pipeline.serving.metrics import Metrics
from pipeline.settings import Settings

log = logging.getLogger("pipeline.serving")

PROBE_SECONDS = 3.0  # between questions whether MLflow is there
RETRY_SECONDS = {True: 3.0, False: 60.0}  # a passing fault, and one that repeating cannot mend
MLFLOW_SECONDS = 5.0


@dataclass
class Refused:
    """A champion by the log that could not be loaded."""

    version: int
    why: str
    again: float  # `time.monotonic` of the next attempt


class Champions:
    """Champions by target. Readers see one or the other, never a mixture.

    Attributes:
        current: what answers.
        refused: champions by the log that do not.
        looked: is it known which targets there are?
        away: why the registry cannot be asked; None while it can.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        executor: Executor,
        targets: Iterable[str] | None = None,
        poll_seconds: float = 0.5,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Args:
        executor: in whose threads models compute.
        targets: only these; None is every target with a champion.
        poll_seconds: between looks at the promotion log, a query of microseconds.
        now: UTC, by which items are let in.
        """
        self.current: dict[str, Champion] = {}
        self.refused: dict[str, Refused] = {}
        self.away: str | None = None
        self.looked = False
        self._settings, self._metrics, self._executor = settings, metrics, executor
        self._only = frozenset(targets) if targets else None
        self._poll, self._now = poll_seconds, now
        self._known: frozenset[str] = self._only or frozenset()
        self._cache = settings.home / "cache" / "served"
        self._rest = MlflowRest(settings.mlflow_uri, MLFLOW_SECONDS)
        self._table = ListedItems(index_url())
        self._encode = ItemEncoding(settings.home)
        self._items: dict[str, dict[str, ListedItem]] = {}
        self._swapping = threading.RLock()  # one change of `current` at a time; readers need none
        self._probed = 0.0
        self._frozen = False
        self._log, self._last = LogHeads(), LastChampions(self._cache)
        self._wake, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="champions", daemon=True)

    @property
    def targets(self) -> frozenset[str]:
        """Targets that can be asked for, loaded or not."""
        return self._known | frozenset(self.current)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after what it is doing."""
        self._ended.set()
        self._wake.set()
        self._thread.join(10)

    def look_now(self) -> None:
        """Do not wait for the next look; what was refused is tried again."""
        for refused in list(self.refused.values()):
            refused.again = 0.0
        self._wake.set()

    def problems(self) -> list[str]:
        """What whoever looks after the service should know."""
        found = [f"{model_name(target)}/{one.version} is not served: {one.why}" for target, one in self.refused.items()]
        return found + ([f"registry: {self.away}"] if self.away else [])

    def add_item(self, target: str, item: ListedItem) -> tuple[bool, str | None]:
        """Keep an item and make it recommendable. Blocks; not in the event loop.

        Returns:
            whether it can be recommended from now on, and if not, why.

        Raises:
            PassingFault: PostgreSQL is away; nothing is kept.
        """
        self._table.put(target, item, self._now())
        with self._swapping:
            self._items.setdefault(target, {})[item.item_id] = item
            champion = self.current.get(target)
            if champion is None:
                return False, f"{model_name(target)} has no champion that is loaded; it will know the item"
            if item.item_id in champion.base.item_index:
                return True, "the model was trained on this item; what it is now enters the next snapshot"
            if not item.due(self._now()):
                return False, f"it will be from {item.available_from} on"
            try:
                self._swap(champion.grown_to(self._with_item(champion, item)))
            except Exception as fault:  # the item is kept: the next champion may know what to do with it
                fields = {"target": target, "why": str(fault)}
                log.error("a new item could not be encoded", extra={"fields": fields}, exc_info=fault)
                return False, f"{champion.label} cannot encode it: {fault}"
        return True, None

    def _with_item(self, champion: Champion, item: ListedItem) -> ServedModel:
        if item.item_id in champion.index:  # described anew: rows never change, so all of them are made again
            return grown(champion.base, self._items[champion.identity.target], self._encode, self._now())
        vectors = self._encode(champion.base, [item], self._now())
        return champion.model.with_items([item.item_id], vectors, [list(item.attributes)])

    # the thread

    def _watch(self) -> None:
        while not self._ended.is_set():
            try:
                self.look()
            except Exception as fault:
                log.error("looking at the registry broke", exc_info=fault)
            self.looked = True
            self._wake.wait(self._poll)
            self._wake.clear()

    def look(self) -> None:
        """Once: load what changed, let items in whose time has come."""
        heads = self._heads()
        if heads is not None:
            self._known = frozenset(heads) | (self._only or frozenset())
            self.looked = True  # which targets there are is known now, before their champions are loaded
            for target, version in sorted(heads.items()):
                self._follow(target, version)
        elif not self.current:
            self._load_remembered()
        if time.monotonic() - self._probed > PROBE_SECONDS:
            self._probe()
        self._let_in()

    def _heads(self) -> dict[str, int] | None:
        try:
            heads = self._log.read()
        except PassingFault as fault:
            self._gone(str(fault))
            return None
        return {target: version for target, version in heads.items() if self._only is None or target in self._only}

    def _follow(self, target: str, version: int) -> None:
        champion, refused = self.current.get(target), self.refused.get(target)
        if champion is not None and champion.identity.version == version:
            if self.refused.pop(target, None):  # rolled back to what answers anyway
                self._metrics.stale.labels(target).set(0)
            return
        if refused is not None and refused.version == version and time.monotonic() < refused.again:
            return
        try:
            self._load(self._identified(target, version))
        except Exception as fault:
            passing = isinstance(fault, PassingFault)
            why = str(fault) or type(fault).__name__
            known = refused is not None and (refused.version, refused.why) == (version, why)
            self.refused[target] = Refused(version, why, time.monotonic() + RETRY_SECONDS[passing])
            self._metrics.stale.labels(target).set(1)
            self._metrics.loads.labels(target, "refused").inc()
            if not known:
                stays = f"{champion.label} goes on serving" if champion else "nothing serves this target"
                fields = {"target": target, "version": version, "why": why, "then": stays}
                log.error("champion refused", extra={"fields": fields}, exc_info=None if passing else fault)
            if champion is None and passing:
                self._load_remembered(target)
        else:
            self.refused.pop(target, None)
            self._metrics.stale.labels(target).set(0)

    def _identified(self, target: str, number: int) -> tuple[Identity, Version]:
        name = model_name(target)
        remembered = self._last.recall(target)
        if remembered is not None and remembered.version == number:
            return remembered, Version(name, number, "", {CONTENT_TAG: remembered.content})
        answer = self._rest.version(name, number)
        if answer is None:
            raise PassingFault(f"{name}/{number} is champion by the promotion log and gone from MLflow")
        version = version_of(answer)
        return Identity(target, name, number, version.run_id, version.as_of, version.content), version

    def _load(self, found: tuple[Identity, Version]) -> None:
        identity, version = found
        began = time.monotonic()
        folder = served_folder(version, self._cache)
        identity = replace(identity, content=folder.name)
        base = ServedModel(folder)
        champion = Champion(identity, base, base, self._executor, self._metrics)
        champion.check()
        self._read_items(identity.target)
        with self._swapping:
            self._swap(champion.grown_to(self._grown_or_bare(champion)))
        self._last.remember(identity)
        self._metrics.loads.labels(identity.target, "loaded").inc()
        fields = champion.about() | {"seconds": round(time.monotonic() - began, 3)}
        log.info("champion loaded", extra={"fields": fields})
        try:
            self._encode.prepare(base)
        except Exception as fault:
            log.error("new items cannot be encoded", extra={"fields": {"target": identity.target, "why": str(fault)}})
        if not self._frozen:
            # What stays for days is not looked through by every full collection: those pauses are the latency's tail.
            gc.collect()
            gc.freeze()
            self._frozen = True

    def _grown_or_bare(self, champion: Champion) -> ServedModel:
        target = champion.identity.target
        try:
            return grown(champion.base, self._items.get(target, {}), self._encode, self._now())
        except Exception as fault:  # without the listed items it is still the better model
            log.error("listed items left out", extra={"fields": {"target": target, "why": str(fault)}})
            return champion.base

    def _swap(self, champion: Champion) -> None:
        target = champion.identity.target
        self.current = self.current | {target: champion}  # one assignment: whoever reads has the old or the new one
        self._metrics.version.labels(target).set(champion.identity.version)
        self._metrics.items.labels(target).set(champion.model.n_items)

    def _read_items(self, target: str) -> None:
        try:
            found = self._table.read(target)
        except PassingFault as fault:
            log.error("listed items not read", extra={"fields": {"target": target, "why": str(fault)}})
            return
        with self._swapping:
            self._items[target] = found | self._items.get(target, {})

    def _let_in(self) -> None:
        now = self._now()
        for target, champion in list(self.current.items()):
            items = self._items.get(target, {})
            late = [
                item
                for item in items.values()
                if item.available_from is not None and item.due(now) and item.item_id not in champion.index
            ]
            if late:
                with self._swapping:
                    champion = self.current[target]
                    self._swap(champion.grown_to(self._grown_or_bare(champion)))

    def _probe(self) -> None:
        """Is MLflow there, and does its alias say what the log says?"""
        self._probed = time.monotonic()
        if not self._log.connected:
            return  # the log is away, which is told already
        try:
            for target in sorted(self.current)[:1]:
                self._rest.version_by_alias(model_name(target), ALIAS)
        except StageError as fault:
            self._gone(str(fault))
            return
        if self.away is not None:
            log.info("the registry is back")
        self.away = None
        self._metrics.away.labels("registry").set(0)

    def _gone(self, why: str) -> None:
        if self.away is None:
            log.error("the registry is away: champions stay as they are", extra={"fields": {"why": why}})
        self.away = why
        self._metrics.away.labels("registry").set(1)

    def _load_remembered(self, only: str | None = None) -> None:
        """The last champions of this home, while nobody can say which ones are."""
        for identity in self._last:
            if (only or identity.target) != identity.target or identity.target in self.current:
                continue
            if self._only is not None and identity.target not in self._only:
                continue
            version = Version(identity.name, identity.version, "", {CONTENT_TAG: identity.content})
            log.error("the registry is away: the last champion is loaded", extra={"fields": asdict(identity)})
            self._load((identity, version))
