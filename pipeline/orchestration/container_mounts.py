"""What of this machine a stage's container sees: the run's workspace and the stores, under the paths they have here.

Everything else of the container is read-only. A stack that root has started hands what is written to the image's user,
so that no file of a run belongs to root, and no process of one is root's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from docker.types import Mount

IMAGE_USER = 10001
# what stages write beside their workspace; `stores` holds item vectors by content
WRITTEN = ("dvc/cache", "dvc/site", "manifests", "openlineage", "stores")
READ = ("records", "feedback", "secrets/user_id.key")
SOCKETS = "WARMSTART_POSTGRES_SOCKETS"
DOOR = "WARMSTART_MLFLOW_DOOR"  # MLflow's socket, where containers need no network
DATA = "WARMSTART_DATA"  # the folder of the datasets, where Airflow does not see the whole machine


def mounts(home: Path, workspace: Path) -> list[Mount]:
    """Bind mounts; `prepare` has made what is written."""
    written = [workspace, *(home / name for name in WRITTEN)]
    read = [home / name for name in READ]
    read += [Path(os.environ[SOCKETS])] if os.environ.get(SOCKETS) else []
    read += [Path(os.environ[DOOR]).parent] if os.environ.get(DOOR) else []  # the folder: the socket may be made anew
    read += _sources(workspace)
    given = [_bind(path, False) for path in written]
    return given + [_bind(path, True) for path in dict.fromkeys(read) if path.exists()]


def checkout_mounts(home: Path, checkout: Path) -> list[Mount]:
    """For opening and closing a run: all of the home to write, the checkout and the datasets' folder to read."""
    read = [checkout, *([Path(os.environ[DATA])] if os.environ.get(DATA) else [])]
    return [_bind(home, False), *(_bind(path, True) for path in read)]


def user_of(home: Path) -> tuple[int, int]:
    """(uid, gid) of a container's process: whoever owns the home; for root's, the user of the image."""
    owner = home.stat()
    return (owner.st_uid, owner.st_gid) if owner.st_uid else (IMAGE_USER, IMAGE_USER)


def socket_group() -> int | None:
    """The group that may use PostgreSQL's socket, where the server is another user's."""
    folder = os.environ.get(SOCKETS)
    return Path(folder).stat().st_gid if folder and Path(folder).exists() else None


def prepare(home: Path, workspace: Path | None) -> None:
    """Make the writable folders; what root has made in them becomes the containers' user's. Only root can, and must."""
    for name in WRITTEN:
        (home / name).mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        return
    uid, gid = user_of(home)
    for root in (
        *([workspace] if workspace else []),
        *(home / name for name in WRITTEN),
        home / "secrets" / "user_id.key",
    ):
        for path in _all(root):
            if path.lstat().st_uid == 0:
                os.chown(path, uid, gid, follow_symlinks=False)


def _all(root: Path) -> Iterator[Path]:
    if not root.exists():
        return
    yield root
    for folder, folders, files in os.walk(root):
        yield from (Path(folder) / name for name in (*folders, *files))


def _bind(path: Path, read_only: bool) -> Mount:
    return Mount(str(path), str(path), type="bind", read_only=read_only)


def _sources(workspace: Path) -> list[Path]:
    """Where the run's dataset lies on this machine: its folder, and what its dataset.yaml names elsewhere."""
    data = str(yaml.safe_load((workspace / "params.yaml").read_text()).get("data", ""))
    path = Path(data)
    if not path.is_absolute() or not path.exists():
        return []
    root, described = (path, path / "dataset.yaml") if path.is_dir() else (path.parent, path)
    found = [root]
    for text in _strings(yaml.safe_load(described.read_text())) if described.exists() else ():
        place = root / Path(text).expanduser() if "://" not in text and "/" in text else root
        while any(sign in place.name for sign in "*?["):
            place = place.parent
        if place.exists() and not place.resolve().is_relative_to(root.resolve()):
            found.append(place.resolve())
    return found


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
