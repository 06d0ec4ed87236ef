"""How long one request to a model in torch takes, to compare a served one with."""

from __future__ import annotations

import time

import numpy as np
import torch

from pipeline.evaluation.latency import REQUESTS, WARM_UP, K
from pipeline.models.moments import nothing_known
from pipeline.models.padding import left_padded
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.domains import Domain


@torch.inference_mode()
def torch_p50(model: SequentialRecommender, domain: Domain) -> float:
    """Median milliseconds for one test user at a time, seen items hidden, on one thread; item vectors are at hand."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model.eval()
    vectors = model.item_vectors(domain.name, domain.catalogue)
    test, spent = domain.data.holdout("test"), []
    for place in range(WARM_UP + REQUESTS):
        row = place % len(test) if len(test) else None
        history = np.zeros(0, dtype=np.int64) if row is None else test.history(row)[0].astype(np.int64)
        user = 0 if row is None else int(test.user_index[row])
        began = time.perf_counter()
        read = torch.from_numpy(left_padded([history], model.spec.max_length)).to(vectors.device)
        states = model.states(
            domain.name,
            vectors,
            read,
            domain.profile_features[user : user + 1],
            domain.profile_attributes[user : user + 1],
            nothing_known(read) if model.spec.reads_moments else None,
            last=True,
        )
        scores = (states[:, -1] @ vectors.T)[0]
        scores[torch.from_numpy(np.append(history, 0))] = -torch.inf
        scores.topk(min(K, len(scores))).indices.cpu()
        spent.append(time.perf_counter() - began)
    torch.set_num_threads(threads)
    return float(np.median(spent[WARM_UP:]) * 1000)
