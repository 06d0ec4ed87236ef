"""Runtime `process`: a task is a process group of the stages' environment on this machine.

`ProcessOperator` runs one `warmstart workspace …` command. Marking the task failed, clearing it or a timeout ends the
whole group; so does the death of the worker (the kernel then sends TERM to the child).
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseOperator

from pipeline.orchestration.exit_status import raise_for_exit_code
from pipeline.orchestration.location import CHECKOUT, python, workspace_folder

PR_SET_PDEATHSIG = 1
TASK_VARIABLE = "WARMSTART_TASK"  # `pipeline.runs.attempt` reads it
GRACE_SECONDS = 10


class ProcessOperator(BaseOperator):
    """Run `python -m pipeline <words>`, in the run's workspace once there is one.

    Args:
        words: the command's words; templated.
        in_workspace: False only for opening and closing the run, which the checkout's code does.
    """

    template_fields: Sequence[str] = ("words",)
    ui_color = "#e8f0e4"

    def __init__(self, *, words: Sequence[str], in_workspace: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.words = list(words)
        self.in_workspace = in_workspace
        self._process: subprocess.Popen[str] | None = None

    def execute(self, context: Any) -> Any:
        """Run the command, copy its lines to the task's log, and act on its exit code."""
        folder = workspace_folder(context["run_id"]) if self.in_workspace else CHECKOUT
        self._process = subprocess.Popen(
            [python(), "-m", "pipeline", *self.words],
            cwd=folder,
            env=_environment() | task_identity(context.get("ti")),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=_die_with_worker if sys.platform == "linux" else None,
        )
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                self.log.info("%s", line.rstrip())
            code = self._process.wait()
        finally:
            self.on_kill()
        raise_for_exit_code(code, self.task_id)

    def on_kill(self) -> None:
        """End the process group: TERM, and KILL for what is left after the grace."""
        if self._process is None or not _signal_group(self._process.pid, signal.SIGTERM):
            return
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.log.warning("pid %d did not end within %d s of TERM", self._process.pid, GRACE_SECONDS)
        _signal_group(self._process.pid, signal.SIGKILL)


def _environment() -> dict[str, str]:
    # Airflow's own variables and path stay behind: the stage lives in another environment
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "PYTHONPATH", "_AIRFLOW"))}
    return {**kept, "PYTHONUNBUFFERED": "1"}


def task_identity(ti: Any) -> dict[str, str]:
    """The task instance in one variable, for the manifests that the command leaves; empty without one."""
    if ti is None:
        return {}
    mapped = -1 if ti.map_index is None else ti.map_index
    names = {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "map_index": mapped}
    return {TASK_VARIABLE: json.dumps({**names, "try_number": ti.try_number, "url": ti.log_url})}


def _die_with_worker() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _signal_group(pid: int, number: signal.Signals) -> bool:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return False
    return True
