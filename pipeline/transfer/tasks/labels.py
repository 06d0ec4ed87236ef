"""What is known of a target's training interactions beside the item, as the labels of tasks.

* `value`: the rating, price or dwell time that came with it, a number in standard deviations from the mean;
* `like`: whether that value is high;
* `event`: what kind of interaction it was;
* `attributes`: what the item says of itself, each attribute a yes or no.

One user in ten is held out: their labels are never learned, and tell what a task is worth.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.data.sequences import Array
from pipeline.data.training_set import DomainData
from pipeline.training.randomness import generator
from pipeline.transfer.tasks.params import TaskName, TaskParams

Kind = Literal["number", "yes or no", "class"]
HELD = 0.1  # of the users
MOST_ATTRIBUTES = 64  # the most frequent ones are asked for
RARE = 0.01  # an attribute that fewer interactions have, or lack, tells little


@dataclass(frozen=True)
class Task:
    """One task and its labels.

    Attributes:
        name: as in the parameters.
        kind: what its loss is: squared error, binary cross-entropy of every column, cross-entropy.
        labels: float32 [n, C] of every training interaction, NaN where there is none; of a class C is 1, the number
            of the class.
        classes: names of the classes, or of the columns.
        learned: bool [n], has a label and is not held out.
        held: bool [n], has a label and is held out.
    """

    name: TaskName
    kind: Kind
    labels: Array
    classes: tuple[str, ...]
    learned: Array
    held: Array

    @property
    def outputs(self) -> int:
        """Numbers that its tower says."""
        return len(self.classes) if self.kind == "class" else self.labels.shape[1]


def tasks_of(data: DomainData, params: TaskParams) -> tuple[list[Task], list[str]]:
    """The tasks that the target has labels for, and a sentence for every one that is left out.

    Args:
        data: of the target.
        params: names the tasks; the seed of the held-out users is the stage's.
    """
    owners = np.repeat(np.arange(data.n_users), np.diff(data.offsets))
    of_held = (generator(0, "held labels", data.name).random(data.n_users) < HELD)[owners]
    found, left_out = [], []
    for name in params.tasks:
        kind, labels, classes, fault = _LABELS[name](data, params)
        known = ~np.isnan(labels).any(1)
        task = Task(name, kind, labels, classes, known & ~of_held, known & of_held)
        if fault := fault or _nothing_to_learn(task, data.name):
            left_out.append(f"{name} left out: {fault}")
        else:
            found.append(task)
    return found, left_out


_Found = tuple[Kind, Array, tuple[str, ...], str]  # kind, labels [n, C], classes, why it is no task


def _values(data: DomainData, _: TaskParams) -> _Found:
    values = np.asarray(data.values, dtype=np.float32)
    fault = _few(values, data.name, "value")
    if not fault:
        values = (values - np.nanmean(values)) / np.nanstd(values)
    return "number", values[:, None], ("value",), fault


def _likes(data: DomainData, params: TaskParams) -> _Found:
    values = np.asarray(data.values, dtype=np.float32)
    fault = _few(values, data.name, "value")
    if not fault:
        limit = np.nanmean(values) if params.like_from is None else params.like_from
        values = np.where(np.isnan(values), np.nan, values >= limit).astype(np.float32)
        if len(np.unique(values[~np.isnan(values)])) < 2:
            liked = "all are" if values[~np.isnan(values)][0] else "none is"
            fault = f"of the values of {data.name} {liked} {limit:g} or more; change transfer.like_from"
    return "yes or no", values[:, None], ("like",), fault


def _events(data: DomainData, _: TaskParams) -> _Found:
    codes = np.asarray(data.events)
    there = [code for code in np.unique(codes) if code > 0]
    place = np.full(len(data.event_names) + 1, np.nan, dtype=np.float32)
    place[there] = np.arange(len(there))
    names = tuple(data.event_names[code - 1] for code in there)
    fault = "" if len(there) > 1 else f"all interactions of {data.name} are of one event, {', '.join(names) or 'none'}"
    return "class", place[codes][:, None], names, fault


def _attributes(data: DomainData, _: TaskParams) -> _Found:
    items = np.asarray(data.items)
    taken = Counter(word for item in items.tolist() for word in set(data.item_attributes[item]))
    asked = sorted(word for word, n in taken.items() if RARE <= n / len(items) <= 1 - RARE)
    asked = sorted(sorted(asked, key=lambda word: (-taken[word], word))[:MOST_ATTRIBUTES])
    table = np.array([[word in words for word in asked] for words in data.item_attributes], dtype=np.float32)
    fault = "" if asked else f"no attribute tells the items of {data.name} apart"
    return "yes or no", table.reshape(len(table), len(asked))[items], tuple(asked), fault


def _nothing_to_learn(task: Task, domain: str) -> str:
    labels = task.labels[task.learned]
    if not len(labels):
        return f"all its labels in {domain} are of users that are held out to judge by"
    if not np.ptp(labels, axis=0).any():
        return f"all its labels in {domain} are alike, but for users that are held out"
    return ""


def _few(values: Array, domain: str, what: str) -> str:
    known = values[~np.isnan(values)]
    if not len(known):
        return f"no interaction of {domain} has a {what}"
    return f"all interactions of {domain} have the {what} {known[0]:g}" if known.min() == known.max() else ""


_LABELS = {"value": _values, "like": _likes, "event": _events, "attributes": _attributes}
