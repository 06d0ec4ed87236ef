"""Parameters: overrides are typed, and a wrong name or value is refused with the right one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.exit_codes import BadConfiguration
from pipeline.graph import load_graph
from pipeline.runs.parameters import apply_overrides, check_params, read_params, stage_params

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def params():
    return read_params(CHECKOUT / "params.yaml")


@pytest.fixture
def graph():
    return load_graph(CHECKOUT / "dvc.yaml")


def test_the_parameters_of_the_repository_are_right(graph, params):
    check_params(graph, params)


def test_overrides_are_read_as_yaml_and_leave_the_original_alone(params):
    before = params["pretrain"]["epochs"]
    changed = apply_overrides(params, ["pretrain.epochs=3", "embed.encoder=hashing", "seed=8", "targets=[a, b]"])
    assert changed["pretrain"]["epochs"] == 3
    assert changed["embed"]["encoder"] == "hashing"
    assert changed["seed"] == 8
    assert changed["targets"] == ["a", "b"]
    assert params["pretrain"]["epochs"] == before


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("pretrain.lerning_rate=1", "did you mean pretrain.learning_rate"),
        ("pretrian.epochs=1", "did you mean pretrain.epochs"),
        ("pretrain.epochs", "write it as name=value"),
    ],
)
def test_a_wrong_override_is_refused_with_the_nearest_name(params, override, sentence):
    with pytest.raises(BadConfiguration, match=sentence):
        apply_overrides(params, [override])


def test_a_wrong_name_in_the_file_is_refused_with_the_nearest(graph, params):
    params["pretrain"]["lerning_rate"] = 0.1
    with pytest.raises(BadConfiguration, match=r"pretrain\.lerning_rate .* did you mean pretrain\.learning_rate"):
        stage_params(graph.stages["pretrain"], params)


def test_every_wrong_value_is_named_at_once(graph, params):
    params["pretrain"]["epochs"] = "many"
    params["distill"]["temperature"] = -1
    with pytest.raises(BadConfiguration) as refusal:
        check_params(graph, params)
    assert "pretrain.epochs is 'many'" in str(refusal.value)
    assert "distill.temperature is -1" in str(refusal.value)


def test_an_unknown_section_is_refused(graph, params):
    params["pretraining"] = {}
    with pytest.raises(BadConfiguration, match="did you mean pretrain"):
        check_params(graph, params)


def test_a_missing_file_is_a_sentence(tmp_path):
    with pytest.raises(BadConfiguration, match=r"params\.yaml cannot be read"):
        read_params(tmp_path / "params.yaml")
