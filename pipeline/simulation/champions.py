"""Whose champions serve: the simulation's own, or somebody's it must not meddle with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pipeline.exit_codes import BadConfiguration
from pipeline.lineage.database import connected
from pipeline.runs.as_of import parse_as_of
from pipeline.runs.warm_start import champion_runs, run_folder
from pipeline.runs.workspace import run_record
from pipeline.settings import Settings

OWN_HOME = "simulate in a home of its own: WARMSTART_HOME=/path/to/another"


def without_champion(settings: Settings, targets: Sequence[str], data: str, as_of: datetime) -> list[str]:
    """Targets whose champion has not learned `data` up to `as_of`, or that have none.

    Raises:
        PassingFault: PostgreSQL does not answer.
    """
    left = []
    for target in targets:
        learned = _learned(settings, target)
        if learned is None or learned[0] != data or learned[1] < as_of:
            left.append(target)
    return left


def refuse_used_home(settings: Settings, targets: Sequence[str], as_of: datetime) -> None:
    """Before anything was simulated.

    Raises:
        BadConfiguration: there is feedback of somebody else, or a champion that knows the days to come.
        PassingFault: PostgreSQL does not answer.
    """
    with connected(settings.postgres_url("warmstart")) as connection:
        rows = connection.execute(
            "select target, count(*) from feedback where target = any(%s) group by 1 order by 1", (list(targets),)
        ).fetchall()
    for target, count in rows:
        raise BadConfiguration(
            f"{settings.home} has {count:,} events of {target} already, which would be mixed up with the"
            f" simulated ones; {OWN_HOME}."
        )
    for target in targets:
        learned = _learned(settings, target)
        if learned is not None and learned[1] > as_of:
            raise BadConfiguration(
                f"the champion of {target} learned {learned[0]} up to {learned[1]:%Y-%m-%d}, after the first simulated"
                f" day ({as_of:%Y-%m-%d}), so that no simulated night could replace it; {OWN_HOME}."
            )


def _learned(settings: Settings, target: str) -> tuple[str, datetime] | None:
    """Data and as_of of the run that made the champion."""
    runs = champion_runs(settings, [target])
    if not runs:
        return None
    record = run_record(run_folder(settings, runs[0]))
    return str(record["data"]), parse_as_of(str(record["as_of"]))
