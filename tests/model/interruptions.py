"""Trainings that are ended in the middle, by a signal or by an exception."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.training import loop


def steps_done(checkpoint: Path) -> int:
    """The step that a checkpoint was written after."""
    from pipeline.training.checkpoints import safe_open

    with safe_open(checkpoint, framework="pt") as opened:
        return int(json.loads(opened.metadata()["state"])["step"])


def kill_beyond(process: subprocess.Popen, checkpoint: Path, steps: int, seconds: float = 60) -> None:
    """SIGKILL a process once its checkpoint has so many steps; fails the test if it ends before."""
    deadline = time.monotonic() + seconds
    while not (checkpoint.exists() and steps_done(checkpoint) >= steps):
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert steps_done(checkpoint) >= steps


@contextmanager
def interrupted(monkeypatch: pytest.MonkeyPatch, after: int) -> Iterator[None]:
    """Every training in it has to end by KeyboardInterrupt after so many steps, each of them kept."""
    step = loop.Training._step

    def dies(self, batch):
        if self.progress.step == after:
            raise KeyboardInterrupt
        step(self, batch)

    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(loop.Training, "_step", dies)
        yield
