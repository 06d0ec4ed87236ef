"""User ids leave this machine only as pseudonyms: keyed HMAC-SHA256, 16 hex digits.

Without the key a pseudonym cannot be turned back by trying ids. The same user has the same pseudonym in every domain
and every run on this machine. Broken ids stay recognisable for the contracts, without showing what stood there: a
missing one stays missing, a blank one becomes "", one that is too long becomes 64 digits.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.exit_codes import BadConfiguration
from pipeline.settings import settings

if TYPE_CHECKING:
    import polars as pl

DIGITS = 16
LONGEST_ID = 256  # characters; what is longer is no id but a fault
PUBLIC_KEY = b"warmstart: a published key, for data that names nobody"


def secret_key(home: Path | None = None) -> bytes:
    """This machine's key, made on first use.

    Raises:
        BadConfiguration: the key file cannot be read or written, or is no key.
    """
    path = (home or settings().home) / "secrets" / "user_id.key"
    try:
        if not path.exists():
            _make_key(path)
        key = bytes.fromhex(path.read_text("ascii").strip())
    except (OSError, ValueError) as error:
        raise BadConfiguration(
            f"{path} should hold the key of the user ids as 64 hex digits, readable by this user alone: {error}."
        ) from error
    if len(key) < 16:
        raise BadConfiguration(f"{path} holds a key of {len(key)} bytes; the key of the user ids needs at least 16.")
    return key


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32) + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)  # the first of several processes wins, and none sees half a key
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def key_fingerprint(key: bytes) -> str:
    """Tells two keys apart without giving either away; part of the identity of a snapshot."""
    return hmac.new(key, b"fingerprint", hashlib.sha256).hexdigest()[:12]


def pseudonym(user_id: str | None, key: bytes) -> str | None:
    """The pseudonym of one id."""
    if user_id is None:
        return None
    if not user_id.strip():
        return ""
    digest = hmac.new(key, user_id.encode("utf-8"), hashlib.sha256).hexdigest()
    return digest if len(user_id) > LONGEST_ID else digest[:DIGITS]


def pseudonymise(user_ids: pl.Series, key: bytes) -> pl.Series:
    """Pseudonyms of a column; each distinct id is hashed once."""
    import polars as pl

    distinct = user_ids.unique()
    names = pl.Series(user_ids.name, [pseudonym(user_id, key) for user_id in distinct], dtype=pl.String)
    return user_ids.replace_strict(distinct, names, return_dtype=pl.String)
