"""Is this machine fit: interpreter, environments, git, disk, memory."""

from __future__ import annotations

import platform
import re
import shutil
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path

import psutil

from pipeline.settings import CHECKOUT, Settings
from pipeline.stack.check import ERROR, OK, WARNING, Check

OLDEST_PYTHON = (3, 11)
REQUIREMENTS = {".venv": "stages.txt", ".venv-airflow": "airflow.txt"}
LITTLE_DISK, TOO_LITTLE_DISK = 10e9, 2e9  # bytes; a run of the default dataset needs well under one
MEMORY = 6e9  # bytes; what everything together may take at its peak


def python(settings: Settings) -> list[Check]:
    """The interpreter that runs this."""
    version = platform.python_version()
    if sys.version_info < OLDEST_PYTHON:
        return [Check("python", ERROR, version, "Install Python 3.11 or newer, remove .venv, run `make venvs`.")]
    return [Check("python", OK, version)]


def environments(settings: Settings) -> list[Check]:
    """Both environments are there and hold the pinned versions."""
    return [_environment(name, CHECKOUT / "requirements" / file) for name, file in REQUIREMENTS.items()]


def _environment(name: str, requirements: Path) -> Check:
    folder = CHECKOUT / name
    sites = [str(site) for site in folder.glob("lib/python3*/site-packages")]
    if not sites or not (folder / "bin" / "python").exists():
        return Check(name, ERROR, "not there", "Run `make venvs`.")
    installed = {_normal(found.name): found.version for found in distributions(path=sites)}
    pinned = pins(requirements.read_text())
    wrong = [
        f"{package} {installed.get(package) or 'missing'}, not {version}"
        for package, version in pinned.items()
        # A wheel house may hold a build with a local part: 2.13.0+cpu is 2.13.0.
        if installed.get(package, "").partition("+")[0] != version
    ]
    if wrong:
        shown = "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        return Check(name, ERROR, shown, f"Run `rm -r {name}`, then `make venvs`.")
    return Check(name, OK, f"{len(pinned)} packages as pinned in requirements/{requirements.name}")


def pins(text: str) -> dict[str, str]:
    """Normal name → version of the lines `name==version` that count on every platform."""
    lines = (re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)\s*$", line) for line in text.splitlines())
    return {_normal(match[1]): match[2].partition("+")[0] for match in lines if match}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def git(settings: Settings) -> list[Check]:
    """A run's workspace is a clean checkout of a commit."""
    if shutil.which("git") is None:
        return [Check("git", ERROR, "not on PATH", "Install git: a run checks out the commit it belongs to.")]
    if not (CHECKOUT / ".git").exists():
        return [Check("git", ERROR, f"{CHECKOUT} is no clone", "Clone the repository with git.")]
    return [Check("git", OK, str(CHECKOUT))]


def home(settings: Settings) -> list[Check]:
    """`$WARMSTART_HOME` can be written and has room."""
    existing = next(folder for folder in (settings.home, *settings.home.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        fix = "Make it writable, or set WARMSTART_HOME to a folder that is."
        return [Check("home", ERROR, f"{existing}: {error.strerror}", fix)]
    free = shutil.disk_usage(existing).free
    level = ERROR if free < TOO_LITTLE_DISK else WARNING if free < LITTLE_DISK else OK
    fix = "" if level == OK else "Free some, or set WARMSTART_HOME to a bigger disk."
    return [Check("home", OK, str(settings.home)), Check("disk", level, f"{free / 1e9:.1f} GB free", fix)]


def memory(settings: Settings) -> list[Check]:
    """Memory that is free now, or used by this stack already."""
    available = psutil.virtual_memory().available
    if available < MEMORY / 2:
        return [Check("memory", WARNING, f"{available / 1e9:.1f} GB free", "Close something: a run needs up to 6 GB.")]
    return [Check("memory", OK, f"{available / 1e9:.1f} GB free")]
