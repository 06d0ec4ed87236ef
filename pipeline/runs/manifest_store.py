"""The store of manifests: every attempt at a stage ever made, by content, never changed.

    $WARMSTART_HOME/manifests/3f/3f0a….json     a manifest; its name is its sha256
    $WARMSTART_HOME/manifests/made/<key>        which manifest tells of the attempt that made these outputs
    $WARMSTART_HOME/manifests/users/<md5>.parquet   who is in the rows of the file with this md5

The lineage index is rebuilt from this folder alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.exit_codes import BadConfiguration

FORMAT = 1
DIGEST = "sha256"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def put(home: Path, manifest: Mapping[str, Any]) -> str:
    """Keep a manifest; returns its sha256. Keeping it again changes nothing.

    Raises:
        OSError: the disk is full or may not be written; then nothing is kept.
    """
    sha = digest_of(manifest)
    path = path_of(home, sha)
    if not path.exists():
        write_immutable(path, canonical({**manifest, DIGEST: sha}))
    return sha


def get(home: Path, sha: str) -> dict[str, Any]:
    """The manifest with this sha256.

    Raises:
        BadConfiguration: it is not there, or it is not what was kept.
    """
    if not _SHA256.fullmatch(sha):
        raise BadConfiguration(f"{sha!r} names no manifest; give the 64 hexadecimal digits of its sha256")
    path = path_of(home, sha)
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as fault:
        raise BadConfiguration(
            f"{folder_of(home)} has no manifest {sha}; bring the file back from a backup, or check WARMSTART_HOME"
        ) from fault
    except ValueError as fault:
        raise BadConfiguration(f"{path} was altered: it is no JSON any more; {_RESTORE}") from fault
    found = digest_of(manifest) if isinstance(manifest, dict) else "no object"
    if found != sha or manifest.get(DIGEST) != sha:
        raise BadConfiguration(f"{path} was altered: its content has sha256 {found}, its name says {sha}; {_RESTORE}")
    kept: dict[str, Any] = manifest
    return kept


_RESTORE = "nothing may change a manifest: bring the file back from a backup"


def every(home: Path) -> Iterator[dict[str, Any]]:
    """Every manifest, in the order of their sha256.

    Raises:
        BadConfiguration: at the first altered one. A caller that goes on past such a one walks `names` with `get`.
    """
    return (get(home, sha) for sha in names(home))


def names(home: Path) -> Iterator[str]:
    """The sha256 of every manifest in the store, sorted; whether the files are whole is for `get` to find."""
    for folder in sorted(folder_of(home).glob("[0-9a-f][0-9a-f]")):
        for path in sorted(folder.glob("*.json")):
            if _SHA256.fullmatch(path.stem):
                yield path.stem


def maker_of(home: Path, key: str) -> str | None:
    """sha256 of the manifest of the attempt that made what `key` names, or None where this home has seen none."""
    path = folder_of(home) / "made" / key
    return path.read_text("ascii") if path.exists() else None


def remember_maker(home: Path, key: str, sha: str) -> None:
    """Say that the attempt of manifest `sha` made what `key` names; of several, the last one counts."""
    write_immutable(folder_of(home) / "made" / key, sha.encode("ascii"))


def users_path(home: Path, md5: str) -> Path:
    """Where the users of the file with this md5 are listed: one column `user_id`, sorted, each once."""
    return folder_of(home) / "users" / f"{md5}.parquet"


def folder_of(home: Path) -> Path:
    """The store's folder."""
    return home / "manifests"


def path_of(home: Path, sha: str) -> Path:
    """Where the manifest with this sha256 stands."""
    return folder_of(home) / sha[:2] / f"{sha}.json"


def digest_of(manifest: Mapping[str, Any]) -> str:
    """sha256 over the canonical JSON of everything but the digest itself."""
    return hashlib.sha256(canonical({k: v for k, v in manifest.items() if k != DIGEST})).hexdigest()


def canonical(value: Mapping[str, Any]) -> bytes:
    """The one spelling of a JSON object: sorted keys, no blanks, UTF-8.

    Raises:
        ValueError: a number in it is not finite.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def write_immutable(path: Path, content: bytes) -> None:
    """Write a read-only file: on the disk and whole, or not there at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        with fresh.open("xb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o444)
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name as well
    finally:
        os.close(folder)
