"""The synthetic world as a dataset folder on disk; its snapshot equals that of `world:<size>` with the same seed."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from pipeline.data.dataset import nearest
from pipeline.data.folder import write_dataset
from pipeline.data.schema import TABLES
from pipeline.data.world.dirt import Tables, soil
from pipeline.data.world.generate import generate
from pipeline.data.world.params import SIZES, WorldParams, world_domains
from pipeline.exit_codes import BadConfiguration


def parse_dirt(words: list[str]) -> float | dict[str, float]:
    """`["0.01"]` -> 0.01; `["missing_user=0.02", "unknown_item=0.1"]` -> a share by kind.

    Raises:
        BadConfiguration: neither.
    """
    shares: dict[str, float] = {}
    for word in words:
        kind, _, share = word.rpartition("=")
        try:
            shares[kind] = float(share)
        except ValueError as error:
            raise BadConfiguration(f"--dirt {word}: give a share such as 0.01, or KIND=SHARE.") from error
    if "" in shares and len(shares) > 1:
        raise BadConfiguration("--dirt: give one share for all kinds, or KIND=SHARE for each.")
    return shares.get("", 0.0) if not shares or "" in shares else shares


def publish(out: Path, size: str, seed: int, dirt: float | dict[str, float] = 0.0) -> Path:
    """Write the folder and give the path of its `dataset.yaml`.

    Raises:
        BadConfiguration: no such size or kind of dirt, or `out` holds something else.
    """
    if size not in SIZES:
        raise BadConfiguration(f"--size: the synthetic world has no size {size!r}{nearest(size, list(SIZES))}.")
    try:
        params = WorldParams.model_validate({"size": size, "seed": seed, "dirt": dirt})
    except ValidationError as error:
        raise BadConfiguration(f"--dirt: {error.errors()[0]['msg'].removeprefix('Value error, ')}.") from error
    markets: dict[str, Tables] = {
        name: {table: getattr(market, table) for table in TABLES}
        for name, market in generate(params, seed).markets.items()
    }
    head = {"name": f"world-{size}", "clock": "real", "protocol": "temporal", "pseudonyms": "public"}
    roles = {name: [str(market.role)] for name, market in world_domains(params).items()}
    return write_dataset(
        out, head, {name: (roles[name], tables) for name, tables in soil(markets, params.dirt_by_kind, seed).items()}
    )
