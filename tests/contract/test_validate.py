"""validate on whole snapshots: every kind of dirt is caught by its own rule, and nothing is lost."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import polars as pl
import pytest

from pipeline.data.world.params import KINDS, ROW_KINDS, TABLE_KINDS, YOUNG_KINDS
from pipeline.exit_codes import DataBrokeContract
from tests.stages_by_hand import bytes_of, run_validate, tables, take_snapshot, write_yaml

RULE_OF = {
    "missing_user": "interactions/user_id_missing",
    "blank_user": "interactions/user_id_blank",
    "too_long_user": "interactions/user_id_too_long",
    "missing_item": "interactions/item_id_missing",
    "blank_item": "interactions/item_id_blank",
    "too_long_item": "interactions/item_id_too_long",
    "missing_timestamp": "interactions/timestamp_missing",
    "absurd_timestamp": "interactions/timestamp_absurd",
    "created_before_timestamp": "interactions/created_before_timestamp",
    "unknown_event": "interactions/event_unknown",
    "value_not_finite": "interactions/value_not_finite",
    "value_out_of_range": "interactions/value_out_of_range",
    "duplicate_interaction": "interactions/duplicate_interaction",
    "item_without_id": "items/item_id_missing",
    "item_with_blank_id": "items/item_id_blank",
    "item_with_too_long_id": "items/item_id_too_long",
    "user_without_id": "users/user_id_missing",
    "user_with_blank_id": "users/user_id_blank",
    "user_with_too_long_id": "users/user_id_too_long",
    "empty_source": "interactions/source_empty",
    "no_items": "items/items_empty",
    "duplicate_item": "items/item_duplicate",
    "duplicate_user": "users/user_duplicate",
    "unknown_item": "interactions/item_unknown",
    "vector_not_finite": "items/vector_not_finite",
    "vector_width": "items/vector_width",
    # the snapshot cannot even read these, and says so with the same rules
    "missing_column": "interactions/column_present",
    "wrong_type": "interactions/column_type",
}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    root = tmp_path_factory.mktemp("clean")
    taken = take_snapshot(root, "world:tiny")
    return taken, run_validate(root, taken)[1]


def _dirty(tmp_path: Path, dirt: float | dict[str, float]) -> Path:
    data = write_yaml(tmp_path / "dirty", {"name": "world-tiny", "world": {"size": "tiny", "dirt": dirt}})
    return take_snapshot(tmp_path, data)


def _only(taken: Path, domain: str) -> Path:
    """Judge one domain of a snapshot only: the table kinds break the first market."""
    described = json.loads((taken / "dataset.json").read_text())
    described["domains"] = {domain: described["domains"][domain]}
    (taken / "dataset.json").write_text(json.dumps(described))
    return taken


def test_every_kind_has_its_rule() -> None:
    assert set(RULE_OF) == set(KINDS) - set(YOUNG_KINDS)


def test_clean_world_keeps_every_row(clean: tuple[Path, dict[str, Path]]) -> None:
    taken, outputs = clean
    for domain in ("metro", "valley", "harbour", "orchard"):
        for name, frame in tables(outputs["data/valid"], domain).items():
            assert frame.equals(tables(taken, domain)[name])
        assert all(frame.is_empty() for frame in tables(outputs["data/quarantine"], domain).values())
    assert (outputs["data/valid"] / "dataset.json").read_bytes() == (taken / "dataset.json").read_bytes()


def test_row_dirt_goes_to_quarantine_and_the_clean_world_is_left(
    tmp_path: Path, clean: tuple[Path, dict[str, Path]]
) -> None:
    """All row kinds at once: as many rows under each rule as were injected, and the clean rows untouched."""
    taken = _dirty(tmp_path, 0.002)
    summary, outputs = run_validate(tmp_path, taken)
    for domain in ("metro", "valley", "harbour", "orchard"):
        whole, valid = tables(clean[1]["data/valid"], domain), tables(outputs["data/valid"], domain)
        bad = tables(outputs["data/quarantine"], domain)
        for name in whole:
            assert valid[name].equals(whole[name]), (domain, name)
            expected = {RULE_OF[kind] for kind in ROW_KINDS if RULE_OF[kind].startswith(f"{name}/")}
            counts = dict(bad[name]["rule"].value_counts().iter_rows())
            assert {f"{name}/{rule}" for rule in counts} == expected
            assert len(set(counts.values())) == 1, counts  # one share, one count
    assert "quarantined" in summary.found
    told = summary.facts["validation"]
    assert told["success"]
    assert set(told["suites"]) == {"interactions", "items", "users"}
    assert sum(sum(rules.values()) for rules in told["quarantined"].values()) == summary.metrics["quarantined_rows"]
    assert told["quarantined"]["metro/interactions"]["user_id_missing"] > 0
    assert summary.metrics["quarantined_rows"] == sum(
        len(frame)
        for d in ("metro", "valley", "harbour", "orchard")
        for frame in tables(outputs["data/quarantine"], d).values()
    )


@pytest.mark.parametrize("kind", [kind for kind in TABLE_KINDS if kind not in ("missing_column", "wrong_type")])
def test_table_dirt_stops_the_run(tmp_path: Path, kind: str) -> None:
    table, rule = RULE_OF[kind].split("/")
    taken = _only(_dirty(tmp_path, {kind: 0.01}), "metro")
    with pytest.raises(DataBrokeContract, match=rf"^metro/{table} broke the rule {rule} ") as raised:
        run_validate(tmp_path, taken)
    assert "\n" not in str(raised.value)
    assert str(raised.value).endswith("See reports/validation/index.html.")
    assert raised.value.facts["validation"]["success"] is False
    report = json.loads((tmp_path / "reports/validation/results.json").read_text())
    stopped = [
        (f"{found['domain']}/{found['table']}", one["rule"])
        for found in report["tables"]
        for one in found["rules"]
        if one["broken_rows"]
    ]
    assert stopped == [(f"metro/{table}", rule)]
    assert (tmp_path / "reports/validation/index.html").is_file()
    assert set(tables(tmp_path / "data/valid", "metro")) == {"interactions", "items", "users"}


@pytest.mark.parametrize("kind", ["missing_column", "wrong_type"])
def test_dirt_that_cannot_be_read_stops_the_snapshot(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataBrokeContract, match=f"metro/interactions broke the rule {RULE_OF[kind].split('/')[1]}"):
        _dirty(tmp_path, {kind: 1.0})


def test_rows_of_tomorrow_are_left_out(tmp_path: Path, clean: tuple[Path, dict[str, Path]]) -> None:
    assert bytes_of(_dirty(tmp_path, {"after_as_of": 0.1})) == bytes_of(clean[0])


def test_too_many_bad_rows_stop_the_run_with_everything_written(tmp_path: Path) -> None:
    taken = _only(_dirty(tmp_path, {"missing_user": 0.08}), "metro")
    expected = r"metro/interactions: \d+ of [\d,]+ rows \(7\.\d %?.*most often user_id_missing \(\d+ rows, e\.g\. \{"
    with pytest.raises(DataBrokeContract, match=expected.replace(" %?", "%")):
        run_validate(tmp_path, taken)
    assert len(tables(tmp_path / "data/quarantine", "metro")["interactions"]) > 100
    assert "user_id_missing" in (tmp_path / "reports/validation/index.html").read_text()
    assert run_validate(tmp_path / "again", taken, share=0.1)[0].metrics["quarantined_rows"] > 100


def test_as_of_of_another_snapshot_is_refused(tmp_path: Path, clean: tuple[Path, dict[str, Path]]) -> None:
    taken = _only(Path(shutil.copytree(clean[0], tmp_path / "taken")), "harbour")
    with pytest.raises(DataBrokeContract, match="broke the rule timestamp_at_or_after_as_of"):
        run_validate(tmp_path, taken, as_of="2025-10-01T00:00:00Z")


def test_report_is_the_same_bytes_and_fetches_nothing(tmp_path: Path) -> None:
    taken = _only(_dirty(tmp_path, 0.002), "orchard")
    first, second = (run_validate(tmp_path / name, taken)[1]["reports/validation"] for name in ("one", "two"))
    assert bytes_of(first) == bytes_of(second)
    for page in first.rglob("*.html"):
        text = page.read_text("utf-8")
        assert not re.search(r"""(?:src|href)\s*=\s*["']?https?:|url\(\W?https?:|@import|<script""", text), page
        for link in re.findall(r'href="([^"#]+)', text):
            assert (page.parent / link).is_file(), (page, link)
    assert str(tmp_path) not in "".join(page.read_text("utf-8") for page in first.rglob("*.*"))


def test_any_script_passes(tmp_path: Path) -> None:
    """Texts, ids and attributes in many scripts; a user with one interaction in a domain of one item."""
    data = write_yaml(
        tmp_path / "shop",
        {"domains": {"shop": {"role": ["source", "target"], "interactions": "rows.csv", "items": "items.csv"}}},
    )
    (data / "rows.csv").write_text("user_id,item_id,timestamp\nМария,茶碗,2025-03-01T10:00:00Z\n", "utf-8")
    (data / "items.csv").write_text("item_id,text,attributes\n茶碗,كوب شاي 🍵,цвет:синий|דגם:א\n", "utf-8")
    taken = take_snapshot(tmp_path, data)
    _, outputs = run_validate(tmp_path, taken)
    found = tables(outputs["data/valid"], "shop")
    assert found["items"].rows() == [("茶碗", "كوب شاي 🍵", ["цвет:синий", "דגם:א"], None)]
    assert found["interactions"].select("item_id", pl.col("user_id").str.len_chars()).rows() == [("茶碗", 16)]
    assert len(found["users"]) == 1
