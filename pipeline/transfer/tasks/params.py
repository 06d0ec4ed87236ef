"""The parameters of the tasks beside next items. No torch: the command line reads this too."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from pipeline.runs.contract import StageParams

TaskName = Literal["value", "like", "event", "attributes"]
TASKS: tuple[TaskName, ...] = get_args(TaskName)
MULTI_TASK: Literal["multi_task"] = "multi_task"


class TaskParams(StageParams):
    """Which tasks the arm `multi_task` learns, and how they are weighted."""

    tasks: tuple[TaskName, ...] = Field(
        default=TASKS, min_length=1, description="of multi_task; those that the target has no labels for are left out"
    )
    like_from: float | None = Field(
        default=None, description="values from here on are liked; null: those above the target's mean"
    )
    task_weight: float = Field(default=1.0, ge=0, description="of every task beside next items, where they are summed")
    task_weighting: Literal["sum", "uncertainty", "gradnorm"] = Field(
        default="sum", description="how losses are added up: pipeline/transfer/tasks/weighting.py"
    )
    tower_rate: float = Field(default=10.0, gt=0, description="how many times as fast as the trunk towers learn")
    tower_distance: float = Field(default=0.0001, ge=0, description="λ: weight of the squared distance between towers")
