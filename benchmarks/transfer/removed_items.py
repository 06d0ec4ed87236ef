"""Items new to everyone: 10 % of a shop's items are taken out of its training sequences."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import Figure
from prepared import WORLDS, amazon_tables, train_backbone, world_shops
from shops import RECIPE
from training_sets import WIDTH, Shop, write_training_set

from pipeline.data.training_set import load_domain
from pipeline.evaluation.baselines import fit_baselines
from pipeline.evaluation.metrics import hit_rate, ndcg
from pipeline.evaluation.ranking import Requests, rank_holdout
from pipeline.features.encoders import Encoder, encoder_named
from pipeline.training.domains import content_vectors, open_domain
from pipeline.training.scoring import ModelScorer
from pipeline.training.weights import load_model
from pipeline.transfer.newcomers import calibrated
from pipeline.transfer.params import TOP
from pipeline.transfer.thinning import without_items

REMOVED = 0.1
PLACES = 2  # of beauty.cold: the last ones of ten, for removed items


def world_cold(root: Path) -> list[dict[str, float]]:
    """Removed items of harbour, learned from with its sources; three worlds."""
    roles: dict[str, tuple[str, ...]] = {"metro": ("source",), "valley": ("source",), "harbour": ("source", "target")}
    return [
        cold(root / str(seed), "harbour", world_shops(seed, roles), seed, {"epochs": 8}) for seed in WORLDS
    ]  # fmt: skip


def beauty_cold(root: Path, raw: Path) -> list[dict[str, float]]:
    """Removed items of a shop of its own."""
    visits, items = amazon_tables(root, raw, ["beauty2014"], ["beauty2014"])["beauty2014"]
    changed = {**RECIPE, "width": 128, "id_dropout": 0.3, "epochs": 5}
    changed |= {"full_softmax_items": 100_000, "validation_users": 3000}
    shop = {"beauty2014": Shop(("source", "target"), visits, items)}
    return [cold(root, "beauty2014", shop, 7, changed, encoder_named("minilm", 1), 256, PLACES)]


def cold(
    root: Path,
    target: str,
    shops: Mapping[str, Shop],
    seed: int,
    changed: Mapping[str, Any],
    encoder: Encoder | None = None,
    width: int = WIDTH,
    places: int = TOP,
) -> dict[str, float]:
    """Take items out, train, set the new ones among the others, and judge both sides."""
    if not (root / "training").exists():
        write_training_set(root / "whole", shops, seed, encoder, width)
        without_items(root / "whole" / "training", root / "training", target, REMOVED, seed)
        (root / "vectors").symlink_to(root / "whole" / "vectors")
    train_backbone(root, seed, changed)
    model, data = load_model(root / "backbone"), load_domain(root / "training", target)
    domain = open_domain(data, root / "vectors", model.spec, torch.device("cpu"))
    test = data.holdout("test")
    is_new = test.item_slice == "cold"
    ready, about = calibrated(model, domain, 0.02, 20_000, seed, places)
    assert about is not None
    before = ModelScorer(model, domain)

    class NeverShown:
        def scores(self, requests: Requests) -> Any:
            return np.where(data.in_training, before.scores(requests), -np.inf)

    text = content_vectors(root / "vectors", data, "text", dict(model.spec.modalities)["text"])
    knn = fit_baselines(data, text, "order", ["content-kNN"], seed)["content-kNN"]
    ranks = {
        name: rank_holdout(one, test, data.n_items).masked
        for name, one in (
            ("ours", ModelScorer(ready, domain)),
            ("before", before),
            ("never", NeverShown()),
            ("knn", knn),
        )
    }
    found = {f"{name}_cold_hr10": float(hit_rate(rank[is_new], 10).mean()) for name, rank in ranks.items()}
    found |= {f"{name}_warm_ndcg10": float(ndcg(rank[~is_new], 10).mean()) for name, rank in ranks.items()}
    return found | {
        "delta": about.delta,
        "likeness": about.likeness,
        "n_cold": int(is_new.sum()),
        "n_warm": int((~is_new).sum()),
    }


def cold_figures(done: Mapping[str, Any]) -> list[Figure]:
    """Of both shops, as far as they are there."""
    rows: list[Figure] = []
    for name in ("world", "beauty"):
        found = done.get(f"{name}.cold")
        if not found:
            continue
        mean = {key: float(np.mean([one[key] for one in found])) for key in found[0]}

        def loss(model: str, mean: Mapping[str, float] = mean) -> float:
            return 100 * (1 - mean[f"{model}_warm_ndcg10"] / mean["never_warm_ndcg10"])

        rows += [
            (f"{name}.cold_item_recall10", mean["ours_cold_hr10"], ""),
            (f"{name}.cold_item_recall10_uncalibrated", mean["before_cold_hr10"], ""),
            (f"{name}.cold_item_vs_knn", mean["ours_cold_hr10"] / mean["knn_cold_hr10"], "x"),
            (f"{name}.warm_loss_pct", loss("ours"), "%"),
            (f"{name}.warm_loss_pct_uncalibrated", loss("before"), "%"),
        ]
    return rows
