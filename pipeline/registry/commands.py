"""`warmstart models …`: which versions there are, which one serves, since when and why; and to change that.

What protects what: the log and the registry belong to whoever has PostgreSQL's and MLflow's addresses and passwords.
Airflow's viewer has neither, and cannot trigger a run.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pipeline.registry.mlflow_rest import MlflowRest
    from pipeline.registry.promotion_log import Entry

app = typer.Typer(no_args_is_help=True, help="Which model serves, since when and why; and to change that.")
Json = Annotated[bool, typer.Option("--json", help="The whole answer as JSON.")]
Model = Annotated[str, typer.Argument(help="TARGET, rec-TARGET, rec-TARGET/VERSION or rec-TARGET@champion")]
AnyModel = Annotated[str | None, typer.Argument(help="TARGET or rec-TARGET; every model when left out")]
Reason = Annotated[str, typer.Option(help="Why; it is kept in the promotion log.")]


@app.command("list")
def list_(model: AnyModel = None, as_json: Json = False) -> None:
    """Every version, newest first, and which one serves."""
    from pipeline.registry.inspection import rows
    from pipeline.registry.promotion import repair

    rest = _rest()
    target = _target(rest, model)
    repair(rest, target)
    found = rows(rest, target)
    if as_json:
        _print_json([row.as_dict() for row in found])
        return
    cells = [
        [row.model, str(row.version), "[green]champion[/]" if row.champion else "", _day(row.as_of), row.ndcg10 or "–",
         f"{row.n_bytes:,.0f}" if row.n_bytes else "–", f"{row.p50_ms:.2f}" if row.p50_ms else "–",
         row.verdict or "–", row.run_id or "–"]
        for row in found
    ]  # fmt: skip
    _print_table(["model", "version", "", "as_of", "NDCG@10", "bytes", "p50 ms", "verdict", "run"], cells, "models")


@app.command()
def show(model: Model, as_json: Json = False) -> None:
    """A version's card, and when it was champion; the champion when no version is named."""
    from rich.console import Console
    from rich.markdown import Markdown

    from pipeline.registry.inspection import log_of, named, reigns, version_named

    rest = _rest()
    target, number = named(rest, model)
    if number is None:
        target, number = named(rest, f"{model}@champion")
    assert number is not None
    version = version_named(rest, target, number)
    spans = reigns(log_of(target), number)
    if as_json:
        about = {"model": version.name, "version": number, "tags": dict(version.tags), "card": version.description}
        _print_json(about | {"champion": [{"since": since, "until": until} for since, until in spans]})
        return
    console = Console()
    console.print(Markdown(version.description or "no card: it was not registered by a run"))
    for since, until in spans:
        console.print(
            f"champion from {since:%Y-%m-%d %H:%M:%S} UTC " + (f"to {until:%Y-%m-%d %H:%M:%S} UTC" if until else "on")
        )


@app.command()
def promote(
    model: Model,
    reason: Reason,
    force: Annotated[bool, typer.Option(help="Past the gate; the log says so.")] = False,
    as_json: Json = False,
) -> None:
    """Make a version champion, if the gate agrees. Exit code 99 when it holds, 65 when it refuses."""
    from pipeline.exit_codes import DATA_BROKE_CONTRACT, NOT_PROMOTED, BadConfiguration
    from pipeline.registry.inspection import log_of, named, version_named
    from pipeline.registry.promotion import ChampionChanged, repair
    from pipeline.registry.promotion import promote as move

    rest = _rest()
    target, number = named(rest, model)
    if number is None:
        raise BadConfiguration(f"say which version: {model}/VERSION; `warmstart models list {model}` shows them")
    repair(rest, target)
    version = version_named(rest, target, number)
    chain = log_of(target)
    champion = chain[-1].to_version if chain else None
    if champion == number:
        typer.echo(f"{version.name} version {number} is champion already")
        return
    said, verdict = f"forced: {_reason(reason)}", None
    if not force:
        from pipeline.registry.by_hand import judge_by_hand

        decision, reasons, verdict = judge_by_hand(rest, version, champion)
        if decision != "promote":
            typer.echo(f"{decision}: {version.name} version {number}; {'; '.join(reasons)}", err=True)
            raise typer.Exit(NOT_PROMOTED if decision == "hold" else DATA_BROKE_CONTRACT)
        said = f"{_reason(reason)} ({'; '.join(reasons)})"
    try:
        entry = move(rest, target, number, champion, _actor(), said, verdict)
    except ChampionChanged as fault:
        raise BadConfiguration(f"{fault}: look at it, and repeat this") from fault
    _print_entry(entry, as_json)


@app.command()
def rollback(
    model: Model,
    reason: Reason,
    to: Annotated[int | None, typer.Option(help="An earlier champion; the one before when left out.")] = None,
    as_json: Json = False,
) -> None:
    """Make the champion before this one champion again, at once."""
    from pipeline.registry.inspection import named
    from pipeline.registry.promotion import roll_back

    rest = _rest()
    target, number = named(rest, model.removesuffix("@champion"))
    _print_entry(roll_back(rest, target, _actor(), _reason(reason), number if to is None else to), as_json)


@app.command()
def history(model: AnyModel = None, as_json: Json = False) -> None:
    """The promotion log: every change of a champion, who made it and why."""
    from pipeline.registry.inspection import log_of

    found = log_of(_target(_rest(), model))
    if as_json:
        _print_json([entry.as_dict() for entry in found])
        return
    cells = [
        [f"{e.decided_at:%Y-%m-%d %H:%M:%S}", e.target, e.action, f"{_version(e.from_version)} → {e.to_version}",
         e.actor, e.reason, (e.verdict_sha256 or "–")[:12], e.sha256[:12]]
        for e in found
    ]  # fmt: skip
    _print_table(["when (UTC)", "target", "what", "version", "who", "why", "verdict", "entry"], cells, "promotion log")


@app.command()
def verify(model: AnyModel = None, as_json: Json = False) -> None:
    """Recompute the log's chain of hashes and compare the aliases with it. Exit code 65 when something is broken."""
    from pipeline.exit_codes import DATA_BROKE_CONTRACT
    from pipeline.registry.inspection import log_of, problems

    rest = _rest()
    target = _target(rest, model)
    found, count = problems(rest, target), len(log_of(target))
    if as_json:
        _print_json({"entries": count, "problems": found})
    else:
        for problem in found:
            typer.echo(problem, err=True)
        typer.echo(f"{count} entries, {len(found)} problems")
    if found:
        raise typer.Exit(DATA_BROKE_CONTRACT)


def _rest() -> MlflowRest:
    from pipeline.registry.mlflow_rest import MlflowRest
    from pipeline.settings import settings

    return MlflowRest(settings().mlflow_uri)


def _target(rest: MlflowRest, model: str | None) -> str | None:
    from pipeline.registry.inspection import named

    return named(rest, model)[0] if model else None


def _actor() -> str:
    return f"user {getpass.getuser()}"


def _reason(text: str) -> str:
    from pipeline.exit_codes import BadConfiguration

    if not text.strip():
        raise BadConfiguration("--reason is empty; say why, it is what others will read in the log")
    return text.strip()


def _version(number: int | None) -> str:
    return "–" if number is None else str(number)


def _day(moment: str | None) -> str:
    return (moment or "–").removesuffix("T00:00:00Z")


def _print_entry(entry: Entry, as_json: bool) -> None:
    if as_json:
        _print_json(entry.as_dict())
        return
    moved = f"rec-{entry.target} {_version(entry.from_version)} → {entry.to_version}"
    typer.echo(f"{entry.action}: {moved}  (entry {entry.sha256[:12]} of the log)")


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, default=str, ensure_ascii=False))


def _print_table(columns: Sequence[str], cells: Sequence[Sequence[str]], title: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(
            column, overflow="fold", justify="right" if column in ("version", "bytes", "p50 ms") else "left"
        )
    for row in cells:
        table.add_row(*row)
    Console().print(table if cells else f"{title}: nothing yet")
