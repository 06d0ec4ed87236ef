"""register@T as a stage: on trained models, a real registry, and the same twice."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from pipeline.registry.champion import download, model_name, version_of
from pipeline.registry.promotion import roll_back
from pipeline.runs.contract import Job, Summary
from pipeline.settings import CHECKOUT
from pipeline.stages import register
from tests.model.conftest import chain, world  # noqa: F401

pytestmark = pytest.mark.usefixtures("registry")


@pytest.fixture
def night(registry, chain, tmp_path):  # noqa: F811
    """Register the chain's model as a run; `night("run-1")` gives the summary and the receipt."""
    given = yaml.safe_load((CHECKOUT / "params.yaml").read_text())["register"]
    # 50 test users prove little: the first champion is let through on purpose, and so is an equal one
    report = tmp_path / "reports" / "t"
    target = chain.target

    def register_run(run_id: str, as_of: str = "2026-01-01T00:00:00Z", served=None, **params) -> tuple[Summary, dict]:
        out = tmp_path / run_id
        out.mkdir(exist_ok=True)
        run = {
            "run_id": run_id,
            "as_of": as_of,
            "commit": "c" * 40,
            "opened": "2026-01-02T00:00:00Z",
            "data": "handmade",
        }
        inputs = {
            "data/training": chain.root / "training",
            "models/served": served or chain.folder("models/served"),
            "reports/evaluation": report if report.exists() else chain.folder("reports/evaluation"),
        }
        values = register.Params.model_validate({"seed": 7, **given, **params})
        job = Job(tmp_path / "scratch" / run_id, target, run=run)
        job.scratch.mkdir(parents=True, exist_ok=True)
        summary = register.run(inputs, {"receipts/register": out}, values, job)
        return summary, json.loads((out / "receipt.json").read_text())

    register_run.report = report
    return register_run


def test_a_life_of_a_model(registry, chain, night, tmp_path):  # noqa: F811
    """First champion, repetition, the same model again, another model, a rollback, a backfill."""
    name = model_name(chain.target)
    summary, receipt = night("run-1")
    assert receipt["verdict"] == "promote", receipt["reasons"]
    assert (receipt["champion_before"], receipt["champion"], receipt["version"]) == (None, 1, 1)
    assert summary.facts["model"]["decision"] == registry.log(chain.target)[0].sha256
    assert registry.log(chain.target)[0].verdict_sha256 == receipt["gate"]["sha256"]

    # what belongs to the version stands with it
    version = version_of(registry.rest.version(name, 1))
    assert {key: version.tags[f"warmstart.{key}"] for key in ("run_id", "as_of", "commit", "manifest")} == {
        "run_id": "run-1", "as_of": "2026-01-01T00:00:00Z", "commit": "c" * 40, "manifest": "none",
    }  # fmt: skip
    assert float(version.tags["warmstart.p50_ms"]) > 0
    assert "## Limits" in version.description
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI")
        files = download(version, "served", tmp_path / "files").parent
        assert "MLFLOW_TRACKING_URI" not in os.environ  # a download leaves the process as it was
    beside = {str(p.relative_to(files / version.files)) for p in (files / version.files).rglob("*") if p.is_file()}
    verdict = f"verdicts/{receipt['gate']['sha256']}.json"
    assert beside == {"model_card.md", "evaluation/metrics.json", "evaluation/per_user.parquet", verdict}

    # the same run again: nothing is new, and it says the same
    assert night("run-1")[1] == receipt
    assert len(registry.rest.versions(name)) == 1

    # a night in which nothing changed
    assert night("run-2", as_of="2026-01-02T00:00:00Z")[1]["reasons"] == ["the same model already serves as version 1"]

    # another model, as good: it has learned from newer data, so it serves
    other = tmp_path / "other"
    shutil.copytree(chain.folder("models/served"), other)
    (other / "note.txt").write_text("another")
    _, receipt = night("run-3", as_of="2026-01-03T00:00:00Z", served=other)
    assert (receipt["verdict"], receipt["champion_before"], receipt["champion"]) == ("promote", 1, 3)
    assert receipt["gate"]["better"] is False
    assert registry.alias(chain.target) == 3

    # a backfill does not dethrone it
    (other / "note.txt").write_text("older")
    _, receipt = night("backfill", as_of="2025-06-01T00:00:00Z", served=other)
    assert receipt["verdict"] == "hold"
    assert receipt["reasons"] == [
        "the champion has learned up to 2026-01-03T00:00:00Z, this model only to 2025-06-01T00:00:00Z"
    ]

    # a person rolls back; the run that is repeated does not undo it
    roll_back(registry.rest, chain.target, "user ann", "broken pictures")
    _, receipt = night("run-3", as_of="2026-01-03T00:00:00Z", served=other)
    assert (receipt["verdict"], receipt["champion"]) == ("hold", 1)

    # budgets, and an evaluation of other users
    (other / "note.txt").write_text("fresh")
    _, receipt = night("run-4", as_of="2026-01-04T00:00:00Z", served=other, max_bytes=10, max_age_days=0.5)
    assert "the limit is 10" in " ".join(receipt["reasons"])
    assert "its age of the data is" not in " ".join(receipt["reasons"])  # opened before as_of here
    night.report.parent.mkdir(parents=True)
    shutil.copytree(chain.folder("reports/evaluation"), night.report)
    metrics = json.loads((night.report / "metrics.json").read_text())
    (night.report / "metrics.json").write_text(json.dumps(metrics | {"test_set": "0" * 64}))
    _, receipt = night("run-5", as_of="2026-01-05T00:00:00Z", served=other)
    assert receipt["verdict"] == "refuse"
    assert "another test set" in receipt["reasons"][0]
    assert registry.alias(chain.target) == 1


def test_a_run_that_may_not_promote(registry, chain, night):  # noqa: F811
    _, receipt = night("run-no", as_of="2026-02-01T00:00:00Z", promote=False)
    assert receipt["verdict"] in ("hold", "refuse")
    assert registry.alias(chain.target) == receipt["champion"]


def test_a_person_promotes_what_its_run_was_not_allowed_to(registry, chain, night, tmp_path):  # noqa: F811
    """The verdict that the run made counts; against another champion the two are judged again."""
    from pipeline.registry.by_hand import judge_by_hand
    from pipeline.registry.champion import version_of
    from pipeline.registry.promotion import promote

    name, numbers = model_name(chain.target), []
    for number in (1, 2):
        served = tmp_path / f"by-hand-{number}"
        shutil.copytree(chain.folder("models/served"), served)
        (served / "note.txt").write_text(f"by hand {number}")
        _, receipt = night(f"by-hand-{number}", as_of=f"2026-03-0{number}T00:00:00Z", served=served, promote=False)
        assert receipt["gate"]["verdict"] == "promote"
        numbers.append(receipt["version"])
    champion = receipt["champion"]
    one, two = (version_of(registry.rest.version(name, number)) for number in numbers)
    decision, reasons, sha256 = judge_by_hand(registry.rest, one, champion)
    assert decision == "promote"
    promote(registry.rest, chain.target, one.version, champion, "user ann", "; ".join(reasons), sha256)
    # `two` was judged against `champion`, which is not champion any more
    decision, _, again = judge_by_hand(registry.rest, two, one.version)
    assert (decision, again != receipt["gate"]["sha256"]) == ("promote", True)
    assert judge_by_hand(registry.rest, two, one.version)[2] == again  # found with the version's files now
    # the older one again: the champion has learned from newer data
    promote(registry.rest, chain.target, two.version, one.version, "user ann", "newer", again)
    decision, reasons, _ = judge_by_hand(registry.rest, one, two.version)
    assert decision == "hold"
    assert "the champion has learned up to 2026-03-02" in reasons[0]


def test_two_nights_and_a_manual_trigger_at_once(registry, chain, night, tmp_path):  # noqa: F811
    """In whatever order they decide: a version each, and the model that has learned most serves at the end."""
    moments = {"night-1": "2026-03-01T00:00:00Z", "night-2": "2026-03-02T00:00:00Z", "manual": "2026-03-02T12:00:00Z"}

    def decide(run_id: str) -> dict:
        served = tmp_path / f"served-{run_id}"
        shutil.copytree(chain.folder("models/served"), served)
        (served / "note.txt").write_text(run_id)
        return night(run_id, as_of=moments[run_id], served=served)[1]

    with ThreadPoolExecutor(len(moments)) as pool:
        receipts = dict(zip(moments, pool.map(decide, moments), strict=True))
    versions = {receipt["version"] for receipt in receipts.values()}
    assert len(versions) == len(moments)
    assert {receipt["verdict"] for receipt in receipts.values()} <= {"promote", "hold"}
    newest = receipts["manual"]["version"]
    assert registry.alias(chain.target) == newest
    assert registry.log(chain.target)[-1].to_version == newest
    promoted = {entry.to_version for entry in registry.log(chain.target)} & versions
    assert promoted == {receipt["version"] for receipt in receipts.values() if receipt["verdict"] == "promote"}
