"""`warmstart feedback …`: from the events the service took to partitions, and what they say of the champion."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from pipeline.exit_codes import NOT_PROMOTED

app = typer.Typer(no_args_is_help=True, help="Feedback of the service: partitions, and drift.")

Targets = Annotated[list[str] | None, typer.Argument(help="target domains; none: all that have feedback")]
AsJson = Annotated[bool, typer.Option("--json", help="as JSON")]


@app.command()
def close(
    targets: Targets = None,
    or_skip: Annotated[bool, typer.Option("--or-skip", help="end with 99 when nothing changed")] = False,
    as_json: AsJson = False,
) -> None:
    """Close events into a partition per day; a late event changes its own day. Safe to repeat, also after a kill."""
    from pipeline.feedback.close import close_feedback
    from pipeline.settings import settings

    done = close_feedback(settings(), tuple(targets or ()))
    if as_json:
        rows = [{**vars(partition), "day": str(partition.day)} for partition in done.partitions]
        typer.echo(json.dumps({"partitions": rows, "items": list(done.items)}))
    for one in () if as_json else done.partitions:
        typer.echo(
            f"{one.target} {one.day}: version {one.version}, {one.rows:,} events, {one.quarantined:,} quarantined"
        )
    if not as_json:
        typer.echo("".join(f"{target}: listed items changed\n" for target in done.items), nl=False)
        typer.echo("" if done else "nothing has changed\n", nl=False)
    if or_skip and not done:
        raise typer.Exit(NOT_PROMOTED)


@app.command()
def check() -> None:
    """Are the closed partitions unaltered, and do they keep their contract? 65 if not."""
    from pipeline.feedback.check import check_partitions
    from pipeline.settings import settings

    typer.echo(f"{check_partitions(settings()):,} partitions as they were closed")


@app.command()
def drift(
    targets: Targets = None,
    days: Annotated[int, typer.Option(min=1, help="of feedback that is compared with what the champion learned")] = 7,
    retrain: Annotated[bool, typer.Option(help="start a run, with the reason, for what is above a threshold")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare recent feedback with what each champion learned from and promised; writes a report."""
    from pipeline.feedback.drift import watch
    from pipeline.settings import settings

    where = settings()
    reports = watch(where, tuple(targets or ()), days)
    if as_json:
        typer.echo(json.dumps([report.as_dict() for report in reports], indent=1))
    for report in () if as_json else reports:
        typer.echo(f"{report.target}: {report.sentence}")
    if reports and not as_json:
        typer.echo(f"report: {where.home / 'feedback' / 'drift' / 'index.html'}")
    if retrain and reports:
        from pipeline.feedback.alarm import retrain_for

        for line in retrain_for(where, reports, datetime.now(UTC)):
            typer.echo(line)
