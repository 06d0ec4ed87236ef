"""What Airflow does with a stage's exit code: done, skip, fail for good, or fail and try again.

Every runtime (process, container) ends in this one function.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from pipeline.exit_codes import (
    DONE,
    KILLED,
    MEANING,
    NEVER_RETRIED,
    NOT_PROMOTED,
    TERMINATED,
    BadConfiguration,
    StageError,
)


def raise_for_exit_code(code: int, what: str) -> None:
    """Return for 0; otherwise raise what makes Airflow act on the code.

    Raises:
        AirflowSkipException: 99, the stage finished and nothing was promoted.
        AirflowFailException: 65 and 78; a retry cannot help.
        AirflowException: everything else; retried as often as the stage's `meta.retries` says.
    """
    if code < 0:  # subprocess reports a signal as a negative number
        code = 128 - code
    if code == DONE:
        return
    meaning = f"{what} ended with {code} ({MEANING.get(code, 'unknown')}); the sentence that says why stands above"
    if code == NOT_PROMOTED:
        raise AirflowSkipException(f"{what} finished with 99: nothing was promoted, or there was nothing new")
    if code in NEVER_RETRIED:
        raise AirflowFailException(meaning)
    if code in (KILLED, TERMINATED):
        raise AirflowException(f"{meaning}; the retry resumes from the last checkpoint")
    raise AirflowException(meaning)


@contextmanager
def told(operator: Any) -> Iterator[None]:
    """What stops a task before its command runs: the sentence goes to the task's log, its exit code to Airflow."""
    try:
        yield
    except ValueError as fault:  # a wrong word under `meta:`
        operator.log.error("%s", fault)
        raise_for_exit_code(BadConfiguration.exit_code, operator.task_id)
    except StageError as fault:
        operator.log.error("%s", fault)
        raise_for_exit_code(fault.exit_code, operator.task_id)
