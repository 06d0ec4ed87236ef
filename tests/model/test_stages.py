"""The model stages as `dvc.yaml` calls them: what they write, that they learn, and what bad input gets."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from pipeline.data.training_set import load_domain
from pipeline.exit_codes import BadConfiguration, DataBrokeContract
from pipeline.settings import CHECKOUT
from pipeline.transfer.trial import Trial
from tests.training_data import OUTPUT, Chain, rewrite_without_training, write_training_set

FILES = {
    "models/backbone": {"model.safetensors", "model.json", "history.jsonl", "items.parquet"},
    "data/synthetic": set(),  # switched off, as in params.yaml
    "reports/augmentation": {"augment.json"},
    "models/teacher": {"model.safetensors", "model.json", "history.jsonl"},
    "reports/transfer": {"transfer.json", "report.html"},
    "models/student": {"model.safetensors", "model.json", "history.jsonl"},
    "reports/distillation": {"distill.json", "report.html", "per_user.parquet"},
    "models/served": {
        "model.onnx", "model.safetensors", "model.json", "items.parquet", "removed_channels.json", "history.jsonl",
        "vectors.npy", "item_encoder.onnx", "whitening.safetensors",
    },
    "reports/evaluation": {"metrics.json", "per_user.parquet", "report.html"},
}  # fmt: skip


def digests(chain: Chain) -> dict[str, str]:
    return {
        f"{folder}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in OUTPUT.values()
        for path in sorted(chain.folder(folder).iterdir())
    }


def metrics(chain: Chain) -> dict[str, dict]:
    rows = json.loads((chain.folder("reports/evaluation") / "metrics.json").read_text())["models"]
    return {row["name"]: row for row in rows}


def test_every_stage_writes_its_files(chain):
    for folder, names in FILES.items():
        assert {path.name for path in chain.folder(folder).iterdir()} == names
    rows = [json.loads(line) for line in (chain.folder("models/backbone") / "history.jsonl").open()]
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    assert all({"step", "train_loss", "valid_ndcg10"} <= row.keys() for row in rows)


def test_the_whole_chain_is_deterministic_to_the_byte(chain, tmp_path):
    again = chain.copy_to(tmp_path)
    for stage in OUTPUT:
        again.run(stage)
    assert digests(again) == digests(chain)


def test_the_models_learn_what_popularity_cannot(chain):
    found = {name: row["masked"]["ndcg10"]["value"] for name, row in metrics(chain).items()}
    assert found["teacher"] > 1.3 * found["popularity"]
    assert found["served"] > 1.1 * found["popularity"]
    assert found["backbone"] > 1.1 * found["popularity"]  # zero-shot


def test_the_student_is_smaller(chain):
    found = metrics(chain)
    assert found["student"]["parameters"] < found["teacher"]["parameters"] / 5
    assert found["served"]["parameters"] < found["student"]["parameters"]


def test_metrics_have_both_modes_slices_and_intervals(chain, data):
    about = json.loads((chain.folder("reports/evaluation") / "metrics.json").read_text())
    assert (about["target"], about["protocol"], about["n"]) == ("t", "leave_one_out", len(data.holdout("test")))
    for row in about["models"]:
        for mode in ("masked", "unmasked"):
            for figure in row[mode].values():
                assert figure["low"] <= figure["value"] <= figure["high"]
                assert figure["n"] == about["n"]
        assert set(row["slices"]) == {"user warm", "user few", "user cold", "item warm", "item cold"}
        users = sum(row["slices"][part]["n"] for part in ("user warm", "user few", "user cold"))
        assert users == about["n"]
    assert {row["against"] for row in about["differences"]} == {r["name"] for r in about["models"]} - {"served"}


def test_what_the_lists_are_like_stands_in_the_metrics_and_on_the_page(chain, data):
    page = (chain.folder("reports/evaluation") / "report.html").read_text()
    found = metrics(chain)
    for row in found.values():
        cells = "".join(f"<td>{row['lists'][name]:.3f}</td>" for name in ("coverage", "novelty", "popularity_bias"))
        assert f"<td>{row['name']}</td>{cells}" in page
    bias = {name: row["lists"]["popularity_bias"] for name, row in found.items()}
    assert max(bias, key=lambda name: bias[name]) == "popularity"
    assert found["popularity"]["lists"]["coverage"] < found["content-kNN"]["lists"]["coverage"] == 1.0


def test_per_user_means_are_the_metrics(chain):
    table = pl.read_parquet(chain.folder("reports/evaluation") / "per_user.parquet")
    for name, row in metrics(chain).items():
        assert table[name].mean() == pytest.approx(row["masked"]["ndcg10"]["value"])


def test_the_oracle_row_is_read_from_the_holdout(chain, tmp_path):
    known = chain.copy_to(tmp_path)
    path = known.root / "training" / "t" / "holdout.parquet"
    pl.read_parquet(path).with_columns(oracle_rank=pl.lit(1, pl.Int32)).write_parquet(path)
    known.run("evaluate")
    row = metrics(known)["oracle (known truth)"]
    assert (row["kind"], row["masked"]["ndcg10"]["value"]) == ("oracle", 1.0)
    assert "unmasked" not in row


def test_there_is_no_oracle_row_where_one_truth_is_unknown():
    from pipeline.data.training_set import Holdout
    from pipeline.evaluation.table import oracle_ranks

    def holdout(*ranks: int) -> Holdout:
        column = np.zeros(len(ranks))
        return Holdout("test", *([column] * 8), oracle_rank=np.array(ranks, np.int32))

    known = oracle_ranks(holdout(3, 1))
    assert known is not None
    assert known.masked.tolist() == [3, 1]
    assert oracle_ranks(holdout(3, 0)) is None  # feedback among the world's own rows
    assert oracle_ranks(holdout()) is None


def test_the_report_is_one_page_of_its_own(chain):
    page = (chain.folder("reports/evaluation") / "report.html").read_text()
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert "prefers-color-scheme: dark" in page
    for name in ("popularity", "item-kNN", "content-kNN", "backbone", "teacher", "student", "served"):
        assert name in page


def test_parameters_are_read_without_the_heavy_libraries():
    code = (
        "import sys\n"
        f"for stage in {list(OUTPUT)!r}: __import__('pipeline.stages.' + stage)\n"
        "assert not {'torch', 'onnxruntime', 'scipy', 'polars'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CHECKOUT)


# What bad input gets.


@pytest.fixture
def bad(tmp_path):
    """A dataset with the given domains; nothing has been run on it."""

    def make(domains: dict[str, list[str]], **sizes: int) -> Chain:
        return Chain(write_training_set(tmp_path, domains, **sizes))

    return make


def test_no_source(bad):
    with pytest.raises(BadConfiguration, match="no domain of the dataset 'handmade' has the role source"):
        bad({"t": ["target"]}).run("pretrain")


def test_sources_without_interactions(bad):
    chain = bad({"a": ["source"], "t": ["target"]})
    rewrite_without_training(chain.root / "training", "a")
    with pytest.raises(DataBrokeContract, match="none of the source domains a has a training interaction"):
        chain.run("pretrain")


def test_heads_must_divide_the_width(bad):
    chain = bad({"a": ["source"], "t": ["target"]})
    with pytest.raises(BadConfiguration, match=r"pretrain\.heads is 3"):
        chain.run("pretrain", heads=3)


def test_a_student_as_large_as_its_teacher(chain, tmp_path):
    with pytest.raises(BadConfiguration, match="its teacher has"):
        chain.copy_to(tmp_path).run("distill", width=64, attribute_buckets=4096)


def test_a_student_with_too_wide_ids(chain, tmp_path):
    with pytest.raises(BadConfiguration, match=r"distill\.id_width is 20"):
        chain.copy_to(tmp_path).run("distill", id_width=20)


def test_pruning_everything(chain, tmp_path):
    with pytest.raises(BadConfiguration, match=r"keeping 0\.2 of 2 units leaves none; raise prune\.keep_heads"):
        chain.copy_to(tmp_path).run("prune", keep_heads=0.2)


def test_a_learning_rate_that_diverges_names_the_batch(bad):
    chain = bad({"a": ["source"], "t": ["target"]})
    with pytest.raises(BadConfiguration, match=r"loss became (nan|inf).*domain a, users .*lower learning_rate"):
        chain.run("pretrain", learning_rate=1e30)


def test_a_torn_model_is_named(chain, tmp_path):
    torn = chain.copy_to(tmp_path)
    (torn.folder("models/backbone") / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(BadConfiguration, match="backbone does not hold a whole model"):
        torn.run("transfer")


def test_vectors_of_another_training_set(bad):
    chain = bad({"a": ["source"], "t": ["target"]})
    np.save(chain.root / "vectors" / "a" / "text.npy", np.zeros((3, 8), dtype=np.float32))
    with pytest.raises(DataBrokeContract, match="run embed again"):
        chain.run("pretrain")


def test_a_vector_that_is_no_number(bad):
    chain = bad({"a": ["source"], "t": ["target"]})
    path = chain.root / "vectors" / "a" / "text.npy"
    vectors = np.load(path)
    vectors[4, 2] = np.nan
    np.save(path, vectors)
    with pytest.raises(DataBrokeContract, match="first for item 'a-4'"):
        chain.run("pretrain")


# What is unusual and has to work.


def run_all(chain: Chain) -> dict[str, dict]:
    for stage in OUTPUT:
        chain.run(stage)
    return metrics(chain)


def test_a_target_without_interactions_is_ranked_zero_shot(chain, tmp_path):
    cold = chain.copy_to(tmp_path)
    rewrite_without_training(cold.root / "training", "t")
    found = run_all(cold)
    assert "zero-shot" in cold.summaries["transfer"].found
    assert found["served"]["masked"]["ndcg10"]["value"] == found["backbone"]["masked"]["ndcg10"]["value"]
    assert found["served"]["masked"]["ndcg10"]["value"] > found["popularity"]["masked"]["ndcg10"]["value"]


def test_one_domain_may_be_source_and_target(bad):
    chain = bad({"t": ["source", "target"]})
    assert run_all(chain)["served"]["masked"]["ndcg10"]["n"] > 0


def test_a_domain_with_one_item_and_users_with_one_interaction(bad):
    chain = bad({"a": ["source"], "t": ["target"]}, users=10, items=1)
    found = run_all(chain)
    assert load_domain(chain.root / "training", "t").n_items == 1
    assert found["served"]["masked"]["ndcg10"]["n"] == 0  # nobody can be tested, everybody trains
    assert "no test users" in chain.summaries["evaluate"].found
    assert "no validation rows" in chain.summaries["transfer"].found


def test_a_target_that_shares_nothing_with_any_source_is_trained_from_scratch(bad, caplog):
    chain = bad({"a": ["source"], "t": ["target"]})
    chain.run("pretrain")
    chain.run("augment")
    vectors, items, users = (
        chain.root / "vectors/t/text.npy",
        chain.root / "training/t/items.parquet",
        chain.root / "training/t/users.parquet",
    )
    own = pl.col("attributes").list.eval("own-" + pl.element())
    for table in (items, users):
        pl.read_parquet(table).with_columns(own).write_parquet(table)
    assert "shares nothing" not in chain.run("transfer", epochs=1).found  # texts are still in common
    np.save(vectors, np.zeros_like(np.load(vectors)))
    said = "t shares nothing with a, no content vector, no attribute of an item or a user: trained from scratch"
    assert said in chain.run("transfer", epochs=1).found
    assert json.loads((chain.folder("models/teacher") / "model.json").read_text())["arm"] == "scratch"
    assert said in (chain.folder("reports/transfer") / "report.html").read_text()
    inputs = {"data/training": chain.root / "training", "data/item_vectors": chain.root / "vectors"}
    inputs["models/backbone"] = chain.folder("models/backbone")
    Trial(inputs, "t", chain.params("transfer"), chain.root / "scratch", 10, (0,))
    assert (
        said.replace("trained from scratch", "what starts from the backbone starts from nothing it knows")
        in caplog.text
    )
    rewrite_without_training(chain.root / "training", "t")
    found = chain.run("transfer").found
    assert "zero-shot" in found
    assert found.endswith("no content vector, no attribute of an item or a user: their order says nothing")


def test_items_without_any_text(bad):
    chain = bad({"a": ["source"], "t": ["target"]})
    for domain in ("a", "t"):
        path = chain.root / "vectors" / domain / "text.npy"
        np.save(path, np.zeros_like(np.load(path)))
    assert "content-kNN" not in run_all(chain)


def test_a_large_catalogue_is_sampled(bad):
    chain = bad({"a": ["source"], "t": ["target"]})
    for stage in ("pretrain", "transfer", "distill", "prune"):
        chain.run(stage, full_softmax_items=5, sampled_items=8)
    chain.run("evaluate")
    found = metrics(chain)
    assert found["teacher"]["masked"]["ndcg10"]["value"] > found["popularity"]["masked"]["ndcg10"]["value"]
