"""What a run's opening pins: the champion's backbone for `pretrain.warm_start=champion`, and closed feedback."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from pipeline.data.feedback import read_feedback
from pipeline.exit_codes import BadConfiguration
from pipeline.feedback.close import close_feedback
from pipeline.lineage.cache import find
from pipeline.runs.warm_start import champion_backbone
from pipeline.runs.workspace import RunRequest, _effective_params
from pipeline.settings import CHECKOUT, Settings
from tests.feedback.champions import promote
from tests.feedback.conftest import NOON, Send


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


def test_closed_feedback_is_pinned_when_a_run_is_opened(home: Settings, send: Send, list_item: Send) -> None:
    request = RunRequest("r", as_of=NOON + timedelta(days=2), data="world:tiny")
    assert _effective_params(home, CHECKOUT, request)["sources"] == {}
    send("e1")
    send("e2", target="orchard", happened_at=NOON + timedelta(days=5))  # a day that this run may not know
    close_feedback(home)
    pinned = _effective_params(home, CHECKOUT, request)["sources"]
    assert set(pinned) == {"harbour/feedback"}
    list_item("lamp", listed_at=NOON + timedelta(days=5))
    close_feedback(home)
    assert _effective_params(home, CHECKOUT, request)["sources"] == pinned  # an item of later changes no backfill
    list_item("rug")
    close_feedback(home)
    known = _effective_params(home, CHECKOUT, request)["sources"]["harbour/feedback"]
    assert read_feedback(home.home, "harbour", known).items["item_id"].to_list() == ["rug"]
    assert len(read_feedback(home.home, "harbour").items) == 2
    with pytest.raises(BadConfiguration, match="no moment"):
        _effective_params(home, CHECKOUT, RunRequest("r", data="world:tiny", overrides=("as_of=someday",)))


def test_it_becomes_a_parameter_of_the_run(home: Settings, backbone: Path) -> None:
    md5 = promote(home, "harbour", "manual__2", {"models/backbone": backbone})["models/backbone"]
    request = RunRequest("r", data="world:tiny")
    assert _effective_params(home, CHECKOUT, request)["pretrain"]["start"] is None
    asked = RunRequest("r", data="world:tiny", overrides=("pretrain.warm_start=champion",))
    assert _effective_params(home, CHECKOUT, asked)["pretrain"]["start"] == md5
