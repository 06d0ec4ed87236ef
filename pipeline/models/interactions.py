"""How an item was taken: an event has a vector of its own, and a value moves along another."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.item_encoder import INITIAL_SPREAD
from pipeline.models.moments import Moments


class InteractionVectors(nn.Module):
    """What is added to the item of each interaction of a history."""

    def __init__(self, events: int, width: int) -> None:
        super().__init__()
        self.events = nn.Embedding(1 + events, width, padding_idx=0)
        self.value = nn.Parameter(torch.empty(width))
        nn.init.normal_(self.events.weight, std=INITIAL_SPREAD)
        nn.init.zeros_(self.events.weight[0])
        nn.init.normal_(self.value, std=INITIAL_SPREAD)

    def forward(self, moments: Moments) -> Tensor:
        """float32 [B, L, width]; zeros where neither event nor value is known."""
        of_event = functional.embedding(moments.events, self.events.weight, padding_idx=0)
        return of_event + moments.values[:, :, None] * self.value
