"""When was which version champion: from the promotion log, in whose order every row ends the one before it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import TYPE_CHECKING

from pipeline.lineage.answer import Interval

if TYPE_CHECKING:
    import psycopg

MODEL_PREFIX = "rec-"  # `registry.champion.model_name`


def model_of(target: str) -> str:
    """Name of the registered model of a target domain."""
    return MODEL_PREFIX + target


def champion_intervals(
    connection: psycopg.Connection, versions: Collection[tuple[str, int]]
) -> dict[tuple[str, int], tuple[Interval, ...]]:
    """(model name, version) -> the intervals in which it was champion, oldest first; of `versions` only."""
    rows = connection.execute(
        """
        select target, to_version, since, actor, until from (
            select target, to_version, decided_at as since, actor, id,
                   lead(decided_at) over (partition by target order by id) as until
            from promotions where target = any(%s)
        ) served where to_version in (select unnest(%s::integer[])) order by id
        """,
        (
            list({name.removeprefix(MODEL_PREFIX) for name, _ in versions}),
            list({version for _, version in versions}),
        ),
    )
    found: dict[tuple[str, int], list[Interval]] = defaultdict(list)
    for target, version, since, actor, until in rows:
        found[model_of(target), version].append(Interval(since, until, actor))
    return {key: tuple(intervals) for key, intervals in found.items()}


def champion(connection: psycopg.Connection, name: str) -> int | None:
    """The version of model `name` that is champion now."""
    row = connection.execute(
        "select to_version from promotions where target = %s order by id desc limit 1",
        (name.removeprefix(MODEL_PREFIX),),
    ).fetchone()
    return row[0] if row else None
