"""An item is the sum of what it is and what it has been through.

    item = Σ_m P_m · content_m  +  g · mean of its attribute vectors  +  F · item features  +  ID vector

The modalities may pass gates (pipeline/models/fusion.py). The ID vector is dropped whole at random in training, so that
content alone has to rank too; an item outside of training has none. Its features are of a range that none in training
has (never taken, by nobody), so a model that has been calibrated for new items (`spec.newcomer`,
pipeline/transfer/newcomers.py) reads it as

    item = Σ_m P_m · content_m  +  g · mean of its attribute vectors  +  newcomer

with one vector in the place of features and ID. In a model with `spec.id_alone`, an item with an ID is its ID vector
and nothing else, and what it is stands in where there is no ID.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.fusion import GatedSum
from pipeline.models.item_table import id_table
from pipeline.models.spec import DECISION, GATES, ModelSpec

INITIAL_SPREAD = 0.02  # of table rows: logits start near zero, the loss at log(n_items)
CONTENT_GAIN = 0.5  # of the projections: a unit content vector starts a few times louder than an untrained ID


@dataclass(frozen=True)
class Catalogue:
    """What is known of one domain's items; row 0 of everything is padding.

    Attributes:
        content: per modality, float32 [n_items + 1, width], rows of unit length, zeros where missing.
        attributes: int64 [n_items + 1, A], hashed, 0 = padding.
        features: float32 [n_items + 1, F].
        trained: bool [n_items + 1], the item has training interactions.
    """

    content: Mapping[str, Tensor]
    attributes: Tensor
    features: Tensor
    trained: Tensor

    @property
    def n_items(self) -> int:
        """Padding not counted."""
        return len(self.trained) - 1

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.trained.device


class ItemEncoder(nn.Module):
    """Vectors for any items of a catalogue.

    Attributes:
        newcomer: float32 [width], see above; None in a model that was not calibrated.
    """

    newcomer: Tensor | None

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.id_dropout, self.id_alone = spec.id_dropout, spec.id_alone
        self.content = nn.ModuleDict(
            {name: nn.Linear(width, spec.width, bias=False) for name, width in spec.modalities}
        )
        names = tuple(name for name, _ in spec.modalities)
        self.gates = GatedSum(names, spec.width) if spec.fusion == GATES and names else None
        self.apart = spec.fusion == DECISION
        self.attribute_gain = spec.attribute_gain
        self.attributes = nn.Embedding(1 + spec.attribute_buckets, spec.width, padding_idx=0)
        self.features = nn.Linear(len(spec.item_features), spec.width, bias=False)
        # One table for all domains: domain d owns rows first_row[d] … first_row[d] + n_items[d].
        sizes = [1 + n_items for _, n_items in spec.domains]
        self.first_row = dict(zip(spec.domain_names, [sum(sizes[:d]) for d in range(len(sizes))], strict=True))
        self.ids = id_table(spec, sum(sizes))
        low_rank = self.ids is not None and spec.id_width < spec.width
        self.up = nn.Linear(spec.id_width, spec.width, bias=False) if low_rank else None
        self.register_buffer("newcomer", torch.zeros(spec.width) if spec.newcomer else None)
        self._start(spec.members)

    def _start(self, members: int) -> None:
        for projection in self.content.values():
            for own in projection.get_parameter("weight").chunk(members):
                nn.init.orthogonal_(own, gain=CONTENT_GAIN)
        nn.init.normal_(self.attributes.weight, std=INITIAL_SPREAD)
        nn.init.zeros_(self.attributes.weight[0])
        for table in self.ids.parameters() if self.ids is not None else ():
            nn.init.normal_(table, std=INITIAL_SPREAD)
        if self.features.in_features:
            nn.init.normal_(self.features.weight, std=INITIAL_SPREAD)
        if self.up is not None:
            nn.init.orthogonal_(self.up.weight)

    def fused(self, content: Mapping[str, Tensor]) -> Tensor:
        """What content vectors of the same items, [m, …] by modality, make of them: float32 [m, width].

        With fusion at the decision they stand side by side, [m, modalities · width].
        """
        projected = {name: projection(content[name]) for name, projection in self.content.items()}
        if self.gates is not None:
            fused: Tensor = self.gates(content, projected)
            return fused
        if self.apart:
            return torch.cat(list(projected.values()), dim=1)
        first, *others = projected.values()
        for other in others:
            first = first + other
        return first

    @property
    def id_rows(self) -> Tensor:
        """The rows of a table of factors, float32 [rows, id_width]."""
        assert isinstance(self.ids, nn.Embedding)
        return self.ids.weight

    def forward(self, domain: str, catalogue: Catalogue, items: Tensor | None = None) -> Tensor:
        """Encode items of one domain.

        Args:
            domain: one of the spec's.
            catalogue: of that domain.
            items: int64 [m] item indices; None is the whole catalogue with padding, [n_items + 1].

        Returns:
            float32 [m, width]; zeros for item 0. With fusion at the decision its parts side by side:
            [m, parts · width].
        """
        every = slice(None) if items is None else items
        indices = torch.arange(len(catalogue.trained), device=catalogue.device) if items is None else items  # (m,)
        has_id = catalogue.trained[every]  # (m,)
        if self.training and self.id_dropout > 0 and self.ids is not None:
            # Not rescaled: a dropped item must look exactly like one that never had an ID.
            has_id = has_id & (torch.rand(len(indices), device=indices.device) >= self.id_dropout)
        vectors = functional.embedding_bag(
            catalogue.attributes[every], self.attributes.weight, mode="mean", padding_idx=0
        )  # (m, D)
        vectors = vectors * self.attribute_gain
        content = {name: catalogue.content[name][every] for name in self.content}
        if content and not self.apart:
            vectors = vectors + self.fused(content)
        if self.features.in_features:
            features = self.features(catalogue.features[every])
            vectors = vectors + (features if self.newcomer is None else features * has_id[:, None])
        if self.ids is not None:
            if self.id_alone:
                vectors = vectors * ~has_id[:, None]
            identity = self.ids(self.first_row[domain] + indices) * has_id[:, None]  # (m, id_width)
            vectors = vectors + (identity if self.up is None else self.up(identity))
        if self.newcomer is not None:
            vectors = vectors + self.newcomer * ~has_id[:, None]
        if content and self.apart:
            vectors = torch.cat([vectors, self.fused(content)], dim=1)
        return vectors * (indices > 0)[:, None]
