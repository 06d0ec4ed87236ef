"""The served folder: everything a server and the gate read of a model, checked before it is published."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from pipeline.compression.agreement import check_agreement, check_item_encoder, overlap
from pipeline.compression.catalogue import write_catalogue
from pipeline.compression.export import export_item_encoder, export_onnx
from pipeline.compression.golden import golden_request
from pipeline.compression.new_items import ITEM_ENCODER
from pipeline.compression.packed_rows import FLOAT32, INT4
from pipeline.compression.served_graph import ServedGraph
from pipeline.compression.served_model import MODEL
from pipeline.exit_codes import BadConfiguration
from pipeline.features.whitening import WHITENING
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.domains import Domain
from pipeline.training.weights import save_model, weights_hash

LEAST_OVERLAP = 0.97  # of the first items, before and after rounding to bytes
FIRST = 20


@dataclass(frozen=True)
class Export:
    """How a model is exported.

    Attributes:
        top_k: items that one call returns.
        rows: numbers of the catalogue: float32, int8, int4 or codes.
        scores: products of a state and the catalogue: float32 or int8.
        linears: weights of the trunk: float32, int8 or int8_weights.
        sparse: zeros among the trunk's weights are left out of the file.
    """

    top_k: int
    rows: str = FLOAT32
    scores: str = FLOAT32
    linears: str = FLOAT32
    sparse: bool = False

    @property
    def is_exact(self) -> bool:
        """Does the export compute what torch does?"""
        return self.rows == FLOAT32 and not self.in_integers

    @property
    def in_integers(self) -> bool:
        """Does it compute in integers, where two runtimes may round to different ones?"""
        return self.scores != FLOAT32 or self.linears != FLOAT32


def write_served(
    model: SequentialRecommender,
    domain: Domain,
    wish: Export,
    out: Path,
    item_vectors: Path,
    about: Mapping[str, Any],
    metadata: Mapping[str, str],
) -> tuple[str, dict[str, float]]:
    """Export a model and check the export against torch.

    Args:
        model: moves to the CPU.
        domain: opened with the model's spec.
        out: an empty folder.
        item_vectors: where the whitening of new texts stands.
        about: for model.json, beside what is said here.
        metadata: written into the ONNX file, beside what is said here.

    Returns:
        what was found, in words and in figures.

    Raises:
        BadConfiguration: rounded to bytes, the model would answer otherwise.
        RuntimeError: ONNX Runtime and torch disagree.
    """
    data, numbers = domain.data, {"rows": wish.rows, "scores": wish.scores, "linears": wish.linears}
    kept_inside = {
        **metadata,
        "weights_sha256": weights_hash(model),
        **numbers,
        "torch": str(torch.__version__),
        "onnxruntime": onnxruntime.__version__,
    }
    exact = ServedGraph(model, domain, wish.top_k).cpu().eval()
    graph = export_onnx(model, domain, wish.top_k, out / MODEL, **numbers, metadata=kept_inside, sparse=wish.sparse)
    export_item_encoder(model, out / ITEM_ENCODER)
    popularity = np.bincount(np.asarray(data.items), minlength=data.n_items + 1)
    write_catalogue(out, data.item_ids, data.item_attributes, popularity, graph.vectors.numpy())
    shutil.copyfile(item_vectors / WHITENING, out / WHITENING)
    served = {"domain": domain.name, "n_items": data.n_items, "top_k": graph.top_k, "parameters": graph.n_numbers}
    served |= numbers
    golden = golden_request(graph, data, model.spec.max_length, out / MODEL if wish.in_integers else None)
    save_model(out, model.cpu(), {**about, "served": served, "golden": golden})
    check_item_encoder(model, out, domain)
    size = (out / MODEL).stat().st_size
    found, figures = f"{size / 2**20:.2f} MB of ONNX", {"bytes": float(size)}
    if not wish.in_integers:
        found += f", torch and ONNX Runtime agree on {check_agreement(graph, out, data):,} users"
    if not wish.is_exact and (same := overlap(exact, out, data, min(FIRST, wish.top_k))) is not None:
        if same < LEAST_OVERLAP and wish.rows != INT4:
            raise BadConfiguration(
                f"{domain.name}: rounded, the model keeps {same:.1%} of its first {min(FIRST, wish.top_k)} items, less "
                f"than {LEAST_OVERLAP:.0%}; set prune.rows, prune.scores or prune.linears to float32"
            )
        found += f", {same:.1%} of the first items as before rounding"
        figures["top_overlap"] = same
    return found, figures
