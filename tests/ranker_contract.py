"""What every ranker must keep to, whatever is behind it: baselines, torch models, exported models.

A test class that inherits it gives a fixture `scorer`, fitted on the domain `t` of `tests.training_data`.
"""

from __future__ import annotations

import numpy as np

from pipeline.evaluation.ranking import Requests

N_ITEMS = 24
HISTORIES = [[], [1], [5, 9, 2], list(range(1, 13)), [3] * 200]


def requests(histories: list[list[int]], users: list[int] | None = None) -> Requests:
    """Requests of the first users, or of the given ones."""
    rows = np.array(range(len(histories)) if users is None else users, dtype=np.int32)
    arrays = [np.array(history, dtype=np.int32) for history in histories]
    return Requests(rows, arrays, np.full(len(rows), 10**15))


class RankerContract:
    def test_scores_the_whole_catalogue(self, scorer):
        scores = scorer.scores(requests(HISTORIES))
        assert scores.shape == (len(HISTORIES), N_ITEMS + 1)
        assert np.isfinite(scores[:, 1:]).all()

    def test_same_question_same_answer(self, scorer):
        first, second = (scorer.scores(requests(HISTORIES)) for _ in range(2))
        assert np.array_equal(first, second)

    def test_an_answer_does_not_depend_on_who_asks_beside(self, scorer):
        together = scorer.scores(requests(HISTORIES))
        for row, history in enumerate(HISTORIES):
            alone = scorer.scores(requests([history], [row]))
            np.testing.assert_allclose(alone[0, 1:], together[row, 1:], rtol=1e-4, atol=1e-5)

    def test_nobody_asks(self, scorer):
        assert scorer.scores(requests([])).shape == (0, N_ITEMS + 1)

    def test_does_not_change_what_it_is_given(self, scorer):
        asked = requests(HISTORIES)
        scorer.scores(asked)
        assert [history.tolist() for history in asked.histories] == HISTORIES
