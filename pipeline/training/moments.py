"""The moments of training batches and of requests, for models that read more of a history than its items."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.data.sequences import Array
from pipeline.data.training_set import DomainData
from pipeline.evaluation.ranking import Requests
from pipeline.models.moments import UNKNOWN, Moments


def of_places(data: DomainData, places: Array, device: torch.device) -> Moments:
    """Of training windows.

    Args:
        data: of the domain.
        places: int64 [B, 1 + L], where the targets stand in its sequences; in each column but the last stands the item
            that the next column has read. Of a place outside of the sequences (a made row's) nothing is known.
    """
    known = (places >= 0) & (places < len(data.items))
    at = np.where(known, places, 0)
    times = np.where(known, np.asarray(data.times)[at], UNKNOWN)
    events = np.where(known, np.asarray(data.events)[at], 0)
    values = np.where(known, _scaled(data, np.asarray(data.values)[at]), 0.0)
    return _as_tensors(times[:, :-1], times[:, -1], events[:, :-1], values[:, :-1], device)


def of_requests(data: DomainData, requests: Requests, rows: Array, max_length: int, device: torch.device) -> Moments:
    """Of some rows of requests, cut and padded as their histories are (`pipeline.models.padding`).

    Raises:
        ValueError: the requests are no rows of a holdout, so that nobody knows more than items.
    """
    if requests.held is None:
        raise ValueError("the model reads times and events of histories, and the requests do not say where they are")
    holdout, places = requests.held
    longest = max([1, *(min(len(requests.histories[row]), max_length) for row in rows)])
    times = np.full((len(rows), longest), UNKNOWN)
    events, values = np.zeros((len(rows), longest), np.int64), np.zeros((len(rows), longest))
    for line, row in enumerate(rows):
        stop = int(holdout.history_offsets[places[row] + 1])
        n = min(len(requests.histories[row]), max_length)
        if n:
            past = slice(stop - n, stop)
            times[line, -n:] = holdout.history_times[past]
            if holdout.history_events is not None:
                events[line, -n:] = holdout.history_events[past]
            if holdout.history_values is not None:
                values[line, -n:] = _scaled(data, holdout.history_values[past])
    return _as_tensors(times, requests.times[rows], events, values, device)


def _scaled(data: DomainData, values: Array) -> Array:
    mean, spread = data.value_scale
    return np.nan_to_num((values - mean) / spread)


def _as_tensors(times: Array, now: Array, events: Array, values: Array, device: torch.device) -> Moments:
    def tensor(array: Array, dtype: type) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=dtype)).to(device)

    return Moments(tensor(times, np.int64), tensor(now, np.int64), tensor(events, np.int64), tensor(values, np.float32))
