"""What a person calls a run or a model: `rec-harbour@champion`, `rec-harbour/17`, `17`, a run id, `latest`."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, NoReturn

from pipeline.exit_codes import BadConfiguration
from pipeline.lineage.answer import Version
from pipeline.lineage.champions import champion, champion_intervals

if TYPE_CHECKING:
    import psycopg

LATEST = "latest"
CHAMPION = "champion"
FORMS = "rec-TARGET@champion, rec-TARGET/VERSION, a run id or `latest`"


def versions_named(connection: psycopg.Connection, text: str) -> list[tuple[int, Version]]:
    """The versions that `text` names, each with the id of the attempt that registered it.

    A run names every version it registered; everything else names one.

    Raises:
        BadConfiguration: nothing is called that; the sentence has the nearest names.
    """
    name, _, alias = text.partition("@")
    if alias:
        if alias != CHAMPION:
            raise BadConfiguration(f"{text}: the only alias is `champion`; write {name}@champion")
        number = champion(connection, name)
        if number is None:
            _refuse_unknown_model(connection, name)
            raise BadConfiguration(f"{name} has no champion yet; `warmstart models list` shows its versions")
        return _versions(connection, "v.name = %s and v.version = %s", (name, number)) or _refuse(connection, text)
    name, slash, number_text = text.rpartition("/")
    if slash and number_text.isdigit():
        found = _versions(connection, "v.name = %s and v.version = %s", (name, int(number_text)))
        if not found:
            _refuse_version(connection, name, int(number_text))
        return found
    if text.isdigit():
        found = _versions(connection, "v.version = %s", (int(text),))
        return found or _refuse(connection, text)
    run = run_named(connection, text)
    found = _versions(connection, "r.run_id = %s", (run,))
    if not found:
        raise BadConfiguration(
            f"the run {run} has registered no model; `warmstart lineage verify {run}` shows its stages"
        )
    return found


def one_version(connection: psycopg.Connection, text: str) -> tuple[int, Version]:
    """The one version that `text` names.

    Raises:
        BadConfiguration: it names none, or several.
    """
    found = versions_named(connection, text)
    if len(found) > 1:
        raise BadConfiguration(
            f"{text} could be {' or '.join(str(version) for _, version in found)}: write one of them"
        )
    return found[0]


def run_named(connection: psycopg.Connection, text: str) -> str:
    """The id of a run: `text` itself, or the run whose stages ended last for `latest`.

    Raises:
        BadConfiguration: there is none; the sentence has the nearest.
    """
    if text == LATEST:
        row = connection.execute(
            "select r.run_id from attempts a join runs r on r.id = a.run "
            "where a.ended is not null order by a.ended desc, a.id desc limit 1"
        ).fetchone()
        if row is None:
            raise BadConfiguration("no run is in the lineage index yet; `warmstart lineage rebuild` fills it")
        return str(row[0])
    row = connection.execute("select run_id from runs where run_id = %s", (text,)).fetchone()
    return str(row[0]) if row else _refuse(connection, text)


def _versions(connection: psycopg.Connection, where: str, values: tuple[object, ...]) -> list[tuple[int, Version]]:
    # of the attempts that registered a version the first to end made it; a retry only found it
    rows = connection.execute(
        f"""
        select distinct on (v.name, v.version) v.attempt, v.name, v.version, r.run_id, v.verdict, r.as_of, a.ended
        from versions v join attempts a on a.id = v.attempt join runs r on r.id = a.run
        where {where} order by v.name, v.version, a.ended, v.attempt
        """,  # type: ignore[arg-type]
        values,
    ).fetchall()
    served = champion_intervals(connection, [(row[1], row[2]) for row in rows])
    return [
        (row[0], Version(row[1], row[2], row[3], row[4], row[5], row[6], served.get((row[1], row[2]), ())))
        for row in rows
    ]


def _refuse_unknown_model(connection: psycopg.Connection, name: str) -> None:
    known = [row[0] for row in connection.execute("select distinct name from versions order by name")]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=2) or known
        raise BadConfiguration(f"there is no model {name!r}; {_did_you_mean(near)}")


def _refuse_version(connection: psycopg.Connection, name: str, number: int) -> NoReturn:
    _refuse_unknown_model(connection, name)
    every = sorted(v for (v,) in connection.execute("select distinct version from versions where name = %s", (name,)))
    near = ", ".join(map(str, sorted(sorted(every, key=lambda version: abs(version - number))[:3])))
    raise BadConfiguration(f"{name} has no version {number}; the nearest are {near}")


def _refuse(connection: psycopg.Connection, text: str) -> NoReturn:
    known = [row[0] for row in connection.execute("select distinct name from versions order by name")]
    recent = [row[0] for row in connection.execute("select run_id from runs order by id desc limit 2000")]
    champions = [f"{name}@{CHAMPION}" for name in known]
    near = difflib.get_close_matches(text, [*champions, *known, LATEST, *recent], n=3, cutoff=0.5)
    near = list(dict.fromkeys(f"{n}@{CHAMPION}" if n in known else n for n in near))
    raise BadConfiguration(f"nothing is called {text!r}: {_did_you_mean(near) if near else f'give {FORMS}'}")


def _did_you_mean(near: list[str]) -> str:
    return f"did you mean {' or '.join(near)}?" if near else "there are none yet"


def nearest(text: str, known: list[str]) -> str:
    """ "did you mean x?", or a few of what is known when nothing is near; a part of a path is near to the whole."""
    around = [one for one in known if f"/{text.strip('/')}/" in f"/{one}/"]
    near = around[:3] or difflib.get_close_matches(text, known, n=3, cutoff=0.5)
    return _did_you_mean(near) if near else f"known are {', '.join(known[:6]) or 'none yet'}"
