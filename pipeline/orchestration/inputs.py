"""Names a task's work by what goes into it: a container that does the same is adopted, another one is ended."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.graph import ITEM


def inputs_digest(workspace: Path, words: Sequence[str], reads: Sequence[str], target: str | None, image: str) -> str:
    """sha256 over the image, the command, the commit, the parameters and DVC's md5 of every input.

    Args:
        workspace: of an open run; its code is that of the commit in run.yaml.
        reads: paths of the inputs that other stages write, with `${item}` for the target.
        image: digest of the image.
    """
    spelled = [path.replace(ITEM, target or "") for path in reads]
    known = _outputs(workspace / "dvc.lock")
    seen = {
        "image": image,
        "words": list(words),
        "commit": _yaml(workspace / "run.yaml").get("commit"),
        "params": hashlib.sha256((workspace / "params.yaml").read_bytes()).hexdigest(),
        "inputs": {path: known.get(path, "not locked") for path in spelled},
    }
    return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()


def _outputs(lock: Path) -> dict[str, str]:
    stages = _yaml(lock).get("stages", {})
    return {out["path"]: out["md5"] for body in stages.values() for out in body.get("outs", []) if "md5" in out}


def _yaml(path: Path) -> dict[str, Any]:
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}
