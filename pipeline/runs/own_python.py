"""This environment's Python, at work in a workspace: `-m pipeline` is the workspace's code there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def python_in(workspace: Path, *words: str, **options: Any) -> subprocess.CompletedProcess[Any]:
    """Run it to its end; `options` are those of `subprocess.run`."""
    return subprocess.run([sys.executable, *words], cwd=workspace, env=_environment(), check=False, **options)


def start_python(workspace: Path, *words: str, env: Mapping[str, str]) -> subprocess.Popen[Any]:
    """Start it with these variables beside its environment, and do not wait."""
    return subprocess.Popen([sys.executable, *words], cwd=workspace, env={**_environment(), **env})


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}"}
