"""A stage of the graph as a task: `StageOperator` reproduces it in the run's workspace, wherever the runtime says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from airflow.sdk import Asset, AssetAlias

from pipeline.orchestration.runtime import RuntimeOperator

# Which targets a run has is known when it runs, so a promotion announces its target's champion through an alias.
CHAMPION = AssetAlias(name="champion", group="warmstart")


class StageOperator(RuntimeOperator):
    """Reproduce stage `stage` (of `target`, for a per-target stage) in the run's workspace.

    Args:
        stage: name of the stage in dvc.yaml.
        target: target domain, given by the mapped task group.
        reads: paths of the data that other stages write and this one reads.
        meta: what stands under the stage's `meta:`; a container gets its resources from it.
    """

    template_fields: Sequence[str] = ("target",)

    def __init__(
        self,
        *,
        stage: str,
        target: Any = None,
        reads: Sequence[str] = (),
        meta: Mapping[str, Any] = MappingProxyType({}),
        **kwargs: Any,
    ) -> None:
        super().__init__(words=[], **kwargs)
        self.stage = stage
        self.target = target
        self.reads = list(reads)
        self.meta = dict(meta)

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
