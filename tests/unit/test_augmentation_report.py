"""The page of an experiment says what was avoided, and what is not known."""

from __future__ import annotations

import pytest

from pipeline.augmentation.report import render_report

ABOUT = {"target": "t", "feeds": False, "reasons": ["no thin part gains surely"], "cpu_seconds_limit": 300.0}
LOSS = {
    "part": "tail items", "arm": "gan", "against": "none", "ours": 0.08, "theirs": 0.1, "difference": -0.02,
    "low": -0.03, "high": -0.01, "n": 400, "relative": -0.2,
}  # fmt: skip
QUALITY = {
    "n": 50,
    "copied": 0.01,
    "copied_reference": 0.02,
    "popularity": {"items": [0.5, 1.0], "real": [0.9, 1.0], "made": [0.8, 1.0]},
    "distances": {"from": [0.0, 1.0], "real": [0.5, 0.5], "made": [0.4, 0.6]},
    **{
        kind: dict.fromkeys(
            ("two_sample", "density", "coverage", "popularity_divergence", "transition_agreement", "nearest"), 0.5
        )
        for kind in ("likeness", "reference")
    },
}


@pytest.mark.parametrize(("high", "word"), [(-0.01, "would"), (0.01, "might")])
def test_the_loss_that_was_avoided_is_told(high, word):
    trial = {"effects": [LOSS | {"high": high}], "steps": {"gan": {"1": 8}}, "shares": {"none": 0.0, "gan": 1.0}}
    page = render_report(ABOUT | {"trial": trial})
    assert f"they {word} have cost tail items 20.0% of NDCG@10" in page
    assert "the loss that was avoided" in page


@pytest.mark.parametrize(
    ("tstr", "said"),
    [
        ({}, "It ended before it was known"),
        ({"tstr": None}, "There are no held-out users"),
        ({"tstr": {"real": 0.2, "made": 0.18, "share": 0.9}}, "reaches <strong>90%</strong>"),
    ],
)
def test_what_made_sequences_teach_is_told_or_why_it_is_not_known(tstr, said):
    assert said in render_report(ABOUT | {"quality": QUALITY | tstr})
