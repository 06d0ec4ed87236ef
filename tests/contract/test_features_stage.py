"""`features` from a handmade `data/valid` to a training set, and what it does with data that is hardly there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipeline.data.training_set import load_dataset, load_domain
from pipeline.exit_codes import BadConfiguration
from pipeline.features.model_inputs import ITEM_FEATURES, OWN_FEATURES
from pipeline.features.store import VIEWS
from pipeline.runs.contract import Job
from pipeline.stages import features
from tests.valid_data import EMPTY, ROLES, items, two_domains, users, write_valid


def run(folder: Path, valid: Path, **params) -> Path:
    """Run the stage; returns `data/training`."""
    outputs = {name: folder / name for name in ("data/features", "data/training")}
    for path in (*outputs.values(), folder / "scratch"):
        path.mkdir(parents=True)
    chosen = features.Params(**{"targets": ["stall"]} | params)
    features.run({"data/valid": valid}, outputs, chosen, Job(scratch=folder / "scratch"))
    return outputs["data/training"]


def digest(folder: Path) -> str:
    """One hash of all files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


@pytest.fixture(scope="module")
def temporal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("temporal")
    domains = two_domains()
    return domains, run(folder, write_valid(folder / "valid", domains, ROLES))


def test_every_interaction_is_trained_on_held_out_or_later(temporal):
    domains, training = temporal
    dataset = load_dataset(training)
    for name, tables in domains.items():
        data, rows = load_domain(training, name), tables["interactions"]
        held = [data.holdout(split) for split in ("validation", "test")]
        assert data.n_users == rows["user_id"].n_unique()
        assert data.n_items == tables["items"].height
        assert data.times.max() < dataset["cuts"]["validation"]
        assert all((split.timestamp >= dataset["cuts"]["validation"]).all() for split in held)
        assert len(data.items) == (rows["timestamp"].to_physical() < dataset["cuts"]["validation"]).sum()
        assert len(held[1]) > 0


def test_sequences_tell_what_the_rows_told(temporal):
    domains, training = temporal
    data = load_domain(training, "shop")
    user = data.user_ids[3]
    told = domains["shop"]["interactions"].filter(pl.col("user_id") == user)
    ids, times = data.sequences.of_user(3)
    span = slice(int(data.offsets[3]), int(data.offsets[4]))
    trained = told.head(len(ids))
    assert [data.item_ids[item] for item in ids] == trained["item_id"].to_list()
    assert times.tolist() == trained["timestamp"].to_physical().to_list()
    assert [data.event_names[code - 1] for code in data.events[span]] == trained["event"].to_list()
    np.testing.assert_array_equal(data.values[span], trained["value"].fill_null(np.nan).to_numpy())


def test_features_are_finite_about_the_unit_range_and_row_zero_is_padding(temporal):
    _, training = temporal
    for name in ("shop", "stall"):
        data = load_domain(training, name)
        assert data.item_feature_names == ITEM_FEATURES
        assert data.item_features.shape == (data.n_items + 1, len(ITEM_FEATURES))
        assert data.profile_features.shape == (data.n_users, len(data.profile_feature_names))
        for matrix in (data.item_features, data.profile_features):
            assert np.isfinite(matrix).all() and np.abs(matrix).max() <= 3
        assert not data.item_features[0].any() and not data.in_training[0]
        trained = np.isin(np.arange(data.n_items + 1), data.items)
        assert (data.in_training == trained).all()


def test_a_profile_knows_what_the_user_did_elsewhere_before_and_nothing_of_here(temporal):
    domains, training = temporal
    data = load_domain(training, "stall")
    column = {name: data.profile_features[:, n] for n, name in enumerate(data.profile_feature_names)}
    assert not column["stall_interactions"].any()
    shop, stall = domains["shop"]["interactions"], domains["stall"]["interactions"]
    starts = dict(stall.group_by("user_id").agg(pl.col("timestamp").min()).iter_rows())
    for user, user_id in enumerate(data.user_ids):
        rows = shop.filter(
            pl.col("user_id") == user_id,
            pl.col("timestamp") < starts[user_id],
            pl.col("created_at") < starts[user_id],
        )
        expected = np.log1p(rows.height) / np.log1p(1000)
        assert column["shop_interactions"][user] == pytest.approx(expected, abs=1e-5)
        assert column["has_footprint"][user] == (rows.height > 0)
    assert any(column["shop_interactions"])
    told = dict(domains["stall"]["users"].iter_rows())
    assert any(data.user_attributes[user] for user, user_id in enumerate(data.user_ids) if told.get(user_id))


def test_item_statistics_end_where_training_ends(temporal):
    domains, training = temporal
    data, cut = load_domain(training, "shop"), load_dataset(training)["cuts"]["validation"]
    rows = domains["shop"]["interactions"].with_columns(pl.col("timestamp", "created_at").to_physical())
    known = rows.filter(pl.col("timestamp") < cut, pl.col("created_at") < cut)
    counts = dict(known.group_by("item_id").len().iter_rows())
    found = np.expm1(data.item_features[:, ITEM_FEATURES.index("interactions")] * np.log1p(1000))
    for item in range(1, data.n_items + 1):
        # at most a day stale, and never younger
        assert found[item] <= counts.get(data.item_ids[item], 0) + 0.01
    assert found.sum() >= 0.95 * known.height


def test_the_same_input_gives_the_same_bytes(temporal, tmp_path):
    domains, training = temporal
    again = run(tmp_path, write_valid(tmp_path / "valid", domains, ROLES))
    assert digest(again) == digest(training)
    assert digest(again.parent / "features") == digest(training.parent / "features")


def test_the_facts_name_the_definitions_and_who_was_asked_about(tmp_path):
    from pipeline.features.definitions import applied_definitions

    def facts(name: str, rows: int) -> dict:
        valid = write_valid(tmp_path / name / "valid", two_domains(rows=rows), ROLES)
        outputs = {out: tmp_path / name / out for out in ("data/features", "data/training")}
        for path in (*outputs.values(), tmp_path / name / "scratch"):
            path.mkdir(parents=True)
        params = features.Params(targets=["stall"])
        summary = features.run({"data/valid": valid}, outputs, params, Job(scratch=tmp_path / name / "scratch"))
        assert json.loads((outputs["data/features"] / "dataset.json").read_text())["definitions"]["registry"]
        return dict(summary.facts["features"])

    one, same, other = facts("one", 300), facts("same", 300), facts("other", 200)
    assert one == same
    assert set(one["views"]) == set(VIEWS)
    assert one["service"] == "users, activity, items"
    assert one["entities"] != other.pop("entities")
    assert other.items() <= one.items()
    assert applied_definitions().items() <= one.items()  # also after Feast has applied them


def test_leave_one_out_keeps_what_is_held_out_from_the_tables(tmp_path):
    domains = two_domains(seed=4)
    training = run(tmp_path, write_valid(tmp_path / "valid", domains, ROLES, protocol="leave_one_out"))
    activity = pl.read_parquet(tmp_path / "data/features/user_activity.parquet")
    for name in domains:
        data = load_domain(training, name)
        known = activity.filter(pl.col("domain") == name).group_by("user_id").agg(pl.col("n_interactions").max())
        assert dict(known.iter_rows()) == dict(zip(data.user_ids, data.sequences.lengths.tolist(), strict=True))
        assert len(data.holdout("test")) == len(data.holdout("validation"))


def test_an_order_in_place_of_a_clock_compares_no_times_across_domains(tmp_path):
    domains = two_domains(seed=5)
    valid = write_valid(tmp_path / "valid", domains, ROLES, protocol="leave_one_out", clock="order")
    training = run(tmp_path, valid)
    assert load_domain(training, "stall").profile_feature_names == OWN_FEATURES
    assert not set(load_domain(training, "shop").user_ids) & set(load_domain(training, "stall").user_ids)


def test_a_target_nobody_has_used_one_item_and_lonely_users(tmp_path):
    shop = two_domains()["shop"]
    lonely = shop["interactions"].unique("user_id", keep="first", maintain_order=True)
    nobody = users(lonely).clear()
    domains = {
        "shop": {**shop, "users": nobody},
        "stall": {"interactions": EMPTY, "items": items(4, "t"), "users": nobody},
        "kiosk": {
            "interactions": lonely.with_columns(item_id=pl.lit("k000")),
            "items": items(1, "k"),
            "users": nobody,
        },
    }
    roles = {"shop": ["source"], "stall": ["target"], "kiosk": ["source", "target"]}
    for protocol in ("temporal", "leave_one_out"):
        folder = tmp_path / protocol
        valid = write_valid(folder / "valid", domains, roles, protocol=protocol)
        training = run(folder, valid, targets=["stall", "kiosk"])
        stall, kiosk = load_domain(training, "stall"), load_domain(training, "kiosk")
        assert (stall.n_users, stall.n_items, len(stall.items)) == (0, 4, 0)
        assert stall.profile_features.shape == (0, len(stall.profile_feature_names))
        assert len(stall.holdout("test")) == 0
        assert kiosk.n_items == 1 and kiosk.n_users == lonely.height
        if protocol == "leave_one_out":
            assert len(kiosk.items) == lonely.height, "a user with one interaction trains"
        assert not load_domain(training, "shop").user_attributes[0]


def test_a_target_that_is_none_is_refused_with_the_nearest_name(tmp_path):
    valid = write_valid(tmp_path / "valid", two_domains(), ROLES)
    with pytest.raises(BadConfiguration, match=r"'stal', which is no target .* did you mean 'stall'"):
        run(tmp_path, valid, targets=["stal"])


def test_vectors_the_user_brings_and_the_description_pass_through(tmp_path):
    domains = two_domains()
    vectors = pl.Series([[float(n), 1.0] for n in range(12)], dtype=pl.List(pl.Float32))
    domains["stall"]["items"] = domains["stall"]["items"].with_columns(image_vector=vectors)
    training = run(tmp_path, write_valid(tmp_path / "valid", domains, ROLES))
    stored = pl.read_parquet(training / "stall/items.parquet")
    assert stored["image_vector"].to_list() == vectors.to_list()
    about = json.loads((training / "dataset.json").read_text())
    assert about["targets"] == ["stall"] and about["events"] == ["purchase", "view"]
    assert about["domains"]["stall"]["n_items"] == 12
    # what a server has to know beside a model: see prune.what_a_server_knows
    assert (about["project"], about["half_life_days"], about["history_length"]) == ("handmade", 30.0, 50)
    assert set(about["domains"]["stall"]["value_scale"]) == {"mean", "spread"}
