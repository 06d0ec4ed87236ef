"""Where the content of an artifact is: in DVC's cache, or in the remote when that is a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.settings import Settings


def stores(settings: Settings) -> tuple[Path, ...]:
    """The folders that may hold contents, the cache first; a remote that is no folder is left out."""
    remote = settings.dvc_remote.removeprefix("file://")
    return (settings.home / "dvc" / "cache", *(() if "://" in remote else (Path(remote),)))


def object_path(store: Path, md5: str) -> Path:
    """Where a store keeps the content with this md5; a folder's (`….dir`) is its listing."""
    return store / "files" / "md5" / md5[:2] / md5[2:]


def find(settings: Settings, md5: str) -> Path | None:
    """The content with this md5, None where neither the cache nor the remote has it."""
    return next((path for store in stores(settings) if (path := object_path(store, md5)).exists()), None)


def listing(path: Path) -> list[dict[str, Any]]:
    """The files of a folder from its `….dir` object: each with `relpath` and `md5`.

    Raises:
        ValueError: it is no such object (any more).
    """
    found: list[dict[str, Any]] = json.loads(path.read_bytes())
    return found
