"""The parameters of meta-learning. No torch: the command line reads this too."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.training.plan import LossParams, Plan

Method = Literal["reptile", "fomaml"]


class MetaParams(LossParams):
    """Of the episodes that follow ordinary training (pipeline/training/meta.py)."""

    meta: Literal["none"] | Method = Field(
        default="none", description="episodes over domains and groups of users after the ordinary training"
    )
    meta_epochs: int = Field(default=3, ge=1, description="passes by episodes")
    meta_learning_rate: float = Field(default=0.001, gt=0, description="of AdamW, in the outer steps")
    meta_steps: int = Field(default=4, ge=2, description="batches of an episode; of fomaml the last one is the query")
    meta_groups: int = Field(default=4, ge=1, description="groups of like users of a domain, each a task")
    meta_inner_rate: float = Field(default=1.0, gt=0, description="of fomaml's descent on the support batches")
    meta_outer_rate: float = Field(
        default=0.5, gt=0, le=1, description="share of the way of an episode that reptile goes"
    )
    meta_id_dropout: float = Field(
        default=1.0, ge=0, le=1, description="of the episodes; 1: the items are as those of a new domain, without IDs"
    )

    def meta_plan(self, name: str, temperature: float) -> Plan:
        """The plan of the episodes: nothing is validated, so nothing stops them; weights are not averaged."""
        changed = {"epochs": self.meta_epochs, "learning_rate": self.meta_learning_rate}
        changed |= {"average": 0.0, "average_epochs": 0.0}
        return self.model_copy(update=changed).plan(f"{name}, {self.meta}", temperature)
