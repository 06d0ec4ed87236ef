"""`warmstart experiment transfer`: what it takes away, that it goes on where it was, and what it says."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from pipeline.augmentation.parts import ALL, parts_of
from pipeline.cli import app
from pipeline.data.training_set import load_domain
from pipeline.exit_codes import BadConfiguration
from pipeline.registry.mlflow_rest import MlflowRest
from pipeline.transfer.experiment import Experiment, pick, work_of
from pipeline.transfer.experiment_arms import FUSED, LONG, META, VOICES, ZERO_SHOT
from pipeline.transfer.four_states import states_of, states_table
from pipeline.transfer.outcome import PICKED, gain, page, sentence, table, with_picked
from pipeline.transfer.params import TransferParams
from pipeline.transfer.parts import NEW_ITEMS, STATES, with_states
from pipeline.transfer.thinning import few_users, without_items
from pipeline.transfer.trial import BACKBONE, META_BACKBONE, supports_of
from tests.training_data import rewrite_without_training

GIVEN = {"seed": 7, "epochs": 1, "learning_rate": 0.003, "batch_users": 32}
ARMS = ("scratch", LONG, "whole", "replay", "multi-task", FUSED)


@pytest.fixture(scope="module")
def experiment(chain, tmp_path_factory) -> Experiment:
    inputs = {"data/training": chain.root / "training", "data/item_vectors": chain.root / "vectors"}
    inputs["models/backbone"] = chain.folder("models/backbone")
    out = tmp_path_factory.mktemp("experiment")
    return Experiment(inputs, "t", TransferParams.model_validate(GIVEN), out, ARMS)


@pytest.fixture(scope="module")
def outcomes(experiment) -> list[dict]:
    return experiment.run((0.5, 1.0), (1,))


def test_few_users_train_and_validate_and_every_test_user_stays(chain, data, tmp_path):
    thin = load_domain(few_users(chain.root / "training", tmp_path / "few", "t", 0.5, 3), "t")
    kept = np.diff(thin.offsets) > 0
    whole = np.diff(data.offsets) > 0
    assert 0.25 * whole.sum() < kept.sum() < 0.75 * whole.sum()
    user = int(np.flatnonzero(kept)[0])
    span = [slice(one.offsets[user], one.offsets[user + 1]) for one in (thin, data)]
    assert thin.items[span[0]].tolist() == data.items[span[1]].tolist()
    assert kept[thin.holdout("validation").user_index].all()
    for column in ("user_index", "item_index", "history_items"):
        assert getattr(thin.holdout("test"), column).tolist() == getattr(data.holdout("test"), column).tolist()
    assert thin.in_training.tolist() == (np.bincount(thin.items, minlength=thin.n_items + 1) > 0).tolist()
    assert not thin.item_features.any()


def test_removed_items_are_in_no_sequence_and_are_told_as_new(chain, data, tmp_path):
    thin = load_domain(without_items(chain.root / "training", tmp_path / "new", "t", 0.25, 3), "t")
    removed = data.in_training & ~thin.in_training
    assert removed.sum() >= 0.2 * data.n_items
    assert not removed[thin.items].any()
    assert len(thin.items) == (~removed[data.items]).sum()
    for split in ("validation", "test"):
        held = thin.holdout(split)
        assert ((held.item_slice == "cold") == ~thin.in_training[held.item_index]).all()


def test_a_share_of_nobody_and_an_unknown_domain_are_refused(chain, tmp_path):
    with pytest.raises(BadConfiguration, match="a share of 0 leaves none of the 60 users of t"):
        few_users(chain.root / "training", tmp_path / "x", "t", 0.0, 1)
    with pytest.raises(BadConfiguration, match=r"has no domain 'nowhere'; it has a, b, t"):
        without_items(chain.root / "training", tmp_path / "y", "nowhere", 0.1, 1)


def test_every_arm_is_judged_on_the_same_test_users(chain, outcomes, data):
    arms = {one["arm"] for one in outcomes}
    assert {*ARMS, ZERO_SHOT, "popularity", "item-kNN", "EASE", "content-kNN"} <= arms
    counts = {(one["arm"], len(one["parts"][ALL])) for one in outcomes}
    assert {count for _, count in counts} == {len(data.holdout("test"))}
    equal = {
        (one["share"], one["steps"]) for one in outcomes if one["arm"] in ("scratch", "whole", "replay", "multi-task")
    }
    assert len(equal) == 2  # one number for each share
    rows = (chain.folder("models/backbone") / "history.jsonl").read_text().splitlines()
    before = json.loads(rows[-1])["step"]
    for one in (one for one in outcomes if one["arm"] == LONG):  # in whole epochs, and no patience ends it
        assert abs(one["steps"] - before - dict(equal)[one["share"]]) <= dict(equal)[one["share"]]


def test_stopped_it_goes_on_where_it_was(experiment, outcomes):
    gone = experiment.out / "share-0.5" / "seed-1" / "whole.json"
    others = {path: path.stat().st_mtime_ns for path in experiment.out.rglob("*.json") if path != gone}
    told = json.loads(gone.read_text())
    gone.unlink()
    again = experiment.run((0.5, 1.0), (1,))
    assert {path: path.stat().st_mtime_ns for path in others} == others
    assert [one["parts"] for one in json.loads(gone.read_text())] == [one["parts"] for one in told]
    assert len(again) == len(outcomes)


def test_validation_picks_and_a_tie_goes_to_the_control():
    def arm(name, valid):
        return {"arm": name, "valid": valid}

    assert pick([arm("whole", 0.2), arm("scratch", 0.2), arm(LONG, 0.9), arm(ZERO_SHOT, 0.9)])["arm"] == "scratch"
    assert pick([arm("scratch", 0.2), arm("head", 0.21)])["arm"] == "head"
    assert pick([arm("scratch", 0.2), arm(FUSED, None)])["arm"] == "scratch"


def test_fused_tells_the_weights_of_its_voices_by_the_length_of_the_history(outcomes):
    fused = [one for one in outcomes if one["arm"] == FUSED]
    assert len(fused) == 2
    for one in fused:
        assert list(one["weights"]) == ["0+", "1+", "3+", "8+"]
        for row in one["weights"].values():
            assert row.keys() == set(VOICES)
            assert sum(row.values()) == pytest.approx(1)


def test_the_table_has_gains_and_the_page_says_what_they_mean(outcomes):
    told = with_picked(outcomes)
    rows = table(told)
    picked = [row for row in rows if row["arm"] == PICKED]
    assert {row["share"] for row in picked} == {0.5, 1.0}
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)
    assert not any("gain_pct" in row for row in rows if row["arm"] == "scratch")
    text = page("t", told, rows, states_table(told, PICKED))
    assert "<svg" in text and "users with 5 interactions" in text and "<script" not in text
    words = sentence(told, rows, 1.0)
    assert words.startswith("100% of the users: validation picks ")
    assert words.endswith(("transfer gains", "transfer has no sure gain"))
    assert words in text


def test_a_gain_is_of_means_and_nothing_over_nothing_is_not_told():
    theirs = np.array([0.5, 1.0] * 200)
    value, low, high = gain(theirs * 1.2, theirs)
    assert (value, low, high) == pytest.approx((20, 20, 20))
    assert gain(theirs, np.zeros(400)) == (None, None, None)


def test_the_command_writes_table_and_page(chain, tmp_path):
    root = tmp_path / "workspace"
    shutil.copytree(chain.root / "training", root / "data" / "training")
    shutil.copytree(chain.root / "vectors", root / "data" / "item_vectors")
    shutil.copytree(chain.folder("models/backbone"), root / "models" / "backbone")
    words = ["experiment", "transfer", "--target", "t", "--root", str(root), "--shares", "1", "--seeds", "1"]
    words += ["--arms", "scratch, whole", "--set", "transfer.epochs=1", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0
    assert "100% of the users: validation picks" in done.output
    rows = json.loads((tmp_path / "out" / "table.json").read_text())
    assert {"scratch", "whole", "zero-shot", PICKED} <= {row["arm"] for row in rows}
    assert (tmp_path / "out" / "report.html").exists()
    for wrong, said in (
        (["--arms", "full"], "--arms names full; there are scratch"),
        (["--arms", "fused"], "--arms names fused alone, which validation does not pick"),
        (["--shares", "x"], "--shares is 'x'; give shares of the users, above 0 up to 1"),
        (["--shares", "1,2"], "--shares is '1,2'; give shares"),
        (["--seeds", "1.5"], "--seeds is '1.5'; give whole numbers"),
        (["--supports", "-1"], "--supports is '-1'; give numbers of interactions"),
        (["--set", "transfer.epochs=ten"], "transfer.epochs is 'ten': input should be"),
        (["--set", "pretrain.epochs=1"], "--set pretrain.epochs=1: .* reads those of transfer alone"),
        (["--meta", str(tmp_path)], "is no backbone; give models/backbone of a run with pretrain.meta"),
        (["--target", "nowhere"], "has no domain 'nowhere'; it has a, b, t"),
    ):
        with pytest.raises(BadConfiguration, match=said):
            CliRunner().invoke(app, [*words, *wrong], catch_exceptions=False)


def test_what_is_kept_is_of_these_parameters_and_inputs(experiment, tmp_path):
    def work(inputs=experiment.inputs, supports=(0, 5), **changed):
        return work_of(inputs, "t", experiment.params.model_copy(update=changed), supports)

    copy = tmp_path / "backbone"
    shutil.copytree(experiment.inputs[BACKBONE], copy)
    other = {**experiment.inputs, BACKBONE: copy}
    assert work() == work(seed=8) == work(other)
    (copy / "model.json").write_text("{}")
    assert len({work(), work(epochs=2), work(supports=(0,)), work(other)}) == 4


def test_the_arm_meta_is_whole_from_its_own_backbone(chain, experiment, outcomes, tmp_path):
    other, few = chain.folder("models/teacher"), {"arms": ("whole",), "baselines": False}
    inputs = {**experiment.inputs, META_BACKBONE: other}
    tried = replace(experiment, inputs=inputs, arms=(META,), baselines=False, out=tmp_path / "meta")
    meta = next(one for one in tried.run((1.0,), (1,)) if one["arm"] == META)
    swapped = replace(experiment, inputs={**inputs, BACKBONE: other}, out=tmp_path / "swapped", **few)
    expected, usual = (
        next(one for one in found if (one["arm"], one["share"]) == ("whole", 1.0))
        for found in (swapped.run((1.0,), (1,)), outcomes)
    )
    assert (meta["parts"], meta["valid"], meta["steps"]) == tuple(expected[key] for key in ("parts", "valid", "steps"))
    assert meta["parts"] != usual["parts"]
    assert pick([usual, meta | {"valid": 1.0}])["arm"] == META


def test_a_target_without_training_or_validation_is_refused_before_anything_is_trained(experiment, tmp_path):
    def told(training):
        tried = replace(experiment, inputs={**experiment.inputs, "data/training": training}, out=tmp_path / "out")
        with pytest.raises(BadConfiguration) as refused:
            tried.run((1.0,), (1,))
        return str(refused.value)

    for name in ("empty", "unjudged"):
        shutil.copytree(experiment.inputs["data/training"], tmp_path / name)
    rewrite_without_training(tmp_path / "empty", "t")
    assert told(tmp_path / "empty").startswith("t has no training interactions, so no arm can be tried")
    held = tmp_path / "unjudged" / "t" / "holdout.parquet"
    pl.read_parquet(held).filter(pl.col("split") == "test").write_parquet(held)
    assert told(tmp_path / "unjudged").startswith("t has no validation rows at this share with seed 1")
    assert not list((tmp_path / "out").rglob("*.json"))


def test_without_the_control_there_is_a_page_and_no_gain(outcomes):
    told = with_picked([one for one in outcomes if one["arm"] != "scratch"])
    rows = table(told)
    assert not any("gain_pct" in row for row in rows)
    assert sentence(told, rows, 1.0).endswith("no gain can be told")
    assert "no gain can be told" in page("t", told, rows, states_table(told, PICKED))


def test_a_part_that_one_seed_alone_has_is_in_the_table():
    parts = {ALL: [0.1, 0.2]}
    both = [{"share": 1.0, "seed": seed, "arm": "scratch", "parts": parts} for seed in (1, 2)]
    both[1]["parts"] = parts | {NEW_ITEMS: [0.5]}
    assert {row["part"]: row["value"] for row in table(both)} == pytest.approx({ALL: 0.15, NEW_ITEMS: 0.5})


def test_new_users_and_new_items_are_parts_of_their_own(chain, tmp_path):
    thin = load_domain(without_items(chain.root / "training", tmp_path / "new", "t", 0.25, 3), "t")
    nobody = np.zeros(thin.n_items + 1, dtype=bool)
    parts = [part for part in parts_of(thin, "test", nobody, 100, 0) if part.name == ALL]
    figures = {ALL: np.arange(len(parts[0].rows)) / 1000}
    found = with_states(figures, parts, thin)
    assert {len(found[NEW_ITEMS]) + len(found["trained items"])} == {len(figures[ALL])}
    of_new = parts[0].holdout.item_slice == "cold"
    assert found[NEW_ITEMS].tolist() == figures[ALL][of_new].tolist()
    trains = np.diff(thin.offsets)[parts[0].holdout.user_index] > 0
    assert found["known users, new items"].tolist() == figures[ALL][of_new & trains].tolist()
    nothing = np.zeros_like(thin.offsets)
    states = with_states(figures, parts, replace(thin, sequences=replace(thin.sequences, offsets=nothing)))
    assert states["new users, new items"].tolist() == figures[ALL][of_new].tolist()
    assert states["new users, known items"].tolist() == figures[ALL][~of_new].tolist()


def test_every_state_has_a_count_or_a_reason(outcomes):
    def reasons(*counts):
        parts = {name: [0.5] * n for name, n in zip(STATES, counts, strict=True) if n}
        found = states_of([{"seed": 1, "parts": parts}])
        assert [state.n for state in found] == list(counts)
        return [state.reason for state in found]

    items, users = "every item that a test user took has training interactions", "every test user has training"
    assert reasons(3, 0, 2, 0) == ["", items, "", items]
    assert [reason[: len(users)] for reason in reasons(3, 2, 0, 0)] == ["", "", users, users]
    assert reasons(3, 2, 1, 0)[3] == "there are such users and such items, and none of these users took one"
    assert reasons(0, 0, 0, 3)[0] == "no test user has a training interaction"
    assert reasons(0, 2, 0, 3)[0] == "no item that a test user took has a training interaction"
    text = states_table(with_picked(outcomes), PICKED)
    assert text.count("<tr>") == 1 + 2 * len(STATES)
    assert users in text  # at a share of 1; half of them are new at a share of 0.5
    assert "<th>new users, known items</th><td>" in text


def test_a_support_set_longer_than_every_history_is_left_out_and_none_at_all_is_refused(experiment, tmp_path, caplog):
    data = load_domain(experiment.inputs["data/training"], "t")
    longest = int(data.holdout("test").history_lengths.max())
    told = f"the longest history of a test user of t has {longest} interactions"
    assert supports_of((0, longest), data) == [0, longest]
    assert not caplog.messages
    assert supports_of((5, 400, 500), data) == [5]
    assert caplog.messages == [f"support sets of 400, 500 are left out: {told}"]
    with pytest.raises(BadConfiguration, match=f"support sets of 400 are asked for, and {told}; name shorter ones"):
        replace(experiment, out=tmp_path, supports=(400,)).run((1.0,), (1,))
    assert not list(tmp_path.rglob("*.json"))


def test_a_suggestion_orders_backbones_and_arms_and_trains_nothing(chain, tmp_path, monkeypatch):
    for name, folder in (("training", chain.root / "training"), ("item_vectors", chain.root / "vectors")):
        shutil.copytree(folder, tmp_path / "data" / name)
    shutil.copytree(chain.folder("models/backbone"), tmp_path / "models/backbone")
    monkeypatch.setattr(MlflowRest, "experiment", lambda self, name: "1")
    monkeypatch.setattr(MlflowRest, "runs", lambda self, experiment, query: [])
    asked = ["experiment", "suggest", "--target", "t", "--root", str(tmp_path)]
    told = CliRunner().invoke(app, [*asked, "--arms", "head,whole"])
    assert told.exit_code == 0, told.output
    head, _, *rows = told.output.splitlines()
    assert head == "0 arms of earlier runs"
    assert [row.split(",")[0].split()[-1] for row in rows] == ["head", "whole"]
    assert all("a+b" in row and "by LogME alone" in row for row in rows)
    with pytest.raises(BadConfiguration, match="none-such is not there"):
        CliRunner().invoke(app, [*asked, "--backbone", "none-such"], catch_exceptions=False)
