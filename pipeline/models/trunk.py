"""A pre-norm causal Transformer over a profile token and a left-padded history.

Pre-norm (arXiv 2002.04745) trains without long warm-up. Layers may have different numbers of heads and channels,
because pruning removes them physically.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.decision import DecisionWeights
from pipeline.models.dropout import dropout
from pipeline.models.interactions import InteractionVectors
from pipeline.models.moments import Moments
from pipeline.models.recency import Recency
from pipeline.models.relative_time import RelativeTime, gaps_of
from pipeline.models.rotary import angles, turned
from pipeline.models.spec import DECISION, LEARNED, SWIGLU, LayerShape, ModelSpec
from pipeline.models.user_state import UserState


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and added to the stream.

    Options of the spec: `feed_forward` swiglu multiplies the channels by a second projection (arXiv 2002.05202);
    `residual_gates` lets every coordinate of what is added through a gate that reads the stream, as the gated
    transformers of LiGR do (arXiv 2502.03417); `relative_time` adds a bias of its own to each head's attention.
    """

    def __init__(self, spec: ModelSpec, shape: LayerShape) -> None:
        super().__init__()
        width = spec.width
        self.heads, self.head_width = shape.heads, spec.head_width
        inner = shape.heads * spec.head_width
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * inner)
        self.attention_out = nn.Linear(inner, width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, shape.channels)
        self.beside = nn.Linear(width, shape.channels) if spec.feed_forward == SWIGLU else None
        self.down = nn.Linear(shape.channels, width)
        self.attention_gate = nn.Linear(width, width) if spec.residual_gates else None
        self.feed_forward_gate = nn.Linear(width, width) if spec.residual_gates else None
        self.time = RelativeTime(shape.heads) if spec.relative_time else None
        self.dropout = spec.dropout

    def forward(
        self, x: Tensor, visible: Tensor, turn: Tensor | None, gaps: Tensor | None = None, last: bool = False
    ) -> Tensor:
        """One layer.

        Args:
            x: float32 [B, S, D].
            visible: bool [B, 1, S, S], query and key.
            turn: float32 [B, S, W / 2], angles of rotary positions; None without.
            gaps: int64 [B, S, S], of relative time; None without.
            last: only the last position is wanted, which is cheaper.

        Returns:
            float32 [B, S, D], or [B, 1, D].
        """
        seen = visible if self.time is None else self.time(gaps, visible)
        mixed = self._attention(self.attention_norm(x), seen, turn, last)
        if last:
            x = x[:, -1:]
        x = x + self._gated(self.attention_gate, x, mixed)
        return x + self._gated(self.feed_forward_gate, x, self._feed_forward(self.feed_forward_norm(x)))

    def _gated(self, gate: nn.Linear | None, x: Tensor, added: Tensor) -> Tensor:
        added = dropout(added, self.dropout, self.training)
        return added if gate is None else added * torch.sigmoid(gate(x))

    def _feed_forward(self, x: Tensor) -> Tensor:
        channels = functional.gelu(self.up(x)) if self.beside is None else functional.silu(self.up(x)) * self.beside(x)
        out: Tensor = self.down(channels)  # (B, S, channels) -> (B, S, D)
        return out

    def _attention(self, x: Tensor, seen: Tensor, turn: Tensor | None, last: bool) -> Tensor:
        batch, length, _ = x.shape
        # (B, S, 3·H·W) -> three of (B, H, S, W)
        split = self.query_key_value(x).view(batch, length, 3, self.heads, self.head_width)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        if turn is not None:
            query, key = turned(query, turn), turned(key, turn)
        if last:
            query, seen = query[:, :, -1:], seen[:, :, -1:]
        mask = seen if seen.dtype == torch.bool else seen.to(query.dtype)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)  # (B, H, S or 1, W)
        return self.attention_out(mixed.transpose(1, 2).flatten(2))


class Trunk(nn.Module):
    """Positions, blocks and a last norm."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.head_width = spec.head_width
        self.positions = nn.Embedding(1 + spec.max_length, spec.width) if spec.positions == LEARNED else None
        if self.positions is not None:
            nn.init.normal_(self.positions.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(spec, layer) for layer in spec.layers)
        self.last_norm = nn.LayerNorm(spec.width)
        self.recency = Recency(spec.width) if spec.recency else None
        self.user = UserState(spec.width) if spec.user_state else None
        self.relative_time = spec.relative_time
        self.interactions = InteractionVectors(len(spec.events), spec.width) if spec.events else None
        self.decision = DecisionWeights(spec.item_parts, spec.width) if spec.fusion == DECISION else None
        self.dropout = spec.dropout
        for part in self.blocks.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(part.weight)
                nn.init.zeros_(part.bias)

    def forward(
        self, token: Tensor, history: Tensor, present: Tensor, moments: Moments | None = None, last: bool = False
    ) -> Tensor:
        """Read the sequences.

        Positions count real items from the left, so that left padding of any length gives the same outputs.

        Args:
            token: float32 [B, D], opens every sequence at position 0.
            history: float32 [B, L, D], padding on the left.
            present: bool [B, L], False where padding; L <= max_length.
            moments: of the history, where the spec reads them.
            last: only the last position is wanted; what only others need is left out.

        Returns:
            float32 [B, 1 + L, D], with fusion at the decision [B, 1 + L, parts · D]; what stands at padding means
            nothing. Of the last position alone [B, 1, …].
        """
        read = history
        if self.interactions is not None:
            assert moments is not None
            read = history + self.interactions(moments) * math.sqrt(history.shape[2])
        x = torch.cat([token[:, None], read], dim=1)  # (B, S, D), S = 1 + L
        first = present.new_ones(present.shape[0], 1)
        keys = torch.cat([first, present], dim=1)  # (B, S)
        order = keys.long().cumsum(1) - 1  # (B, S)
        turn = None
        if self.positions is not None:
            x = x + self.positions(order)
        else:
            turn = angles(order, self.head_width)
        x = dropout(x, self.dropout, self.training)
        place = torch.arange(x.shape[1], device=x.device)
        causal = place[None, :] <= place[:, None]  # (S, S) query, key
        # The token is visible from everywhere, so no row is empty and padding yields no NaN.
        visible = (causal[None] & keys[:, None, :])[:, None]  # (B, 1, S, S)
        gaps = None
        if self.relative_time:
            assert moments is not None
            gaps = gaps_of(moments)
        early = last and self.user is None  # a user's state is learned from the states before
        for number, block in enumerate(self.blocks, start=1):
            x = block(x, visible, turn, gaps, last=early and number == len(self.blocks))
        x = self.last_norm(x)
        if self.recency is not None:
            means = self.recency(history, present)
            x = x + (means[:, -1:] if early else means)
        if self.user is not None:
            x = x + self.user(x, history, present)
        x = x[:, -1:] if last else x
        return x if self.decision is None else self.decision(x)
