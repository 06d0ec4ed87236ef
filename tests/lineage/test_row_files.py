"""Counting the rows of a user and an item: in every row group, newest first, and no more than a second has room for."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.lineage import row_files
from pipeline.lineage.cache import object_path
from pipeline.lineage.row_files import open_files
from pipeline.settings import Settings


@pytest.fixture
def cache(tmp_path):
    """Three files of five rows, in row groups of two; "c" is of another kind."""
    settings = Settings(home=tmp_path)
    rows = {
        "a": {"user_id": ["u1", "u1", "u1", "u2", "u3"], "item_id": ["x", "y", "x", "x", "x"]},
        "b": {"user_id": ["u1", "u2", "u3", "u4", "u5"], "item_id": ["x"] * 5, "rule": [None, "r", "r", "s", "s"]},
        "c": {"item_id": ["x"] * 5},
    }
    for name, columns in rows.items():
        path = object_path(settings.home / "dvc" / "cache", name * 32)
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table(columns), path, row_group_size=2)
    return settings


def ask(settings, names, **words):
    found = open_files(settings, [(name * 32, 5) for name in names], **words)
    rules = {md5[0]: dict(counted) for md5, counted in found.rules.items()}
    return rules, "".join(md5[0] for md5 in found.gone), "".join(md5[0] for md5 in found.left)


def test_every_row_group_that_may_hold_the_user_is_read(cache):
    assert ask(cache, "abc", users=["u1"], item="x") == ({"a": {"": 2}, "b": {"": 1}, "c": {}}, "", "")
    assert ask(cache, "ab", users=["u2", "u5"], item="x") == ({"a": {"": 1}, "b": {"r": 1, "s": 1}}, "", "")
    assert ask(cache, "ab", users=["u1"], item=None) == ({"a": {"": 3}, "b": {"": 1}}, "", "")
    assert ask(cache, "a", users=["zz"], item="x") == ({"a": {}}, "", "")


@pytest.mark.parametrize(("limit", "room"), [("FILES", 2), ("ROWS", 10)])
def test_what_is_beyond_the_limits_is_left_unless_every_file_is_asked_for(cache, monkeypatch, limit, room):
    monkeypatch.setattr(row_files, limit, room)
    opened = {"c": {}, "b": {"": 1}}
    assert ask(cache, "cdbba", users=["u1"], item="x") == (opened, "d", "a")
    assert ask(cache, "cdbba", users=["u1"], item="x", every=True) == (opened | {"a": {"": 2}}, "d", "")
