"""The form of a manual trigger refuses what cannot be meant."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import ParamValidationError


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("as_of", "2026-01-31"),
        ("as_of", "2026-01-31T02:00:00Z"),
        ("as_of", None),
        ("data", "world:tiny"),
        ("targets", ["harbour"]),
        ("overrides", ["pretrain.epochs=3", "seed=8"]),
        ("git_ref", "main"),
        ("promote", False),
        ("reason", "drift: harbour: item popularity moved"),
        ("reason", None),
    ],
)
def test_good_values_pass(dag, name, value):
    assert dag.params.get_param(name).resolve(value) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("as_of", "yesterday"),
        ("as_of", 20260131),
        ("data", ""),
        ("targets", "harbour"),
        ("targets", ["../etc"]),
        ("overrides", ["pretrain.epochs"]),
        ("overrides", {"pretrain": 3}),
        ("git_ref", None),
        ("promote", "yes"),
        ("reason", "x" * 501),
    ],
)
def test_bad_values_are_refused(dag, name, value):
    with pytest.raises(ParamValidationError):
        dag.params.get_param(name).resolve(value)
