"""Several tasks at once: their labels, their towers, how they are weighted, and what the stage says of them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.data.sequences import Sequences, load_sequences, write_sequences
from pipeline.data.training_set import load_dataset, load_domain
from pipeline.training.batches import EpochBatches
from pipeline.training.domains import open_domain
from pipeline.training.scoring import Validation
from pipeline.training.weights import load_model, weights_hash
from pipeline.transfer.arms import FineTuning
from pipeline.transfer.params import TransferParams
from pipeline.transfer.tasks.figures import judge
from pipeline.transfer.tasks.labels import Task, tasks_of
from pipeline.transfer.tasks.loss import start_of
from pipeline.transfer.tasks.towers import Towers, towers_of, with_towers
from pipeline.transfer.tasks.weighting import Weighting
from tests.model.interruptions import interrupted

GIVEN = {"seed": 7, "epochs": 2, "learning_rate": 0.003, "batch_users": 16}


def label(training, value=None, event=None) -> None:
    """Give the target's interactions values by their item, and two kinds of event."""
    folder = training / "t" / "sequences"
    old = load_sequences(folder)
    columns = {name: np.array(array) for name, array in old.arrays()}
    columns["values"] = (columns["items"] % 4).astype(np.float32) if value is None else np.full(len(old.items), value)
    columns["events"] = 1 + columns["items"] % 2 if event is None else np.full(len(old.items), event)
    write_sequences(folder, Sequences(**columns))
    about = load_dataset(training) | {"events": ["buy", "view"]}
    (training / "dataset.json").write_text(json.dumps(about))


@pytest.fixture(scope="module")
def labelled(chain, tmp_path_factory):
    """The chain with values and events in `t`: both follow from the item, so that towers can learn them."""
    copy = chain.copy_to(tmp_path_factory.mktemp("labelled"))
    label(copy.root / "training")
    return copy


@pytest.fixture(scope="module")
def tuning(labelled):
    backbone = load_model(labelled.folder("models/backbone"))
    data = load_domain(labelled.root / "training", "t")
    domain = open_domain(data, labelled.root / "vectors", backbone.spec, torch.device("cpu"))

    def of(**changed) -> FineTuning:
        params = TransferParams.model_validate(GIVEN | changed)
        plan = params.plan("transfer@t", judge_start=True)
        return FineTuning(backbone, domain, domain.training, [], Validation([domain], 100, 7), params, plan)

    return of


def test_every_label_belongs_to_its_interaction_and_a_tenth_of_the_users_is_held_out(tuning):
    tasks = {task.name: task for task in tuning().tasks[0]}
    data = tuning().domain.data
    values = np.asarray(data.values)
    assert list(tasks) == ["value", "like", "event", "attributes"]
    assert tasks["value"].labels[:, 0] == pytest.approx((values - values.mean()) / values.std())
    assert (tasks["like"].labels[:, 0] == (values >= values.mean())).all()
    assert tasks["event"].classes == ("buy", "view")
    assert (tasks["event"].labels[:, 0] == np.asarray(data.events) - 1).all()
    topics = [word for word in tasks["attributes"].classes if word.startswith("topic:")]
    assert len(topics) == 4
    told = tasks["attributes"].labels[0, tasks["attributes"].classes.index(topics[0])]
    assert told == (topics[0] in data.item_attributes[int(data.items[0])])
    owners = np.repeat(np.arange(data.n_users), np.diff(data.offsets))
    held = set(owners[tasks["event"].held])
    assert 0 < len(held) < 0.3 * data.n_users
    assert not held & set(owners[tasks["event"].learned])


def test_a_task_without_labels_or_of_one_class_is_left_out_with_a_reason(labelled, tmp_path):
    copy = labelled.copy_to(tmp_path)
    params = TransferParams.model_validate(GIVEN)
    label(copy.root / "training", value=np.nan, event=1)
    found, left_out = tasks_of(load_domain(copy.root / "training", "t"), params)
    assert [task.name for task in found] == ["attributes"]
    assert left_out == [
        "value left out: no interaction of t has a value",
        "like left out: no interaction of t has a value",
        "event left out: all interactions of t are of one event, buy",
    ]
    label(copy.root / "training", value=3.0)
    assert "all interactions of t have the value 3" in tasks_of(load_domain(copy.root / "training", "t"), params)[1][0]
    label(copy.root / "training")
    all_liked = params.model_copy(update={"like_from": -1.0})
    _, (said,) = tasks_of(load_domain(copy.root / "training", "t"), all_liked)
    assert said == "like left out: of the values of t all are -1 or more; change transfer.like_from"


def owners_and_held(data):
    """Who took each interaction, and which interactions are of held-out users."""
    (task,), _ = tasks_of(data, TransferParams.model_validate(GIVEN | {"tasks": ["attributes"]}))
    return np.repeat(np.arange(data.n_users), np.diff(data.offsets)), task.held


def test_labels_of_held_out_users_alone_are_nothing_to_learn_from(labelled, tmp_path):
    copy = labelled.copy_to(tmp_path)
    data = load_domain(copy.root / "training", "t")
    _, held = owners_and_held(data)
    asked = TransferParams.model_validate(GIVEN | {"tasks": ["value", "like"]})
    values = np.where(held, np.asarray(data.values), np.nan)
    for fill, said in (
        (np.nan, "all its labels in t are of users that are held out to judge by"),
        (9.0, "all its labels in t are alike, but for users that are held out"),
    ):
        label(copy.root / "training", value=np.where(np.isnan(values), fill, values))
        found, left_out = tasks_of(load_domain(copy.root / "training", "t"), asked)
        assert (found, left_out) == ([], [f"{name} left out: {said}" for name in ("value", "like")])


def test_a_task_of_few_labels_is_trained_alone_through_batches_that_have_none(labelled, tmp_path):
    copy = labelled.copy_to(tmp_path)
    data = load_domain(copy.root / "training", "t")
    owners, held = owners_and_held(data)
    of_one = owners == owners[np.flatnonzero(~held)[0]]
    label(copy.root / "training", value=np.where(of_one | held, np.arange(len(owners)), np.nan))
    summary = copy.run("transfer", arms=["multi_task"], epochs=1, batch_users=16, tasks=["value"])
    assert {"task.value.r2", "task.value.r2_alone"} <= summary.metrics.keys()


def test_the_loss_is_the_tasks_and_the_distance_between_their_towers(tuning):
    def loss(**changed) -> float:
        asked = tuning(tasks=["value", "event"], **changed)
        model = asked._started([]).eval()
        torch.manual_seed(0)
        with_towers(model, asked.tasks[0], "sum")
        with torch.no_grad():
            towers_of(model).hidden["value"].bias += 1.0
        batch = EpochBatches([asked.sequences], 7, 0, model.spec.max_length, 16)[0]
        return float(asked._loss(model, [], asked.tasks[0])(model, batch).detach())

    width = tuning().backbone.spec.width
    plain = loss(task_weight=0.0, tower_distance=0.0)
    assert loss(task_weight=0.0, tower_distance=0.5) == pytest.approx(plain + 0.5 * width)
    weighed = [loss(task_weight=weight, tower_distance=0.0) - plain for weight in (1.0, 2.0)]
    assert weighed[1] == pytest.approx(2 * weighed[0], rel=1e-3)
    assert weighed[0] > 0


def test_towers_learn_and_leave_no_trace_in_the_model(tuning, tmp_path):
    asked = tuning(epochs=12, task_weight=1.0)
    model, history = asked.train("multi_task", tmp_path)
    whole, _ = tuning(epochs=1).train("whole", tmp_path)
    assert model.spec == whole.spec
    assert dict(model.named_parameters()).keys() == dict(whole.named_parameters()).keys()
    assert history[-1]["valid_ndcg10"] > 0
    assert asked.together["event"]["auc"] > 0.8
    assert asked.together["value"]["r2"] > 0.2
    assert set(asked.together["like"]) == {"accuracy", "recall", "f1", "auc"}


@pytest.mark.parametrize("how", ["sum", "uncertainty", "gradnorm"])
def test_killed_and_run_again_the_weights_are_the_same(tuning, tmp_path, monkeypatch, how):
    asked = tuning(task_weighting=how)
    model, _ = asked.train("multi_task", tmp_path / "whole")
    with interrupted(monkeypatch, 3):
        tuning(task_weighting=how).train("multi_task", tmp_path / "killed")
    again = tuning(task_weighting=how)
    assert weights_hash(again.train("multi_task", tmp_path / "killed")[0]) == weights_hash(model)
    assert again.together == asked.together
    if how != "sum":
        summed, _ = tuning().train("multi_task", tmp_path / "sum")
        assert weights_hash(summed) != weights_hash(model)


def test_towers_start_alike_and_their_distance_is_that_of_every_two():
    def task(name: str) -> Task:
        return Task(name, "number", np.zeros((1, 1), np.float32), (name,), np.ones(1, bool), np.zeros(1, bool))

    towers = Towers(4, [task(name) for name in ("value", "like", "event")], "sum")
    assert float(towers.distance().detach()) == 0
    with torch.no_grad():
        towers.hidden["like"].bias += 1.0
    assert float(towers.distance().detach()) == pytest.approx(8)  # four coordinates, to each of two others
    states, items = torch.randn(2, 3, 4)
    other = torch.randn(3, 4)
    towers.heads["attributes"], towers.hidden["attributes"] = towers.heads["value"], towers.hidden["value"]
    assert not torch.equal(towers("value", states, items), towers("value", states, other))
    assert torch.equal(towers("attributes", states, items), towers("attributes", states, other))


def test_uncertainty_settles_where_the_papers_minimum_is_and_gradnorm_evens_gradients_out():
    shared = torch.ones(3, requires_grad=True)

    def settled(how: str, squared: list[bool]) -> list[float]:
        weighting = Weighting(2, how)
        optimizer = torch.optim.Adam(weighting.parameters(), lr=0.05)
        for _ in range(400):
            optimizer.zero_grad()
            losses = [4.0 * shared.sum() / 3, 1.0 * shared.sum() / 3]
            weighting(losses, squared, [4.0, 1.0], 1.0, shared).backward()
            optimizer.step()
        assert weighting.learned is not None
        return weighting.learned.tolist()

    # half e^-s L + half s has its minimum at s = log L, e^-s L + half s at log 2 L
    assert settled("uncertainty", [True, False]) == pytest.approx([np.log(4.0), np.log(2.0)], abs=0.01)
    first, second = torch.tensor(settled("gradnorm", [False, False])).softmax(0).tolist()
    assert second / first == pytest.approx(4.0, rel=0.1)  # the gradient of the first is four times as long


def test_the_loss_of_who_says_the_same_of_everybody_is_an_entropy_or_a_variance():
    learned = np.ones(4, bool)
    labels = np.array([[0.0], [0.0], [1.0], [1.0]], np.float32)
    task = Task("like", "yes or no", labels, ("like",), learned, ~learned)
    assert start_of(task) == pytest.approx(np.log(2))
    assert start_of(replace(task, kind="class", classes=("a", "b"))) == pytest.approx(np.log(2))
    assert start_of(replace(task, kind="number")) == pytest.approx(0.25)


def test_figures_are_the_textbooks_and_one_class_alone_has_no_auc():
    none = np.zeros(0, bool)
    task = Task("like", "yes or no", np.zeros((0, 1), np.float32), ("like",), none, none)
    labels = np.array([[1.0], [1.0], [0.0], [0.0]], np.float32)
    said = np.array([[2.0], [-1.0], [-3.0], [1.0]], np.float32)
    assert judge(task, said, labels) == pytest.approx({"accuracy": 0.5, "recall": 0.5, "f1": 0.5, "auc": 0.75})
    assert "auc" not in judge(task, said, np.ones_like(labels))
    number = judge(replace(task, kind="number"), labels * 0 + labels.mean(), labels)
    assert number == pytest.approx({"rmse": 0.5, "r2": 0.0})


def test_the_stage_compares_every_task_with_itself_alone(labelled, tmp_path):
    copy = labelled.copy_to(tmp_path)
    summary = copy.run("transfer", arms=["whole", "multi_task"], epochs=2, tasks=["event", "value"])
    assert "tasks together against each alone: event auc " in summary.found
    assert {"task.event.auc", "task.event.auc_alone", "task.value.r2"} <= summary.metrics.keys()
    page = (copy.folder("reports/transfer") / "report.html").read_text()
    assert "<script" not in page and "with the others" in page and "multi_task" in page
    about = json.loads((copy.folder("reports/transfer") / "transfer.json").read_text())
    assert [row["task"] for row in about["tasks"]] == ["event", "value"]
    assert about["arms"].keys() == {"whole", "multi_task"}


def test_without_any_label_multi_task_is_whole_and_says_so(chain, tmp_path):
    copy = chain.copy_to(tmp_path)
    summary = copy.run("transfer", arms=["whole", "multi_task"], epochs=1, tasks=["value", "event"])
    about = json.loads((copy.folder("reports/transfer") / "transfer.json").read_text())
    assert about["arms"]["whole"] == about["arms"]["multi_task"]
    assert about["notes"][0] == "value left out: no interaction of t has a value"
    assert "tasks together" not in summary.found
