"""The contract between a stage and its caller: one exit code per kind of ending.

Standard library only: both environments import it. A stage raises one of these exceptions, the wrapper turns it
into the exit code, and the orchestrator decides from the code alone whether to retry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DONE = 0
BROKE = 1  # an unforeseen exception: a fault of ours, retried like a passing one
DATA_BROKE_CONTRACT = 65
PASSING_FAULT = 75
BAD_CONFIGURATION = 78
NOT_PROMOTED = 99
KILLED = 137
TERMINATED = 143

NEVER_RETRIED = frozenset({DATA_BROKE_CONTRACT, BAD_CONFIGURATION})

MEANING = {
    DONE: "done",
    BROKE: "broke",
    DATA_BROKE_CONTRACT: "the data broke a contract",
    PASSING_FAULT: "a passing fault",
    BAD_CONFIGURATION: "bad configuration",
    NOT_PROMOTED: "finished, not promoted",
    KILLED: "killed",
    TERMINATED: "terminated",
}


class StageError(Exception):
    """A stage's ending that its caller must act on. The message is one clear sentence for a person.

    Args:
        sentence: what was wrong, where, and what to do.
        facts: what the failed attempt's manifest should tell all the same (`Summary.facts`).
    """

    exit_code = BROKE

    def __init__(self, sentence: str = "", facts: Mapping[str, Any] | None = None) -> None:
        super().__init__(sentence)
        self.facts = dict(facts or {})


class DataBrokeContract(StageError):
    """The data cannot be used as it is (65). Retrying cannot help; a person must look at the data."""

    exit_code = DATA_BROKE_CONTRACT


class PassingFault(StageError):
    """A server went away, a disk was full, a lock was held (75). The same attempt may succeed later."""

    exit_code = PASSING_FAULT


class BadConfiguration(StageError):
    """A parameter, path or reference is wrong (78). Retrying cannot help; the message names the right one."""

    exit_code = BAD_CONFIGURATION
