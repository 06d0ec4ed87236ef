"""What a start owes to whatever was killed before it: aliases follow the log, and runs left RUNNING are closed.

A start goes on when this cannot be done: the servers are up, and `warmstart models verify` says what is wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from pipeline.runs.faults import explain
from pipeline.settings import Settings

log = logging.getLogger(__name__)


def tidy_up(settings: Settings, say: Callable[[str], None]) -> None:
    """At the end of `warmstart up`, when every server is well."""
    from pipeline.lineage.database import DATABASE, index_url
    from pipeline.registry.mlflow_rest import MlflowRest
    from pipeline.registry.promotion import repair

    if settings.postgres_url(DATABASE) != index_url():
        return  # a stack that this process only starts, for others: the log it would read is not that stack's

    def follow_log() -> list[str]:
        return repair(MlflowRest(settings.mlflow_uri))

    for sentence in _attempt(follow_log):
        say(sentence)
    close_killed_runs(settings)


def close_killed_runs(settings: Settings, opening: str | None = None) -> None:
    """Close MLflow runs that nobody writes any more; `opening` is the run that is being opened."""
    from pipeline.registry.mlflow_rest import MlflowRest
    from pipeline.registry.reaper import airflow_state, reap

    _attempt(lambda: reap(settings, MlflowRest(settings.mlflow_uri), airflow_state(settings), spare=opening))


def _attempt(work: Callable[[], list[str]]) -> list[str]:
    try:
        return work()
    except Exception as fault:
        _, sentence = explain(fault)
        log.warning("%s", sentence)
        log.debug("why tidying up was left", exc_info=fault)
        return [sentence]
