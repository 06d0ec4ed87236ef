"""The exported graphs against torch, on real users and items, before anything is published."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.compression.new_items import TEXT
from pipeline.compression.served_graph import ServedGraph
from pipeline.compression.served_model import ServedModel, close
from pipeline.data.sequences import Array
from pipeline.data.training_set import DomainData, Holdout
from pipeline.models.attributes import padded_bags
from pipeline.models.item_encoder import Catalogue
from pipeline.models.padding import left_padded, right_padded
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.domains import Domain

MOST_USERS, MOST_ITEMS = 2000, 2000
ROWS_AT_ONCE = 256
CLOSE_VECTORS = 1e-5  # of item vectors, absolute and relative


@dataclass(frozen=True)
class Answers:
    """Of B users from both sides.

    Attributes:
        users: int [B].
        items, scores: [B, k] of the exported model.
        expected, values: [B, top_k] of torch.
        all_scores: float32 [B, m + 1] of torch.
    """

    users: Array
    items: Array
    scores: Array
    expected: Array
    values: Array
    all_scores: Array


def answers(graph: ServedGraph, folder: Path, data: DomainData, holdout: Holdout, n: int, k: int) -> Iterator[Answers]:
    """Ask both for the first k items of the first n rows of a holdout, seen ones hidden."""
    served = ServedModel(folder)
    for start in range(0, n, ROWS_AT_ONCE):
        rows = range(start, min(start + ROWS_AT_ONCE, n))
        users = holdout.user_index[rows.start : rows.stop]
        histories = [holdout.history(row)[0] for row in rows]
        profile, attributes = data.profile_features[users], [data.user_attributes[user] for user in users]
        items, scores = served.recommend(histories, profile, attributes, histories, k)
        theirs = graph.answer(
            torch.from_numpy(left_padded(histories, served.max_length)),
            torch.from_numpy(profile),
            torch.from_numpy(padded_bags(attributes, graph.profile.attributes.num_embeddings - 1)),
            torch.from_numpy(right_padded(histories)),
        )
        yield Answers(users, items, scores, *(found.numpy() for found in theirs))


def check_agreement(graph: ServedGraph, folder: Path, data: DomainData) -> int:
    """Compare top-k items of torch and ONNX Runtime for validation users (test users where there are none).

    The items must be the same in the same order, except where torch itself scores them equal within rounding.

    Returns:
        how many users were compared.

    Raises:
        RuntimeError: the two disagree; the message names the first user.
    """
    holdout = data.holdout("validation")
    holdout = holdout if len(holdout) else data.holdout("test")
    n = min(len(holdout), MOST_USERS)
    for found in answers(graph, folder, data, holdout, n, graph.top_k):
        # torch's scores of what was recommended
        of_these = found.all_scores[np.arange(len(found.users))[:, None], found.items]
        left = np.isfinite(found.values)  # where fewer than k items are unseen, the rest means nothing
        wrong = (left & ~(close(found.scores, found.values) & close(of_these, found.values))).any(axis=1)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise RuntimeError(
                f"ONNX Runtime and torch disagree for {int(wrong.sum())} of {len(found.users)} users, first "
                f"{found.users[row]}: {found.items[row][:5].tolist()} against {found.expected[row][:5].tolist()}"
            )
    return n


def overlap(graph: ServedGraph, folder: Path, data: DomainData, k: int) -> float | None:
    """Share of the first k items of `graph` that the exported model has among its first k, mean over test users.

    Args:
        graph: the model in float32.
        k: at most both models' top_k.

    Returns:
        None where there are no test users.
    """
    shares, test = [], data.holdout("test")
    for found in answers(graph, folder, data, test, len(test), k):
        for ours, theirs, values in zip(found.items, found.expected[:, :k], found.values[:, :k], strict=True):
            wanted = set(theirs[np.isfinite(values)].tolist())
            shares.append(len(wanted & set(ours.tolist())) / max(1, len(wanted)))
    return float(np.mean(shares)) if shares else None


def same_order(graph: ServedGraph, folder: Path, data: DomainData, k: int) -> float | None:
    """Share of test users who get the first k items of `graph` in its order; as `overlap`."""
    same: list[bool] = []
    test = data.holdout("test")
    for found in answers(graph, folder, data, test, len(test), k):
        left = np.isfinite(found.values[:, :k])
        same += ((found.items == found.expected[:, :k]) | ~left).all(axis=1).tolist()
    return float(np.mean(same)) if same else None


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
