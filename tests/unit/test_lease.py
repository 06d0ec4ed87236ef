"""A number means another process in another container: such a holder is waited for, and nobody is signalled."""

from __future__ import annotations

import fcntl
import subprocess
import sys

import pytest

from pipeline.exit_codes import PassingFault
from pipeline.runs.lease import lease


def test_a_holder_in_another_container_is_not_ended_by_its_number(tmp_path):
    path = tmp_path / "lease"
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        with path.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            held.write(f"{bystander.pid} pid:[1]")
            held.flush()
            with pytest.raises(PassingFault, match=f"pid {bystander.pid} "), lease(path, patience=0.3):
                raise AssertionError("it was held")
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
