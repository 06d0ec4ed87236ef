"""Several trunks side by side in one model, an ensemble that ranks like any other model.

    score = 1/M Σ_k state_k · item_k,    M members, each with its own share of the width

Trained from random weights, models of one recipe err differently, and the mean of their scores errs less (deep
ensembles, arXiv 1612.01474). Member k reads and writes its own slice of item vectors, tokens and states and learns by
a loss of its own, so that the members stay as different as if each had been trained alone; whoever ranks by dot
products of states and item vectors needs to know nothing of it.
"""

from __future__ import annotations

import re
from dataclasses import replace

import torch
from torch import Tensor, nn

from pipeline.models.moments import Moments
from pipeline.models.spec import ModelSpec
from pipeline.models.trunk import Block, Trunk

MEMBER = re.compile(r"^trunk\.members\.\d+\.")


class Members(nn.Module):
    """In the place of a `Trunk`: `spec.members` of them, each `spec.width / spec.members` wide."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        alone = replace(spec, width=spec.member_width, members=1)
        self.members = nn.ModuleList(Trunk(alone) for _ in range(spec.members))

    def forward(
        self, token: Tensor, history: Tensor, present: Tensor, moments: Moments | None = None, last: bool = False
    ) -> Tensor:
        """Arguments as of `Trunk`, D wide altogether.

        Returns:
            float32 [B, 1 + L, D] or [B, 1, D], the members' states side by side; in evaluation each divided by their
            number.
        """
        n = len(self.members)
        slices = zip(self.members, token.chunk(n, -1), history.chunk(n, -1), strict=True)
        states = torch.cat([member(own, read, present, moments, last) for member, own, read in slices], dim=-1)
        return states if self.training else states / n


def blocks_of(trunk: Trunk | Members) -> list[Block]:
    """The layers from the first to the last, member by member."""
    return [part for part in trunk.modules() if isinstance(part, Block)]


def last_norm_of(trunk: Trunk | Members) -> nn.LayerNorm:
    """Where gradients of several tasks are compared: at the last norm, of members the first one's."""
    return next(part.last_norm for part in trunk.modules() if isinstance(part, Trunk))


def in_one_trunk(parameter: str) -> str:
    """What a member's parameter is called in a model of one trunk; other names stay."""
    return MEMBER.sub("trunk.", parameter)


def trunk_of(spec: ModelSpec) -> Trunk | Members:
    """One trunk, or members."""
    return Trunk(spec) if spec.members == 1 else Members(spec)
