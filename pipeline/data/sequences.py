"""The training sequences of one domain: flat arrays and offsets, so that 10M interactions load in no time.

User `u` is `items[offsets[u]:offsets[u + 1]]`, chronological; the other arrays run parallel to `items`. A
user with nothing to train on has an empty range. The arrays are plain `.npy` files, read memory-mapped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

DTYPES = {"offsets": np.int64, "items": np.int32, "times": np.int64, "events": np.int16, "values": np.float32}


@dataclass(frozen=True)
class Sequences:
    """Interactions grouped by user.

    Attributes:
        offsets: int64 [n_users + 1], rising from 0 to n_interactions.
        items: int32 [n_interactions], item index, 1 is the first item and 0 never occurs.
        times: int64 [n_interactions], microseconds since 1970 UTC.
        events: int16 [n_interactions], 1 + position in the dataset's list of event names (0 is padding).
        values: float32 [n_interactions], NaN where the source gave none.
    """

    offsets: Array
    items: Array
    times: Array
    events: Array
    values: Array

    @property
    def n_users(self) -> int:
        """Users of the domain, those without a training interaction included."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Array:
        """Number of interactions of every user, int64 [n_users]."""
        return np.diff(self.offsets)

    def of_user(self, user: int) -> tuple[Array, Array]:
        """Items and times of one user, both [length]."""
        span = slice(int(self.offsets[user]), int(self.offsets[user + 1]))
        return self.items[span], self.times[span]

    def arrays(self) -> Iterator[tuple[str, Array]]:
        """Name and array of each part, in the order of `DTYPES`."""
        for name in DTYPES:
            yield name, getattr(self, name)


def offsets_of(user_index: Array, n_users: int) -> Array:
    """Offsets int64 [n_users + 1] for rows already sorted by `user_index`."""
    counts = np.bincount(user_index, minlength=n_users)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def write_sequences(folder: Path, sequences: Sequences) -> None:
    """Write one `.npy` a part into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in sequences.arrays():
        np.save(folder / f"{name}.npy", np.ascontiguousarray(array, dtype=DTYPES[name]), allow_pickle=False)


def load_sequences(folder: Path) -> Sequences:
    """Open what `write_sequences` wrote, memory-mapped and read-only.

    Raises:
        FileNotFoundError: a part is missing.
    """
    return Sequences(**{name: _mapped(folder / f"{name}.npy") for name in DTYPES})


def _mapped(path: Path) -> Array:
    """The array in the file; an empty one (a header of 128 bytes) cannot be mapped and is read."""
    mode: Literal["r"] | None = "r" if path.stat().st_size > 128 else None
    return np.load(path, mmap_mode=mode, allow_pickle=False)
