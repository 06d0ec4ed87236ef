"""A model as two ONNX graphs: one ranks a catalogue, the other makes the vector of an item that is new.

`model.onnx`: trunk, seen-mask, filter and top-k.

    in   history             int64   [B, L]          rows of the catalogue, 0 = left padding, L <= max_length
         profile             float32 [B, P]          the user's profile features
         profile_attributes  int64   [B, A]          hashed, 0 = padding
         seen                int64   [B, S]          rows never to be returned, 0 = none
         vectors             float32 [m + 1, D]      the catalogue, row 0 zeros; left out: the m items of the export
         blocked             bool    [B | 1, m + 1]  True is never to be returned; left out: nothing is
    out  items               int64   [B, k]          the best rows neither seen nor blocked
         scores              float32 [B, k]          theirs; -inf where fewer than k are left, the row means nothing
         all_scores          float32 [B, m + 1]      nothing masked, -inf in column 0

The catalogue is an input, so a new item is a new row. It and `blocked` are inputs with a default (an initializer of
the same name, ONNX IR 4 and later): the file alone is a whole model for every runtime, and `mlflow models serve` is
asked no more than before. `seen` is for a user's few items, `blocked` for filters that take away half a catalogue.

`item_encoder.onnx`: an item without its ID vector, as an item outside of training has none.

    in   <modality>_vector   float32 [n, width]      as in `data/item_vectors` (text: whitened), zeros where missing
         attributes          int64   [n, A]          hashed, 0 = padding
         features            float32 [n, F]          the model's item features; no such input where F is 0, or where
                                                     the model is calibrated for new items and does not read them
    out  vectors             float32 [n, D]          rows for `vectors` above

A caller asks for the outputs that it needs. In few bits: see `pipeline.compression.quantised`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.models.recommender import SequentialRecommender, read_sequences
from pipeline.training.domains import Domain

ASKED, BLOCKED = ("history", "profile", "profile_attributes", "seen"), "blocked"
OUTPUTS = ("items", "scores", "all_scores")
VECTOR = "_vector"


class ServedGraph(nn.Module):
    """What ranks: a model's trunk and profile token over any catalogue of its domain.

    Attributes:
        vectors: float32 [n_items + 1, D], the catalogue of the export.
        top_k: items of an answer.
    """

    vectors: Tensor

    def __init__(self, model: SequentialRecommender, domain: Domain, top_k: int) -> None:
        super().__init__()
        self.trunk, self.profile = model.trunk, model.profile
        self.domain, self.spec = domain.name, model.spec
        self.top_k = top_k
        with torch.no_grad():
            vectors = model.eval().item_vectors(domain.name, domain.catalogue)  # (n_items + 1, D)
        self.register_buffer("vectors", vectors.clone())

    @property
    def catalogue(self) -> dict[str, Tensor]:
        """The inputs that hold the catalogue, by name; their defaults are these."""
        return {"vectors": self.vectors}

    @property
    def constants(self) -> dict[str, Tensor]:
        """What `forward` is given behind the catalogue, by name, and nobody who asks can change."""
        return {}

    @torch.inference_mode()
    def answer(
        self, history: Tensor, profile: Tensor, profile_attributes: Tensor, seen: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The outputs for the catalogue of the export, nothing blocked."""
        nothing = torch.zeros(1, 1, dtype=torch.bool)
        found: tuple[Tensor, Tensor, Tensor] = self(
            history, profile, profile_attributes, seen, *self.catalogue.values(), *self.constants.values(), nothing
        )
        return found

    @property
    def n_numbers(self) -> int:
        """Everything that is kept in the file: weights, and the item vectors in place of what they were made from."""
        return self.vectors.numel() + sum(weight.numel() for weight in self.parameters())

    def read(self, history: Tensor, *catalogue: Tensor) -> Tensor:
        """The vectors of int64 [B, L] rows: float32 [B, L, S]."""
        (vectors,) = catalogue
        return nn.functional.embedding(history, vectors)

    def score(self, state: Tensor, *catalogue: Tensor) -> Tensor:
        """float32 [B, S] against every row: float32 [B, m + 1]."""
        (vectors,) = catalogue
        return state @ vectors.T

    def forward(
        self, history: Tensor, profile: Tensor, profile_attributes: Tensor, seen: Tensor, *rest: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See the module's first lines; `rest` is the catalogue, the constants and `blocked`."""
        *catalogue, blocked = rest
        token = self.profile(self.domain, profile, profile_attributes)  # (B, D)
        read = self.read(history, *catalogue)  # (B, L, S)
        state = read_sequences(self.trunk, self.spec, token, read, history > 0, last=True)[:, -1]  # (B, S)
        scores = self.score(state, *catalogue)  # (B, m + 1)
        nothing = torch.zeros_like(seen[:, :1])
        all_scores = scores.scatter(1, nothing, float("-inf"))  # padding is never an answer
        # The choice is made on `blocked` as it comes, mostly one number, and added: a quarter of the time of a choice
        # for every score.
        left = all_scores.scatter(1, seen, float("-inf")) + torch.where(blocked, float("-inf"), 0.0)
        # k is a constant of the graph and must not exceed the columns, so a catalogue of any size gets k more
        best, items = nn.functional.pad(left, (0, self.top_k), value=float("-inf")).topk(self.top_k, dim=1)
        return items, best, all_scores


class NewItems(nn.Module):
    """The item encoder without IDs, for items that no catalogue has."""

    def __init__(self, model: SequentialRecommender) -> None:
        super().__init__()
        self.items, self.modalities = model.items, [name for name, _ in model.spec.modalities]
        self.has_features = bool(model.spec.item_features) and not model.spec.newcomer
        self.similarity, self.likeness = bool(model.spec.similarity), model.spec.newcomer_likeness

    def forward(self, *inputs: Tensor) -> Tensor:
        """Content vectors in the order of the spec's modalities, attributes, features (where there are any)."""
        *content, attributes = inputs[:-1] if self.has_features else inputs
        # A gather and a sum in place of embedding_bag, which has no ONNX counterpart with padding.
        bags = nn.functional.embedding(attributes, self.items.attributes.weight, padding_idx=0)  # (n, A, D)
        present = (attributes > 0).to(bags.dtype)  # (n, A)
        mean = (bags * present[:, :, None]).sum(1) / present.sum(1, keepdim=True).clamp(min=1.0)
        vectors = mean * self.items.attribute_gain
        units = {}
        for name, given in zip(self.modalities, content, strict=True):
            length = given.square().sum(1, keepdim=True).sqrt()  # content is read at length 1: see unit_rows
            units[name] = torch.where(length > 0, given / length.clamp(min=torch.finfo(given.dtype).tiny), 0.0)
        if units and not self.items.apart:
            vectors = vectors + self.items.fused(units)
        if self.has_features:
            vectors = vectors + self.items.features(inputs[-1])
        if self.items.newcomer is not None:
            vectors = vectors + self.items.newcomer
        if units and self.items.apart:
            vectors = torch.cat([vectors, self.items.fused(units)], dim=1)
        alike = [unit * self.likeness for unit in units.values()]
        return torch.cat([vectors, *alike], dim=1) if self.similarity else vectors
