"""Data as it comes: a target nobody has used yet, a domain with one item, one-click users, no text, any script."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from pipeline.graph import load_graph
from pipeline.runs.as_of import parse_as_of
from pipeline.runs.opening import open_and_record
from pipeline.runs.workspace import RunRequest
from pipeline.runs.wrapper import read_summary
from tests.e2e.conftest import QUICK, TINY

TITLES = ["Kaffeemühle", "コーヒーミル", "кофемолка", "مطحنة قهوة", "咖啡研磨机", "☕️ grinder", "", None, "μύλος καφέ"]

# One process for all stages: their imports cost more than their work on so little data.
EVERY_STAGE = """
import sys
from pathlib import Path
from pipeline.runs.wrapper import run_stage
for address in sys.argv[1:]:
    name, _, target = address.partition("@")
    code = run_stage(Path.cwd(), name, target or None)
    assert code == 0, f"{address} ended with {code}"
"""


def write_domain(folder: Path, name: str, users: int, items: int, per_user: int) -> dict[str, str]:
    """A domain of random clicks; with `per_user` 0 it has items and no interactions."""
    rng = np.random.default_rng(len(name))
    where = folder / name
    where.mkdir()
    ids = [f"{name}-{i}" for i in range(items)]
    texts = [TITLES[i % len(TITLES)] for i in range(items)]
    attributes = [[f"shelf:{i % 3}"] if i % 4 else [] for i in range(items)]
    pl.DataFrame({"item_id": ids, "text": texts, "attributes": attributes}).write_parquet(where / "items.parquet")
    clicks = [
        (f"user-{u}", ids[int(item)], datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=int(day)), "click", None)
        for u in range(users)
        for item, day in zip(
            rng.choice(items, min(per_user if u else 1, items), replace=False),
            rng.integers(0, 365, items),
            strict=False,
        )
    ]
    schema = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Datetime("us", "UTC"),
              "event": pl.String, "value": pl.Float32}  # fmt: skip
    pl.DataFrame(clicks if per_user else [], schema=schema, orient="row").write_parquet(where / "interactions.parquet")
    return {"interactions": f"{name}/interactions.parquet", "items": f"{name}/items.parquet"}


@pytest.fixture
def dataset(tmp_path):
    domains = {
        "plenty": {"role": "source", **write_domain(tmp_path, "plenty", users=80, items=40, per_user=8)},
        "unused": {"role": "target", **write_domain(tmp_path, "unused", users=0, items=12, per_user=0)},
        "single": {"role": "target", **write_domain(tmp_path, "single", users=20, items=1, per_user=1)},
    }
    description = {"name": "awkward", "clock": "real", "protocol": "temporal", "domains": domains}
    (tmp_path / "dataset.yaml").write_text(yaml.safe_dump(description))
    return tmp_path


def test_awkward_data_goes_all_the_way(night, dataset):
    """Every stage in a run's workspace, with the real servers; what Airflow adds does not depend on the data."""
    asked = RunRequest(
        "awkward", as_of=parse_as_of(TINY["as_of"]), data=str(dataset), overrides=(*QUICK, "augment.enabled=true")
    )
    workspace = open_and_record(night.settings, asked)
    graph = load_graph(workspace / "dvc.yaml")
    done = subprocess.run(
        [sys.executable, "-c", EVERY_STAGE, *graph.addresses(("unused", "single"))],
        cwd=workspace, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]

    def summary(address: str) -> dict:
        return read_summary(workspace, graph.stages[address.partition("@")[0]], address.partition("@")[2] or None)

    receipts = {
        target: json.loads((workspace / "receipts/register" / target / "receipt.json").read_text())
        for target in ("unused", "single")
    }
    assert min(receipt["version"] for receipt in receipts.values()) >= 1
    # nothing can be proven of a target that nobody has used: its model is registered and not promoted
    assert receipts["unused"]["verdict"] == "refuse"
    assert "zero-shot" in summary("transfer@unused")["found"]
    # nor is there anything to make sequences from
    assert "nothing to imitate" in summary("augment@unused")["found"]
    assert "one item" in summary("augment@single")["found"]
    assert summary("augment@single")["metrics"]["synthetic_rows"] == 0
    assert (workspace / "reports/augmentation/single/report.html").exists()
