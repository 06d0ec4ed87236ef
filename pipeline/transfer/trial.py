"""All arms of one share of a target's users and one seed, trained and judged on the same test users."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pipeline.augmentation.asked import tail_items
from pipeline.augmentation.parts import ALL, judged, parts_of
from pipeline.data.sequences import Array
from pipeline.data.training_set import DomainData, load_dataset, load_domain
from pipeline.evaluation.baselines import fit_baselines
from pipeline.evaluation.metrics import ndcg
from pipeline.evaluation.ranking import Scorer, rank_holdout
from pipeline.exit_codes import BadConfiguration
from pipeline.models.inherit import adapted
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.domains import Domain, content_vectors, open_domain
from pipeline.training.scoring import ModelScorer, Validation
from pipeline.training.similarity import choose_similarity
from pipeline.training.weights import load_model
from pipeline.transfer.arms import FineTuning
from pipeline.transfer.common_ground import shares_nothing
from pipeline.transfer.experiment_arms import ARMS, BASELINES, FUSED, LONG, META, ORACLE, VOICES, ZERO_SHOT, Outcome
from pipeline.transfer.late_fusion import learned_gate
from pipeline.transfer.newcomers import calibrated
from pipeline.transfer.params import SCRATCH, TransferParams
from pipeline.transfer.parts import with_states
from pipeline.transfer.user_states import chosen_user_states

log = logging.getLogger(__name__)

GATE_USERS = 500  # validation users that the gate is learned from, each with histories of several lengths
SIMPLE = ("recent popularity", "item-kNN", "EASE", "content-kNN")  # the strongest of the simple rankers, and cheap
TAIL_SHARE = 0.2  # of all interactions
BACKBONE, META_BACKBONE = "models/backbone", "models/meta_backbone"


@dataclass(frozen=True)
class _Trained:
    """An arm: the model with new items set among the others, its validation before that, its steps.

    `user_states` is the factor that validation chose for them; None where the model has none.
    """

    model: SequentialRecommender
    valid: float | None
    steps: int
    user_states: float | None


class Trial:
    """What the arms of one share and seed have in common."""

    def __init__(
        self,
        inputs: Mapping[str, Path],
        target: str,
        params: TransferParams,
        scratch: Path,
        limit: int,
        supports: Sequence[int],
    ) -> None:
        """Args:
        inputs: as of `pipeline.transfer.experiment.Experiment`; data/training has the share alone.
        target: a domain of it.
        params: with the seed of the trial.
        scratch: a folder for checkpoints.
        limit: test users at most.
        supports: interactions to which histories are cut.

        Raises:
            BadConfiguration: the training set has no such domain or is not the backbone's, it leaves nothing to train
                on or to pick by, or no test user has a history as long as any support set.
        """
        self.inputs, self.params, self.scratch, self.limit = inputs, params, scratch, limit
        self.training, self.vectors = inputs["data/training"], inputs["data/item_vectors"]
        self.backbone = load_model(inputs[BACKBONE])
        self.data = load_domain(self.training, target)
        self.domain = self._open(self.data)
        self.validation = Validation([self.domain], params.validation_users, params.seed)
        if not len(self.data.items):
            raise BadConfiguration(
                f"{target} has no training interactions, so no arm can be tried; the stage transfer ranks it zero-shot"
            )
        if not self.validation.n_rows:
            raise BadConfiguration(
                f"{target} has no validation rows at this share with seed {params.seed}, so no arm can be picked; "
                "take a larger share"
            )
        if alone := shares_nothing(self.training, self.vectors, target, self.backbone.spec):
            log.warning("%s: what starts from the backbone starts from nothing it knows", alone)
        counts = np.bincount(self.data.items, minlength=self.data.n_items + 1)
        tail = tail_items(counts, TAIL_SHARE)
        self.supports = supports_of(supports, self.data)
        self.parts = parts_of(self.data, "test", tail, limit, 0, self.supports)  # the same users at every seed
        self.trained: dict[str, _Trained] = {}

    def run(self, name: str) -> list[Outcome]:
        """The outcome of an arm, or those of the simple rankers."""
        if name == BASELINES:
            return self._baselines()
        if name == FUSED:
            return [self._fused()]
        return [self._meta() if name == META else self._arm(name)]

    def _arm(self, name: str) -> Outcome:
        """Train one arm, set new items among the others, and judge it."""
        found = self._trained(name)
        figures = judged(found.model, self.domain, self.parts)
        told = {} if found.user_states is None else {"user_states": found.user_states}
        return {"arm": name, "valid": found.valid, "steps": found.steps, **told, "parts": self._lists(figures)}

    def _meta(self) -> Outcome:
        """`whole`, from the backbone that learned by episodes; it may be of another shape."""
        inputs = {**self.inputs, BACKBONE: self.inputs[META_BACKBONE]}
        scratch = self.scratch / META
        twin = Trial(inputs, self.data.name, self.params, scratch, self.limit, self.supports)
        return twin._arm("whole") | {"arm": META}

    def _fused(self) -> Outcome:
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
                epochs = self._epochs_of_both()
                plan = replace(plan, epochs=epochs, patience=epochs, max_steps=0)
            sources = self._sources() if params.replay else []
            if params.replay and not sources:
                log.warning("%s: beside %s no source is here to replay, so it is whole", name, self.data.name)
            tuning = FineTuning(
                self.backbone, self.domain, self.domain.training, sources, self.validation, params, plan
            )
            model, history = tuning.train(arm, self.scratch / slug(name))
            steps = history[-1]["step"]
            if params.fuse and arm != SCRATCH:
                model, _ = tuning.mix_with_backbone(model)
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

    def _baselines(self) -> list[Outcome]:
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
        rows = (self.inputs[BACKBONE] / "history.jsonl").read_text("utf-8").splitlines()
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


def slug(name: str) -> str:
    """An arm's name as that of a file."""
    return name.replace(" ", "-").lower()
