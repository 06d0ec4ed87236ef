"""A stage's processes end together: the shell, DVC and the stage itself."""

from __future__ import annotations

import os
import signal
from types import FrameType

from pipeline.exit_codes import TERMINATED


def end_group_on_term() -> None:
    """On TERM, pass it on to the process group (if this process leads one) and exit with 143."""
    signal.signal(signal.SIGTERM, _end_group)


def _end_group(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGTERM)
    os._exit(TERMINATED)
