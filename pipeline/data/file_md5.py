"""md5 of a file's content, as DVC takes it."""

from __future__ import annotations

import hashlib
from pathlib import Path

CHUNK = 1 << 22  # bytes


def file_md5(path: Path) -> str:
    """32 hex digits.

    Raises:
        OSError: the file cannot be read.
    """
    whole = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            whole.update(block)
    return whole.hexdigest()
