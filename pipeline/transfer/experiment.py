"""Does transfer help, and how: arms × shares of the target's users × seeds, judged on the same test users.

    Experiment(inputs, "harbour", params, out).run(shares=(0.1, 1.0), seeds=(1, 2, 3))

Each arm of each share and seed is a file of its own under `out`, so a run that was stopped goes on where it was. No arm
sees a test row before it is judged; `pick` chooses among them by validation, as the stage does.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.augmentation.asked import tail_items
from pipeline.augmentation.parts import ALL, CUTS, judged, parts_of
from pipeline.data.sequences import Array
from pipeline.data.training_set import DomainData, load_dataset, load_domain
from pipeline.evaluation.baselines import fit_baselines
from pipeline.evaluation.metrics import ndcg
from pipeline.evaluation.ranking import Scorer, rank_holdout
from pipeline.exit_codes import BadConfiguration
from pipeline.models.inherit import adapted
from pipeline.models.recommender import SequentialRecommender
from pipeline.runs.attempt import write_json
from pipeline.training.domains import Domain, content_vectors, open_domain
from pipeline.training.randomness import make_deterministic
from pipeline.training.scoring import ModelScorer, Validation
from pipeline.training.similarity import choose_similarity
from pipeline.training.weights import load_model
from pipeline.transfer.arms import FineTuning
from pipeline.transfer.late_fusion import learned_gate
from pipeline.transfer.newcomers import calibrated
from pipeline.transfer.params import SCRATCH, ArmName, TransferParams
from pipeline.transfer.parts import with_states
from pipeline.transfer.thinning import few_users
from pipeline.transfer.user_states import chosen_user_states

log = logging.getLogger(__name__)

ZERO_SHOT, LONG, BASELINES, ORACLE = "zero-shot", "scratch, both budgets", "baselines", "oracle"
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
GATE_USERS = 500  # validation users that the gate is learned from, each with histories of several lengths
NAMES = (*ARMS, FUSED)
SIMPLE = ("recent popularity", "item-kNN", "EASE", "content-kNN")  # the strongest of the simple rankers, and cheap
TAIL_SHARE = 0.2  # of all interactions
Outcome = dict[str, Any]


@dataclass(frozen=True)
class Experiment:
    """One target and one backbone.

    Attributes:
        inputs: data/training, data/item_vectors and models/backbone, as a stage is given them.
        target: a domain of the training set.
        params: of every arm; `arms` is not read.
        out: where outcomes are kept, a file an arm.
        arms: some of `NAMES`; zero-shot is always judged.
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
            BadConfiguration: the training set has no such domain or is not the backbone's, a share leaves no user, or
                no test user has a history as long as any support set.
        """
        make_deterministic(1, 0)
        return [outcome for share in shares for seed in seeds for outcome in self._one(share, seed)]

    def _one(self, share: float, seed: int) -> list[Outcome]:
        names = (*((BASELINES,) if self.baselines else ()), ZERO_SHOT, *self.arms)
        paths = {name: self.out / f"share-{share:g}" / f"seed-{seed}" / f"{_slug(name)}.json" for name in names}
        if missing := [name for name, path in paths.items() if not path.exists()]:
            scratch = self.out / "scratch"
            shutil.rmtree(scratch, ignore_errors=True)
            training = self.inputs["data/training"]
            if share < 1:
                training = few_users(training, scratch / "training", self.target, share, seed)
            backbone = load_model(self.inputs["models/backbone"])
            trial = _Trial(self, training, backbone, self.params.model_copy(update={"seed": seed}), scratch)
            for name in missing:
                began = time.process_time()
                if name == BASELINES:
                    found = trial.baselines()
                else:
                    found = [trial.fused() if name == FUSED else trial.arm(name)]
                spent = round(time.process_time() - began, 2)
                about = {"share": share, "seed": seed, "cpu_s": spent}
                write_json(paths[name], [about | outcome for outcome in found])
                log.info("share %g, seed %d: %s, %.0f CPU-seconds", share, seed, name, spent)
            shutil.rmtree(scratch, ignore_errors=True)
        return [outcome for path in paths.values() for outcome in json.loads(path.read_text("utf-8"))]


@dataclass(frozen=True)
class _Trained:
    """An arm: the model with new items set among the others, its validation before that, its steps.

    `user_states` is the factor that validation chose for them; None where the model has none.
    """

    model: SequentialRecommender
    valid: float | None
    steps: int
    user_states: float | None


class _Trial:
    """All arms of one share and seed."""

    def __init__(
        self,
        experiment: Experiment,
        training: Path,
        backbone: SequentialRecommender,
        params: TransferParams,
        scratch: Path,
    ) -> None:
        self.experiment, self.training, self.params, self.scratch = experiment, training, params, scratch
        self.backbone, self.vectors = backbone, experiment.inputs["data/item_vectors"]
        self.data = load_domain(training, experiment.target)
        self.domain = self._open(self.data)
        self.validation = Validation([self.domain], params.validation_users, params.seed)
        counts = np.bincount(self.data.items, minlength=self.data.n_items + 1)
        tail = tail_items(counts, TAIL_SHARE)
        supports = supports_of(experiment.supports, self.data)
        self.parts = parts_of(self.data, "test", tail, experiment.limit, 0, supports)  # the same users at every seed
        self.trained: dict[str, _Trained] = {}

    def arm(self, name: str) -> Outcome:
        """Train one arm, set new items among the others, and judge it."""
        found = self._trained(name)
        figures = judged(found.model, self.domain, self.parts)
        told = {} if found.user_states is None else {"user_states": found.user_states}
        return {"arm": name, "valid": found.valid, "steps": found.steps, **told, "parts": self._lists(figures)}

    def fused(self) -> Outcome:
        """The scores of `VOICES` by a gate on the length of the history; `valid` is none, the gate has seen it."""
        nobody = np.zeros(self.data.n_items + 1, dtype=bool)
        cut = [p for p in parts_of(self.data, "validation", nobody, GATE_USERS, 0) if p.thin or p.name == ALL]
        models = {name: self._trained(name) for name in VOICES}
        gate = learned_gate({name: ModelScorer(found.model, self.domain) for name, found in models.items()}, cut)
        steps = sum(found.steps for found in models.values())
        parts = self._lists(self._ranked(gate))
        return {"arm": FUSED, "valid": None, "steps": steps, "weights": gate.told, "parts": parts}

    def _trained(self, name: str) -> _Trained:
        if name in self.trained:
            return self.trained[name]
        params, steps, users = self.params, 0, None
        if name == ZERO_SHOT:
            model = adapted(self.backbone, self.domain.shape, 0.0, 0.0).eval()
        else:
            arm, changed = ARMS[name]
            params = params.model_copy(update=changed)
            plan = params.plan("experiment", judge_start=True)
            if name == LONG:
                plan = params.model_copy(update={"epochs": self._epochs_of_both(), "max_steps": 0}).plan("experiment")
            sources = self._sources() if params.replay else []
            tuning = FineTuning(
                self.backbone, self.domain, self.domain.training, sources, self.validation, params, plan
            )
            model, history = tuning.train(arm, self.scratch / _slug(name))
            steps = history[-1]["step"]
            if params.fuse and arm != SCRATCH:
                model, _ = tuning.fuse(model)
            choose_similarity(name, model, self.validation)
            model, users = chosen_user_states(model, self.domain, params.validation_users, params.seed)
        valid = self.validation(model)
        if params.newcomer_loss is not None:
            rows, places = params.validation_users, params.newcomer_places
            model, _ = calibrated(model, self.domain, params.newcomer_loss, rows, params.seed, places)
        found = _Trained(model, valid, steps, None if users is None else users.factor)
        if name in VOICES:
            self.trained[name] = found
        return found

    def baselines(self) -> list[Outcome]:
        """The simple rankers, chosen on validation, and what the known truth would reach."""
        width = dict(self.backbone.spec.modalities).get("text")
        text = content_vectors(self.vectors, self.data, "text", width) if width else None
        clock, found = load_dataset(self.training)["clock"], []
        for name, scorer in fit_baselines(self.data, text, clock, SIMPLE, self.params.seed).items():
            found.append({"arm": name, "parts": self._lists(self._ranked(scorer))})
        oracle = self.data.holdout("test").oracle_rank
        if oracle is not None:  # of the whole history: nothing is known of what a shorter one would allow
            lengths = self.data.holdout("test").history_lengths
            whole = [p for p in self.parts if np.array_equal(p.holdout.history_lengths, lengths[p.rows])]
            best = {p.name: ndcg(oracle[p.rows], 10) for p in whole}
            found.append({"arm": ORACLE, "parts": self._lists(best)})
        return found

    def _ranked(self, scorer: Scorer) -> dict[str, Array]:
        return {p.name: ndcg(rank_holdout(scorer, p.holdout, self.data.n_items).masked, 10) for p in self.parts}

    def _lists(self, figures: Mapping[str, Array]) -> dict[str, list[float]]:
        return {name: values.round(6).tolist() for name, values in with_states(figures, self.parts, self.data).items()}

    def _epochs_of_both(self) -> int:
        """Passes over the target that take as many steps as pretraining and fine-tuning together."""
        rows = (self.experiment.inputs["models/backbone"] / "history.jsonl").read_text("utf-8").splitlines()
        before = json.loads(rows[-1])["step"] if rows else 0
        users = max(1, int((np.diff(self.data.offsets) > 0).sum()))
        return self.params.epochs + round(before / -(-users // self.params.batch_users))

    def _sources(self) -> list[Domain]:
        names = [name for name in self.backbone.spec.domain_names if name != self.data.name]
        return [self._open(load_domain(self.training, name)) for name in names]

    def _open(self, data: DomainData) -> Domain:
        return open_domain(data, self.vectors, self.backbone.spec, torch.device("cpu"))


def supports_of(asked: Sequence[int], data: DomainData) -> list[int]:
    """The support sets that some test user's history is long enough for; the others are left out, and the log says so.

    Raises:
        BadConfiguration: none is left.
    """
    longest = int(data.holdout("test").history_lengths.max(initial=0))
    left, out = [k for k in asked if k <= longest], [str(k) for k in asked if k > longest]
    told = f"the longest history of a test user of {data.name} has {longest} interactions"
    if out and not left:
        raise BadConfiguration(f"support sets of {', '.join(out)} are asked for, and {told}; name shorter ones")
    if out:
        log.warning("support sets of %s are left out: %s", ", ".join(out), told)
    return left


def pick(outcomes: Sequence[Outcome]) -> Outcome:
    """Of one share and seed the arm that the stage would keep; ties go to the control.

    Arms that were given more steps than the others are not asked.
    """
    asked = [one for one in outcomes if one["arm"] in ARMS and one["arm"] != LONG and one["valid"] is not None]
    return max(asked, key=lambda one: (one["valid"], one["arm"] == SCRATCH))


def _slug(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "-").lower()
