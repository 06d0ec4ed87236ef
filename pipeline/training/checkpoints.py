"""Checkpoints: one safetensors file, replaced whole, so that a kill at any moment leaves the old or the new one.

Tensors and their meaning (JSON in the file's header) travel in the same file; nothing is ever unpickled.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

log = logging.getLogger(__name__)

FILE = "checkpoint.safetensors"


def save_checkpoint(folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Replace the checkpoint of `folder` atomically and durably."""
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f"{FILE}.new"
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # Not `save_file`: a full disk shall be an OSError, which the caller knows to be a passing fault.
    with fresh.open("wb") as file:
        file.write(save(contiguous, metadata={"state": json.dumps(state)}))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / FILE)
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def load_checkpoint(folder: Path, work: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The checkpoint of `folder`, or None where there is none for this work.

    Args:
        folder: where `save_checkpoint` wrote.
        work: what is being trained; a checkpoint of other work is left aside, and the log says so.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as opened:
            state = json.loads((opened.metadata() or {})["state"])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError) as error:
        log.warning("%s cannot be read (%s); training starts over", path.name, error)
        return None
    if state.get("work") != work:
        log.warning("%s belongs to other work; training starts over", path.name)
        return None
    return tensors, state
