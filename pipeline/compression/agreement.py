"""The exported graph against torch, on real users, before anything is published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pipeline.compression.export import ServedGraph
from pipeline.compression.served_model import ServedModel
from pipeline.data.sequences import Array
from pipeline.data.training_set import DomainData
from pipeline.models.attributes import padded_bags
from pipeline.models.padding import left_padded, right_padded

MOST_USERS = 2000
CLOSE = 1e-4  # of scores, absolute and relative: two runtimes add up in different orders


def check_agreement(graph: ServedGraph, folder: Path, data: DomainData) -> int:
    """Compare top-k items of torch and ONNX Runtime for validation users (test users where there are none).

    The items must be the same in the same order, except where torch itself scores them equal within rounding.

    Returns:
        how many users were compared.

    Raises:
        RuntimeError: the two disagree; the message names the first user.
    """
    served = ServedModel(folder)
    holdout = data.holdout("validation")
    holdout = holdout if len(holdout) else data.holdout("test")
    rows = range(min(len(holdout), MOST_USERS))
    for start in range(0, len(rows), 256):
        block = rows[start : start + 256]
        users = holdout.user_index[block.start : block.stop]
        histories = [holdout.history(row)[0] for row in block]
        profile = data.profile_features[users]
        attributes = [data.user_attributes[user] for user in users]
        items, scores = served.recommend(histories, profile, attributes, histories, served.top_k)
        with torch.inference_mode():
            expected, values, all_scores = graph(
                torch.from_numpy(left_padded(histories, served.max_length)),
                torch.from_numpy(profile),
                torch.from_numpy(padded_bags(attributes, graph.profile.attributes.num_embeddings - 1)),
                torch.from_numpy(right_padded(histories)),
            )
        found = all_scores.numpy()[np.arange(len(users))[:, None], items]  # torch's scores of what was recommended
        left = np.isfinite(values.numpy())  # where fewer than k items are unseen, the rest means nothing
        wrong = (left & ~(_close(scores, values.numpy()) & _close(found, values.numpy()))).any(axis=1)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise RuntimeError(
                f"ONNX Runtime and torch disagree for {int(wrong.sum())} of {len(users)} users, first {users[row]}: "
                f"{items[row][:5].tolist()} against {expected[row][:5].tolist()}"
            )
    return len(rows)


def _close(one: Array, other: Array) -> Array:
    return np.isclose(one, other, rtol=CLOSE, atol=CLOSE)
