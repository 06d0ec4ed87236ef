"""One request and its answer, written down when a model is exported: whoever loads the model later asks it again.

    "golden": {"history": ["i7", …], "profile": [0.1, …], "attributes": ["golden:1"], "items": ["i3", …], "scores": […]}

The answer is torch's, or the runtime's own where linear layers are rounded. A runtime, a processor or a download that
changes what the graph computes is seen before users see it. The request is drawn, not taken from a user: a model's
folder is kept for ever and goes to many places.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch

from pipeline.compression.served_graph import ServedGraph
from pipeline.compression.served_model import session_options
from pipeline.data.training_set import DomainData
from pipeline.models.attributes import padded_bags
from pipeline.models.padding import left_padded, right_padded

K = 10


def golden_request(
    graph: ServedGraph, data: DomainData, max_length: int, runtime: Path | None = None
) -> dict[str, Any]:
    """A drawn request, and torch's answer; seen items are not returned.

    Args:
        runtime: the exported graph, whose answer is taken in place of torch's: it computes in integers where torch
            does not.
    """
    draws = np.random.default_rng(0)
    n_seen = min(max_length, data.n_items // 2)
    history = (1 + draws.permutation(data.n_items)[:n_seen]).tolist()
    profile = draws.uniform(0, 1, len(data.profile_feature_names)).round(3).tolist()  # about the range of the features
    attributes = ["golden:1", "golden:2"]  # hashed like any other
    asked = {
        "history": left_padded([history], max_length),
        "profile": np.array([profile], dtype=np.float32),
        "profile_attributes": padded_bags([attributes], graph.profile.attributes.num_embeddings - 1),
        "seen": right_padded([history]),
    }
    if runtime is not None:
        session = ort.InferenceSession(runtime.read_bytes(), session_options(1), providers=["CPUExecutionProvider"])
        items, scores = (torch.from_numpy(found) for found in session.run(["items", "scores"], asked))
    else:
        items, scores, _ = graph.answer(*(torch.from_numpy(given) for given in asked.values()))
    left = torch.isfinite(scores[0, :K]).tolist()
    return {
        "history": [data.item_ids[item] for item in history],
        "profile": profile,
        "attributes": attributes,
        "items": [data.item_ids[item] for item, real in zip(items[0, :K].tolist(), left, strict=True) if real],
        "scores": [score for score, real in zip(scores[0, :K].tolist(), left, strict=True) if real],
    }
