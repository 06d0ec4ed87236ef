"""The four states of an experiment, with counts: known and new users, each with known and new items.

Those of MeLU (Lee et al., KDD 2019, arXiv 1908.00413). New is who or what has no training interaction; a new user's
support set is the history that stands before the test item. A state without a user says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from pipeline.data.sequences import Array
from pipeline.transfer.experiment_arms import Outcome
from pipeline.transfer.outcome import gain, pooled
from pipeline.transfer.params import SCRATCH
from pipeline.transfer.parts import STATES


@dataclass(frozen=True)
class State:
    """One state at one share.

    Attributes:
        name: of `STATES`.
        n: users of all seeds.
        reason: why there is none; empty where there are some.
    """

    name: str
    n: int
    reason: str


def states_of(outcomes: Sequence[Outcome]) -> list[State]:
    """All four, from the outcomes of one arm at one share."""
    counts = {name: len(pooled(outcomes, name)) for name in STATES}
    known, known_new, new, new_new = counts.values()
    found = []
    for name, n in counts.items():
        reason = ""
        if n == 0 and name.startswith("new users") and new + new_new == 0:
            reason = "every test user has training interactions"
        elif n == 0 and name.startswith("known users") and known + known_new == 0:
            reason = "no test user has a training interaction"
        elif n == 0 and name.endswith("new items") and known_new + new_new == 0:
            reason = "every item that a test user took has training interactions"
        elif n == 0 and name.endswith("known items") and known + new == 0:
            reason = "no item that a test user took has a training interaction"
        elif n == 0:
            reason = "there are such users and such items, and none of these users took one"
        found.append(State(name, n, reason))
    return found


def states_table(outcomes: Sequence[Outcome], arm: str) -> str:
    """For every share and state the users, NDCG@10 from scratch and of an arm, and the gain; or why nobody is there.

    Args:
        outcomes: of all arms, shares and seeds.
        arm: to compare with scratch.
    """
    body = []
    for share in sorted({one["share"] for one in outcomes}):
        here = [one for one in outcomes if one["share"] == share]
        ours, theirs = ([one for one in here if one["arm"] == name] for name in (arm, SCRATCH))
        for state in states_of(ours):
            cells = f'<td colspan="4">{escape(state.reason)}</td>'
            if state.n:
                cells = _cells(pooled(ours, state.name), pooled(theirs, state.name))
            body.append(f"<tr><td>{share:.3g}</td><th>{escape(state.name)}</th>{cells}</tr>")
    head = "".join(f"<th>{escape(name)}</th>" for name in ("share", "state", "users", SCRATCH, arm, "gain"))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _cells(ours: Array, theirs: Array) -> str:
    value, low, high = gain(ours, theirs) if len(theirs) else (None, None, None)
    told = "–" if value is None else f"{value:+.1f} % [{low:+.1f}, {high:+.1f}]"
    means = [f"{column.mean():.4f}" if len(column) else "–" for column in (theirs, ours)]
    return "".join(f"<td>{cell}</td>" for cell in (f"{len(ours):,}", *means, told))
