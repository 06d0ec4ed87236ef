"""Which world is simulated, and where its history stands as a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import yaml

from pipeline.data.dataset import nearest
from pipeline.data.world.generate import World, generate
from pipeline.data.world.params import SIZES, TARGETS, WorldParams
from pipeline.data.world.publish import publish
from pipeline.exit_codes import BadConfiguration

WORLD_PREFIX, NAME_PREFIX = "world:", "world-"
SAME = ["user_id", "item_id", "timestamp"]


def checked_targets(wanted: Sequence[str]) -> tuple[str, ...]:
    """Target markets to simulate; none is all.

    Raises:
        BadConfiguration: the world has no such target.
    """
    for target in wanted:
        if target not in TARGETS:
            raise BadConfiguration(
                f"--targets: the synthetic world has no target {target!r}{nearest(target, list(TARGETS))}."
            )
    return tuple(dict.fromkeys(wanted)) or TARGETS


def checked_size(size: str, data: str) -> str:
    """The size that `data` says, or `size` where it says nothing.

    Raises:
        BadConfiguration: `data` is no world, or there is no such size.
    """
    if data.startswith(WORLD_PREFIX):
        size = data.removeprefix(WORLD_PREFIX)
    elif data:
        path = Path(data) / "dataset.yaml"
        try:
            name = str(yaml.safe_load(path.read_text("utf-8"))["name"])
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise BadConfiguration(f"--data {data} holds no dataset.yaml with a name; {_how()}") from error
        if not name.startswith(NAME_PREFIX):
            raise BadConfiguration(f"--data {data} is the dataset {name!r}, whose truth nobody knows; {_how()}")
        size = name.removeprefix(NAME_PREFIX)
    if size not in SIZES:
        raise BadConfiguration(f"--size: the synthetic world has no size {size!r}{nearest(size, list(SIZES))}.")
    return size


def open_world(size: str, seed: int, data: str, targets: Sequence[str], folder: Path) -> tuple[World, str]:
    """The world, and what the nights are given as data: `data`, or the folder that is written here.

    Raises:
        BadConfiguration: `data` is a folder with other rows than those of this seed.
    """
    world = generate(WorldParams.model_validate({"size": size, "seed": seed}), seed)
    if data.startswith(WORLD_PREFIX):
        return world, data
    if not data:
        if not (folder / "dataset.yaml").exists():
            publish(folder, size, seed)
        return world, str(folder.resolve())
    for target in targets:
        path = Path(data) / target / "interactions.parquet"
        try:
            same = pl.read_parquet(path, columns=SAME).equals(world.markets[target].interactions.select(SAME))
        except (OSError, pl.exceptions.PolarsError) as error:
            raise BadConfiguration(f"{path} cannot be read ({error}); {_how()}") from error
        if not same:
            raise BadConfiguration(
                f"{path} does not hold the rows of the world of seed {seed}: its truth is another; {_how()}"
            )
    return world, str(Path(data).expanduser().resolve())


def _how() -> str:
    return "give a folder that `warmstart data world` wrote with the same --seed, or leave --data out."
