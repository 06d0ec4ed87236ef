"""Unstructured masks: zeros stay zeros in training, and the exported file is smaller for them."""

from __future__ import annotations

import json

import onnx
import pytest
import torch

from pipeline.compression.agreement import same_order
from pipeline.compression.masks import zero_smallest
from pipeline.compression.served_graph import ServedGraph
from pipeline.compression.served_model import ServedModel
from pipeline.exit_codes import BadConfiguration
from pipeline.training.weights import load_model


def matrices(model):
    return [weight for weight in model.trunk.blocks.parameters() if weight.dim() > 1]


def test_the_smallest_weights_go_and_training_does_not_bring_them_back(student):
    before = [weight.detach().clone() for weight in matrices(student)]
    zero_smallest(student, 0.75)
    gone = [weight == 0 for weight in matrices(student)]
    for weight, old, zero in zip(matrices(student), before, gone, strict=True):
        assert zero.float().mean() == pytest.approx(0.75, abs=0.01)
        assert old[zero].abs().max() <= old[~zero].abs().min()
        assert torch.equal(weight[~zero], old[~zero])
    optimizer = torch.optim.AdamW(student.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        sum((weight - 1).square().sum() for weight in student.parameters()).backward()
        optimizer.step()
    for weight, zero in zip(matrices(student), gone, strict=True):
        assert torch.equal(weight == 0, zero)


def test_a_masked_model_is_a_smaller_file_with_the_same_answers(chain, data, opened, tmp_path):
    masked = chain.copy_to(tmp_path)
    masked.run("prune", masked=0.9)
    folder, dense = masked.folder("models/served"), chain.folder("models/served")
    model = load_model(folder)
    assert all((weight == 0).float().mean() >= 0.89 for weight in matrices(model))
    graph = onnx.load(folder / "model.onnx").graph
    assert len(graph.sparse_initializer) == len(matrices(model))
    assert not onnx.load(dense / "model.onnx").graph.sparse_initializer
    saved = sum(4 * weight.numel() - 12 * int(weight.count_nonzero()) for weight in matrices(model))
    smaller = (dense / "model.onnx").stat().st_size - (folder / "model.onnx").stat().st_size
    assert 0.8 * saved < smaller <= saved  # what names and shapes take is little
    assert same_order(ServedGraph(model, opened(model), 20).eval(), folder, data, 20) == 1.0
    assert ServedModel(folder).golden_ok()
    assert json.loads((folder / "removed_channels.json").read_text())["masked"] == 0.9


def test_masks_in_bytes_are_refused(chain, tmp_path):
    with pytest.raises(BadConfiguration, match=r"prune\.masked is 0\.5 and prune\.linears is int8"):
        chain.copy_to(tmp_path).run("prune", masked=0.5, linears="int8")
