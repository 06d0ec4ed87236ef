"""How well a backbone suits a target, told before any training: LogME of what it makes of the target's users.

    if not unjudged(domain):
        known = known_before(backbone, domain, limit=1000, seed=7)

A backbone that knows what a user wants next has it in the state behind the history. LogME (You et al., ICML 2021, arXiv
2102.11005) is the evidence of a Bayesian linear model from such features to a label, all weights integrated out: unlike
a fit it cannot be better for more features alone. The label here is the content of the item that came next, on
validation rows, in its `LABELS` widest directions: whatever the backbone, it is the same.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from pipeline.data.sequences import Array
from pipeline.evaluation.metrics import ndcg
from pipeline.evaluation.ranking import rank_holdout, requests_of
from pipeline.models.inherit import adapted
from pipeline.models.recommender import SequentialRecommender
from pipeline.models.similarity import side_by_side
from pipeline.training.domains import Domain
from pipeline.training.scoring import ModelScorer, validation_rows

KNOWN = ("logme", "zero_shot_ndcg10", "target_interactions", "source_items")  # figures of a stage, in this order
LABELS = 16
NOTHING = -0.5 * (1 + math.log(2 * math.pi))  # nats a row: what a standard normal says of itself
ROUNDS = 50  # of the fixed point; it is reached in a handful
NEARLY = 1e-4


def unjudged(domain: Domain) -> str:
    """Why no backbone can be judged on a target; empty where one can be."""
    n = len(domain.data.holdout("validation"))
    if n < LABELS:
        return f"{domain.name} has {n} validation rows, and it takes {LABELS} to judge a backbone by"
    if not any(bool(table.any()) for table in domain.catalogue.content.values()):
        return f"no item of {domain.name} has a content vector, so nothing can be compared across domains"
    return ""


def known_before(backbone: SequentialRecommender, domain: Domain, limit: int, seed: int) -> dict[str, float]:
    """What is known of a backbone on a target before training, by the names of `KNOWN`: LogME in nats a row and label,
    comparable between backbones for one target; NDCG@10 of the backbone as it is, on the same rows; and sizes.

    Nothing is trained, no test row is read. A stage logs it for `pipeline.transfer.suggestion` to learn from.

    Args:
        backbone: of any sources.
        domain: the target, opened for it; one that can be judged (`unjudged`).
        limit, seed: of the validation rows, as in training.
    """
    holdout, rows = validation_rows(domain, limit, seed)
    content = side_by_side(domain.catalogue.content, backbone.spec.modalities).cpu().numpy()
    model = adapted(backbone, domain.shape, 0.0, 0.0).to(domain.catalogue.device)
    scorer = ModelScorer(model, domain)
    with torch.inference_mode():
        states = scorer.states(requests_of(holdout, rows))[:, : backbone.spec.width].cpu().numpy()
    centred = content[1:] - content[1:].mean(0)
    _, directions = np.linalg.eigh(centred.T.astype(np.float64) @ centred)
    labels = content[holdout.item_index[rows]] @ directions[:, ::-1][:, :LABELS]
    ranks = rank_holdout(scorer, holdout, domain.data.n_items, rows).masked
    sources = sum(n_items for name, n_items in backbone.spec.domains if name != domain.name)
    found = (logme(states, labels), ndcg(ranks, 10).mean(), len(domain.data.items), sources)
    return dict(zip(KNOWN, map(float, found), strict=True))


def logme(features: Array, labels: Array) -> float:
    """The mean over labels of the greatest log evidence, a row; where nothing varies, that of knowing nothing.

    Args:
        features: float [n, D].
        labels: float [n, K], standardised here: the scale of a label says nothing of a model; of those that never vary
            nothing can be known.
    """
    labels = labels[:, np.ptp(labels, axis=0) > 0]
    if not labels.shape[1] or (features == features[0]).all():
        return NOTHING
    features = np.asarray(features, dtype=np.float64)
    features = features - features.mean(0)
    left, singular, _ = np.linalg.svd(features, full_matrices=False)
    squares = singular**2
    standard = (np.asarray(labels, dtype=np.float64) - labels.mean(0)) / np.maximum(labels.std(0), 1e-12)
    projected = (left.T @ standard) ** 2  # (r, K)
    rest = np.maximum((standard**2).sum(0) - projected.sum(0), 0.0)
    evidence = [
        _evidence(squares, column, outside, *features.shape) for column, outside in zip(projected.T, rest, strict=True)
    ]
    return float(np.mean(evidence))


def _evidence(squares: Array, projected: Array, outside: float, n: int, width: int) -> float:
    """Log evidence a row of one label at the best α (of the weights) and β (of the noise); equations 2 to 4."""
    alpha = beta = 1.0
    for _ in range(ROUNDS):
        before = alpha / beta
        share = beta * squares / (alpha + beta * squares)
        used = share.sum()
        weights = float((beta**2 * squares * projected / (alpha + beta * squares) ** 2).sum())
        errors = float((projected * (1 - share) ** 2).sum() + outside)
        alpha, beta = used / max(weights, 1e-12), (n - used) / max(errors, 1e-12)
        if abs(alpha / beta - before) < NEARLY * before:
            break
    share = beta * squares / (alpha + beta * squares)
    weights = float((beta**2 * squares * projected / (alpha + beta * squares) ** 2).sum())
    errors = float((projected * (1 - share) ** 2).sum() + outside)
    determinant = np.log(alpha + beta * squares).sum() + (width - len(squares)) * np.log(alpha)
    log_evidence = width * np.log(alpha) + n * np.log(beta) - determinant - beta * errors - alpha * weights
    return float((log_evidence - n * np.log(2 * np.pi)) / (2 * n))
