"""A conditional generator of item sequences: who the user is, what there is of a history, or an item to arrive at.

It works in the space of item vectors, so that what it learned on one catalogue passes to another. Each step points at a
place there; the items of the catalogue are scored by dot product and popularity, and one is drawn by straight-through
Gumbel-softmax (arXiv 1611.01144): forward a single item, backward the soft mixture, so that a critic can teach it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class GeneratorShape:
    """Everything needed to rebuild a generator or a critic.

    Attributes:
        item_width: of the item vectors, W.
        profile_width: of the profile tokens, P.
        hidden: of the recurrent state, H.
        noise: of the noise that a sequence begins with, Z.
    """

    item_width: int
    profile_width: int
    hidden: int
    noise: int

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self)


@dataclass(frozen=True)
class Space:
    """The items of one domain as generator and critic see them; row 0 is padding.

    Attributes:
        vectors: float32 [n_items + 1, W], rows of unit length.
        log_popularity: float32 [n_items + 1], log of the number of training interactions less its mean over `known`;
            0 where there are none.
        known: bool [n_items + 1], items with a training interaction; others are never generated.
    """

    vectors: Tensor
    log_popularity: Tensor
    known: Tensor

    @property
    def seen(self) -> Tensor:
        """What a critic sees of an item: its vector and how popular it is, float32 [n_items + 1, W + 1]."""
        return torch.cat([self.vectors, self.log_popularity[:, None]], dim=1)

    @classmethod
    def of(cls, vectors: Tensor, counts: Tensor) -> Space:
        """From item vectors of any length and the number of training interactions, both [n_items + 1, …]."""
        known = counts > 0
        level = torch.where(known, torch.log(counts.clamp(min=1).to(vectors.dtype)), 0.0)
        mean = level.sum() / known.sum().clamp(min=1)
        return cls(functional.normalize(vectors, dim=1), torch.where(known, level - mean, 0.0), known)


@dataclass(frozen=True)
class Condition:
    """What a sequence is made for.

    Attributes:
        profile: float32 [B, P], zeros where nothing is known.
        ending: int64 [B], the item that the sequence shall arrive at, 0 for none.
        history: int64 [B, K], left-aligned, 0 after the last item; the interactions there are.
    """

    profile: Tensor
    ending: Tensor
    history: Tensor


class SequenceGenerator(nn.Module):
    """A gated recurrent network over item vectors, opened by condition and noise."""

    def __init__(self, shape: GeneratorShape) -> None:
        super().__init__()
        self.shape = shape
        self.opening = nn.Linear(shape.profile_width + shape.item_width + shape.noise, shape.hidden)
        self.cell = nn.GRU(shape.item_width, shape.hidden, batch_first=True)
        self.pointing = nn.Linear(shape.hidden + shape.item_width, shape.item_width)
        self.popularity = nn.Parameter(torch.ones(()))

    def logits(self, space: Space, condition: Condition, noise: Tensor, items: Tensor) -> Tensor:
        """Teacher-forced: what every item that is there was expected to be.

        Args:
            space: of the domain.
            condition: of the sequences; its history is not read, `items` are.
            noise: float32 [B, Z].
            items: int64 [B, L], left-aligned, 0 after the last; N of them are there.

        Returns:
            float32 [N, n_items + 1], row by row; padding and items that are never generated have -inf.
        """
        start, wish = self._open(space, condition, noise)
        states = start[:, None]  # (B, 1, H)
        if items.shape[1] > 1:
            after, _ = self.cell(functional.embedding(items[:, :-1], space.vectors), start[None])
            states = torch.cat([states, after], dim=1)  # (B, L, H)
        there = items > 0
        return self._scores(space, states[there], wish[:, None].expand(-1, items.shape[1], -1)[there])

    def generate(
        self,
        space: Space,
        condition: Condition,
        noise: Tensor,
        lengths: Tensor,
        temperature: float,
        distinct: bool,
        seen: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Continue every history, an item drawn at each step.

        Args:
            noise: float32 [B, Z].
            lengths: int64 [B], of the whole sequences, history included.
            temperature: of the Gumbel-softmax; it shapes the gradient, not what is drawn.
            distinct: never draw an item twice in a sequence, nor the item it shall arrive at.
            seen: `space.seen`, where gradients are wanted; None for items alone.

        Returns:
            items int64 [B, T], left-aligned, 0 after the last; and float32 [B, T, W + 1] what a critic sees of them
            ([B, T, 0] without `seen`).
        """
        state, wish = self._open(space, condition, noise)
        rows = torch.arange(len(lengths), device=lengths.device)
        known = (condition.history > 0).sum(1)  # (B,)
        used = torch.zeros(len(lengths), len(space.vectors), dtype=torch.bool, device=lengths.device)
        used[rows, condition.ending] = True
        columns, views = [], []
        for step in range(int(lengths.max()) if len(lengths) else 0):
            scores = self._scores(space, state, wish)  # (B, n_items + 1)
            if distinct:
                # where everything is used up, repeating is better than nothing
                left = scores.masked_fill(used, float("-inf"))
                scores = torch.where(torch.isfinite(left).any(1, keepdim=True), left, scores)
            chosen, soft = _draw(scores, temperature)
            given = condition.history[:, step] if step < condition.history.shape[1] else torch.zeros_like(chosen)
            item = torch.where(step < known, given, chosen) * (step < lengths)
            used = used.scatter(1, item[:, None], True)
            columns.append(item)
            vector = space.vectors[item]
            if seen is not None:
                drawn = (step >= known) & (step < lengths)
                view = seen[item]
                # straight through: the value is the item's, the gradient the mixture's
                mixture = soft @ seen
                view = view + (mixture - mixture.detach()) * drawn[:, None]
                views.append(view)
                vector = view[:, : space.vectors.shape[1]]
            after, _ = self.cell(vector[:, None], state[None])
            state = after[:, 0]
        if not columns:
            return lengths.new_zeros(len(lengths), 0), space.vectors.new_zeros(len(lengths), 0, 0)
        items = torch.stack(columns, dim=1)
        return items, torch.stack(views, dim=1) if views else space.vectors.new_zeros(*items.shape, 0)

    def _open(self, space: Space, condition: Condition, noise: Tensor) -> tuple[Tensor, Tensor]:
        wish = space.vectors[condition.ending]  # (B, W)
        return torch.tanh(self.opening(torch.cat([condition.profile, wish, noise], dim=1))), wish

    def _scores(self, space: Space, states: Tensor, wish: Tensor) -> Tensor:
        place = self.pointing(torch.cat([states, wish], dim=-1))  # (…, W)
        scores = place @ space.vectors.T + self.popularity * space.log_popularity
        return scores.masked_fill(~space.known, float("-inf"))


def _draw(scores: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """One item a row by the Gumbel-max trick, and the softmax at `temperature` behind it."""
    uniform = torch.rand_like(scores).clamp(1e-9, 1 - 1e-7)
    perturbed = scores - torch.log(-torch.log(uniform))
    return perturbed.argmax(1), functional.softmax(perturbed / temperature, dim=1)
