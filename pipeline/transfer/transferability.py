"""How well a backbone suits a target, told before any training: LogME of what it makes of the target's users.

    found = transferability(backbone, domain, limit=1000, seed=7)

A backbone that knows what a user wants next has it in the state behind the history. LogME (You et al., ICML 2021, arXiv
2102.11005) is the evidence of a Bayesian linear model from such features to a label, all weights integrated out: unlike
a fit it cannot be better for more features alone. The label here is the content of the item that came next, on
validation rows, in its `LABELS` widest directions: whatever the backbone, it is the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pipeline.data.sequences import Array
from pipeline.evaluation.metrics import ndcg
from pipeline.evaluation.ranking import rank_holdout, requests_of
from pipeline.exit_codes import BadConfiguration
from pipeline.models.inherit import adapted
from pipeline.models.recommender import SequentialRecommender
from pipeline.models.similarity import side_by_side
from pipeline.training.domains import Domain
from pipeline.training.scoring import ModelScorer, validation_rows

KNOWN = ("logme", "zero_shot_ndcg10", "target_interactions", "source_items")  # figures of a stage, in this order
LABELS = 16
ROUNDS = 50  # of the fixed point; it is reached in a handful
NEARLY = 1e-4


@dataclass(frozen=True)
class Transferability:
    """What is known of a backbone on a target before training.

    Attributes:
        logme: nats a row and label; comparable between backbones for one target.
        zero_shot: NDCG@10 of the backbone as it is, on the same rows.
        rows: validation rows.
    """

    logme: float
    zero_shot: float
    rows: int


def transferability(backbone: SequentialRecommender, domain: Domain, limit: int, seed: int) -> Transferability:
    """Judge a backbone on a target's validation rows; nothing is trained, no test row is read.

    Args:
        backbone: of any sources.
        domain: the target, opened for it.
        limit, seed: of the validation rows, as in training.

    Raises:
        BadConfiguration: the target has no validation row, or no item of it has a content vector.
    """
    holdout, rows = validation_rows(domain, limit, seed)
    if not len(rows):
        raise BadConfiguration(
            f"{domain.name} has no validation row to judge a backbone by; with so few interactions rank zero-shot"
        )
    known = domain.catalogue.content
    content = side_by_side(known, backbone.spec.modalities).cpu().numpy() if known else np.zeros((1, 0), np.float32)
    if not content.any():
        raise BadConfiguration(
            f"no item of {domain.name} has a content vector, so nothing can be compared across domains; "
            "give its items a text or vectors"
        )
    model = adapted(backbone, domain.shape, 0.0, 0.0).to(domain.catalogue.device)
    scorer = ModelScorer(model, domain)
    with torch.inference_mode():
        states = scorer.states(requests_of(holdout, rows))[:, : backbone.spec.width].cpu().numpy()
    centred = content[1:] - content[1:].mean(0)
    _, directions = np.linalg.eigh(centred.T.astype(np.float64) @ centred)
    labels = content[holdout.item_index[rows]] @ directions[:, ::-1][:, :LABELS]
    ranks = rank_holdout(scorer, holdout, domain.data.n_items, rows).masked
    return Transferability(logme(states, labels), float(ndcg(ranks, 10).mean()), len(rows))


def known_before(backbone: SequentialRecommender, domain: Domain, limit: int, seed: int) -> dict[str, float]:
    """What the stage logs for `pipeline.transfer.suggestion` to learn from, by the names of `KNOWN`.

    Nothing where nothing can be judged.
    """
    if not len(domain.data.holdout("validation")) or not any(
        table.any() for table in domain.catalogue.content.values()
    ):
        return {}
    told = transferability(backbone, domain, limit, seed)
    sources = sum(n_items for name, n_items in backbone.spec.domains if name != domain.name)
    return dict(zip(KNOWN, (told.logme, told.zero_shot, float(len(domain.data.items)), float(sources)), strict=True))


def logme(features: Array, labels: Array) -> float:
    """The mean over labels of the greatest log evidence, a row.

    Args:
        features: float [n, D].
        labels: float [n, K], standardised here: the scale of a label says nothing of a model.
    """
    features = np.asarray(features, dtype=np.float64)
    features = features - features.mean(0)
    left, singular, _ = np.linalg.svd(features, full_matrices=False)
    squares = singular**2
    spread = np.maximum(labels.std(0), 1e-12)
    standard = (np.asarray(labels, dtype=np.float64) - labels.mean(0)) / spread
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
