"""Does transfer help, and how: arms × shares of the target's users × seeds, judged on the same test users.

    Experiment(inputs, "harbour", params, out).run(shares=(0.1, 1.0), seeds=(1, 2, 3))

Each arm of each share and seed is a file of its own under `out`, so a run that was stopped goes on where it was. No arm
sees a test row before it is judged; `pick` chooses among them by validation, as the stage does.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.augmentation.parts import CUTS
from pipeline.data.file_md5 import file_md5
from pipeline.runs.attempt import write_json
from pipeline.training.randomness import make_deterministic
from pipeline.transfer.experiment_arms import BASELINES, NAMES, PICKABLE, ZERO_SHOT, Outcome
from pipeline.transfer.params import SCRATCH, TransferParams
from pipeline.transfer.thinning import few_users
from pipeline.transfer.trial import Trial, slug

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Experiment:
    """One target and one backbone.

    Attributes:
        inputs: data/training, data/item_vectors and models/backbone, as a stage is given them; of the arm `META`
            also models/meta_backbone.
        target: a domain of the training set.
        params: of every arm; `arms` is not read.
        out: where outcomes are kept, a file an arm.
        arms: some of `NAMES` and `META`; zero-shot is always judged.
        limit: test users at most, drawn once.
        supports: interactions to which histories are cut, each a part of the users.
        baselines: the simple rankers and the truth are judged too.
    """

    inputs: Mapping[str, Path]
    target: str
    params: TransferParams
    out: Path
    arms: Sequence[str] = NAMES
    limit: int = 5000
    supports: Sequence[int] = CUTS
    baselines: bool = True

    def run(self, shares: Sequence[float], seeds: Sequence[int]) -> list[Outcome]:
        """Run what is not there yet; every outcome.

        Raises:
            BadConfiguration: see `Trial`, or a share leaves no user.
        """
        make_deterministic(1, 0)
        return [outcome for share in shares for seed in seeds for outcome in self._one(share, seed)]

    def _one(self, share: float, seed: int) -> list[Outcome]:
        names = (*((BASELINES,) if self.baselines else ()), ZERO_SHOT, *self.arms)
        paths = {name: self.out / f"share-{share:g}" / f"seed-{seed}" / f"{slug(name)}.json" for name in names}
        if missing := [name for name, path in paths.items() if not path.exists()]:
            scratch = self.out / "scratch"
            shutil.rmtree(scratch, ignore_errors=True)
            inputs = dict(self.inputs)
            if share < 1:
                thin = few_users(inputs["data/training"], scratch / "training", self.target, share, seed)
                inputs["data/training"] = thin
            params = self.params.model_copy(update={"seed": seed})
            trial = Trial(inputs, self.target, params, scratch, self.limit, self.supports)
            for name in missing:
                began = time.process_time()
                found = trial.run(name)
                spent = round(time.process_time() - began, 2)
                about = {"share": share, "seed": seed, "cpu_s": spent}
                write_json(paths[name], [about | outcome for outcome in found])
                log.info("share %g, seed %d: %s, %.0f CPU-seconds", share, seed, name, spent)
            shutil.rmtree(scratch, ignore_errors=True)
        return [outcome for path in paths.values() for outcome in json.loads(path.read_text("utf-8"))]


def pick(outcomes: Sequence[Outcome]) -> Outcome:
    """Of one share and seed the arm that validation likes best, one of `PICKABLE`; ties go to the control."""
    asked = [one for one in outcomes if one["arm"] in PICKABLE]
    return max(asked, key=lambda one: (one["valid"], one["arm"] == SCRATCH))


def work_of(inputs: Mapping[str, Path], target: str, params: TransferParams, supports: Sequence[int]) -> str:
    """What outcomes depend on beside arm, share and seed, as 16 hex digits: what is kept is found by it again."""
    about: dict[str, Any] = {"params": params.model_dump(mode="json", exclude={"seed", "arms"})}
    about |= {"target": target, "supports": list(supports)}
    for name, folder in inputs.items():
        read = folder if name.startswith("models/") else folder / target
        files = [path for path in sorted(read.rglob("*")) if path.is_file()]
        about[name] = {str(path.relative_to(read)): file_md5(path) for path in files}
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
