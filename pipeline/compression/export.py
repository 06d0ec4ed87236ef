"""One ONNX file that a server needs nothing beside: item vectors, trunk, seen-mask and top-k in the graph.

    in   history             int64   [B, L]            item indices, 0 = left padding, L <= max_length
         profile             float32 [B, P]            the user's profile features
         profile_attributes  int64   [B, A]            hashed, 0 = padding
         seen                int64   [B, S]            item indices never to be returned, 0 = none
    out  items               int64   [B, k]            the best unseen items
         scores              float32 [B, k]            theirs; -inf where fewer than k items are unseen
         all_scores          float32 [B, n_items + 1]  nothing masked, -inf in column 0

A caller asks for the outputs that it needs.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.models.recommender import SequentialRecommender
from pipeline.training.domains import Domain

OPSET = 18
INPUTS = ("history", "profile", "profile_attributes", "seen")
OUTPUTS = ("items", "scores", "all_scores")


class ServedGraph(nn.Module):
    """What is exported: a model with its domain's item vectors as constants."""

    vectors: Tensor

    def __init__(self, model: SequentialRecommender, domain: Domain, top_k: int) -> None:
        super().__init__()
        self.trunk, self.profile = model.trunk, model.profile
        self.domain, self.scale = domain.name, model.input_scale
        self.top_k = min(top_k, domain.data.n_items)
        with torch.no_grad():
            vectors = model.eval().item_vectors(domain.name, domain.catalogue)  # (n_items + 1, D)
        self.register_buffer("vectors", vectors.clone())

    @property
    def n_numbers(self) -> int:
        """Everything that is kept in the file: weights, and the item vectors in place of what they were made from."""
        return self.vectors.numel() + sum(weight.numel() for weight in self.parameters())

    def forward(
        self, history: Tensor, profile: Tensor, profile_attributes: Tensor, seen: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See the module's first lines."""
        token = self.profile(self.domain, profile, profile_attributes) * self.scale  # (B, D)
        embedded = nn.functional.embedding(history, self.vectors) * self.scale  # (B, L, D)
        state = self.trunk(token, embedded, history > 0)[:, -1]  # (B, D)
        scores = state @ self.vectors.T  # (B, n_items + 1)
        nothing = torch.zeros_like(seen[:, :1])
        all_scores = scores.scatter(1, nothing, float("-inf"))  # padding is never an answer
        best, items = all_scores.scatter(1, seen, float("-inf")).topk(self.top_k, dim=1)
        return items, best, all_scores


def export_onnx(model: SequentialRecommender, domain: Domain, top_k: int, path: Path) -> ServedGraph:
    """Write `path`; returns the same graph in torch, to compare with."""
    graph = ServedGraph(model, domain, top_k).cpu().eval()
    spec = model.spec
    example = (
        torch.zeros(2, min(3, spec.max_length), dtype=torch.int64),
        torch.zeros(2, len(spec.profile_features)),
        torch.zeros(2, 2, dtype=torch.int64),
        torch.zeros(2, 2, dtype=torch.int64),
    )
    example[0][:, -1] = 1
    axes = {name: {0: "batch"} for name in (*INPUTS, *OUTPUTS)}
    axes["history"][1], axes["profile_attributes"][1], axes["seen"][1] = "length", "attributes", "seen"
    written = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter by tracing needs no further package, and this graph has no data-dependent control flow.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            example,
            written,  # type: ignore[arg-type]  # tracing takes a file, the types know only paths
            dynamo=False,
            opset_version=OPSET,
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_axes=axes,
        )
    path.write_bytes(written.getvalue())
    return graph
