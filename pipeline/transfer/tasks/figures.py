"""What a task is worth: its tower's answers on the labels of users that were held out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from sklearn import metrics

from pipeline.data.sequences import Array
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.batches import EpochBatches
from pipeline.training.domains import Domain
from pipeline.training.losses import full_candidates
from pipeline.training.next_item import states_and_vectors
from pipeline.transfer.tasks.labels import Task
from pipeline.transfer.tasks.towers import towers_of

FIRST = {"number": "r2", "yes or no": "auc", "class": "auc"}  # the figure that two trainings are compared by
ROWS = 256  # sequences that are read at a time
Figures = dict[str, float]


@torch.no_grad()
def task_figures(model: SequentialRecommender, domain: Domain, tasks: Sequence[Task]) -> dict[str, Figures]:
    """Figures by task, see `judge`; without those of a task that no held-out user has a label for.

    Args:
        model: with towers of the tasks.
        domain: the target, opened for the model.
    """
    model.eval()
    towers, candidates = towers_of(model), full_candidates(domain.catalogue.trained)
    width = model.spec.width
    said: dict[str, list[Array]] = {task.name: [] for task in tasks}
    places = []
    batches = EpochBatches([domain.training], 0, 0, model.spec.max_length, ROWS)
    for batch in (batches[number] for number in range(len(batches))):
        states, vectors = states_and_vectors(model, domain, batch, candidates)
        at = batch.places[batch.targets > 0]
        items = vectors[torch.from_numpy(batch.targets[batch.targets > 0] - 1).to(vectors.device)]
        held = np.any([task.held[at] for task in tasks], axis=0)
        rows = torch.from_numpy(np.flatnonzero(held)).to(states.device)
        places.append(at[held])
        for task in tasks:  # likeness in content, behind what is learned, is no part of what towers read
            told = towers(task.name, states[rows, :width], items[rows, :width])
            said[task.name].append(told.cpu().numpy())
    every = np.concatenate(places)
    found: dict[str, Figures] = {}
    for task in tasks:
        mine = task.held[every]
        if mine.any():
            found[task.name] = judge(task, np.concatenate(said[task.name])[mine], task.labels[every[mine]])
    return found


def judge(task: Task, said: Array, labels: Array) -> Figures:
    """Of a number rmse, in standard deviations, and r2, 0 for who says the mean; of classes accuracy, recall, f1, auc.

    Recall, F1 and AUC of several classes are means over those that occur, each against the rest; an AUC where one
    alone occurs is left out.

    Args:
        said: float32 [n, C], n > 0.
        labels: float32 [n, C] or, of a class, [n, 1].
    """
    if task.kind == "number":
        error = float(np.sqrt(metrics.mean_squared_error(labels, said)))
        spread = float(labels.var())
        return {"rmse": error} | ({"r2": 1 - error**2 / spread} if spread > 0 else {})
    if task.kind == "class":
        truth, answer = labels[:, 0].astype(int), said.argmax(1)
        columns = [(truth == code, said[:, code] - np.delete(said, code, 1).max(1)) for code in range(said.shape[1])]
        averaged = {"average": "macro", "zero_division": 0.0, "labels": np.unique(truth)}
    else:
        truth, answer = labels.astype(int).ravel(), (said > 0).astype(int).ravel()
        columns = list(zip(labels.T > 0, said.T, strict=True))
        averaged = {"average": "binary", "zero_division": 0.0}
    found = {
        "accuracy": float(metrics.accuracy_score(truth, answer)),
        "recall": float(metrics.recall_score(truth, answer, **averaged)),
        "f1": float(metrics.f1_score(truth, answer, **averaged)),
    }
    areas = [metrics.roc_auc_score(is_it, score) for is_it, score in columns if 0 < is_it.sum() < len(is_it)]
    return found | ({"auc": float(np.mean(areas))} if areas else {})
