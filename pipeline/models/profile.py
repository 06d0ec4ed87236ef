"""The token that opens every sequence: the domain and who the user is, so that no history is needed to rank."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.item_encoder import INITIAL_SPREAD
from pipeline.models.spec import ModelSpec

ANY_DOMAIN = 0  # the token of a domain the model was not trained on; trained by domain dropout
DOMAIN_DROPOUT = 0.1


class ProfileToken(nn.Module):
    """Sum of a domain vector, the mean of the user's attribute vectors and a projection of the profile features."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.row = {name: 1 + d for d, name in enumerate(spec.domain_names)}
        self.domains = nn.Embedding(1 + len(spec.domains), spec.width)
        self.attributes = nn.Embedding(1 + spec.profile_buckets, spec.width, padding_idx=0)
        self.features = nn.Linear(len(spec.profile_features), spec.width, bias=False)
        for table in (self.domains, self.attributes):
            nn.init.normal_(table.weight, std=INITIAL_SPREAD)
        nn.init.zeros_(self.attributes.weight[0])
        if self.features.in_features:
            nn.init.normal_(self.features.weight, std=INITIAL_SPREAD)

    def forward(self, domain: str, features: Tensor, attributes: Tensor) -> Tensor:
        """Encode users.

        Args:
            domain: where they are ranked for.
            features: float32 [B, P].
            attributes: int64 [B, A], hashed, 0 = padding.

        Returns:
            float32 [B, width].
        """
        rows = torch.full(
            (features.shape[0],), self.row[domain], dtype=torch.int64, device=features.device
        )  # the dtype is said for the ONNX exporter, which would take a float
        if self.training:
            rows = rows.masked_fill(torch.rand(rows.shape, device=rows.device) < DOMAIN_DROPOUT, ANY_DOMAIN)
        # A gather and a sum in place of embedding_bag, which has no ONNX counterpart with padding.
        bags = functional.embedding(attributes, self.attributes.weight, padding_idx=0)  # (B, A, D)
        present = (attributes > 0).to(bags.dtype)  # (B, A)
        mean = (bags * present[:, :, None]).sum(1) / present.sum(1, keepdim=True).clamp(min=1.0)
        token = self.domains(rows) + mean
        return token + self.features(features) if self.features.in_features else token
