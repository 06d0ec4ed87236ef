"""The arms of an experiment: what `transfer.arms` may name, with and without options, and what it is held against."""

from __future__ import annotations

from typing import Any

from pipeline.transfer.params import SCRATCH, ArmName

ZERO_SHOT, BASELINES, ORACLE = "zero-shot", "baselines", "oracle"
LONG = "scratch both budgets"  # as many steps as pretraining and fine-tuning together; no patience ends it
META = "meta"  # `whole` from another backbone, one that learned by episodes too
FUSED = "fused"  # several models' scores, by a gate: judged, and not to be picked
ARMS: dict[str, tuple[ArmName, dict[str, float]]] = {
    SCRATCH: (SCRATCH, {}),
    LONG: (SCRATCH, {}),
    "whole": ("whole", {}),
    "discriminative": ("discriminative", {}),
    "head": ("head", {}),
    "gradual": ("gradual", {}),
    "adapters": ("adapters", {}),
    "replay": ("whole", {"replay": 0.5}),
    "L2-SP": ("whole", {"l2_sp": 0.01}),
    "mixed weights": ("whole", {"fuse": True}),
    "anil": ("anil", {}),
    "multi-task": ("multi_task", {}),
}
VOICES = ("whole", ZERO_SHOT, SCRATCH)  # of FUSED
NAMES = (*ARMS, FUSED)  # what may be asked for
PICKABLE = frozenset({*ARMS, META} - {LONG})  # takes as many steps as the others, and is one model
Outcome = dict[str, Any]  # of one arm: share, seed, arm, parts; of what is trained also valid and steps
