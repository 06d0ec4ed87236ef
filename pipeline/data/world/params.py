"""How large the synthetic world is and how dirty. Cheap to import: the run is opened with it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

# One year; the default as_of is its end.
START = datetime(2025, 1, 1, tzinfo=UTC)
END = datetime(2026, 1, 1, tzinfo=UTC)
EPOCHS = 52  # the trend and the catalogue change at epoch borders only, so that probabilities are closed-form
COLD_FROM = 0.8  # cold users and cold items appear after this share of the time range

# What `dirt: <share>` injects: one kind per row rule of pipeline/contracts. Snapshot and validate survive these.
ROW_KINDS = (
    "missing_user",
    "blank_user",
    "too_long_user",
    "missing_item",
    "blank_item",
    "too_long_item",
    "missing_timestamp",
    "absurd_timestamp",
    "created_before_timestamp",
    "unknown_event",
    "value_not_finite",
    "value_out_of_range",
    "duplicate_interaction",
    "item_without_id",
    "item_with_blank_id",
    "item_with_too_long_id",
    "user_without_id",
    "user_with_blank_id",
    "user_with_too_long_id",
)
# What only `dirt: {kind: share}` injects: each breaks a table and stops the run (65).
TABLE_KINDS = (
    "missing_column",
    "wrong_type",
    "empty_source",
    "no_items",
    "duplicate_item",
    "duplicate_user",
    "unknown_item",
    "vector_not_finite",
    "vector_width",
)
# Not broken, only too young: the snapshot leaves it out because of as_of, and nothing reaches the contracts.
YOUNG_KINDS = ("after_as_of",)
KINDS = ROW_KINDS + TABLE_KINDS + YOUNG_KINDS


@dataclass(frozen=True)
class Market:
    """One domain of the world.

    Attributes:
        mean_length: mean number of interactions of a user; the distribution is skewed and has a floor of 1.
        shared: share of its users who are also users of a market named earlier.
    """

    role: Literal["source", "target"]
    users: int
    items: int
    mean_length: float
    shared: float


# name, role, shared
MARKETS: tuple[tuple[str, Literal["source", "target"], float], ...] = (
    ("metro", "source", 0.0),
    ("valley", "source", 0.2),
    ("harbour", "target", 0.4),
    ("orchard", "target", 0.3),
)


def _markets(*sizes: tuple[int, int, float]) -> dict[str, Market]:
    return {
        name: Market(role, users, items, mean_length, shared)
        for (name, role, shared), (users, items, mean_length) in zip(MARKETS, sizes, strict=True)
    }


# (users, items, mean length) of MARKETS, in their order
SIZES: dict[str, dict[str, Market]] = {
    "tiny": _markets((300, 150, 10), (250, 150, 10), (120, 110, 7), (120, 100, 7)),
    "small": _markets((3000, 900, 10), (2400, 700, 10), (500, 360, 8), (450, 320, 8)),
    "medium": _markets((40_000, 6_000, 14), (30_000, 4_500, 14), (2_500, 1_200, 9), (2_000, 900, 9)),
    "large": _markets((330_000, 20_000, 17), (250_000, 15_000, 17), (10_000, 3_000, 9), (8_000, 2_500, 9)),
}
TARGETS = tuple(name for name, role, _ in MARKETS if role == "target")


class WorldParams(BaseModel):
    """Parameters of the synthetic world."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: Literal["tiny", "small", "medium", "large"] = Field(default="small", description="tiny is for tests")
    seed: int | None = Field(default=None, description="none: the run's seed")
    dirt: float | dict[str, float] = Field(
        default=0.0,
        description="share of rows of every row kind to add, or {kind: share}; the clean rows stay as they are",
    )

    @field_validator("dirt")
    @classmethod
    def _known_kinds(cls, dirt: float | dict[str, float]) -> float | dict[str, float]:
        shares = dirt if isinstance(dirt, dict) else {ROW_KINDS[0]: dirt}
        for kind, share in shares.items():
            if kind not in KINDS:
                raise ValueError(f"there is no kind of dirt {kind!r}; known are {', '.join(KINDS)}")
            if not 0 <= share <= 1:
                raise ValueError(f"the share of {kind} must lie in [0, 1]")
        return dirt

    @property
    def dirt_by_kind(self) -> dict[str, float]:
        """Share of every kind that is to be injected."""
        shares = self.dirt if isinstance(self.dirt, dict) else dict.fromkeys(ROW_KINDS, self.dirt)
        return {kind: share for kind, share in shares.items() if share > 0}


def world_domains(params: WorldParams) -> dict[str, Market]:
    """The markets of a world, sources first."""
    return SIZES[params.size]
