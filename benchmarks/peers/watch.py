"""The same watch over every library's training: CPU-seconds, validation after each epoch, the best lists kept.

Runs in the peers' environments too, so it needs numpy alone. Validating here is left out of the CPU-seconds: how a
library validates is not compared.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

LISTED = 10  # items of a list


@dataclass(frozen=True)
class Split:
    """Leave-one-out: what every library trains on, validates on and is judged on.

    Attributes:
        offsets: int64 [n_users + 1] into `items`.
        items: training interactions, chronological, item indices from 1.
        validation, test: int64 [n_users], each user's last item but one, and last.
        n_items: of the catalogue.
    """

    offsets: Any
    items: Any
    validation: Any
    test: Any
    n_items: int

    @classmethod
    def read(cls, path: Path) -> Split:
        """From an .npz file with these names."""
        with np.load(path) as file:
            return cls(file["offsets"], file["items"], file["validation"], file["test"], int(file["n_items"]))

    @property
    def targets_per_user(self) -> float:
        """Training interactions that follow another one."""
        return len(self.items) / (len(self.offsets) - 1) - 1.0

    def history(self, user: int, part: str) -> list[int]:
        """What came before the held-out item of "validation" or "test"."""
        seen = self.items[self.offsets[user] : self.offsets[user + 1]].tolist()
        return seen if part == "validation" else [*seen, int(self.validation[user])]

    def rows(self, held: bool) -> tuple[Any, Any, Any]:
        """User, item and place in the user's order of all interactions; with `held` the held-out ones too."""
        lengths = np.diff(self.offsets)
        users = np.repeat(np.arange(len(lengths)), lengths)
        places = np.arange(len(users)) - np.repeat(self.offsets[:-1], lengths)
        items = self.items
        if held:
            everybody = np.arange(len(lengths))
            users = np.concatenate([users, everybody, everybody])
            items = np.concatenate([items, self.validation, self.test])
            places = np.concatenate([places, lengths, lengths + 1])
        return users, items, places


Recommend = Callable[[str], Any]  # "validation" or "test" to int [n_users, LISTED], best first, seen items left out


class Watch:
    """One training under watch; its figures go to `curve.json` and `test.npy` of a folder."""

    def __init__(self, split: Split, folder: Path, limit: float, patience: int) -> None:
        """Args:
        limit: CPU-seconds of training; more end it after the epoch.
        patience: epochs without a better validation that end it.
        """
        self.split, self.folder, self.limit, self.patience = split, folder, limit, patience
        self.points: list[tuple[float, float]] = []
        self.spent, self._began = 0.0, time.process_time()

    def epoch_ends(self, recommend: Recommend) -> bool:
        """Validate; whether training should stop."""
        self.spent += time.process_time() - self._began
        value = ndcg10(recommend("validation"), self.split.validation)
        self.points.append((self.spent, value))
        best = max(range(len(self.points)), key=lambda row: self.points[row][1])
        if best == len(self.points) - 1:
            np.save(self.folder / "test.npy", recommend("test"))
        print(f"epoch {len(self.points)}: {self.spent:.1f} CPU-s, validation NDCG@10 {value:.4f}", flush=True)
        over = self.spent >= self.limit
        worse = len(self.points) - 1 - best >= self.patience
        self._write("the limit of CPU-seconds" if over and not worse else "patience" if worse else "its last epoch")
        self._began = time.process_time()
        return over or worse

    def _write(self, ended: str) -> None:
        (self.folder / "curve.json").write_text(json.dumps({"points": self.points, "ended": ended}))


def ndcg10(lists: Any, wanted: Any) -> float:
    """Mean over users; one item is wanted of each."""
    gains = 1.0 / np.log2(np.arange(lists.shape[1]) + 2.0)
    return float(((lists == np.asarray(wanted)[:, None]) * gains).sum(1).mean())
