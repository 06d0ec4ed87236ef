"""Several content vectors of an item as one: a sum, or a sum in which every modality passes a gate of its own.

    weight_m(item) = n · softmax over the item's n modalities of (g_m · P_m content_m + b_m)

A gate reads what it lets through, so that a blurred picture may count less than a clear one. Gates start at 1, where
the sum is the plain one; a modality that an item lacks has no share, whatever the others are.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

NEVER = -1e9  # the gate of what is not there; of -inf alone, a row of nothing would be no number


class GatedSum(nn.Module):
    """Modalities weighted by what they say."""

    def __init__(self, names: tuple[str, ...], width: int) -> None:
        super().__init__()
        self.gates = nn.ModuleDict({name: nn.Linear(width, 1) for name in names})
        for gate in self.gates.values():
            nn.init.zeros_(gate.get_parameter("weight"))
            nn.init.zeros_(gate.get_parameter("bias"))

    def forward(self, content: Mapping[str, Tensor], projected: Mapping[str, Tensor]) -> Tensor:
        """Fuse the modalities of some items.

        Args:
            content: per modality, float32 [n, its width], zeros where missing.
            projected: the same at the width of the model, [n, D].

        Returns:
            float32 [n, D].
        """
        there = torch.stack([content[name].abs().sum(1) > 0 for name in self.gates], dim=1)  # (n, M)
        open_ = torch.cat([gate(projected[name]) for name, gate in self.gates.items()], dim=1)  # (n, M)
        share = torch.softmax(torch.where(there, open_, NEVER), dim=1) * there  # (n, M)
        weight = share * there.sum(1, keepdim=True)
        return (torch.stack([projected[name] for name in self.gates], dim=2) * weight[:, None]).sum(2)
