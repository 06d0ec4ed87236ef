"""How long ago, how and for how much: a bias of attention and vectors beside the items, against plain loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.data.training_set import load_domain
from pipeline.evaluation.ranking import Requests, requests_of
from pipeline.models.inherit import items_alone
from pipeline.models.moments import UNKNOWN, Moments, nothing_known
from pipeline.models.recommender import SequentialRecommender
from pipeline.models.relative_time import GAPS, SECOND, RelativeTime, gaps_of
from pipeline.training.batches import EpochBatches, TrainingDomain
from pipeline.training.moments import of_places, of_requests
from tests.model.test_recommender import SPEC, catalogue
from tests.training_data import write_training_set

DAY = 86_400 * SECOND
HISTORY = torch.tensor([[0, 3, 9], [4, 5, 6]])


def moments(times, now, events=0, values=0.0) -> Moments:
    taken = torch.tensor(times)
    return Moments(taken, torch.tensor(now), torch.full_like(taken, events), torch.full(taken.shape, values))


def told(model, known):
    vectors = model.item_vectors("a", catalogue())
    users = torch.zeros(2, 2), torch.zeros(2, 1, dtype=torch.int64)
    return model.states("a", vectors, HISTORY, *users, known)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = SequentialRecommender(replace(SPEC, relative_time=True, events=("like", "view"))).eval()
    for block in model.trunk.blocks:
        torch.nn.init.normal_(block.time.bias.weight)
    return model


@pytest.mark.parametrize("seconds, gap", [(0, 1), (1, 2), (2, 2), (3, 3), (6, 3), (7, 4), (2**40, GAPS - 1)])
def test_a_gap_is_a_doubling_of_the_time_until_the_next_item_is_taken(seconds, gap):
    found = gaps_of(moments([[5 * SECOND, 9 * SECOND]], [(9 + seconds) * SECOND]))[0]
    assert found[1].tolist() == [0, 3, 1]  # after the first item: four seconds until the second was taken
    assert found[2, 2] == gap  # after the second: until a ranking is wanted


def test_what_nobody_knows_and_the_profile_token_have_a_bias_of_their_own():
    found = gaps_of(moments([[UNKNOWN, 0]], [DAY]))[0]
    assert found[:, 0].tolist() == [0, 0, 0] and found[:, 1].tolist() == [0, 0, 0] and found[2, 2] > 1


def test_the_bias_is_what_a_loop_looks_up_and_nothing_hidden_is_seen():
    of_layer = RelativeTime(heads=2)
    torch.nn.init.normal_(of_layer.bias.weight)
    gaps, visible = torch.randint(0, GAPS, (2, 3, 3)), torch.tensor([[[True, False, True]]]).expand(2, 1, 3, 3)
    found = of_layer(gaps, visible)
    for b, h, q, k in np.ndindex(2, 2, 3, 3):
        assert found[b, h, q, k] == (of_layer.bias.weight[gaps[b, q, k], h] if k != 1 else -torch.inf)


def test_times_events_and_values_matter_and_padding_does_not(model):
    plain = told(model, moments([[0, DAY, 2 * DAY]] * 2, [3 * DAY] * 2, events=1))
    for other in (
        moments([[0, DAY, 2 * DAY]] * 2, [90 * DAY] * 2, events=1),
        moments([[0, DAY, 2 * DAY]] * 2, [3 * DAY] * 2, events=2),
        moments([[0, DAY, 2 * DAY]] * 2, [3 * DAY] * 2, events=1, values=2.0),
    ):
        assert not torch.allclose(told(model, other)[:, -1], plain[:, -1])
    at_padding = moments([[77, DAY, 2 * DAY], [0, DAY, 2 * DAY]], [3 * DAY] * 2, events=1)
    torch.testing.assert_close(told(model, at_padding)[:, -1], plain[:, -1])


def test_without_them_the_model_reads_items_alone(model):
    for block in model.trunk.blocks:
        torch.nn.init.zeros_(block.time.bias.weight)
    plain = items_alone(model)
    assert not plain.spec.reads_moments
    torch.testing.assert_close(told(plain, None), told(model, nothing_known(HISTORY)))


def test_training_and_ranking_tell_a_model_the_same(tmp_path):
    data = load_domain(write_training_set(tmp_path, {"t": ["source", "target"]}) / "training", "t")
    holdout = data.holdout("validation")
    row = int(np.argmax(holdout.history_lengths))
    user, items = int(holdout.user_index[row]), holdout.history(row)[0]
    start = int(data.offsets[user])
    requests = requests_of(holdout, np.array([row]))
    asked = of_requests(data, requests, np.array([0]), 50, torch.device("cpu"))
    assert asked.times[0].tolist() == holdout.history(row)[1].tolist() and asked.now.tolist() == requests.times.tolist()
    # the batch of that user alone: its last target is the last item, asked for at its own time
    training = TrainingDomain("t", np.array([0, len(items)]), np.asarray(data.items)[start : start + len(items)])
    batch = EpochBatches([training], 1, 0, 50, 1)[0]
    taken = of_places(data, batch.places + start, torch.device("cpu"))
    times = np.asarray(data.times)[start : start + len(items)]
    assert taken.times[0].tolist() == times[:-1].tolist() and int(taken.now) == times[-1]
    assert taken.events[0].tolist() == [1] * (len(items) - 1) and not taken.values.any()
    made = of_places(data, np.array([[0, len(data.items)]]), torch.device("cpu"))  # of a row that was made
    assert int(made.now) == UNKNOWN and int(made.times) == data.times[0]


def test_requests_that_are_no_held_out_rows_are_refused():
    with pytest.raises(ValueError, match="do not say where they are"):
        of_requests(None, Requests(np.zeros(1), [np.zeros(0)], np.zeros(1)), np.array([0]), 5, torch.device("cpu"))
