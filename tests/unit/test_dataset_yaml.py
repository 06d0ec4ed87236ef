"""dataset.yaml: what is understood, and what a wrong one is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.data.dataset import dataset_targets, load_dataset
from pipeline.exit_codes import BadConfiguration
from tests.stages_by_hand import write_yaml

SHOP = {"role": ["source", "target"], "interactions": "rows.csv"}


def test_folder_file_and_world(tmp_path: Path) -> None:
    folder = write_yaml(tmp_path / "shop", {"domains": {"books": SHOP}})
    for data in (str(folder), str(folder / "dataset.yaml")):
        dataset = load_dataset(data)
        assert (dataset.name, dataset.root, dataset.roles) == ("shop", folder, {"books": ["source", "target"]})
    assert load_dataset("world:tiny").roles == {
        "metro": ["source"],
        "valley": ["source"],
        "harbour": ["target"],
        "orchard": ["target"],
    }


def test_targets_in_the_order_of_the_file(tmp_path: Path) -> None:
    domains = {name: {"role": role, "interactions": "x.csv"} for name, role in [("z", "target"), ("b", "source")]}
    (tmp_path / "dataset.yaml").write_text(
        "domains:\n"
        "  z: {role: target, items: i.csv}\n"
        "  b: {role: source, interactions: i.csv}\n"
        "  a: {role: [source, target], interactions: i.csv}\n"
    )
    assert dataset_targets(str(tmp_path)) == ["z", "a"]
    assert dataset_targets("world:large") == ["harbour", "orchard"]
    no_target = write_yaml(tmp_path / "none", {"domains": {"b": domains["b"]}})
    with pytest.raises(BadConfiguration, match="names no domain with role: target"):
        dataset_targets(str(no_target))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"domians": {"a": SHOP}}, r"domians: there is no field 'domians'; did you mean 'domains'\?"),
        ({"domains": {"a": {**SHOP, "itmes": "x"}}}, r"domains\.a\.itmes: .*did you mean 'items'\?"),
        (
            {"domains": {"a": {"role": "target", "items": {"path": "x", "colums": {}}}}},
            r"domains\.a\.items\.colums: .*did you mean 'columns'\?",
        ),
        ({"world": {"sized": "tiny"}}, r"world\.sized: .*did you mean 'size'\?"),
        ({"world": {"size": "huge"}}, r"world\.size: .*'tiny'.*found 'huge'"),
        ({"world": {"dirt": {"mising_user": 0.1}}}, "there is no kind of dirt 'mising_user'; known are missing_user"),
        ({"world": {"dirt": 1.5}}, r"must lie in \[0, 1\]"),
        ({}, "give either domains: or world:"),
        ({"domains": {"a": {"role": "sorce", "interactions": "x"}}}, r"domains\.a\.role\.0: .*found 'sorce'"),
        ({"domains": {"a": {"role": "target"}}}, "neither interactions: nor items:"),
        ({"domains": {"a": {"role": "source", "items": "x"}}}, "is a source and needs interactions:"),
        ({"domains": {"../a": SHOP}}, r"domain name '\.\./a' must be made of"),
        ({"domains": {"a": {**SHOP, "items": {"table": "t"}}}}, "give either path: or sql:"),
        ({"domains": {"a": {**SHOP, "items": {"sql": "sqlite://"}}}}, "needs either table: or query:"),
        (
            {"domains": {"a": {**SHOP, "items": {"path": "x", "columns": {"itemid": "x"}}}}},
            r"'itemid', which is no canonical column; did you mean 'item_id'\?",
        ),
        ({"clock": "sundial", "domains": {"a": SHOP}}, r"clock: .*'real' or 'order', found 'sundial'"),
    ],
)
def test_a_wrong_one_is_told_in_one_sentence(tmp_path: Path, content: dict, sentence: str) -> None:
    folder = write_yaml(tmp_path, content)
    with pytest.raises(BadConfiguration, match=sentence) as raised:
        load_dataset(str(folder))
    assert raised.value.exit_code == 78
    assert "\n" not in str(raised.value)
    assert str(folder) in str(raised.value)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("world:smal", r"no size 'smal'; did you mean 'small'\?"),
        ("wrold:small", r"Did you mean 'world:small'\?"),
        ("/nowhere/at/all", "/nowhere/at/all does not exist; give a folder with a dataset.yaml"),
    ],
)
def test_nothing_there(data: str, sentence: str) -> None:
    with pytest.raises(BadConfiguration, match=sentence):
        load_dataset(data)


@pytest.mark.parametrize("text", ["a: [1, 2", "just words", "- 1\n- 2\n", "\x00"])
def test_no_yaml_or_no_mapping(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset.yaml").write_text(text)
    with pytest.raises(BadConfiguration, match=r"dataset\.yaml (cannot be read as YAML|should be a mapping)"):
        load_dataset(str(tmp_path))


def test_opening_a_run_imports_nothing_heavy() -> None:
    """`dataset_targets` and `source_digests` are called whenever a run is opened."""
    code = """
import sys
from pipeline.data.dataset import dataset_targets
from pipeline.data.digests import source_digests
dataset_targets("world:tiny"), source_digests("world:tiny")
print([name for name in ("polars", "pandas", "torch", "sqlalchemy", "great_expectations") if name in sys.modules])
"""
    checkout = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=checkout, env=os.environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
