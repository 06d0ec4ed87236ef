"""A pre-norm causal Transformer over a profile token and a left-padded history.

Pre-norm (arXiv 2002.04745) trains without long warm-up. Layers may have different numbers of heads and channels,
because pruning removes them physically.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.dropout import dropout
from pipeline.models.recency import Recency
from pipeline.models.spec import LayerShape, ModelSpec


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and added to the stream."""

    def __init__(self, width: int, head_width: int, shape: LayerShape, dropout: float) -> None:
        super().__init__()
        self.heads, self.head_width = shape.heads, head_width
        inner = shape.heads * head_width
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * inner)
        self.attention_out = nn.Linear(inner, width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, shape.channels)
        self.down = nn.Linear(shape.channels, width)
        self.dropout = dropout

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """x [B, S, D] and visible bool [B, 1, S, S] (query, key) -> [B, S, D]."""
        x = x + dropout(self._attention(self.attention_norm(x), visible), self.dropout, self.training)
        channels = functional.gelu(self.up(self.feed_forward_norm(x)))  # (B, S, channels)
        return x + dropout(self.down(channels), self.dropout, self.training)

    def _attention(self, x: Tensor, visible: Tensor) -> Tensor:
        batch, length, _ = x.shape
        # (B, S, 3·H·W) -> three of (B, H, S, W)
        split = self.query_key_value(x).view(batch, length, 3, self.heads, self.head_width)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)  # (B, H, S, W)
        return self.attention_out(mixed.transpose(1, 2).reshape(batch, length, self.heads * self.head_width))


class Trunk(nn.Module):
    """Positions, blocks and a last norm."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.positions = nn.Embedding(1 + spec.max_length, spec.width)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(spec.width, spec.head_width, layer, spec.dropout) for layer in spec.layers)
        self.last_norm = nn.LayerNorm(spec.width)
        self.recency = Recency(spec.width) if spec.recency else None
        self.dropout = spec.dropout
        for block in self.blocks:
            for name in ("query_key_value", "attention_out", "up", "down"):
                linear = getattr(block, name)
                nn.init.xavier_uniform_(linear.weight)
                nn.init.zeros_(linear.bias)

    def forward(self, token: Tensor, history: Tensor, present: Tensor) -> Tensor:
        """Read the sequences.

        Positions count real items from the left, so that left padding of any length gives the same outputs.

        Args:
            token: float32 [B, D], opens every sequence at position 0.
            history: float32 [B, L, D], padding on the left.
            present: bool [B, L], False where padding; L <= max_length.

        Returns:
            float32 [B, 1 + L, D]; what stands at padding means nothing.
        """
        x = torch.cat([token[:, None], history], dim=1)  # (B, S, D), S = 1 + L
        first = present.new_ones(present.shape[0], 1)
        keys = torch.cat([first, present], dim=1)  # (B, S)
        x = x + self.positions(keys.long().cumsum(1) - 1)
        x = dropout(x, self.dropout, self.training)
        place = torch.arange(x.shape[1], device=x.device)
        causal = place[None, :] <= place[:, None]  # (S, S) query, key
        # The token is visible from everywhere, so no row is empty and padding yields no NaN.
        visible = (causal[None] & keys[:, None, :])[:, None]  # (B, 1, S, S)
        for block in self.blocks:
            x = block(x, visible)
        x = self.last_norm(x)
        return x if self.recency is None else x + self.recency(history, present)
