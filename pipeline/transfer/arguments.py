"""What the words of `warmstart experiment` mean, or a sentence that says what may stand there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from pipeline.exit_codes import BadConfiguration
from pipeline.graph import load_graph
from pipeline.runs.parameters import apply_overrides, read_params, stage_params
from pipeline.settings import CHECKOUT
from pipeline.transfer.params import TransferParams

Number = TypeVar("Number", int, float)


def arms_of(text: str, known: Sequence[str]) -> tuple[str, ...]:
    """The arms that are named, or all.

    Raises:
        BadConfiguration: one of them is not known.
    """
    wanted = tuple(name.strip() for name in text.split(",") if name.strip()) or tuple(known)
    if unknown := [name for name in wanted if name not in known]:
        raise BadConfiguration(f"--arms names {', '.join(unknown)}; there are {', '.join(known)}")
    return wanted


def numbers_of(
    option: str, text: str, kind: type[Number], allowed: Callable[[Number], bool], wanted: str
) -> list[Number]:
    """The numbers of a list, each once.

    Raises:
        BadConfiguration: a word is no number of this kind, or one that is not allowed; says what is `wanted`.
    """
    try:
        found = list(dict.fromkeys(kind(word) for word in text.split(",")))
    except ValueError:
        found = []
    if not found or not all(map(allowed, found)):
        raise BadConfiguration(f"{option} is {text!r}; give {wanted}")
    return found


def fine_tuning(root: Path, overrides: Sequence[str] = ()) -> TransferParams:
    """The parameters of the stage `transfer`: those of `root`, or of the checkout where it has none, and overrides.

    Raises:
        BadConfiguration: an override is of another stage, of no parameter, or of a value that is not allowed.
    """
    own = root / "params.yaml"
    given = [word for text in overrides for word in text.split()]
    if other := [word for word in given if not word.startswith("transfer.")]:
        raise BadConfiguration(
            f"--set {' '.join(other)}: of all parameters, an experiment reads those of transfer alone"
        )
    params = apply_overrides(read_params(own if own.exists() else CHECKOUT / "params.yaml"), given)
    chosen = stage_params(load_graph(CHECKOUT / "dvc.yaml").stages["transfer"], params)
    assert isinstance(chosen, TransferParams)
    return chosen
