"""The critic: how real a sequence looks to one who knows for whom it was made (WGAN, arXiv 1701.07875).

It must be smooth: either by gradient penalty (arXiv 1704.00028) in training, or by spectral normalisation of every
matrix (arXiv 1802.05957) here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from pipeline.models.generator import GeneratorShape


class Critic(nn.Module):
    """Every item with the one before it and the condition, then mean and maximum over the sequence."""

    def __init__(self, shape: GeneratorShape, spectral: bool) -> None:
        super().__init__()
        seen = shape.item_width + 1
        layers = {
            "pair": nn.Linear(3 * seen + shape.profile_width + shape.item_width, shape.hidden),
            "inner": nn.Linear(shape.hidden, shape.hidden),
            "whole": nn.Linear(2 * shape.hidden, shape.hidden),
            "score": nn.Linear(shape.hidden, 1),
        }
        for name, layer in layers.items():
            self.add_module(name, spectral_norm(layer) if spectral else layer)

    def forward(self, views: Tensor, present: Tensor, profile: Tensor, ending: Tensor) -> Tensor:
        """float32 [B], higher is more real.

        Args:
            views: float32 [B, T, W + 1], what is seen of each item (`Space.seen`).
            present: bool [B, T].
            profile: float32 [B, P].
            ending: float32 [B, W], the vector of the item to arrive at, zeros for none.
        """
        mask = present[:, :, None].to(views.dtype)  # (B, T, 1)
        views = views * mask
        before = functional.pad(views, (0, 0, 1, 0))[:, :-1]
        about = torch.cat([profile, ending], dim=1)[:, None].expand(-1, views.shape[1], -1)
        pairs = torch.cat([views, before, views * before, about], dim=2)
        hidden = functional.leaky_relu(self.get_submodule("pair")(pairs), 0.2)
        hidden = functional.leaky_relu(self.get_submodule("inner")(hidden), 0.2) * mask  # (B, T, H)
        mean = hidden.sum(1) / mask.sum(1).clamp(min=1.0)
        highest = torch.where(present[:, :, None], hidden, float("-inf")).amax(1)
        pooled = torch.cat([mean, torch.where(present.any(1, keepdim=True), highest, 0.0)], dim=1)
        out: Tensor = self.get_submodule("score")(functional.leaky_relu(self.get_submodule("whole")(pooled), 0.2))
        return out[:, 0]


def gradient_penalty(
    critic: Critic, real: Tensor, made: Tensor, present: Tensor, profile: Tensor, ending: Tensor
) -> Tensor:
    """Mean of (‖∇ critic‖ - 1)² between real and made sequences of the same lengths, arXiv 1704.00028 eq. 3."""
    share = torch.rand(len(real), 1, 1, device=real.device)
    between = (share * real + (1 - share) * made).requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(between, present, profile, ending).sum(), between, create_graph=True)
    return ((slope.flatten(1).norm(dim=1) - 1.0) ** 2).mean()
