"""What the trainings left, side by side: curves, CPU-seconds to a value, test users judged by our evaluator."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from watch import LISTED

from pipeline.data.training_set import load_domain
from pipeline.evaluation.metrics import hit_rate, ndcg
from pipeline.evaluation.ranking import Requests, rank_holdout
from pipeline.evaluation.statistics import bootstrap

SAMPLES, CONFIDENCE, SEED = 2000, 0.95, 1
OURS, IDS = "ours", "ours_ids"
Point = tuple[float, float]  # CPU-seconds, validation NDCG@10


@dataclass(frozen=True)
class Side:
    """One library with the setting that validated best.

    Attributes:
        points: of every epoch.
        ended: why training ended.
        tried: settings that were trained.
        spent: CPU-seconds of all of them.
        lists: int64 [n_users, LISTED], of the best epoch, for the test.
    """

    name: str
    title: str
    setting: Mapping[str, Any]
    points: Sequence[Point]
    ended: str
    tried: int
    spent: float
    lists: Any

    @classmethod
    def read(cls, name: str, title: str, runs: Path, settings: Sequence[Mapping[str, Any]]) -> Side | None:
        """The best of its finished trainings; None where it has none."""
        done = [n for n in range(len(settings)) if (runs / f"{name}.{n}" / "done").exists()]
        curves = {n: json.loads((runs / f"{name}.{n}" / "curve.json").read_text()) for n in done}
        if not curves:
            return None
        best = max(done, key=lambda n: max(value for _, value in curves[n]["points"]))
        spent = sum(curve["points"][-1][0] for curve in curves.values())
        points = [(seconds, value) for seconds, value in curves[best]["points"]]
        lists = np.load(runs / f"{name}.{best}" / "test.npy")
        return cls(name, title, settings[best], points, curves[best]["ended"], len(done), spent, lists)

    @property
    def best(self) -> Point:
        """CPU-seconds and value of the best validation."""
        return max(self.points, key=lambda point: point[1])

    def seconds_to(self, value: float) -> float | None:
        """CPU-seconds to a validation NDCG@10, None where it was never reached."""
        return next((seconds for seconds, found in self.points if found >= value), None)


@dataclass(frozen=True)
class Lists:
    """Lists as a scorer: what is not listed has the same, lowest score."""

    lists: Any
    n_items: int

    def scores(self, requests: Requests) -> Any:
        """float32 [B, n_items + 1]."""
        scores = np.zeros((len(requests), self.n_items + 1), dtype=np.float32)
        np.put_along_axis(scores, self.lists[requests.users], np.arange(LISTED, 0, -1, dtype=np.float32), axis=1)
        return scores


@dataclass(frozen=True)
class Table:
    """All sides, and the test NDCG@10 and HR@10 of every user of each."""

    sides: Sequence[Side]
    ndcg: Mapping[str, Any]
    hits: Mapping[str, Any]
    text_seconds: float

    def speedup(self, ours: str, peer: Side, before: float = 0.0) -> float | None:
        """How many times sooner ours is at the peer's best validation value; 0 where it never is."""
        side = next((side for side in self.sides if side.name == ours), None)
        if side is None:
            return None
        seconds = side.seconds_to(peer.best[1])
        return 0.0 if seconds is None else peer.best[0] / (seconds + before)

    def gain(self, peer: Side) -> tuple[float, float, float]:
        """Relative gain of ours in test NDCG@10, in percent, with its paired interval."""
        ours, theirs = self.ndcg[OURS], self.ndcg[peer.name]
        draws = np.random.default_rng(SEED)
        counts = draws.multinomial(len(ours), np.full(len(ours), 1.0 / len(ours)), size=SAMPLES)  # (SAMPLES, n)
        ratios = 100.0 * ((counts @ ours) / (counts @ theirs) - 1.0)
        tail = (1.0 - CONFIDENCE) / 2.0
        low, high = np.quantile(ratios, [tail, 1.0 - tail])
        return 100.0 * (float(ours.mean() / theirs.mean()) - 1.0), float(low), float(high)

    def figures(self) -> list[tuple[str, float, str]]:
        """As `write_figures` takes them."""
        found: list[tuple[str, float, str]] = []
        peers = [side for side in self.sides if side.name not in (OURS, IDS)]
        for peer in peers:
            for name, ours, before in (
                (f"peers.{peer.name}_speedup", OURS, 0.0),
                (f"peers.{peer.name}_speedup_with_text_vectors", OURS, self.text_seconds),
                (f"peers.ids_only_{peer.name}_speedup", IDS, 0.0),
            ):
                value = self.speedup(ours, peer, before)
                if value is not None:
                    found.append((name, value, "x" if value else "x, never reached"))
        if peers and OURS in self.ndcg:
            better = max(peers, key=lambda side: self.ndcg[side.name].mean())
            centre, low, high = self.gain(better)
            told = f"% over {better.title}, lower end; {centre:+.1f}, upper {high:+.1f}"
            found.append(("peers.ndcg10_gain_pct", low, told))
        for side in self.sides:
            for word, values in (("ndcg10", self.ndcg), ("hr10", self.hits)):
                found.append((f"peers.{side.name}.{word}_masked", float(values[side.name].mean()), "test"))
            found.append((f"peers.{side.name}.cpu_seconds", side.best[0], f"s to validation {side.best[1]:.4f}"))
        return found

    def interval(self, name: str) -> tuple[float, float, float]:
        """Mean test NDCG@10 with its interval."""
        found = bootstrap({name: self.ndcg[name]}, SAMPLES, CONFIDENCE, SEED)[name]
        return found.value, found.low, found.high


def compare(sides: Sequence[Side], shop: Path) -> Table:
    """Judge every side's test lists."""
    data = load_domain(shop / "data" / "training", shop.name)
    test = data.holdout("test")
    ranks = {side.name: rank_holdout(Lists(side.lists, data.n_items), test, data.n_items).masked for side in sides}
    seconds = json.loads((shop / "prepared.json").read_text())["cpu"]["embed"]
    return Table(
        sides,
        {name: ndcg(found, LISTED) for name, found in ranks.items()},
        {name: hit_rate(found, LISTED) for name, found in ranks.items()},
        seconds,
    )
