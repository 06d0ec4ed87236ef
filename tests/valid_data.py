"""A small `data/valid` made by hand: two domains, late rows, ties, a missing user table row, any script."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipeline.data.partitions import write_rows
from pipeline.data.schema import schema_of

START = datetime(2025, 1, 1, tzinfo=UTC)
AS_OF = datetime(2025, 7, 1, tzinfo=UTC)
MOMENT = pl.Datetime("us", "UTC")


def interactions(
    seed: int, users: int, items: int, rows: int, prefix: str = "i", late_share: float = 0.3, days: int = 180
) -> pl.DataFrame:
    """Random interactions; some arrive up to 20 days late, some share a timestamp to the microsecond."""
    rng = np.random.default_rng(seed)
    # a coarse clock makes ties within a user
    seconds = rng.integers(0, days * 24, rows) * 3600 + rng.integers(0, 2, rows) * rng.integers(0, 3600, rows)
    delay = np.where(rng.random(rows) < late_share, rng.integers(1, 20 * 86400, rows), 0)
    return (
        pl.DataFrame(
            {
                "user_id": [f"u{n:03d}" for n in rng.integers(0, users, rows)],
                "item_id": [f"{prefix}{n:03d}" for n in rng.integers(0, items, rows)],
                "timestamp": [START + timedelta(seconds=int(s)) for s in seconds],
                "event": rng.choice(["view", "purchase"], rows),
                "value": pl.Series(rng.integers(1, 6, rows), dtype=pl.Float32),
                "created_at": [
                    min(START + timedelta(seconds=int(s + d)), AS_OF - timedelta(microseconds=1))
                    for s, d in zip(seconds, delay, strict=True)
                ],
            },
            schema_overrides={"timestamp": MOMENT, "created_at": MOMENT},
        )
        .with_columns(value=pl.when(pl.col("value") > 1).then(pl.col("value")))
        .unique(["user_id", "item_id"], keep="first", maintain_order=True)
        .sort("user_id", "timestamp", "item_id")
    )


def items(count: int, prefix: str = "i", **columns: Any) -> pl.DataFrame:
    """An items table; every fifth item has no text."""
    words = ["rote Gießkanne", "青いカップ", "чёрный чай", "garden spade", "🙂 cup"]
    return pl.DataFrame(
        {
            "item_id": [f"{prefix}{n:03d}" for n in range(count)],
            "text": [None if n % 5 == 4 else f"{words[n % 5]} number {n}" for n in range(count)],
            "attributes": [[f"brand:{n % 3}"] for n in range(count)],
            "available_from": [START if n % 2 else None for n in range(count)],
            **columns,
        },
        schema_overrides={"available_from": MOMENT, "attributes": pl.List(pl.String)},
    )


def users(frame: pl.DataFrame, every: int = 2) -> pl.DataFrame:
    """A users table that lacks some of the users who interact; one of those it has told nothing."""
    ids = frame["user_id"].unique().sort().to_list()[::every]
    return pl.DataFrame(
        {"user_id": ids, "attributes": [[] if n == 0 else ["age:old", f"zip:{n}"] for n in range(len(ids))]},
        schema={"user_id": pl.String, "attributes": pl.List(pl.String)},
    )


def write_valid(
    folder: Path,
    domains: Mapping[str, Mapping[str, pl.DataFrame]],
    roles: Mapping[str, list[str]],
    name: str = "handmade",
    protocol: str = "temporal",
    clock: str = "real",
) -> Path:
    """Write the tables of every domain and `dataset.json`; returns `folder`."""
    for domain, tables in domains.items():
        for table, frame in tables.items():
            schema = schema_of(table, frame.columns)  # type: ignore[arg-type]
            write_rows(frame, folder / domain, table, schema)  # type: ignore[arg-type]
    about = {
        "name": name,
        "clock": clock,
        "protocol": protocol,
        "domains": {domain: {"role": role} for domain, role in roles.items()},
        "sources": {},
    }
    (folder / "dataset.json").write_text(json.dumps(about))
    return folder


def two_domains(seed: int = 0, rows: int = 400) -> dict[str, dict[str, pl.DataFrame]]:
    """A source `shop` and a target `stall` that share users."""
    shop = interactions(seed, users=25, items=30, rows=rows, prefix="s")
    stall = interactions(seed + 1, users=15, items=12, rows=rows // 5, prefix="t")
    return {
        "shop": {"interactions": shop, "items": items(30, "s"), "users": users(shop)},
        "stall": {"interactions": stall, "items": items(12, "t"), "users": users(stall, every=3)},
    }


ROLES = {"shop": ["source"], "stall": ["target"]}
EMPTY = interactions(0, 1, 1, 1).clear()
