"""How many made sequences are copies of real ones: memorised, not made."""

from __future__ import annotations

import numpy as np

from pipeline.data.sequences import Array

SHORTEST_COPY = 3  # items: shorter stretches are common by chance


def copied_share(made: Array, real: Array, owners: Array | None = None) -> float:
    """Share of the made sequences of three items or more that stand, whole and in order, in a real one.

    Args:
        made, real: int64 [n, L], left-aligned, 0 after the last item.
        owners: int64 [n], the row of `real` that does not count for each made one (its own); None: every row counts.
    """
    lengths = (made > 0).sum(1)
    holders: dict[tuple[int, ...], set[int]] = {}
    for row in np.flatnonzero(lengths >= SHORTEST_COPY):
        holders.setdefault(tuple(made[row, : lengths[row]].tolist()), set())
    sizes = sorted({len(stretch) for stretch in holders})
    for number, sequence in enumerate(real):
        items = sequence[sequence > 0].tolist()
        for size in (size for size in sizes if size <= len(items)):
            for start in range(len(items) - size + 1):
                found = holders.get(tuple(items[start : start + size]))
                if found is not None:
                    found.add(number)
    judged = np.flatnonzero(lengths >= SHORTEST_COPY)
    if not len(judged):
        return 0.0
    copies = 0
    for row in judged:
        found = holders[tuple(made[row, : lengths[row]].tolist())]
        copies += bool(found - ({int(owners[row])} if owners is not None else set()))
    return copies / len(judged)
