"""`warmstart up | down | status | doctor`, for people. What they do stands in `lifecycle`, `report` and `doctor`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from pipeline.exit_codes import BAD_CONFIGURATION


def up() -> None:
    """Start the local servers that are not running, and wait until they are well."""
    from pipeline.settings import settings
    from pipeline.stack import lifecycle
    from pipeline.stack.credentials import passwords_path

    here = settings()
    with _narrated() as say:
        lifecycle.up(here, say)
    typer.echo(f"Airflow  {here.airflow_uri}  (users admin and viewer, passwords in {passwords_path(here)})")
    typer.echo(f"MLflow   {here.mlflow_uri}")


def down() -> None:
    """Stop the local servers and everything they have started."""
    from pipeline.settings import settings
    from pipeline.stack import lifecycle

    with _narrated() as say:
        ended = lifecycle.down(settings(), say)
    typer.echo(f"{ended} processes ended." if ended else "Nothing was running.")


def status() -> None:
    """Show every server: its state, process, address, and what is wrong with it. Exit code 1 if anything is."""
    from rich.console import Console
    from rich.table import Table

    from pipeline.settings import settings
    from pipeline.stack.report import EXTERNAL
    from pipeline.stack.report import status as servers

    here = settings()
    table = Table(title=f"The stack of {here.home}", title_justify="left")
    for column in ("server", "state", "pid", "up", "address", "problem"):
        table.add_column(column, overflow="fold")
    found = servers(here)
    for server in found:
        well = server.state in {"RUNNING", EXTERNAL} and server.problem is None
        uptime = "" if server.started is None else _duration(time.time() - server.started)
        table.add_row(
            server.name,
            f"[{'green' if well else 'red'}]{server.state.lower()}",
            str(server.pid or ""),
            uptime,
            server.address,
            server.problem or "",
        )
    Console().print(table)
    if any(server.state not in {"RUNNING", EXTERNAL} or server.problem for server in found):
        raise typer.Exit(1)


def doctor() -> None:
    """Check this machine and the servers, and say what to do for each thing that is wrong."""
    from rich.console import Console
    from rich.table import Table

    from pipeline.settings import settings
    from pipeline.stack.doctor import ERROR, MARKS
    from pipeline.stack.doctor import doctor as examine

    checks = examine(settings())
    table = Table(title="warmstart doctor", title_justify="left")
    for column in ("", "what", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for check in checks:
        table.add_row(MARKS[check.level], check.name, check.found, check.fix)
    Console().print(table)
    if any(check.level == ERROR for check in checks):
        raise typer.Exit(BAD_CONFIGURATION)


def _duration(seconds: float) -> str:
    minutes = int(seconds) // 60
    if minutes < 1:
        return f"{int(seconds)} s"
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def _narrated() -> Iterator[Callable[[str], None]]:
    """A spinner that says what is being waited for; a line for each thing when there is no terminal."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True)
    said: set[str] = set()
    with console.status("looking at the stack") as spinner:

        def say(text: str) -> None:
            spinner.update(escape(text))
            topic = text.split(":")[0]
            if not console.is_terminal and topic not in said:
                console.print(escape(topic), highlight=False)
            said.add(topic)

        yield say
