"""How long one request to a served model takes: measured where it is registered, because it is no function of files."""

from __future__ import annotations

import time

import numpy as np

from pipeline.compression.served_model import ServedModel
from pipeline.data.training_set import DomainData
from pipeline.evaluation.rank_served import ServedScorer

WARM_UP, REQUESTS = 20, 200
K = 10


def single_request_p50(served: ServedModel, data: DomainData) -> float:
    """Median milliseconds of `recommend` for one test user at a time, on as many threads as `served` was opened with.

    Histories are real ones, so that their lengths are; nothing is batched and nothing is cached.
    """
    scorer = ServedScorer(served, data)
    test = data.holdout("test")
    rows = [place % len(test) for place in range(WARM_UP + REQUESTS)] if len(test) else []
    requests = [scorer.request(int(test.user_index[row]), test.history(row)[0]) for row in rows]
    if not requests:
        requests = [([], np.zeros((1, len(served.profile_features)), dtype=np.float32), [])] * (WARM_UP + REQUESTS)
    spent = []
    for history, profile, attributes in requests:
        began = time.perf_counter()
        served.recommend([history], profile, [attributes], [history], min(K, served.top_k))
        spent.append(time.perf_counter() - began)
    return float(np.median(spent[WARM_UP:]) * 1000)
