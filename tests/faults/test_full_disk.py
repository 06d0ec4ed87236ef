"""A disk that is really full: the stage's staging folder is a tmpfs of a few kilobytes."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.exit_codes import DONE, PASSING_FAULT
from pipeline.runs.workspace import RunRequest, open_workspace
from tests.stack_fixture import environment_of, stack_settings

SMALL_DISK = "unshare --user --map-root-user --mount sh -c"
MAY_MOUNT = subprocess.run(
    [*shlex.split(SMALL_DISK), "mount -t tmpfs -o size=16k tmpfs /mnt"], capture_output=True, check=False
)


@pytest.mark.skipif(
    MAY_MOUNT.returncode != 0,
    reason=f"a small disk cannot be mounted here ({MAY_MOUNT.stderr.decode().strip()}); "
    "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1), or run as root",
)
@pytest.mark.parametrize("stage", ["snapshot", "validate"])
def test_a_full_disk_is_a_passing_fault_and_loses_nothing(opened: Path, stage: str) -> None:
    before = sorted(path.relative_to(opened) for path in (opened / "data").rglob("*"))
    staging = opened / "run" / "staging" / stage
    command = f"{sys.executable} -m pipeline stage {stage}"
    (opened / "run" / "staging").mkdir(parents=True, exist_ok=True)
    full = f"mount -t tmpfs -o size=16k tmpfs {staging.parent} && exec {command}"
    ended = subprocess.run([*shlex.split(SMALL_DISK), full], cwd=opened, capture_output=True, text=True, check=False)
    assert ended.returncode == PASSING_FAULT, ended.stderr
    assert "the disk is full" in ended.stderr
    assert "free some space" in ended.stderr
    assert sorted(path.relative_to(opened) for path in (opened / "data").rglob("*")) == before
    attempts = [json.loads(path.read_text()) for path in (opened / "run" / "attempts" / stage).glob("*.json")]
    assert [attempt["exit_code"] for attempt in attempts] == [PASSING_FAULT]
    again = subprocess.run(shlex.split(command), cwd=opened, capture_output=True, text=True, check=False)
    assert again.returncode == DONE, again.stderr


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of the tiny world; no server is needed for it."""
    settings = stack_settings(tmp_path_factory.mktemp("full") / "home")
    with environment_of(settings):
        return open_workspace(settings, RunRequest("full-disk", data="world:tiny"))
