"""User ids leave as pseudonyms only."""

from __future__ import annotations

import stat
from pathlib import Path

import polars as pl
import pytest

from pipeline.data.pseudonyms import key_fingerprint, pseudonym, pseudonymise, secret_key
from pipeline.exit_codes import BadConfiguration


def test_key_is_made_once_and_is_nobody_else_s(tmp_path: Path) -> None:
    key = secret_key(tmp_path)
    assert len(key) == 32
    assert secret_key(tmp_path) == key
    assert stat.S_IMODE((tmp_path / "secrets" / "user_id.key").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "secrets").iterdir()] == ["user_id.key"]
    assert secret_key(tmp_path / "another home") != key


def test_broken_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "user_id.key").write_text("no digits")
    with pytest.raises(BadConfiguration, match=r"user_id\.key should hold the key"):
        secret_key(tmp_path)


def test_pseudonyms() -> None:
    key, other = b"k" * 32, b"l" * 32
    assert pseudonym("anna", key) == pseudonym("anna", key)
    assert pseudonym("anna", key) != pseudonym("anna", other)
    assert pseudonym("anna", key) != pseudonym("Anna", key)
    assert len(pseudonym("安娜 🙂", key) or "") == 16
    assert pseudonym(None, key) is None
    assert pseudonym(" \t", key) == ""
    assert len(pseudonym("x" * 257, key) or "") == 64
    column = pl.Series("user_id", ["anna", None, "", "anna", "bo"])
    assert pseudonymise(column, key).to_list() == [pseudonym(user, key) for user in column]
    assert key_fingerprint(key) != key_fingerprint(other)
