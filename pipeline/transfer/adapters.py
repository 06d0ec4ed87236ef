"""Low-rank adapters: W + B·A in place of W, A and B of a small rank, W frozen (LoRA, arXiv 2106.09685).

Built on `torch.nn.utils.parametrize`, which is torch's own and knows how to fold an adapter into its matrix again. The
`peft` library does the same for models of the `transformers` library, which it would bring along with `accelerate`:
hundreds of megabytes for twenty lines. At a width of 64 adapters save no memory to speak of; what they may save is a
backbone from a small target.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pipeline.models.members import blocks_of, in_one_trunk
from pipeline.models.recommender import SequentialRecommender
from pipeline.transfer.strategies import OWN, TOP


class LowRank(nn.Module):
    """W -> W + B·A; starts at W, because B starts at zero."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        out, width = weight.shape
        rank = min(rank, out, width)
        self.down = nn.Parameter(torch.empty(rank, width, device=weight.device))
        self.up = nn.Parameter(torch.zeros(out, rank, device=weight.device))
        nn.init.normal_(self.down, std=width**-0.5)

    def forward(self, weight: Tensor) -> Tensor:
        """[out, in] -> [out, in]."""
        return weight + self.up @ self.down


def adapt(model: SequentialRecommender, rank: int) -> None:
    """Freeze everything but the target's own tables and the last norm, and give each matrix of the trunk an adapter."""
    for name, weight in model.named_parameters():
        weight.requires_grad_(in_one_trunk(name).startswith((*OWN, *TOP)))
    for linear in _matrices(model):
        parametrize.register_parametrization(linear, "weight", LowRank(linear.weight, rank))


def fold(model: SequentialRecommender) -> None:
    """The inverse: every adapter becomes part of its matrix, and everything may move again."""
    for linear in _matrices(model):
        if parametrize.is_parametrized(linear):
            parametrize.remove_parametrizations(linear, "weight", leave_parametrized=True)
    for weight in model.parameters():
        weight.requires_grad_(True)


def _matrices(model: SequentialRecommender) -> list[nn.Linear]:
    return [module for block in blocks_of(model.trunk) for module in block.modules() if isinstance(module, nn.Linear)]
