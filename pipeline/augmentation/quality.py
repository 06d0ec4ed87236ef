"""How good what a generator makes is: the quality report's figures and what its plots are drawn from."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from pipeline.augmentation.arms import repeated
from pipeline.augmentation.copies import copied_share
from pipeline.augmentation.gan.real_sequences import RealSequences
from pipeline.augmentation.likeness import features, likeness
from pipeline.augmentation.rows import Rows
from pipeline.data.sequences import Array
from pipeline.training.randomness import generator

JUDGED = 1000  # sequences of each kind at most
BINS = 24


def judge_quality(real: RealSequences, made: Rows, longest: int, seed: int) -> dict[str, Any]:
    """Figures of `made` (a sequence for every training user) against real ones, each beside its reference.

    The reference is the same figure between two halves of the real sequences; of copies, the share of real sequences
    that another user has too.
    """
    seen = real.space.seen.numpy()
    users = int((np.diff(real.offsets) > 0).sum())
    whole = repeated(real, users, int(np.diff(real.offsets).max()), seed).padded()  # every real sequence
    theirs = repeated(real, len(made), longest, seed).padded()[:JUDGED]
    ours = made.padded()[generator(seed, real.name, "judged").permutation(len(made))[:JUDGED]]
    half = len(theirs) // 2
    return {
        "n": len(ours),
        "likeness": likeness(theirs, ours, seen, seed).to_json(),
        "reference": likeness(theirs[:half], theirs[half:], seen, seed).to_json(),
        "copied": copied_share(ours, whole),
        "copied_reference": copied_share(whole[: len(ours)], whole, np.arange(len(whole))),
        "popularity": _popularity(theirs, ours, len(seen)),
        "distances": _distances(theirs, ours, seen),
    }


def _popularity(real: Array, made: Array, n_items: int) -> dict[str, list[float]]:
    """Share of interactions that the most popular items have, at 24 places of the catalogue, by real popularity."""
    counts = [np.bincount(items[items > 0], minlength=n_items)[1:].astype(np.float64) for items in (real, made)]
    order = np.argsort(-counts[0], kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, BINS).astype(int))
    shares = [np.cumsum(count[order])[places] / max(1.0, count.sum()) for count in counts]
    return {
        "items": ((places + 1) / len(order)).round(4).tolist(),
        "real": shares[0].round(4).tolist(),
        "made": shares[1].round(4).tolist(),
    }


def _distances(real: Array, made: Array, seen: Array) -> dict[str, list[float]]:
    """Histogram of the distance to the nearest other real sequence, of real and of made ones."""
    theirs, ours = features(real, seen), features(made, seen)
    scale = theirs.std(0) + 1e-6
    among = np.partition(cdist(theirs / scale, theirs / scale), 1, axis=1)[:, 1]
    to_real = cdist(ours / scale, theirs / scale).min(1)
    edges = np.linspace(0.0, float(np.quantile(np.concatenate([among, to_real]), 0.99)) or 1.0, BINS + 1)
    counted = [np.histogram(np.minimum(found, edges[-1]), edges)[0] / len(found) for found in (among, to_real)]
    return {
        "from": edges[:-1].round(4).tolist(),
        "real": counted[0].round(4).tolist(),
        "made": counted[1].round(4).tolist(),
    }
