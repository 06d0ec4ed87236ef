"""`warmstart lineage …`: where a model came from, what a file went on to touch, and the proofs of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import psycopg

app = typer.Typer(no_args_is_help=True, help="Where a model came from, and what a file went on to touch.")

Json = Annotated[bool, typer.Option("--json", help="The whole answer as JSON.")]
Model = Annotated[str, typer.Argument(help="rec-TARGET@champion, rec-TARGET/VERSION, a run id, or latest")]


@app.command()
def model(name: Model, json: Json = False) -> None:
    """What a model was made of: every stage down to the raw files, their rows and sources."""
    from pipeline.lineage.model import lineage_of
    from pipeline.lineage.names import versions_named
    from pipeline.settings import settings

    home = settings().home

    def ask(connection: psycopg.Connection) -> Any:
        answers = [lineage_of(connection, attempt, v, home) for attempt, v in versions_named(connection, name)]
        return answers[0] if len(answers) == 1 else answers

    _answer(ask, json)


@app.command()
def file(
    path: Annotated[str, typer.Argument(help="a file on this disk, a path in the runs' outputs, or an md5")],
    run: Annotated[str | None, typer.Option(help="Only the content that stood at the path in this run.")] = None,
    json: Json = False,
) -> None:
    """What a file touched: tables, models, versions, and when each of them was champion."""
    from pipeline.lineage.file import file_lineage

    _answer(lambda connection: file_lineage(connection, path, run), json)


@app.command()
def source(
    name: Annotated[str, typer.Argument(help="DOMAIN/TABLE, a domain, or a place that dataset.yaml names")],
    since: Annotated[
        str | None, typer.Option("--from", help="Rows with an event at or after this moment (UTC).")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="Rows with an event before this moment (UTC).")] = None,
    json: Json = False,
) -> None:
    """What the rows of a source, from a time, touched."""
    from pipeline.lineage.source import source_lineage

    start, end = _moment("--from", since), _moment("--to", until)
    _answer(lambda connection: source_lineage(connection, name, start, end), json)


@app.command()
def row(
    domain: Annotated[str, typer.Option(help="Domain of the dataset.")],
    user: Annotated[str, typer.Option(help="A user id as in your data, or its pseudonym.")],
    item: Annotated[
        str | None, typer.Option(help="Only rows with this item; opens the newest files that may hold them.")
    ] = None,
    every_file: Annotated[
        bool, typer.Option("--every-file", help="With --item: opens all of them, however long that takes.")
    ] = False,
    json: Json = False,
) -> None:
    """Which snapshots and files hold a user's rows, whether they were quarantined, which models saw them."""
    from pipeline.lineage.row import row_lineage
    from pipeline.settings import settings

    _answer(lambda connection: row_lineage(connection, settings(), domain, user, item, every_file), json)


@app.command()
def diff(
    before: Annotated[str, typer.Argument(help="a version (16, rec-TARGET/16, rec-TARGET@champion), a run id, latest")],
    after: Annotated[str, typer.Argument(help="the same")],
    json: Json = False,
) -> None:
    """What changed between two models or runs: code, data, parameters, features, environment, metrics."""
    from pipeline.lineage.diff import differences
    from pipeline.settings import CHECKOUT

    _answer(lambda connection: differences(connection, before, after, CHECKOUT), json)


@app.command()
def verify(
    name: Annotated[str, typer.Argument(help="a run id, latest, rec-TARGET/VERSION or rec-TARGET@champion")],
    json: Json = False,
) -> None:
    """Hash again whatever is known by a hash. Exit code 65 when something is altered; what is missing is listed."""
    from pipeline.exit_codes import DATA_BROKE_CONTRACT
    from pipeline.lineage import present_proofs  # noqa: F401  how its answer is drawn
    from pipeline.lineage.database import connected
    from pipeline.lineage.verify import verify as check
    from pipeline.settings import settings

    with _counted("contents") as progress, connected() as connection:
        found = check(connection, settings(), name, progress)
    _show(found, json)
    if found.altered:
        raise typer.Exit(DATA_BROKE_CONTRACT)


@app.command()
def reproduce(
    name: Model,
    into: Annotated[Path | None, typer.Option(help="A new folder; default under $WARMSTART_HOME/reproduced.")] = None,
    run: Annotated[bool, typer.Option("--run", help="Train it again there, and compare the hashes.")] = False,
    json: Json = False,
) -> None:
    """A workspace at a model's commit, with its dvc.lock, parameters and data. Exit code 65: --run made another one."""
    from pipeline.exit_codes import DATA_BROKE_CONTRACT
    from pipeline.lineage import present_proofs  # noqa: F401  how its answers are drawn
    from pipeline.lineage.database import connected
    from pipeline.lineage.reproduce import run_again, set_up
    from pipeline.settings import settings

    with connected() as connection:
        made = set_up(connection, settings(), name, into)
    if not run:
        _show(made, json)
        return
    compared = run_again(made)
    _show(compared, json)
    if not all(one.same for one in compared):
        raise typer.Exit(DATA_BROKE_CONTRACT)


@app.command()
def rebuild() -> None:
    """Make the index again from the manifests alone. Exit code 65 when some of them are altered."""
    from pipeline.exit_codes import DATA_BROKE_CONTRACT
    from pipeline.lineage.rebuild import rebuild as make_again
    from pipeline.settings import settings

    with _counted("manifests") as progress:
        done = make_again(settings().home, progress=progress)
    typer.echo(f"{done.manifests:,} manifests are in the index.")
    for sentence in done.left_out:
        typer.echo(f"left out: {sentence}", err=True)
    if done.left_out:
        raise typer.Exit(DATA_BROKE_CONTRACT)


def _answer(ask: Callable[[psycopg.Connection], Any], as_json: bool) -> None:
    from pipeline.lineage.database import connected

    with connected() as connection:
        answer = ask(connection)
    _show(answer, as_json)


def _show(answer: Any, as_json: bool) -> None:
    if as_json:
        from pipeline.lineage import answer as form

        typer.echo(form.as_json(answer))
        return
    from pipeline.lineage.present import show

    for one in answer if isinstance(answer, list) else [answer]:
        show(one)


@contextmanager
def _counted(what: str) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, all: bar.update(task, completed=done, total=all)


def _moment(option: str, text: str | None) -> Any:
    from pipeline.exit_codes import BadConfiguration
    from pipeline.runs.as_of import parse_as_of

    try:
        return None if text is None else parse_as_of(text)
    except ValueError as fault:
        raise BadConfiguration(f"{option} {str(fault).removeprefix('as_of ')}") from fault
