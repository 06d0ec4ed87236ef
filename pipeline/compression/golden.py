"""One request and its answer, written down when a model is exported: whoever loads the model later asks it again.

    "golden": {"history": ["i7", …], "profile": [0.1, …], "attributes": ["city:1"], "items": ["i3", …], "scores": […]}

The answer is torch's. A runtime, a processor or a download that changes what the graph computes is seen before users
see it.
"""

from __future__ import annotations

from typing import Any

import torch

from pipeline.compression.export import ServedGraph
from pipeline.data.training_set import DomainData
from pipeline.models.attributes import padded_bags
from pipeline.models.padding import left_padded, right_padded

K = 10


def golden_request(graph: ServedGraph, data: DomainData, max_length: int) -> dict[str, Any]:
    """The request of the held-out user with the longest history, and torch's answer; seen items are not returned.

    No user's id is in it. Where a domain has nobody, the request is that of nobody.
    """
    history, profile, attributes = _request(data)
    with torch.inference_mode():
        items, scores, _ = graph(
            torch.from_numpy(left_padded([history], max_length)),
            torch.tensor([profile]),
            torch.from_numpy(padded_bags([attributes], graph.profile.attributes.num_embeddings - 1)),
            torch.from_numpy(right_padded([history])),
            graph.vectors,
            torch.zeros(1, 1, dtype=torch.bool),
        )
    left = torch.isfinite(scores[0, :K]).tolist()
    return {
        "history": [data.item_ids[item] for item in history],
        "profile": profile,
        "attributes": attributes,
        "items": [data.item_ids[item] for item, real in zip(items[0, :K].tolist(), left, strict=True) if real],
        "scores": [score for score, real in zip(scores[0, :K].tolist(), left, strict=True) if real],
    }


def _request(data: DomainData) -> tuple[list[int], list[float], list[str]]:
    for split in ("validation", "test"):
        holdout = data.holdout(split)
        if len(holdout):
            row = int(holdout.history_lengths.argmax())
            user = int(holdout.user_index[row])
            history = holdout.history(row)[0][-max(1, data.n_items // 2) :].tolist()
            return history, data.profile_features[user].tolist(), data.user_attributes[user]
    return [], [0.0] * len(data.profile_feature_names), []
