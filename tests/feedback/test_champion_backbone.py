"""`pretrain.warm_start=champion`: resolved into an md5 when the run is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.lineage.cache import find
from pipeline.runs.warm_start import champion_backbone
from pipeline.runs.workspace import RunRequest, _effective_params
from pipeline.settings import CHECKOUT, Settings
from tests.feedback.champions import promote


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    folder = tmp_path / "backbone"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "model.json").write_bytes(b"{}")
    return folder


def test_the_first_night_starts_from_scratch(home: Settings) -> None:
    assert champion_backbone(home, ["nobody"]) is None


def test_it_is_the_backbone_of_the_run_that_made_the_champion(home: Settings, backbone: Path) -> None:
    md5 = promote(home, "meadow", "manual__1", {"models/backbone": backbone})["models/backbone"]
    assert champion_backbone(home, ["meadow"]) == md5
    assert md5.endswith(".dir")
    found = find(home, md5)
    assert found is not None
    found.unlink()  # collected: the night is from scratch, and says so
    assert champion_backbone(home, ["meadow"]) is None


def test_it_becomes_a_parameter_of_the_run(home: Settings, backbone: Path) -> None:
    md5 = promote(home, "harbour", "manual__2", {"models/backbone": backbone})["models/backbone"]
    request = RunRequest("r", data="world:tiny")
    assert _effective_params(home, CHECKOUT, request)["pretrain"]["start"] is None
    asked = RunRequest("r", data="world:tiny", overrides=("pretrain.warm_start=champion",))
    assert _effective_params(home, CHECKOUT, asked)["pretrain"]["start"] == md5
