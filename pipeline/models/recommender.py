"""The model: item encoder, profile token and trunk; an item's score is a dot product with the state of the sequence.

vectors = model.item_vectors("harbour", catalogue)                      # [n_items + 1, D]
states = model.states("harbour", vectors, history, features, attributes)  # [B, 1 + L, D]
scores = states[:, -1] @ vectors.T                                      # [B, n_items + 1]
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.item_encoder import Catalogue, ItemEncoder
from pipeline.models.item_table import Int8Rows
from pipeline.models.profile import ProfileToken
from pipeline.models.spec import ModelSpec
from pipeline.models.trunk import Trunk


class SequentialRecommender(nn.Module):
    """A causal sequence model over items that are encoded from content and identity."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.items = ItemEncoder(spec)
        self.profile = ProfileToken(spec)
        self.trunk = Trunk(spec)
        self.input_scale = math.sqrt(spec.width)  # table rows start small; the stream must not drown them

    def item_vectors(self, domain: str, catalogue: Catalogue, items: Tensor | None = None) -> Tensor:
        """float32 [m, D] for item indices [m], or [n_items + 1, D] for all; see `ItemEncoder.forward`."""
        return self.items(domain, catalogue, items)

    def states(self, domain: str, vectors: Tensor, history: Tensor, features: Tensor, attributes: Tensor) -> Tensor:
        """The state of every sequence after the profile token and after each item.

        Args:
            domain: of the items.
            vectors: float32 [m, D], row 0 is padding.
            history: int64 [B, L], rows of `vectors`, chronological, 0 = left padding, L <= max_length.
            features: float32 [B, P], the users' profile features.
            attributes: int64 [B, A], the users' hashed attributes, 0 = padding.

        Returns:
            float32 [B, 1 + L, D]; position 0 follows the profile token, -1 the last item.
        """
        token = self.profile(domain, features, attributes)  # (B, D)
        embedded = functional.embedding(history, vectors) * self.input_scale  # (B, L, D)
        return self.trunk(token * self.input_scale, embedded, history > 0)

    @property
    def n_parameters(self) -> int:
        """Every number that was learned, item tables included; the codes of a coded table are none."""
        rounded = self.items.ids.weight.numel() if isinstance(self.items.ids, Int8Rows) else 0
        return rounded + sum(parameter.numel() for parameter in self.parameters())
