"""Users × items as sparse matrices: what was taken in training, and histories as they are asked about."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from pipeline.data.sequences import Array
from pipeline.data.training_set import DomainData
from pipeline.evaluation.ranking import Requests


def history_matrix(requests: Requests, n_columns: int, decay: float) -> sp.csr_array:
    """[B, n_columns] with `decay ** age` at each item of a history; age 0 is the last item."""
    lengths = np.array([len(history) for history in requests.histories], dtype=np.int64)
    columns = np.concatenate([*requests.histories, np.zeros(0, dtype=np.int32)])
    ages = np.concatenate([*(np.arange(n)[::-1] for n in lengths), np.zeros(0)])
    rows = np.repeat(np.arange(len(lengths)), lengths)
    # A long history ends in weights below the smallest number; they are zero for our purpose.
    weights: Array = np.power(decay, ages)
    return sp.csr_array((weights, (rows, columns)), shape=(len(lengths), n_columns))


def seen_matrix(data: DomainData) -> sp.csr_array:
    """Who took what in the training part: [n_users, n_items + 1] of ones."""
    users = np.repeat(np.arange(data.n_users), np.diff(data.offsets))
    seen = sp.csr_array((np.ones(len(users)), (users, np.asarray(data.items))), shape=(data.n_users, data.n_items + 1))
    seen.data[:] = 1.0  # repeated interactions were summed
    return seen
