"""The parameters of fine-tuning. No torch: the command line reads this too."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, field_validator

from pipeline.training.plan import LossParams
from pipeline.transfer.tasks.params import TaskParams

TOP = 10  # places of a list, as the metric counts
SCRATCH: Literal["scratch"] = "scratch"  # the control: random weights in place of the backbone's
Strategy = Literal["whole", "discriminative", "head", "gradual", "adapters", "anil"]  # pipeline/transfer/strategies.py
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
ArmName = Strategy | Literal["scratch", "multi_task"]


class TransferParams(LossParams, TaskParams):
    """What every arm shares, and what some of them need."""

    dropout: float = Field(default=0.2, ge=0, lt=1, description="on embeddings and layers")
    id_dropout: float = Field(default=0.2, ge=0, lt=1, description="chance that an item is trained by content alone")
    arms: tuple[ArmName, ...] = Field(
        default=("whole", SCRATCH), min_length=1, description="ways to fine-tune, each a training; validation keeps one"
    )
    layer_decay: float = Field(default=0.5, gt=0, le=1, description="of discriminative: the rate of each depth less")
    rank: int = Field(default=4, ge=1, description="of adapters")
    replay: float = Field(default=0.0, ge=0, description="λ: weight of the sources' loss; 0 is none")
    l2_sp: float = Field(default=0.0, ge=0, description="α: weight of the distance to the backbone; 0 is none")
    fuse: bool = Field(default=False, description="mix the weights of the arms with the backbone's, by validation")
    popularity_start: bool = Field(
        default=True, description="start ID vectors at how popular the items are, as far as validation likes it"
    )
    scratch_learning_rate: float = Field(default=0.003, gt=0, description="of the arm scratch")
    newcomer_loss: float | None = Field(
        default=0.02,
        ge=0,
        lt=1,
        description="share of NDCG@10 that new items may cost the others; null: not set",
    )
    newcomer_places: int = Field(
        default=TOP, ge=1, le=TOP, description="last places of the first ten that a new item may take; 10: any place"
    )
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="of the gain's interval")

    @field_validator("arms")
    @classmethod
    def _each_once(cls, arms: tuple[ArmName, ...]) -> tuple[ArmName, ...]:
        if len(set(arms)) < len(arms):
            raise ValueError(f"names an arm twice: {', '.join(arms)}")
        return arms
