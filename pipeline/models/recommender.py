"""The model: item encoder, profile token and trunk; an item's score is a dot product with the state of the sequence.

vectors = model.item_vectors("harbour", catalogue)                      # [n_items + 1, S]
states = model.states("harbour", vectors, history, features, attributes)  # [B, 1 + L, S]
scores = states[:, -1] @ vectors.T                                      # [B, n_items + 1]

Who wants the last state alone says so (`last=True`) and has it sooner.

S is the width D of the model (with fusion at the decision as many D as an item has parts), and outside of training
`spec.score_width`: see `pipeline.models.similarity`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.decision import read_as_one
from pipeline.models.item_encoder import Catalogue, ItemEncoder
from pipeline.models.item_table import Int8Rows
from pipeline.models.members import Members, trunk_of
from pipeline.models.moments import Moments
from pipeline.models.profile import ProfileToken
from pipeline.models.similarity import content_means, side_by_side
from pipeline.models.spec import ModelSpec
from pipeline.models.trunk import Trunk


class SequentialRecommender(nn.Module):
    """A causal sequence model over items that are encoded from content and identity."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.items = ItemEncoder(spec)
        self.profile = ProfileToken(spec)
        self.trunk = trunk_of(spec)

    def item_vectors(self, domain: str, catalogue: Catalogue, items: Tensor | None = None) -> Tensor:
        """float32 [m, S] for item indices [m], or [n_items + 1, S] for all; see `ItemEncoder.forward`."""
        vectors: Tensor = self.items(domain, catalogue, items)
        if self.training or not self.spec.similarity:
            return vectors
        content = side_by_side(catalogue.content, self.spec.modalities)
        if self.spec.newcomer_likeness != 1:
            content = torch.where(catalogue.trained[:, None], content, content * self.spec.newcomer_likeness)
        return torch.cat([vectors, content if items is None else content[items]], dim=1)

    def states(
        self,
        domain: str,
        vectors: Tensor,
        history: Tensor,
        features: Tensor,
        attributes: Tensor,
        moments: Moments | None = None,
        last: bool = False,
    ) -> Tensor:
        """The state of every sequence after the profile token and after each item.

        Args:
            domain: of the items.
            vectors: float32 [m, S], row 0 is padding.
            history: int64 [B, L], rows of `vectors`, chronological, 0 = left padding, L <= max_length.
            features: float32 [B, P], the users' profile features.
            attributes: int64 [B, A], the users' hashed attributes, 0 = padding.
            moments: of the history; wanted where `spec.reads_moments`.
            last: only the state after the last item is wanted.

        Returns:
            float32 [B, 1 + L, S]; position 0 follows the profile token, -1 the last item. Of the last alone [B, 1, S].
        """
        token = self.profile(domain, features, attributes)  # (B, D)
        items = functional.embedding(history, vectors)
        return read_sequences(self.trunk, self.spec, token, items, history > 0, moments, last)

    @property
    def n_parameters(self) -> int:
        """Every number that was learned, item tables included; the codes of a coded table are none."""
        rounded = self.items.ids.weight.numel() if isinstance(self.items.ids, Int8Rows) else 0
        return rounded + sum(parameter.numel() for parameter in self.parameters())


def read_sequences(
    trunk: Trunk | Members,
    spec: ModelSpec,
    token: Tensor,
    items: Tensor,
    present: Tensor,
    moments: Moments | None = None,
    last: bool = False,
) -> Tensor:
    """The states [B, 1 + L, S] of sequences of items [B, L, S] that are `present` [B, L], opened by tokens [B, D].

    Of the last position alone [B, 1, S].
    """
    scale = math.sqrt(spec.member_width)  # table rows start small; the stream must not drown them
    learned = spec.item_parts * spec.width
    read = items[:, :, :learned]
    if spec.item_parts > 1:
        read = read_as_one(read, spec.width)
    states: Tensor = trunk(token * scale, read * scale, present, moments, last)
    if items.shape[2] == learned:
        return states
    means = content_means(items[:, :, learned:], present)
    means = means[:, -1:] if last else means
    return torch.cat([states, means * spec.similarity], dim=2)
