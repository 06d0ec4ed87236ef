"""One night's experiment on one target: train the generator, judge what it makes, try it against controls, decide.

Runs on the CPU: generator and trial are small, and their bits are then the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from pipeline.augmentation.arms import GAN, NONE, cropped, generated, popular, repeated
from pipeline.augmentation.asked import ask_for_thin, ask_like_real, tail_items
from pipeline.augmentation.gan.real_sequences import RealSequences, real_sequences
from pipeline.augmentation.gan.training import GanTraining, Trained
from pipeline.augmentation.gate import GateRules, GateVerdict, judge
from pipeline.augmentation.params import AugmentParams
from pipeline.augmentation.parts import Part, parts_of
from pipeline.augmentation.quality import judge_quality
from pipeline.augmentation.recipe import Recipe
from pipeline.augmentation.rows import Rows
from pipeline.augmentation.shares import best_share, cross_fitted
from pipeline.augmentation.trial import ArmFigures, run_trial
from pipeline.augmentation.tstr import taught_from_scratch, tstr
from pipeline.data.sequences import Array
from pipeline.data.training_set import DomainData, load_dataset, load_domain
from pipeline.models.generator import GeneratorShape
from pipeline.models.inherit import adapted
from pipeline.models.recommender import SequentialRecommender
from pipeline.runs.contract import Folders, Job
from pipeline.training.cpu_budget import CpuBudget, OverBudget
from pipeline.training.domains import Domain, open_domain
from pipeline.training.plan import Plan
from pipeline.training.randomness import make_deterministic
from pipeline.training.weights import load_model

LEAST_SEQUENCES = 10  # training sequences of two or more; with fewer there is nothing to imitate


@dataclass
class Experiment:
    """What one experiment reads and finds.

    Attributes:
        splits: whose parts are judged; the gate looks at "validation" alone. A benchmark adds "test".
        trial: arm -> share -> figures; empty before the trial.
        scratch_figures: NDCG@10 by part of the recommenders trained from scratch on "real" and on "made" sequences.
    """

    inputs: Folders
    params: AugmentParams
    job: Job
    budget: CpuBudget
    splits: tuple[str, ...] = ("validation",)
    parts: dict[str, list[Part]] = field(default_factory=dict)
    trial: dict[str, dict[float, ArmFigures]] = field(default_factory=dict)
    scratch_figures: dict[str, dict[str, Array]] = field(default_factory=dict)

    def run(self) -> tuple[Rows | None, dict[str, Any]]:
        """The sequences to feed in, None for no augmentation; and augment.json."""
        make_deterministic(1, 0)
        target = self.job.target
        assert target is not None
        about: dict[str, Any] = {"target": target, "enabled": True, "feeds": False, "figures": {}}
        data = load_domain(self.inputs["data/training"], target)
        about["real_rows"] = len(data.items)
        about["cpu_seconds_limit"] = self.params.budget_cpu_seconds
        lacking = _lacking(data)
        if lacking:
            return None, about | {"reasons": [lacking]}
        try:
            return self._run(data, about)
        except OverBudget as over:
            return None, about | {"reasons": [f"{over}: augment.budget_cpu_seconds is the limit"]}

    def _run(self, data: DomainData, about: dict[str, Any]) -> tuple[Rows | None, dict[str, Any]]:
        params = self.params
        backbone = load_model(self.inputs["models/backbone"])
        domain, start = self._opened(backbone, data)
        real = real_sequences(domain, start)
        trained = self._train(backbone, real)
        about["generator"] = {"kept": trained.kept, "stopped": trained.stopped, "looks": trained.history}
        if trained.generator is None:
            return None, about | {"reasons": [f"the generator failed: {trained.stopped}"]}
        counts = np.bincount(real.items, minlength=data.n_items + 1)
        tail = tail_items(counts, params.tail_share)
        for split in self.splits:
            found = parts_of(data, split, tail, params.validation_users, params.seed)
            prefix = "" if split == "validation" else f"{split}: "
            self.parts[split] = [replace(part, name=prefix + part.name) for part in found]
        parts = [part for split in self.splits for part in self.parts[split]]
        alike = generated(trained.generator, real, ask_like_real(real, params.longest), params.seed)
        about["quality"] = judge_quality(real, alike, params.longest, params.seed)
        self.scratch_figures = taught_from_scratch(
            start, domain, alike, parts, self._recipe(f"scratch@{data.name}", params.learning_rate_scratch),
            self.job.scratch / "from_scratch", self.budget.check,
        )  # fmt: skip
        about["quality"]["tstr"] = tstr(self.scratch_figures)
        self.budget.check()

        most = max(params.shares)
        count = max(2, round(most * int((np.diff(real.offsets) > 0).sum())))
        asked = ask_for_thin(real, tail, count, params.thin, params.longest, params.seed)
        arms = {
            "popularity resampling": popular(real, asked, params.seed),
            "item-crop": cropped(real, asked, params.seed),
            GAN: generated(trained.generator, real, asked, params.seed),
        }
        again = repeated(real, count, params.longest, params.seed)
        recipe = self._recipe(f"trial@{data.name}", params.learning_rate_trial, judge_start=True)
        self.trial = run_trial(
            start, domain, arms, again, sorted(params.shares), parts, recipe, self.job.scratch / "trial",
            self.budget.check,
        )  # fmt: skip
        verdict = self.verdict()
        every = {part.name: np.ones(len(part.rows), dtype=bool) for part in parts}
        shares = {arm: best_share(by, self.parts["validation"], every) for arm, by in self.trial.items()}
        about["trial"] = {
            "shares": shares,
            "steps": {arm: {f"{share:g}": one.steps for share, one in by.items()} for arm, by in self.trial.items()},
            "parts": {part.name: {"n": len(part.rows), "thin": part.thin} for part in self.parts["validation"]},
            **verdict.to_json(),
        }
        about |= {"feeds": verdict.feeds, "reasons": list(verdict.reasons), "figures": _figures(about, verdict)}
        if not verdict.feeds:
            return None, about
        return arms[GAN].head(round(count * shares[GAN] / most)), about

    def verdict(self) -> GateVerdict:
        """The gate's answer on the validation rows."""
        params, parts = self.params, self.parts["validation"]
        figures = {arm: cross_fitted(by, parts, params.seed) for arm, by in self.trial.items()}
        rules = GateRules(params.confidence, params.bootstrap_samples, params.guard, params.least_users, params.seed)
        return judge(figures, parts, rules)

    def _opened(self, backbone: SequentialRecommender, data: DomainData) -> tuple[Domain, SequentialRecommender]:
        """A domain as the backbone reads it, and the model that starts there."""
        model = adapted(backbone, (data.name, data.n_items), 0.0, 0.0).eval()
        return open_domain(data, self.inputs["data/item_vectors"], model.spec, torch.device("cpu")), model

    def _train(self, backbone: SequentialRecommender, real: RealSequences) -> Trained:
        params, training = self.params, self.inputs["data/training"]
        sources = []
        for name, about in sorted(load_dataset(training)["domains"].items()):
            if "source" in about["role"] and name != real.name:
                data = load_domain(training, name)
                if not _lacking(data):
                    sources.append(real_sequences(*self._opened(backbone, data)))
        plan = params.gan_plan(f"augment@{real.name}", with_sources=bool(sources))
        width = backbone.spec.width
        shape = GeneratorShape(width, width, params.hidden, params.noise)
        return GanTraining(shape, sources, real, plan, self.job.scratch / "generator", self.budget.check).run()

    def _recipe(self, name: str, rate: float, judge_start: bool = False) -> Recipe:
        params = self.params
        plan = Plan(
            name=name,
            seed=params.seed,
            epochs=params.epochs,
            max_steps=0,
            learning_rate=rate,
            weight_decay=0.05,  # the default of transfer
            batch_users=params.batch_users,
            patience=params.epochs,
            judge_start=judge_start,
        )
        return Recipe(
            plan,
            params.full_softmax_items,
            params.sampled_items,
            params.validation_users,
            params.dropout,
            params.id_dropout,
        )


def _lacking(data: DomainData) -> str | None:
    """Why there is nothing to imitate; None: there is."""
    if len(data.items) == 0:
        return f"{data.name} has no training interactions: there is nothing to imitate"
    known, sequences = int(data.in_training.sum()), int((np.diff(data.offsets) > 1).sum())
    if known < 2:
        return f"{data.name} has one item with training interactions: there is nothing to choose from"
    if sequences < LEAST_SEQUENCES:
        return (
            f"{data.name} has {sequences} training sequences of two interactions or more: too few to imitate, "
            f"{LEAST_SEQUENCES} are wanted"
        )
    return None


def _figures(about: dict[str, Any], verdict: GateVerdict) -> dict[str, float]:
    """What is tracked by name."""
    quality = about["quality"]
    figures: dict[str, float] = {**quality["likeness"], "copied": quality["copied"]}
    if quality["tstr"]:
        figures["tstr_share"] = quality["tstr"]["share"]
    for effect in verdict.effects:
        if (effect.arm, effect.against) == (GAN, NONE):
            figures[f"gain.{effect.part.replace(' ', '_')}"] = effect.relative
    return figures
