"""A checkpoint is whole or absent, and nobody reads another's."""

from __future__ import annotations

import pytest
import torch

from pipeline.training.checkpoints import FILE, load_checkpoint, save_checkpoint


def test_comes_back_as_it_was(tmp_path):
    tensors = {"a": torch.randn(3, 2), "step": torch.tensor(4.0)}
    save_checkpoint(tmp_path / "new", tensors, {"work": "w", "loss": 0.1 + 0.2, "best": None})
    found, state = load_checkpoint(tmp_path / "new", "w")
    assert torch.equal(found["a"], tensors["a"])
    assert found["step"].shape == ()
    assert state == {"work": "w", "loss": 0.1 + 0.2, "best": None}
    assert [path.name for path in (tmp_path / "new").iterdir()] == [FILE]


def test_absent(tmp_path):
    assert load_checkpoint(tmp_path, "w") is None


def test_of_other_work_is_left_aside(tmp_path, caplog):
    save_checkpoint(tmp_path, {"a": torch.zeros(1)}, {"work": "one"})
    assert load_checkpoint(tmp_path, "two") is None
    assert "other work" in caplog.text


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x10\x00\x00\x00\x00\x00\x00\x00{}"])
def test_unreadable_is_left_aside(tmp_path, caplog, content):
    (tmp_path / FILE).write_bytes(content)
    assert load_checkpoint(tmp_path, "w") is None
    assert "starts over" in caplog.text


def test_a_kill_while_writing_leaves_the_old_one(tmp_path):
    save_checkpoint(tmp_path, {"a": torch.ones(1)}, {"work": "w"})
    (tmp_path / f"{FILE}.new").write_bytes(b"torn")
    found, _ = load_checkpoint(tmp_path, "w")
    assert found["a"].item() == 1
    save_checkpoint(tmp_path, {"a": torch.zeros(1)}, {"work": "w"})
    assert load_checkpoint(tmp_path, "w")[0]["a"].item() == 0
