"""Reproduce one stage of a workspace: `warmstart workspace stage ADDRESS`, the command of every orchestrated task.

DVC decides whether the stage runs or its outputs come back from the run-cache; this file starts DVC and passes on what
`pipeline.runs.attempt_end` makes of how it ended. It imports little before DVC is on its way.
"""

from __future__ import annotations

import uuid
from pathlib import Path

from pipeline.graph import load_graph
from pipeline.runs.attempt import ATTEMPT_VARIABLE
from pipeline.runs.begun import begun
from pipeline.runs.own_python import start_python


def reproduce_stage(workspace: Path, address: str, home: Path | None = None) -> int:
    """Bring the outputs of stage `address` up to date and leave the attempt's manifest.

    Args:
        workspace: of an open run.
        address: `pretrain`, or `transfer@harbour`.
        home: `$WARMSTART_HOME`, with the DVC cache and the manifest store; None takes the settings'.

    Returns:
        An exit code of `pipeline.exit_codes`.
    """
    graph = load_graph(workspace / "dvc.yaml")
    attempt_id = uuid.uuid4().hex[:12]
    # --wait-for-lock: without it, stages in parallel in one workspace failed 14 of 18 times
    words = ["-m", "dvc", "--wait-for-lock", "repro", "--single-item", address]
    with (
        begun(workspace, address, attempt_id) as mark,
        start_python(workspace, *words, env={ATTEMPT_VARIABLE: attempt_id}) as dvc,
    ):
        # what only the end needs takes as long to import as DVC takes to start
        from pipeline.runs.attempt_end import end_attempt, told_when_it_starts
        from pipeline.settings import settings

        home = home or settings().home
        with told_when_it_starts(workspace, home, graph, address, mark):
            dvc.wait()
        return end_attempt(workspace, home, graph, address, mark, dvc.returncode)
