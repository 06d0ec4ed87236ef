"""The loader every model reads its training set through."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.data.sequences import Sequences, load_sequences, offsets_of, write_sequences
from pipeline.data.training_set import load_domain
from pipeline.exit_codes import BadConfiguration
from tests.training_data import write_training_set


def sequences(lengths: list[int]) -> Sequences:
    total = sum(lengths)
    users = np.repeat(np.arange(len(lengths)), lengths)
    return Sequences(
        offsets=offsets_of(users, len(lengths)),
        items=np.arange(1, total + 1),
        times=np.arange(total) * 10**6,
        events=np.ones(total),
        values=np.full(total, np.nan),
    )


def test_sequences_come_back_as_they_were_and_are_not_read_into_memory(tmp_path):
    write_sequences(tmp_path, sequences([3, 0, 2]))
    found = load_sequences(tmp_path)
    assert found.lengths.tolist() == [3, 0, 2]
    assert [found.of_user(user)[0].tolist() for user in range(3)] == [[1, 2, 3], [], [4, 5]]
    kinds = [array.dtype for _, array in found.arrays()]
    assert kinds == [np.int64, np.int32, np.int64, np.int16, np.float32]
    assert isinstance(found.items, np.memmap) and not found.items.flags.writeable


@pytest.mark.parametrize("lengths", [[], [0, 0]])
def test_nothing_to_train_on(tmp_path, lengths):
    write_sequences(tmp_path, sequences(lengths))
    found = load_sequences(tmp_path)
    assert found.n_users == len(lengths) and len(found.items) == 0


def test_row_zero_is_padding_in_every_item_table(tmp_path):
    data = load_domain(write_training_set(tmp_path, {"shop": ["source", "target"]}) / "training", "shop")
    assert data.item_ids[0] == "" and data.item_texts[0] is None and data.item_attributes[0] == []
    assert not data.item_features[0].any() and not data.in_training[0]
    assert len(data.item_ids) == len(data.item_features) == len(data.in_training) == data.n_items + 1
    assert data.role == ("source", "target")


def test_a_wrong_split_or_domain_is_named(tmp_path):
    training = write_training_set(tmp_path, {"shop": ["target"]}) / "training"
    with pytest.raises(ValueError, match="'train'; it must be one of validation, test"):
        load_domain(training, "shop").holdout("train")
    with pytest.raises(BadConfiguration, match="has no domain 'stall'; it has "):
        load_domain(training, "stall")
