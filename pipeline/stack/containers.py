"""What the stack owes to stages' containers: its start ends those whose run is over, its stop all of them."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.containers.engine import connect, host_gpus, image_by_digest, image_name, inspect_image
from pipeline.containers.reaper import end_all, reap_containers
from pipeline.exit_codes import BadConfiguration, PassingFault, StageError
from pipeline.graph import load_graph
from pipeline.orchestration.resources import resources
from pipeline.registry.reaper import airflow_state
from pipeline.settings import CHECKOUT, Settings
from pipeline.stack.check import ERROR, OK, Check
from pipeline.stack.waiting import Say

ENGINE_SECONDS = 10
IMAGE = "stage"


def refuse_unready_runtime(settings: Settings) -> None:
    """Before anything is started for a run: what its stages run in is there.

    Raises:
        PassingFault: no engine answers.
        BadConfiguration: no such image, or, for a cluster, one without a digest; a stage asks for more GPUs than are
            there.
    """
    if settings.runtime == "docker":
        client = connect(ENGINE_SECONDS)
        inspect_image(client, image_name(IMAGE))
        _refuse_missing_gpus(host_gpus(client))
    elif settings.runtime == "kubernetes":
        image_by_digest(IMAGE)


def _refuse_missing_gpus(there: int | None) -> None:
    for stage in load_graph(CHECKOUT / "dvc.yaml").stages.values():
        wanted = resources(stage.meta).gpus
        if there is not None and wanted != "auto" and wanted > there:
            raise BadConfiguration(
                f"{stage.name} asks for {wanted} GPU(s), and this machine has {there}: run it where there are, or "
                "write `gpus: auto` under its meta in dvc.yaml"
            )


def runtime(settings: Settings) -> list[Check]:
    """Where stages run, for `doctor`."""
    try:
        refuse_unready_runtime(settings)
    except StageError as fault:
        return [Check("runtime", ERROR, f"{settings.runtime}: {fault}", "Then run `warmstart doctor` again.")]
    return [Check("runtime", OK, settings.runtime)]


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
