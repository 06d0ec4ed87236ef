"""A chain of models on the handmade training set, trained once per session."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.data.training_set import load_domain
from pipeline.training.domains import Domain, open_domain
from pipeline.training.weights import load_model
from tests.training_data import Chain, write_training_set
from tests.world_training import KnownWorld, write_known_world

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    """Two sources and a target."""
    root = tmp_path_factory.mktemp("world")
    return write_training_set(root, {"a": ["source"], "b": ["source"], "t": ["target"]})


@pytest.fixture(scope="session")
def chain(world) -> Chain:
    """All stages on target `t`."""
    chain = Chain(world)
    for stage in ("pretrain", "augment", "transfer", "distill", "prune", "evaluate"):
        chain.run(stage)
    return chain


@pytest.fixture(scope="session")
def data(world):
    return load_domain(world / "training", "t")


@pytest.fixture(scope="session")
def known(tmp_path_factory) -> KnownWorld:
    """A market of the synthetic world, its own source: 150 items."""
    return write_known_world(tmp_path_factory.mktemp("known"), "metro", "metro")


@pytest.fixture(scope="session")
def market(known) -> Chain:
    """The stages up to a served model on it: a catalogue and users enough for answers to differ."""
    chain = Chain(known.root, "metro")
    for stage in ("pretrain", "transfer", "distill", "prune"):
        chain.run(stage)
    return chain


@pytest.fixture
def teacher(chain):
    return load_model(chain.folder("models/teacher"))


@pytest.fixture
def student(chain):
    return load_model(chain.folder("models/student"))


@pytest.fixture
def opened(world, data):
    """The domain `t`, opened for a model: `opened(teacher)`."""

    def open_for(model) -> Domain:
        return open_domain(data, world / "vectors", model.spec, CPU)

    return open_for
