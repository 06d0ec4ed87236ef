"""The generator alone: what it may draw, that it learns, and that collapse and divergence end with something better."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.augmentation.gan import training
from pipeline.augmentation.gan.look import energy_distance
from pipeline.augmentation.gan.plan import GanPlan
from pipeline.augmentation.gan.real_sequences import RealSequences
from pipeline.augmentation.gan.training import GanTraining
from pipeline.augmentation.gan.windows import condition_of, draw_windows
from pipeline.models.critic import Critic, gradient_penalty
from pipeline.models.generator import Condition, GeneratorShape, SequenceGenerator, Space

ITEMS, TOPICS = 20, 4
SHAPE = GeneratorShape(item_width=6, profile_width=3, hidden=16, noise=2)
PLAN = GanPlan(
    name="test", seed=7, source_steps=0, target_steps=60, adversarial_steps=4, look_every=2, batch=32, longest=8,
    learning_rate=0.03, adversarial_rate=0.0005, critic_steps=1, constraint="gradient_penalty", penalty=10.0,
    anchor=1.0, temperature=0.7, least_coverage=0.5, widest_gap=3.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def real() -> RealSequences:
    """Users who go from topic to topic in turn; the last item has no interaction."""
    draws = np.random.default_rng(1)
    rows = [[1 + int(draws.integers(4)) * TOPICS + (first + step) % TOPICS for step in range(5)] for first in range(80)]
    items = np.array(rows).ravel()
    vectors = torch.zeros(ITEMS + 1, SHAPE.item_width)
    vectors[1:, :TOPICS] = torch.eye(TOPICS)[torch.arange(ITEMS) % TOPICS]
    vectors[1:] += 0.1 * torch.from_numpy(draws.normal(size=(ITEMS, SHAPE.item_width))).float()
    space = Space.of(vectors, torch.from_numpy(np.bincount(items, minlength=ITEMS + 1)))
    return RealSequences("t", space, np.arange(0, len(items) + 1, 5), items, torch.zeros(80, 3), distinct=True)


def condition(history: list[list[int]], ending: list[int]) -> Condition:
    return Condition(torch.zeros(len(ending), 3), torch.tensor(ending), torch.tensor(history))


@torch.no_grad()
def know_one_item(generator: SequenceGenerator, real: RealSequences) -> None:
    """Make a generator that has collapsed."""
    generator.popularity.fill_(0.0)
    generator.pointing.weight.zero_()
    generator.pointing.bias.copy_(100.0 * real.space.vectors[3])


def test_what_is_given_stays_and_what_is_drawn_is_known_and_new(real):
    torch.manual_seed(1)
    wanted = condition([[3, 8], [5, 0]], [0, 7])
    items, views = SequenceGenerator(SHAPE).generate(
        real.space, wanted, torch.randn(2, 2), torch.tensor([6, 4]), 1.0, True, real.space.seen
    )
    assert items[0, :2].tolist() == [3, 8]
    assert items[1, 0] == 5
    assert (items > 0).sum(1).tolist() == [6, 4]
    assert all(len(set(row[row > 0].tolist())) == int((row > 0).sum()) for row in items)
    assert 7 not in items[1]  # the item to arrive at comes last, and is not made
    assert real.space.known[items[items > 0]].all()
    # forward, a drawn item is exactly that item; backward there is a gradient
    assert torch.allclose(views, real.space.seen[items], atol=1e-6)
    assert views.requires_grad


def test_a_window_is_asked_for_with_less_than_all_of_it(real):
    torch.manual_seed(5)
    windows = draw_windows(real, 200, PLAN.longest, np.random.default_rng(5))
    wanted, items = condition_of(real, windows, given=True)
    told, lengths, known = wanted.ending > 0, (items > 0).sum(1), (wanted.history > 0).sum(1)
    assert 0.2 < float(told.float().mean()) < 0.6
    assert (lengths == windows.lengths - told.long()).all()  # the item to arrive at is not in the sequence
    assert (windows.items[told, windows.lengths[told] - 1] == wanted.ending[told]).all()
    assert (known < lengths).all()
    assert known.min() == 0
    assert torch.equal(wanted.history, torch.where(wanted.history > 0, items, 0))
    assert not condition_of(real, windows, given=False)[0].history.any()


def test_the_energy_distance_knows_equal_from_different():
    torch.manual_seed(6)
    one, same, other = torch.randn(300, 2), torch.randn(300, 2), torch.randn(300, 2) + 1.0
    assert abs(energy_distance(one, same)) < 0.05
    assert energy_distance(one, other) > 0.5


def test_likelihood_learns_who_follows_whom(real, tmp_path):
    trained = GanTraining(SHAPE, [], real, replace(PLAN, adversarial_steps=0), tmp_path).run()
    assert trained.generator is not None
    start = condition([[1]] * 50, [0] * 50)
    with torch.no_grad():
        torch.manual_seed(2)
        items, _ = trained.generator.generate(real.space, start, torch.randn(50, 2), torch.full((50,), 5), 1.0, True)
    topics = (items - 1) % TOPICS
    assert float(((topics[:, 1:] - topics[:, :-1]) % TOPICS == 1).float().mean()) > 0.9  # by chance a quarter


@pytest.mark.parametrize("constraint", ["gradient_penalty", "spectral_norm"])
def test_the_critic_does_not_look_behind_the_end(real, constraint):
    torch.manual_seed(3)
    critic = Critic(SHAPE, constraint == "spectral_norm").eval()
    views, present = torch.randn(4, 5, 7), torch.arange(5)[None] < torch.tensor([[5], [3], [1], [4]])
    profile, ending = torch.zeros(4, 3), torch.zeros(4, 6)
    other = torch.where(present[:, :, None], views, 100.0)
    assert torch.allclose(critic(views, present, profile, ending), critic(other, present, profile, ending))


def test_the_penalty_wants_slope_one():
    class Steep(torch.nn.Module):
        def forward(self, views, present, profile, ending):
            return 3.0 * views[:, 0, 0]

    views = torch.randn(5, 2, 7)
    nothing = torch.zeros(5, 3)
    assert float(gradient_penalty(Steep(), views, -views, nothing, nothing, nothing)) == pytest.approx(4.0)


def test_a_generator_that_knows_a_few_items_is_refused(real, tmp_path):
    narrow = GanTraining(SHAPE, [], real, replace(PLAN, target_steps=0), tmp_path)
    know_one_item(narrow.state.generator, real)
    narrow.target = replace(narrow.target, distinct=False)
    ended = narrow.run()
    assert ended.generator is None
    assert ended.stopped is not None
    assert "it has collapsed" in ended.stopped


def test_without_likelihood_the_first_look_is_before_the_first_step(real, tmp_path):
    ended = GanTraining(SHAPE, [], real, replace(PLAN, target_steps=0), tmp_path).run()
    assert [row["step"] for row in ended.history] == [0, 2, 4]
    ended = GanTraining(SHAPE, [], real, replace(PLAN, target_steps=0, adversarial_steps=0), tmp_path / "none").run()
    assert ended.kept == 0
    assert ended.generator is not None


def test_a_collapse_later_keeps_the_earlier_weights(real, tmp_path, monkeypatch):
    whole = GanTraining(SHAPE, [], real, replace(PLAN, adversarial_steps=0), tmp_path / "whole").run()
    monkeypatch.setattr(GanTraining, "_against_critic", lambda self: know_one_item(self.state.generator, real))
    ended = GanTraining(SHAPE, [], replace(real, distinct=False), PLAN, tmp_path / "spoilt").run()
    assert "collapsed" in (ended.stopped or "")
    assert ended.kept == PLAN.warm
    assert ended.generator is not None and whole.generator is not None
    for name, weight in whole.generator.state_dict().items():
        assert torch.equal(weight, ended.generator.state_dict()[name])


def test_a_critic_that_always_knows_is_a_divergence(real, tmp_path):
    ended = GanTraining(SHAPE, [], real, replace(PLAN, widest_gap=1e-9), tmp_path).run()
    assert "diverged" in (ended.stopped or "")
    assert ended.kept == PLAN.warm
    assert ended.history[-1]["step"] < PLAN.steps


def test_a_loss_that_is_no_number_is_a_divergence(real, tmp_path):
    ended = GanTraining(SHAPE, [], real, replace(PLAN, learning_rate=float("inf")), tmp_path).run()
    assert ended.generator is None
    assert "not finite" in (ended.stopped or "")


@pytest.mark.parametrize("constraint", ["gradient_penalty", "spectral_norm"])
def test_another_start_from_a_checkpoint_ends_with_the_same_weights(real, tmp_path, monkeypatch, constraint):
    plan = replace(PLAN, constraint=constraint)
    straight = GanTraining(SHAPE, [], real, plan, tmp_path / "straight").run()
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    for dies_after in (17, PLAN.warm + 3):

        class Killed(Exception):
            pass

        doomed = GanTraining(SHAPE, [], real, plan, tmp_path / "killed")
        state = doomed.state

        def die(folder, save=state.save, state=state, dies_after=dies_after, killed=Killed):
            save(folder)
            if state.progress.step >= dies_after:
                raise killed

        monkeypatch.setattr(state, "save", die)
        with pytest.raises(Killed):
            doomed.run()
    again = GanTraining(SHAPE, [], real, plan, tmp_path / "killed").run()
    assert again.history == straight.history
    assert straight.generator is not None and again.generator is not None
    for kind in ("generator", "critic"):
        ours, theirs = (getattr(one, kind).state_dict() for one in (again, straight))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
