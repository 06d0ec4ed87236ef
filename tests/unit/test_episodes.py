"""Tasks of meta-learning: users in groups of their like, and episodes of one task each."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from pipeline.training.batches import TrainingDomain
from pipeline.training.episodes import Episodes, user_groups


def shop(users: int = 40) -> tuple[SimpleNamespace, TrainingDomain]:
    """Even users take items 1 to 4, odd ones 5 to 8; every tenth has taken nothing."""
    content = torch.zeros(9, 2)
    content[1:5, 0] = content[5:, 1] = 1.0
    lengths = [0 if user % 10 == 9 else 3 for user in range(users)]
    items = [1 + (user + place) % 4 + 4 * (user % 2) for user in range(users) for place in range(lengths[user])]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    catalogue = SimpleNamespace(content={"text": content}, trained=torch.ones(9, dtype=torch.bool))
    return SimpleNamespace(name="d", catalogue=catalogue), TrainingDomain("d", offsets, np.array(items, np.int32))


def users_of(task: TrainingDomain) -> set[int]:
    return set(np.flatnonzero(np.diff(task.offsets)).tolist())


def test_groups_are_of_like_users_and_lose_nobody():
    domain, sequences = shop()
    tasks = user_groups(domain, sequences, 2, 7)
    expected = [{user for user in range(40) if user % 2 == odd and user % 10 != 9} for odd in (0, 1)]
    assert sorted(map(sorted, map(users_of, tasks))) == sorted(map(sorted, expected))
    for task in tasks:
        for user in users_of(task):
            of_both = [one.items[one.offsets[user] : one.offsets[user + 1]].tolist() for one in (task, sequences)]
            assert of_both[0] == of_both[1]


def test_without_contents_or_with_few_users_a_domain_is_one_task():
    domain, sequences = shop()
    assert user_groups(domain, sequences, 30, 7) == [sequences]
    domain.catalogue.content["text"].zero_()
    assert user_groups(domain, sequences, 2, 7) == [sequences]


def test_an_episode_is_of_one_task_and_small_tasks_are_passed_again():
    domain, sequences = shop()
    tasks = user_groups(domain, sequences, 2, 7)
    given = {"seed": 3, "max_length": 5, "batch_size": 4, "temperature": 1.0}
    episodes = Episodes(tasks, epoch=0, size=7, **given)  # tasks of 20 and 16 users: 5 and 4 batches
    assert 1 <= len(episodes) <= 2
    for step in range(len(episodes)):
        users = {int(user) for batch in episodes[step] for user in batch.users}
        assert len(episodes[step]) == 7
        assert any(users == users_of(task) for task in tasks)
    again = Episodes(tasks, epoch=0, size=7, **given)
    assert [b.users.tolist() for b in again[0]] == [b.users.tolist() for b in episodes[0]]
    assert len(Episodes(tasks, epoch=0, size=2, **given)) == 4  # of 9 batches
