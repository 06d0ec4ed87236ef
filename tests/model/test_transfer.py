"""Fine-tuning by strategies, what holds a model near its start, and the choice against a control."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError

from pipeline.data.training_set import load_domain
from pipeline.exit_codes import DataBrokeContract
from pipeline.models.inherit import adapted
from pipeline.training.domains import open_domain
from pipeline.training.scoring import Validation
from pipeline.training.weights import load_model, weights_hash
from pipeline.transfer.adapters import adapt, fold
from pipeline.transfer.arms import FineTuning
from pipeline.transfer.choosing import choose
from pipeline.transfer.mixed_weights import interpolated, mixed_weights
from pipeline.transfer.params import STRATEGIES, TransferParams
from pipeline.transfer.strategies import PartRates
from tests.model.interruptions import interrupted

CPU = torch.device("cpu")
BLOCK = "trunk.blocks.0.up.weight"
GIVEN = {"seed": 7, "epochs": 2, "learning_rate": 0.003, "batch_users": 16}


@pytest.fixture(scope="module")
def backbone(chain):
    return load_model(chain.folder("models/backbone"))


@pytest.fixture(scope="module")
def tuning(chain, backbone):
    """`tuning(replay=0.5)`: everything the arms of `t` share, with these parameters."""
    a, b, t = (
        open_domain(load_domain(chain.root / "training", name), chain.root / "vectors", backbone.spec, CPU)
        for name in ("a", "b", "t")
    )

    def of(**changed) -> FineTuning:
        params = TransferParams.model_validate(GIVEN | changed)
        plan = params.plan("transfer@t", judge_start=False)
        return FineTuning(backbone, t, t.training, [a, b], Validation([t], 100, 7), params, plan)

    return of


def moved(model, backbone) -> dict[str, float]:
    """How far every shared weight is from the backbone's."""
    then = dict(backbone.named_parameters())
    own = ("items.ids.", "profile.domains.")
    return {
        name: float((weight - then[name]).detach().norm())
        for name, weight in model.named_parameters()
        if not name.startswith(own)
    }


@pytest.fixture(scope="module")
def whole(tuning, tmp_path_factory):
    return tuning().train("whole", tmp_path_factory.mktemp("whole"))


def test_every_arm_takes_the_same_steps_and_fits_the_same_shape(tuning, whole, tmp_path):
    steps, spec, found = whole[1][-1]["step"], whole[0].spec, set()
    for arm in ("scratch", *STRATEGIES):
        model, history = tuning().train(arm, tmp_path)
        assert history[-1]["step"] == steps, arm
        more = {name for name in dict(model.named_parameters()) if arm == "anil" and name.startswith("trunk.user.")}
        assert model.spec == replace(spec, user_state=bool(more)), arm
        assert set(dict(model.named_parameters())) - more == set(dict(whole[0].named_parameters())), arm
        assert all(weight.requires_grad for weight in model.parameters()), arm
        found.add(weights_hash(model))
    assert len(found) == 1 + len(STRATEGIES)  # none does what another does


def test_it_stops_where_validation_falls_and_keeps_the_best_epoch(tuning, tmp_path):
    asked, told = tuning(epochs=9, patience=2, popularity_start=False), [0.1, 0.3, 0.2, 0.25, 0.9]
    seen = []

    def validate(model):
        seen.append(weights_hash(model))
        return told[len(seen) - 1]

    asked.validate = validate
    model, history = asked.train("whole", tmp_path)
    assert [row["valid_ndcg10"] for row in history] == told[:4]
    assert weights_hash(model) == seen[1]


def test_the_head_alone_moves_nothing_below_it(tuning, backbone, tmp_path):
    model, _ = tuning().train("head", tmp_path)
    far = {name for name, distance in moved(model, backbone).items() if distance > 0}
    assert far == {"trunk.last_norm.weight", "trunk.last_norm.bias"}
    assert model.items.ids.weight.abs().sum() > 0


def test_discriminative_rates_move_deep_parts_less(tuning, whole, backbone, tmp_path):
    model, _ = tuning(layer_decay=0.3).train("discriminative", tmp_path)
    assert moved(model, backbone)[BLOCK] < 0.6 * moved(whole[0], backbone)[BLOCK]


def test_gradual_unfreezing_goes_from_the_top_down():
    rates = PartRates("gradual", layers=2, decay=1.0)
    names = ("items.ids.weight", "trunk.last_norm.bias", "trunk.blocks.1.up.weight", BLOCK, "items.content.text.weight")
    parts = [rates.part(name) for name in names]
    assert parts == [0, 1, 2, 3, 4]
    trained = [[rates.factor(part, progress) for part in parts] for progress in (0.0, 0.2, 0.49, 0.5)]
    assert trained == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]


def test_adapters_add_a_matrix_of_their_rank_and_fold_away(tuning, backbone, tmp_path):
    model, _ = tuning(rank=2).train("adapters", tmp_path)
    change = model.get_parameter(BLOCK) - backbone.get_parameter(BLOCK)
    assert torch.linalg.matrix_rank(change.detach()) == 2
    assert moved(model, backbone)["items.content.text.weight"] == 0


def test_adapters_start_where_the_backbone_stands(backbone):
    model = adapted(backbone, ("t", 24), 0.0, 0.0)
    before = weights_hash(model)
    fold(adapt(model, 4), model)
    assert weights_hash(model) == before


def test_the_distance_to_the_start_is_kept_short(tuning, whole, backbone, tmp_path):
    near, _ = tuning(l2_sp=10.0).train("whole", tmp_path)
    assert sum(moved(near, backbone).values()) < 0.5 * sum(moved(whole[0], backbone).values())


def test_replay_changes_the_shared_parts_and_leaves_no_source_behind(tuning, whole, tmp_path):
    model, history = tuning(replay=1.0).train("whole", tmp_path)
    assert model.spec == whole[0].spec
    assert history[-1]["step"] == whole[1][-1]["step"]
    assert weights_hash(model) != weights_hash(whole[0])


def test_where_no_source_is_left_to_replay_the_stage_says_so(chain, tmp_path):
    copy = chain.copy_to(tmp_path)
    said = "transfer.replay is 0.5, and beside t no source is here to replay"
    assert said not in copy.run("transfer", epochs=1, replay=0.5).found
    about = copy.root / "training" / "dataset.json"
    told = json.loads(about.read_text())
    about.write_text(json.dumps(told | {"domains": {"t": told["domains"]["t"]}}))
    assert said in copy.run("transfer", epochs=1, replay=0.5).found
    assert said in json.loads((copy.folder("reports/transfer") / "transfer.json").read_text())["notes"]


def test_killed_and_run_again_the_weights_are_the_same(tuning, tmp_path, monkeypatch):
    """Adapters, replay and the anchor at once: whatever they remember must come back by itself."""
    given = {"replay": 0.5, "l2_sp": 0.1}
    model, _ = tuning(**given).train("adapters", tmp_path / "whole")
    with interrupted(monkeypatch, 3):
        tuning(**given).train("adapters", tmp_path / "killed")
    again, _ = tuning(**given).train("adapters", tmp_path / "killed")
    assert weights_hash(again) == weights_hash(model)


def test_the_control_is_kept_where_transfer_has_no_gain():
    scratch = np.array([0.0, 1.0, 0.5] * 50)
    for transfer, kept in ((scratch, "scratch"), (scratch * 0.9, "scratch"), (scratch * 1.1, "whole")):
        choice = choose({"head": scratch * 0.5, "whole": transfer, "scratch": scratch}, 0.95, 7)
        assert choice.kept == choice.about["arm"] == kept
        assert ("transfer has no gain" in choice.sentence) == (kept == "scratch")
        assert choice.sentence.startswith("whole against scratch on 150 validation users")
    assert choice.figures["gain_pct"] == pytest.approx(10)
    assert choice.figures["gain_pct_low"] < 10 < choice.figures["gain_pct_high"]


def test_without_a_control_the_best_is_kept_and_without_rows_the_first():
    better, worse = np.array([0.5, 1.0]), np.array([0.5, 0.5])
    assert choose({"whole": worse, "head": better}, 0.95, 7).kept == "head"
    choice = choose({"whole": None, "head": None}, 0.95, 7)
    assert (choice.kept, choice.figures) == ("whole", {})
    assert "no validation rows" in choice.sentence
    nothing_right = np.zeros(3)
    assert choose({"whole": nothing_right, "scratch": nothing_right}, 0.95, 7).kept == "scratch"


def test_the_stage_says_which_arm_it_kept_and_why(chain, tmp_path):
    copy = chain.copy_to(tmp_path)
    summary = copy.run("transfer", arms=["whole", "scratch"])
    about = json.loads((copy.folder("models/teacher") / "model.json").read_text())
    assert about["choice"] in summary.found
    assert about["arm"] == max(about["arms"], key=about["arms"].__getitem__)
    assert summary.metrics["valid_ndcg10"] == pytest.approx(about["arms"][about["arm"]])
    assert {"gain_pct", "valid_ndcg10.whole", "valid_ndcg10.scratch"} <= summary.metrics.keys()


@pytest.mark.parametrize(
    ("users", "said"),
    [(0, "no validation rows to choose by: whole, the first of transfer.arms"), (1, "on 1 validation users")],
)
def test_a_target_of_hardly_a_validation_user_says_nothing_of_its_backbone(chain, tmp_path, users, said):
    copy = chain.copy_to(tmp_path)
    held = copy.root / "training" / "t" / "holdout.parquet"
    rows = pl.read_parquet(held)
    first = rows.filter(pl.col("split") == "validation").head(users)
    pl.concat([first, rows.filter(pl.col("split") == "test")]).write_parquet(held)
    summary = copy.run("transfer", arms=["whole", "scratch"], epochs=1)
    assert said in summary.found
    assert "logme" not in summary.metrics
    assert np.isfinite(list(summary.metrics.values())).all()


def test_a_vector_that_is_no_number_or_of_another_width_is_named(chain, tmp_path):
    copy = chain.copy_to(tmp_path)
    path = copy.root / "vectors" / "t" / "text.npy"
    vectors = np.load(path)
    np.save(path, vectors[:, :4])
    with pytest.raises(
        DataBrokeContract, match=r"t/text.npy has shape \(25, 4\) where \(25, 8\) is expected; .* run embed"
    ):
        copy.run("transfer")
    vectors[3, 0] = np.nan
    np.save(path, vectors)
    with pytest.raises(
        DataBrokeContract, match=r"t/text.npy has a value that is no number, first for item 't-3'; repair"
    ):
        copy.run("transfer")


def test_an_arm_named_twice_or_unknown_is_refused():
    with pytest.raises(ValidationError, match="names an arm twice: whole, whole"):
        TransferParams.model_validate(GIVEN | {"arms": ["whole", "whole"]})
    with pytest.raises(ValidationError, match="'whole', 'discriminative'"):
        TransferParams.model_validate(GIVEN | {"arms": ["full"]})


def test_mixed_weights_are_never_worse_on_validation_and_says_how_much_of_it_is_new(tuning, whole, backbone):
    asked = tuning()
    start = adapted(backbone, ("t", 24), 0.2, 0.2)
    for weight, model in ((0.0, start), (1.0, whole[0])):
        assert weights_hash(interpolated(start, whole[0], weight)) == weights_hash(model)
    tuned = {name: value.clone() for name, value in whole[0].state_dict().items()}
    model, share = asked.mix_with_backbone(whole[0])
    assert asked.validate(model) >= asked.validate(whole[0])
    assert weights_hash(interpolated(start, whole[0], share)) == weights_hash(model)
    assert all(torch.equal(value, tuned[name]) for name, value in whole[0].state_dict().items())
    # what validation cannot tell apart stays as it was tuned; what it likes is taken
    assert mixed_weights(start, whole[0], lambda _: 0.5) == (whole[0], 1.0)
    assert mixed_weights(start, whole[0], lambda _: None) == (whole[0], 1.0)
    likes_the_start = mixed_weights(start, whole[0], lambda one: -sum(moved(one, backbone).values()))
    assert likes_the_start[1] == 0.25


def test_the_stage_tells_the_share_of_a_fused_arm(chain, tmp_path):
    copy = chain.copy_to(tmp_path)
    summary = copy.run("transfer", arms=["whole", "head"], fuse=True)
    about = json.loads((copy.folder("models/teacher") / "model.json").read_text())
    assert about["fused"] in (0.25, 0.5, 0.75, 1.0)
    assert f"{about['fused']:.0%} of it, the rest the backbone" in summary.found
