"""Data as it comes: a target nobody has used yet, a domain with one item, one-click users, no text, any script."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from tests.e2e.conftest import QUICK

TITLES = ["Kaffeemühle", "コーヒーミル", "кофемолка", "مطحنة قهوة", "咖啡研磨机", "☕️ grinder", "", None, "μύλος καφέ"]


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
    ended = night.run(data=str(dataset), overrides=[*QUICK, "augment.enabled=true"])
    assert ended.state == "success", (ended.states(), _messages(ended))
    for target in ("unused", "single"):
        receipt = json.loads((ended.record / "receipts/register" / target / "receipt.json").read_text())
        assert receipt["version"] >= 1
    # nothing can be proven of a target that nobody has used: its model is registered and not promoted
    unused = json.loads((ended.record / "receipts/register/unused/receipt.json").read_text())
    assert unused["verdict"] == "refuse"
    assert "zero-shot" in ended.manifests["transfer@unused"]["message"]
    # nor is there anything to make sequences from; the page of a run leads to the report that says so
    assert "nothing to imitate" in ended.manifests["augment@unused"]["message"]
    assert "one item" in ended.manifests["augment@single"]["message"]
    assert ended.manifests["augment@single"]["metrics"]["synthetic_rows"] == 0
    assert (ended.record / "reports/augmentation/single/report.html").exists()


def _messages(ended) -> list[str]:
    attempts = (ended.workspace / "run" / "attempts").rglob("*.json")
    records = [json.loads(path.read_text()) for path in attempts]
    return [record["message"] for record in records if record.get("exit_code")]
