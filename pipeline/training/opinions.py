"""What a trained model thinks of every training interaction, likeness in content included.

    opinion = softmax(state · item + WEIGHT · τ · log Σ_j a_j · exp(cos(content_j, content) / τ)),  a_j ∝ DECAY^age_j

The likeness is a soft maximum: one past item that is nearly the same says more than several that are somewhat alike.
It is no dot product, so no served model could have it; a model that learns from it can. Sums over the history go on
from interaction to interaction, so that all positions cost little more than one pass over (positions × items). The
first K items of a position and their shares are kept; what is left of 1 is the share of all others. Memory: a position
takes 12 K + 4 D bytes, and a block of the catalogue its likeness to all items.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.data.sequences import Array
from pipeline.models.recommender import SequentialRecommender
from pipeline.models.similarity import side_by_side
from pipeline.training.batches import EpochBatches
from pipeline.training.domains import Domain
from pipeline.training.losses import full_candidates
from pipeline.training.next_item import states_and_vectors
from pipeline.training.weights import weights_hash

log = logging.getLogger(__name__)

WEIGHT, SOFTNESS, DECAY = 3.0, 0.2, 0.6  # chosen on validation rows of beauty2014
KEPT = 100  # items of a position
BLOCK_BYTES = 256 * 2**20  # of likeness between items at a time
USERS_AT_ONCE = 64
ITEMS, SHARES, WHOLE = "items.npy", "shares.npy", "whole"


@dataclass(frozen=True)
class Opinions:
    """Of n training interactions.

    Attributes:
        items: int32 [n, K], the likeliest items, any order.
        shares: float16 [n, K], their probabilities among all items with training interactions.
    """

    items: Array
    shares: Array


def opinions_of(model: SequentialRecommender, domain: Domain, scratch: Path) -> Opinions:
    """Compute them, or read what an earlier attempt has left whole.

    Args:
        model: trained; of its own likeness nothing is read, but without one none is added.
        domain: opened with its spec.
        scratch: a folder of their own.
    """
    work = hashlib.sha256(f"{weights_hash(model)} {bool(model.spec.similarity)} {KEPT}".encode()).hexdigest()
    if not (scratch / WHOLE).exists() or (scratch / WHOLE).read_text("utf-8") != work:
        scratch.mkdir(parents=True, exist_ok=True)
        (scratch / WHOLE).unlink(missing_ok=True)
        items, shares = _computed(model.eval(), domain)
        np.save(scratch / ITEMS, items)
        np.save(scratch / SHARES, shares)
        (scratch / WHOLE).write_text(work, "utf-8")
    kept = Opinions(np.load(scratch / ITEMS, mmap_mode="r"), np.load(scratch / SHARES, mmap_mode="r"))
    of_all = float(np.asarray(kept.shares, dtype=np.float32).sum(1).mean())
    log.info("%s: opinions of %s positions, the first %d items have %.0f %%", domain.name, f"{len(kept.items):,}",
             kept.items.shape[1], 100 * of_all)  # fmt: skip
    return kept


@torch.inference_mode()
def _computed(model: SequentialRecommender, domain: Domain) -> tuple[Array, Array]:
    """The columns of `Opinions`; a block of the catalogue after another, each position's best so far kept."""
    data, catalogue = domain.data, domain.catalogue
    items, offsets, n = np.asarray(data.items), np.asarray(data.offsets), len(data.items)
    trained = torch.nonzero(catalogue.trained.cpu()).flatten()  # (m,)
    k, width = min(KEPT, len(trained)), model.spec.item_parts * model.spec.width
    vectors = model.item_vectors(domain.name, catalogue)  # (n_items + 1, S)
    states, every = torch.zeros(n, width), full_candidates(catalogue.trained)
    batches = EpochBatches([domain.training], 0, 0, model.spec.max_length, USERS_AT_ONCE)
    for batch in (batches[step] for step in range(len(batches))):  # each interaction is a target once
        read, _ = states_and_vectors(model, domain, batch, every, vectors)
        states[torch.from_numpy(batch.places[batch.targets > 0])] = read[:, :width].cpu()
    content = side_by_side(catalogue.content, model.spec.modalities).cpu() if model.spec.similarity else None
    vectors = vectors[:, :width].cpu()
    best = torch.full((n, k), -torch.inf)
    chosen = torch.zeros(n, k, dtype=torch.int64)
    total = torch.full((n,), -torch.inf)  # log of the partition sum so far
    for columns in trained.split(max(1, BLOCK_BYTES // (4 * len(catalogue.trained)))):
        alike = None if content is None else torch.exp(content @ content[columns].T / SOFTNESS)  # (n_items + 1, c)
        of_block = vectors[columns].T
        for places, likeness in _walk(items, offsets, alike):
            logits = states[places] @ of_block  # (P, c)
            if likeness is not None:
                logits += WEIGHT * likeness
            total[places] = torch.logaddexp(total[places], logits.logsumexp(1))
            both = torch.cat([best[places], logits], dim=1)
            names = torch.cat([chosen[places], columns.expand(len(places), -1)], dim=1)
            best[places], where = both.topk(k, dim=1)
            chosen[places] = names.gather(1, where)
    shares = torch.exp(best - total[:, None])
    return chosen.numpy().astype(np.int32), shares.numpy().astype(np.float16)


def _walk(items: Array, offsets: Array, alike: Tensor | None) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Places of interactions of several users at a time, and the likeness [P, c] of what each had taken before."""
    users = np.flatnonzero(np.diff(offsets))
    users = users[np.argsort(np.diff(offsets)[users], kind="stable")]
    for first in range(0, len(users), USERS_AT_ONCE):
        starts, stops = (offsets[users[first : first + USERS_AT_ONCE] + side] for side in (0, 1))
        if alike is None:
            yield torch.cat([torch.arange(a, b) for a, b in zip(starts, stops, strict=True)]), None
            continue
        sums, weights = torch.zeros(len(starts), alike.shape[1]), torch.zeros(len(starts), 1)
        for step in range(int((stops - starts).max())):
            there = np.flatnonzero(starts + step < stops)
            rows, places = torch.from_numpy(there), torch.from_numpy(starts[there] + step)
            yield places, SOFTNESS * torch.log(sums[rows] / weights[rows]) if step else torch.zeros(1, 1)
            sums[rows] = sums[rows] * DECAY + alike[torch.from_numpy(items[starts[there] + step].astype(np.int64))]
            weights[rows] = weights[rows] * DECAY + 1.0
