"""What the stack owes to stages' containers: its start ends those whose run is over, its stop all of them."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.containers.engine import connect
from pipeline.containers.reaper import end_all, reap_containers
from pipeline.exit_codes import PassingFault
from pipeline.registry.reaper import airflow_state
from pipeline.settings import Settings
from pipeline.stack.waiting import Say

ENGINE_SECONDS = 10


def end_forgotten(settings: Settings, say: Say) -> None:
    """At the end of `up`: end the containers that no retry will adopt."""
    _with_engine(settings, say, lambda client: reap_containers(settings, client, airflow_state(settings)))


def end_containers(settings: Settings, say: Say) -> None:
    """In `down`: end every container of this home."""
    _with_engine(settings, say, lambda client: end_all(settings, client))


def _with_engine(settings: Settings, say: Say, work: Callable[..., object]) -> None:
    if settings.runtime != "docker":
        return
    try:
        work(connect(ENGINE_SECONDS))
    except PassingFault as fault:  # nothing runs where no engine is
        say(str(fault))
