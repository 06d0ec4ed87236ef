"""Unstructured masks: single weights of the trunk are zero, for files that keep only the others.

A matrix with zeros is as large and as slow as before. The ONNX file may name places and values of what is left, which
is smaller once two thirds are gone; the runtime unpacks it when it loads. Requests get no faster.
"""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from pipeline.models.members import blocks_of
from pipeline.models.recommender import SequentialRecommender

BYTES_LEFT = 4 + 8  # of a weight that stays: its value and its place


@torch.no_grad()
def zero_smallest(model: SequentialRecommender, share: float) -> None:
    """Set the smallest weights of each matrix of the layers to zero, in place, and hold them there in training.

    Magnitude pruning (arXiv 1506.02626). A held weight gets no gradient, and the decay of zero is zero.

    Args:
        share: of the weights of each matrix, at least 0 and below 1.
    """
    for weight in (weight for block in blocks_of(model.trunk) for weight in block.parameters()):
        if weight.dim() < 2:
            continue
        order = torch.argsort(weight.abs().flatten(), stable=True)
        mask = torch.ones_like(weight).flatten()
        mask[order[: int(share * weight.numel())]] = 0.0
        held = mask.view_as(weight)
        weight.mul_(held)
        weight.register_hook(lambda gradient, held=held: gradient * held)


def stored_sparsely(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with every initializer that is mostly zeros kept as places and values; changed in place."""
    graph = model.graph
    dense = [(one, numpy_helper.to_array(one)) for one in graph.initializer]
    mostly_zeros = [
        (one, array) for one, array in dense if array.dtype == np.float32 and _sparse_bytes(array) < array.nbytes
    ]
    for one, array in mostly_zeros:
        places = np.flatnonzero(array)
        values = numpy_helper.from_array(array.ravel()[places], one.name)
        kept = onnx.helper.make_sparse_tensor(values, numpy_helper.from_array(places.astype(np.int64)), array.shape)
        graph.sparse_initializer.append(kept)
        graph.initializer.remove(one)
    return model


def _sparse_bytes(array: np.ndarray) -> int:
    return BYTES_LEFT * int(np.count_nonzero(array))
