"""At start-up: end the containers of this home whose run is over.

A container outlives its worker on purpose, for the retry to adopt it. When no retry will come (the run was closed, has
ended, or is not known any more), nobody would end it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from pipeline.containers.labels import RUN, STAGE
from pipeline.containers.running import end, find
from pipeline.graph import load_graph, split_address
from pipeline.runs.workspace import workspace_path
from pipeline.settings import CHECKOUT, Settings

log = logging.getLogger(__name__)

ENDED = ("success", "failed")


def reap_containers(settings: Settings, client: Any, state_of: Callable[[str], str | None]) -> list[str]:
    """End what is over; returns a sentence for each container.

    Args:
        state_of: what Airflow says of a run; None when it is not known, which proves nothing.
    """
    done = []
    stages = load_graph(CHECKOUT / "dvc.yaml").stages
    for container in find(client, settings.home):
        run_id, stage = (container["Labels"][label] for label in (RUN, STAGE))
        if split_address(stage)[0] not in stages:  # it opens or closes a run, and ends by itself
            continue
        closed = not (workspace_path(settings, run_id) / "run.yaml").exists()
        if closed or state_of(run_id) in ENDED:
            end(client, container["Id"])
            done.append(f"the container of {stage} of {run_id} was ended: its run is over")
            log.warning("%s", done[-1])
    return done


def end_all(settings: Settings, client: Any) -> int:
    """End every container of this home; returns how many there were."""
    found = find(client, settings.home)
    for container in found:
        end(client, container["Id"])
    return len(found)
