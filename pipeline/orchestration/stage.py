"""A stage of the graph as a task: `StageOperator` reproduces it in the run's workspace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import Asset, AssetAlias

from pipeline.orchestration.process import ProcessOperator

# Which targets a run has is known when it runs, so a promotion announces its target's champion through an alias.
CHAMPION = AssetAlias(name="champion", group="warmstart")


class StageOperator(ProcessOperator):
    """Reproduce stage `stage` (of `target`, for a per-target stage) in the run's workspace.

    Args:
        stage: name of the stage in dvc.yaml.
        target: target domain, given by the mapped task group.
    """

    template_fields: Sequence[str] = ("target",)

    def __init__(self, *, stage: str, target: Any = None, **kwargs: Any) -> None:
        super().__init__(words=[], **kwargs)
        self.stage = stage
        self.target = target

    def execute(self, context: Any) -> None:
        """Reproduce the stage; announce the target's champion if this stage promoted one."""
        address = f"{self.stage}@{self.target}" if self.target else self.stage
        self.words = ["workspace", "stage", address]
        super().execute(context)
        if self.target and CHAMPION in (self.outlets or []):
            context["outlet_events"][CHAMPION].add(champion_asset(self.target))


def champion_asset(target: str) -> Asset:
    """The asset that changes when another model becomes the champion of `target`."""
    return Asset(name=f"champion_{target}", uri=f"warmstart://champion/{target}", group="warmstart")
