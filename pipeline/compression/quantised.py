"""Export in few bits: the catalogue in int8 or int4 rows, linear layers in int8 with activations rounded as they come.

The catalogue is a constant, and new rows come behind it: `pipeline.compression.fixed_rows`. Rows are turned before they
are rounded: a row has one scale, its largest number's, and a learned vector has a few large numbers; seen from other
axes they are all about as large (as QuIP# does for weights, arXiv 2402.04396).

Linear layers in int8 are rounded by ONNX Runtime (`MatMulInteger` behind `DynamicQuantizeLinear`), to seven bits, with
which processors with and without instructions for it get the same sums. Of int8 weights only the weights are rounded,
to eight bits; like the catalogue they are unpacked once, and products are those of floats.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor

from pipeline.compression.fixed_rows import FixedRows
from pipeline.compression.packed_rows import INT4, INT8, RAISED, packed
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.domains import Domain

PREPARED = {"onnx.quant.pre_process": "onnxruntime.quant"}  # what its quantiser looks for; else it warns


class PackedGraph(FixedRows):
    """A catalogue in rows of bytes or half bytes.

    Attributes:
        vectors: the catalogue as it is after rounding.
        rows, scales: the same, turned and packed.
    """

    rows: Tensor
    scales: Tensor
    places: Tensor

    def __init__(
        self, model: SequentialRecommender, domain: Domain, top_k: int, scores_in_integers: bool, kind: str
    ) -> None:
        super().__init__(model, domain, top_k, scores_in_integers)
        self.kind, self.width = kind, self.vectors.shape[1]
        self.register_buffer("places", torch.arange(self.width, dtype=torch.float32))
        rows, scales = packed((self.vectors.cpu() @ axes(self.places)).numpy(), kind)
        self.register_buffer("rows", torch.from_numpy(rows))
        self.register_buffer("scales", torch.from_numpy(scales).half())
        self.vectors.copy_(self.unpacked(*self.constants.values()))

    @property
    def constants(self) -> dict[str, Tensor]:
        """The catalogue of the export."""
        return {"rows": self.rows, "scales": self.scales, "places": self.places}

    def unpacked(self, *constants: Tensor) -> Tensor:
        """See `FixedRows.unpacked`."""
        rows, scales, places = constants
        steps = rows.to(torch.float32)  # (m + 1, D), or both halves in one (m + 1, ⌈D / 2⌉)
        if self.kind == INT4:
            high = torch.floor(steps * 0.0625)
            steps = torch.cat([steps - 16 * high, high], dim=-1)[..., : self.width] - RAISED
        return (steps * scales.float()[:, None]) @ axes(places).T


def axes(places: Tensor) -> Tensor:
    """Orthonormal columns in each of which every coordinate has a share: cosines (DCT-II), float32 [D, D].

    Args:
        places: float32 [D], 0 … D - 1; given, so that a graph holds the formula and not the matrix.
    """
    waves = torch.cos((places[:, None] + 0.5) * places * (math.pi / len(places)))
    return waves * torch.where(places > 0, math.sqrt(2 / len(places)), math.sqrt(1 / len(places)))


def with_int8_linears(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with every product by constant weights in integers."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    onnx.helper.set_model_props(model, PREPARED)
    with tempfile.TemporaryDirectory(prefix="warmstart-") as folder:
        path = Path(folder) / "quantised.onnx"
        quantize_dynamic(
            model,
            path,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(path)


def with_int8_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with the weights of every product in bytes, each of its outputs on a scale of its own."""
    graph = model.graph
    dense = {one.name: one for one in graph.initializer if len(one.dims) == 2 and one.data_type == TensorProto.FLOAT}
    unpack = []
    for node in graph.node:
        if node.op_type != "MatMul" or node.input[1] not in dense:
            continue
        weight = dense.pop(node.input[1])
        columns = numpy_helper.to_array(weight).T  # (outputs, inputs)
        steps, scales = packed(columns, INT8)
        name = weight.name
        graph.initializer.remove(weight)
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(steps.T), f"{name}_steps"))
        graph.initializer.append(numpy_helper.from_array(scales, f"{name}_scales"))
        unpack.append(onnx.helper.make_node("Cast", [f"{name}_steps"], [f"{name}_floats"], to=TensorProto.FLOAT))
        unpack.append(onnx.helper.make_node("Mul", [f"{name}_floats", f"{name}_scales"], [name]))
    nodes = [*unpack, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return model
