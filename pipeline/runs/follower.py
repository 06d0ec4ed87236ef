"""A stage under torchrun: the first process keeps what it makes, the others help it and leave nothing.

torchrun --nproc-per-node 2 -m pipeline stage pretrain
"""

from __future__ import annotations

import logging
import os
import tempfile
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from pipeline.exit_codes import BROKE, DONE
from pipeline.runs.contract import Job, StageParams, Summary
from pipeline.runs.faults import explain

log = logging.getLogger(__name__)


def is_follower() -> bool:
    """Whether torchrun has started this process, and not as the first."""
    return "TORCHELASTIC_RUN_ID" in os.environ and os.environ["RANK"] != "0"


def follow(
    run: Callable[..., Summary], inputs: Mapping[str, Path], outs: Iterable[str], params: StageParams, job: Job
) -> int:
    """Run the stage's function on folders that are thrown away; returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="warmstart-follower-") as made:
        root = Path(made)
        outputs = {name: root / "outs" / str(number) for number, name in enumerate(outs)}
        for folder in (root / "scratch", *outputs.values()):
            folder.mkdir(parents=True)
        try:
            run(inputs, outputs, params, replace(job, scratch=root / "scratch"))
        except Exception as fault:
            code, sentence = explain(fault)
            if code == BROKE:
                log.error("%s", traceback.format_exc())
            log.error("process %s: %s", os.environ["RANK"], sentence)
            return code
    return DONE
