"""`make bench-runtime`: what a runtime adds to a stage, and whether a killed worker's container is adopted.

A run of the tiny world with one target through Airflow, in processes and then in containers, each in a home of its own
so that nothing comes from the cache; then workers of a long stage are killed. Needs a Docker engine and `make images`.

* `stage_overhead_s`: median over stages of the task's wall time less the bare function's, runtime process;
* `docker_extra_s`: median over stages of docker's wall time less that of process;
* `adoptions_ok`: of 20 workers (or as many as the first argument says, an even number) killed while their stage
  worked, how many retries adopted the container, a first one being started and no second one;
* `stopped_after_s`: the longest time from marking such a task failed to the end of its container; a heartbeat, which
  is at most five seconds away, is part of it.
"""

from __future__ import annotations

import signal
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from docker.errors import NotFound
from figures import Figure, write_figures

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.containers.engine import connect
from pipeline.containers.running import find
from pipeline.follow.airflow_api import AirflowApi
from pipeline.stack.credentials import airflow_passwords
from tests.e2e.conftest import Night, wait_until
from tests.stack_fixture import running_stack

KILLS = int(sys.argv[1]) if len(sys.argv) > 1 else 20
FOREVER = ["embed.encoder=hashing", "pretrain.epochs=100000", "pretrain.patience=100000", "pretrain.max_steps=10000000"]


def main() -> None:
    """Run the benchmark and write its figures."""
    with tempfile.TemporaryDirectory(prefix="warmstart-bench-") as scratch:
        walls: dict[str, dict[str, float]] = {}
        for runtime in ("process", "docker"):
            with running_stack(Path(scratch) / runtime, runtime=runtime) as settings:
                night = Night(settings, AirflowApi(settings.airflow_uri, "admin", airflow_passwords(settings)["admin"]))
                night.api.await_dag()
                ended = night.run(targets=["harbour"])
                assert ended.state == "success", ended.states()
                walls[runtime] = {
                    name: wall(task) for name, task in ended.tasks.items() if name not in ("open", "close")
                }
                if runtime == "process":
                    bare = {split(a): function_seconds(m) for a, m in ended.manifests.items()}
                else:
                    adopted, stopped = adoptions(night)
        process, docker = walls["process"], walls["docker"]
        figures: list[Figure] = [
            ("stage_overhead_s", statistics.median(process[name] - bare[split(name)] for name in process), "s"),
            ("docker_extra_s", statistics.median(docker[name] - process[name] for name in process), "s"),
            ("adoptions_ok", adopted, f"of {KILLS}"),
            ("stopped_after_s", stopped, "s"),
        ]
        write_figures("runtime", figures)


def wall(task: dict[str, Any]) -> float:
    """Seconds from a task's start to its end, as Airflow has it."""
    return (datetime.fromisoformat(task["end_date"]) - datetime.fromisoformat(task["start_date"])).total_seconds()


def function_seconds(manifest: dict[str, Any]) -> float:
    """Seconds that the stage's wrapper was at work: the attempt's own record."""
    return (datetime.fromisoformat(manifest["ended"]) - datetime.fromisoformat(manifest["started"])).total_seconds()


def split(name: str) -> str:
    """`transfer[0]` and `transfer@harbour` are the same stage."""
    return name.partition("@")[0].partition("[")[0]


def adoptions(night: Night) -> tuple[int, float]:
    """Kill the worker of one long stage again and again; its container must stay the same until the task is failed.

    Returns:
        How often it did, up to the first time that it did not; and the longest end of a container, seconds.
    """
    client, good, longest = connect(), 0, 0.0
    while good < KILLS:
        run_id = night.trigger(targets=["harbour"], overrides=FOREVER)
        wait_until(lambda run_id=run_id: working(night, client, run_id), "pretrain")
        [container] = find(client, night.settings.home, run_id, "pretrain")
        tries = 2  # meta.retries of pretrain
        for attempt in range(1, tries + 1):
            kill(night, run_id)
            wait_until(lambda a=attempt, r=run_id: adopted(night, r, a + 1), f"try {attempt + 1}")
            left = find(client, night.settings.home, run_id, "pretrain")
            if [c["Id"] for c in left] != [container["Id"]] or left[0]["State"] != "running":
                return good, longest
            good += 1
        began = time.monotonic()
        night.patch_task(run_id, "pretrain", new_state="failed")
        wait_until(lambda r=run_id: not find(client, night.settings.home, r, "pretrain"), "the end of the container")
        longest = max(longest, time.monotonic() - began)
        night.wait(run_id)
    return good, longest


def working(night: Night, client: Any, run_id: str) -> bool:
    """Whether pretrain has begun its epochs."""
    with suppress(NotFound):  # a try that failed is cleared away between the two questions
        return any(b"epoch" in client.logs(c["Id"]) for c in find(client, night.settings.home, run_id, "pretrain"))
    return False


def kill(night: Night, run_id: str) -> None:
    """SIGKILL the process that executes pretrain."""
    [instance] = [task["id"] for task in night.api.tasks(run_id) if task["task_id"] == "pretrain"]
    for process in psutil.process_iter(["cmdline"]):
        with suppress(psutil.Error):
            if f"airflow worker -- {instance}" in (process.info["cmdline"] or []):
                process.send_signal(signal.SIGKILL)
    time.sleep(1)


def adopted(night: Night, run_id: str, attempt: int) -> bool:
    """Whether a try says that it goes on with the container of an earlier one."""
    logs = (night.settings.home / "airflow" / "logs").rglob(f"run_id={run_id}/task_id=pretrain/attempt={attempt}.log")
    return any("Reconnecting" in file.read_text() for file in logs)


if __name__ == "__main__":
    main()
