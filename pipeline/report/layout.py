"""Where the stages stand in the drawing: columns by depth, lanes by target; edges that say nothing new left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.graph import split_address

Edges = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Place:
    """A stage's column (0 = reads nothing) and lane (0 = the topmost)."""

    column: int
    lane: int


def reduced(edges: Edges) -> dict[str, tuple[str, ...]]:
    """The transitive reduction: an edge goes if a longer way leads along it (Aho, Garey, Ullman 1972).

    `edges` is in topological order: address -> addresses it waits for.
    """
    above: dict[str, set[str]] = {}
    kept = {}
    for address, waits in edges.items():
        beyond = {far for near in waits for far in above[near]}
        above[address] = beyond | set(waits)
        kept[address] = tuple(near for near in waits if near not in beyond)
    return kept


def places(edges: Edges) -> dict[str, Place]:
    """Columns and lanes of all stages; the longest way keeps to its lane, each target has one of its own.

    `edges` is reduced and in topological order.
    """
    columns: dict[str, int] = {}
    for address, waits in edges.items():
        columns[address] = 1 + max((columns[near] for near in waits), default=-1)
    heights = dict.fromkeys(edges, 0)
    for address in reversed(list(edges)):
        for near in edges[address]:
            heights[near] = max(heights[near], heights[address] + 1)

    taken: set[tuple[int, int]] = set()
    found: dict[str, Place] = {}
    targets = dict.fromkeys(split_address(address)[1] for address in edges)
    for target in sorted(targets, key=lambda name: name is not None):  # the shared stages first; sorting is stable
        group = [address for address in edges if split_address(address)[1] == target]
        lanes = _lanes(group, edges, columns, heights)
        base = 0
        while any((columns[address], base + lanes[address]) in taken for address in group):
            base += 1
        for address in group:
            found[address] = Place(columns[address], base + lanes[address])
            taken.add((columns[address], base + lanes[address]))
    return found


def _lanes(group: list[str], edges: Edges, columns: dict[str, int], heights: dict[str, int]) -> dict[str, int]:
    lanes: dict[str, int] = {}
    taken: set[tuple[int, int]] = set()
    for address in sorted(group, key=lambda one: (columns[one], -heights[one])):
        lane = min((lanes[near] for near in edges[address] if near in lanes), default=0)
        while (columns[address], lane) in taken:
            lane += 1
        lanes[address] = lane
        taken.add((columns[address], lane))
    return lanes
