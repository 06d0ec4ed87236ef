"""Export in few bits: the catalogue in int8 or int4 rows, linear layers in int8 with activations rounded as they come.

The graph of a packed catalogue has `rows` and `scales` where the other has `vectors` (what they are:
`pipeline.compression.packed_rows`); both are inputs with a default, so that a new item is a new row as before.
`ServedModel` packs what it is given, its callers see no difference.

Linear layers are rounded by ONNX Runtime (`MatMulInteger` behind `DynamicQuantizeLinear`), to seven bits, with which
processors with and without instructions for it get the same sums.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from pipeline.compression.export import ServedGraph
from pipeline.compression.packed_rows import INT4, INT8, RAISED, packed, unpacked
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.domains import Domain

PREPARED = {"onnx.quant.pre_process": "onnxruntime.quant"}  # what its quantiser looks for; else it warns


class PackedGraph(ServedGraph):
    """A `ServedGraph` whose catalogue is packed.

    Attributes:
        vectors: the catalogue as it is after rounding.
        rows, scales: the same, packed.
    """

    rows: Tensor
    scales: Tensor

    def __init__(self, model: SequentialRecommender, domain: Domain, top_k: int, kind: str) -> None:
        super().__init__(model, domain, top_k)
        self.kind, self.width = kind, self.vectors.shape[1]
        rows, scales = packed(self.vectors.cpu().numpy(), kind)
        self.register_buffer("rows", torch.from_numpy(rows))
        self.register_buffer("scales", torch.from_numpy(scales))
        self.vectors.copy_(torch.from_numpy(unpacked(rows, scales, kind, self.width)))

    @property
    def catalogue(self) -> dict[str, Tensor]:
        """The inputs that hold the catalogue."""
        return {"rows": self.rows, "scales": self.scales}

    def read(self, history: Tensor, *catalogue: Tensor) -> Tensor:
        """See `ServedGraph.read`; only what is read is unpacked."""
        rows, scales = catalogue
        steps = rows[history].to(torch.float32)  # (B, L, D), or both halves in one (B, L, ⌈D / 2⌉)
        if self.kind == INT4:
            high = torch.floor(steps * 0.0625)
            steps = torch.cat([steps - 16 * high, high], dim=-1)[..., : self.width] - RAISED
        return steps * scales[history][..., None]

    def score(self, state: Tensor, *catalogue: Tensor) -> Tensor:
        """See `ServedGraph.score`; products are taken of the steps, because every pass over the catalogue costs."""
        rows, scales = catalogue
        steps = rows.to(torch.float32)
        if self.kind == INT8:
            return (state @ steps.T) * scales
        # a step is low + 16 high: low · s + high · t = step · s + high · (t - 16 s)
        half = steps.shape[1]
        first, second = nn.functional.pad(state, (0, 2 * half - self.width)).split(half, dim=1)
        products = first @ steps.T + (second - 16 * first) @ torch.floor(steps * 0.0625).T
        return (products - RAISED * state.sum(1, keepdim=True)) * scales


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
