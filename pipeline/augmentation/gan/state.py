"""Where the training of the generator stands: networks, optimisers and progress, saved and restored together."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.augmentation.gan.plan import GanPlan
from pipeline.models.critic import Critic
from pipeline.models.generator import GeneratorShape, SequenceGenerator
from pipeline.training.checkpoints import load_checkpoint, save_checkpoint
from pipeline.training.randomness import seed_torch

BETAS = (0.5, 0.9)  # of Adam against a critic, as in arXiv 1704.00028


@dataclass
class Progress:
    """Everything a checkpoint needs beside tensors.

    Attributes:
        step: how many were taken.
        best_step, best_distance: of the best look; -1: none was without fault.
        stopped: why training ended early, in words; None: it did not.
        history: one row a look.
        loss: of the last step.
    """

    step: int = 0
    best_step: int = -1
    best_distance: float = math.inf
    stopped: str | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    loss: float = 0.0


class GanState:
    """Generator, critic, their optimisers, the best look's weights and the progress."""

    def __init__(self, shape: GeneratorShape, plan: GanPlan) -> None:
        """With weights drawn from the plan's seed."""
        about = {**asdict(plan), "shape": shape.to_json()}
        self._work = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        seed_torch(plan.seed, plan.name, "weights")
        self.generator = SequenceGenerator(shape)
        self.critic = Critic(shape, plan.constraint == "spectral_norm")
        self.optimizers = {
            "likelihood": torch.optim.Adam(self.generator.parameters(), lr=plan.learning_rate),
            "generator": torch.optim.Adam(self.generator.parameters(), lr=plan.adversarial_rate, betas=BETAS),
            "critic": torch.optim.Adam(self.critic.parameters(), lr=plan.adversarial_rate, betas=BETAS),
        }
        self.best: dict[str, Tensor] = {}
        self.progress = Progress()

    def descend(self, name: str, loss: Tensor) -> float:
        """A step of one optimiser; the loss as a number."""
        optimizer = self.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
        optimizer.step()
        return float(loss.detach())

    def keep(self, distance: float) -> None:
        """The generator as it stands is the best so far."""
        self.progress.best_distance, self.progress.best_step = distance, self.progress.step
        self.best = {name: weight.detach().clone() for name, weight in self.generator.state_dict().items()}

    def save(self, folder: Path) -> None:
        """Replace the checkpoint of `folder`."""
        tensors = {f"best.{name}": weight for name, weight in self.best.items()}
        for kind, network in self._networks().items():
            tensors |= {f"{kind}.{name}": weight for name, weight in network.state_dict().items()}
        for kind, optimizer in self.optimizers.items():
            for place, weight in enumerate(optimizer.param_groups[0]["params"]):
                for key, value in optimizer.state.get(weight, {}).items():
                    tensors[f"optimizer.{kind}.{place}.{key}"] = value
        progress = asdict(self.progress)
        if not math.isfinite(progress["best_distance"]):
            progress["best_distance"] = None
        save_checkpoint(folder, tensors, {"work": self._work, **progress})

    def restore(self, folder: Path) -> bool:
        """Go on from the checkpoint of `folder`; False: there is none of this plan and shape."""
        found = load_checkpoint(folder, self._work)
        if found is None:
            return False
        tensors, progress = found
        progress.pop("work")
        if progress["best_distance"] is None:
            progress["best_distance"] = math.inf
        self.progress = Progress(**progress)
        for kind, network in self._networks().items():
            network.load_state_dict(_under(kind, tensors))
        self.best = _under("best", tensors)
        for name, value in _under("optimizer", tensors).items():
            kind, place, key = name.split(".")
            optimizer = self.optimizers[kind]
            optimizer.state[optimizer.param_groups[0]["params"][int(place)]][key] = value
        return True

    def _networks(self) -> dict[str, torch.nn.Module]:
        return {"generator": self.generator, "critic": self.critic}


def _under(kind: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those whose name begins with `kind`, by the rest of it."""
    return {name.removeprefix(f"{kind}."): tensor for name, tensor in tensors.items() if name.startswith(f"{kind}.")}
