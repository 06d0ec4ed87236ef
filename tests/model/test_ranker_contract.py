"""Every model of the chain keeps to what every ranker keeps to."""

from __future__ import annotations

import pytest

from pipeline.compression.served_model import ServedModel
from pipeline.evaluation.rank_served import ServedScorer
from pipeline.training.scoring import ModelScorer
from tests.ranker_contract import RankerContract


class TestTeacher(RankerContract):
    @pytest.fixture
    def scorer(self, teacher, opened):
        return ModelScorer(teacher, opened(teacher))


class TestStudent(RankerContract):
    @pytest.fixture
    def scorer(self, student, opened):
        return ModelScorer(student, opened(student))


class TestServed(RankerContract):
    @pytest.fixture
    def scorer(self, chain, data):
        return ServedScorer(ServedModel(chain.folder("models/served")), data)
