"""The exported graphs against torch, on real users and items, before anything is published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pipeline.compression.export import ServedGraph
from pipeline.compression.new_items import TEXT
from pipeline.compression.served_model import ServedModel, close
from pipeline.data.training_set import DomainData
from pipeline.models.attributes import padded_bags
from pipeline.models.item_encoder import Catalogue
from pipeline.models.padding import left_padded, right_padded
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.domains import Domain

MOST_USERS, MOST_ITEMS = 2000, 2000
CLOSE_VECTORS = 1e-5  # of item vectors, absolute and relative


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
        expected, values, all_scores = graph.answer(
            torch.from_numpy(left_padded(histories, served.max_length)),
            torch.from_numpy(profile),
            torch.from_numpy(padded_bags(attributes, graph.profile.attributes.num_embeddings - 1)),
            torch.from_numpy(right_padded(histories)),
        )
        found = all_scores.numpy()[np.arange(len(users))[:, None], items]  # torch's scores of what was recommended
        left = np.isfinite(values.numpy())  # where fewer than k items are unseen, the rest means nothing
        wrong = (left & ~(close(scores, values.numpy()) & close(found, values.numpy()))).any(axis=1)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise RuntimeError(
                f"ONNX Runtime and torch disagree for {int(wrong.sum())} of {len(users)} users, first {users[row]}: "
                f"{items[row][:5].tolist()} against {expected[row][:5].tolist()}"
            )
    return len(rows)


def overlap(graph: ServedGraph, folder: Path, data: DomainData, k: int) -> float | None:
    """Share of the first k items of `graph` that the exported model has among its first k, mean over test users.

    Args:
        graph: the model in float32.
        k: at most both models' top_k.

    Returns:
        None where there are no test users.
    """
    served, holdout = ServedModel(folder), data.holdout("test")
    shares = []
    for start in range(0, len(holdout), 256):
        rows = range(start, min(start + 256, len(holdout)))
        users = holdout.user_index[rows.start : rows.stop]
        histories = [holdout.history(row)[0] for row in rows]
        profile, attributes = data.profile_features[users], [data.user_attributes[user] for user in users]
        items, _ = served.recommend(histories, profile, attributes, histories, k)
        expected, values, _ = graph.answer(
            torch.from_numpy(left_padded(histories, served.max_length)),
            torch.from_numpy(profile),
            torch.from_numpy(padded_bags(attributes, graph.profile.attributes.num_embeddings - 1)),
            torch.from_numpy(right_padded(histories)),
        )
        for ours, theirs, left in zip(items, expected[:, :k].numpy(), values[:, :k].numpy(), strict=True):
            wanted = set(theirs[np.isfinite(left)].tolist())
            shares.append(len(wanted & set(ours.tolist())) / max(1, len(wanted)))
    return float(np.mean(shares)) if shares else None


def check_item_encoder(model: SequentialRecommender, folder: Path, domain: Domain) -> int:
    """Compare the exported item encoder's vectors with torch's, of catalogue items taken as if they were new.

    Returns:
        how many items were compared.

    Raises:
        RuntimeError: they differ; the message names the first item.
    """
    data, known = domain.data, domain.catalogue
    n = min(data.n_items, MOST_ITEMS)
    rows = slice(0, n + 1)
    as_new = Catalogue(
        {name: vectors[rows].cpu() for name, vectors in known.content.items()},
        known.attributes[rows].cpu(),
        known.features[rows].cpu(),
        torch.zeros(n + 1, dtype=torch.bool),  # no item has been trained on
    )
    with torch.inference_mode():
        expected = model.item_vectors(domain.name, as_new)[1:].numpy()
    content = {name: vectors[1:].numpy() for name, vectors in as_new.content.items()}
    text = content.pop(TEXT, None)
    found = ServedModel(folder).encode_items(
        text, data.item_attributes[1 : n + 1], as_new.features[1:].numpy(), content
    )
    wrong = ~np.isclose(found, expected, rtol=CLOSE_VECTORS, atol=CLOSE_VECTORS).all(axis=1)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise RuntimeError(
            f"the exported item encoder and torch disagree for {int(wrong.sum())} of {n} items, first "
            f"{data.item_ids[row + 1]!r}, by {np.abs(found[row] - expected[row]).max():g}"
        )
    return n
