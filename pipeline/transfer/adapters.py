"""Low-rank adapters of the Transformer's matrices: W + B·A in place of W, W frozen (LoRA, arXiv 2106.09685), by `peft`.

At a width of 64 adapters save no memory to speak of; what they may save is a backbone from a small target. `peft` is
imported where it is used: with `transformers`, which it stands on, that takes seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from pipeline.models.members import in_one_trunk
from pipeline.models.recommender import SequentialRecommender
from pipeline.transfer.strategies import BLOCK, OWN, TOP

if TYPE_CHECKING:
    from peft import PeftModel


def adapt(model: SequentialRecommender, rank: int) -> PeftModel:
    """Freeze everything but the target's own tables and the last norm, and give each matrix of the trunk an adapter.

    An adapter starts at nothing, because B does. What is returned is for `fold`; it is `model` that trains.
    """
    from peft import LoraConfig, get_peft_model

    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    matrices = [name for name in linear if BLOCK.match(in_one_trunk(name))]
    adapters = get_peft_model(model, LoraConfig(r=rank, lora_alpha=rank, target_modules=matrices))
    for name, weight in model.named_parameters():
        if in_one_trunk(name).startswith((*OWN, *TOP)):
            weight.requires_grad_(True)
    return adapters


def fold(adapters: PeftModel, model: SequentialRecommender) -> None:
    """The inverse: every adapter becomes part of its matrix, and everything may move again."""
    adapters.merge_and_unload()
    for weight in model.parameters():
        weight.requires_grad_(True)
