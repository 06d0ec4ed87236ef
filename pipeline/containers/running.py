"""The containers of a home: find them by their labels, end them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.containers.labels import HOME, RUN, STAGE

GRACE_SECONDS = 3  # Airflow kills a task's process five seconds after it has asked it to end


def find(client: Any, home: Path, run_id: str | None = None, stage: str | None = None) -> list[dict[str, Any]]:
    """Containers of a home (of one run, of one stage of it), running or ended, newest first.

    Each as the engine lists it: Id, Names, Labels, State (created, running, exited, …).
    """
    wanted = [f"{HOME}={home}"]
    wanted += [f"{RUN}={run_id}"] if run_id else []
    wanted += [f"{STAGE}={stage}"] if stage else []
    found: list[dict[str, Any]] = client.containers(all=True, filters={"label": wanted})
    return sorted(found, key=lambda container: -int(container["Created"]))


def end(client: Any, container: str) -> None:
    """End a container (TERM; KILL after `GRACE_SECONDS`) and remove it. Harmless when it is gone, or going."""
    from docker.errors import APIError

    try:
        client.stop(container, timeout=GRACE_SECONDS)
        client.remove_container(container, force=True)
    except APIError as fault:
        if fault.status_code not in (404, 409):  # unknown; its removal is in progress already
            raise
