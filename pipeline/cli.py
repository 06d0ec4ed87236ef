"""The `warmstart` command. Each command imports what it needs when it runs, so that `--help` and stages start fast."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.data.commands import app as data
from pipeline.exit_codes import BROKE
from pipeline.feedback.commands import app as feedback
from pipeline.lineage.commands import app as lineage
from pipeline.registry.commands import app as models
from pipeline.serving.commands import serve
from pipeline.simulation.commands import simulate
from pipeline.stack.commands import doctor, down, status, up
from pipeline.sweep.commands import app as compress
from pipeline.transfer.commands import app as experiment

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Nightly retraining for recommenders.")
workspace = typer.Typer(no_args_is_help=True, help="A run's workspace, as the orchestrator opens, works and closes it.")
app.add_typer(workspace, name="workspace", hidden=True)
app.add_typer(data, name="data")
app.add_typer(feedback, name="feedback")
app.add_typer(models, name="models")
app.add_typer(lineage, name="lineage")
app.add_typer(compress, name="compress")
app.add_typer(experiment, name="experiment")
for command in (up, down, status, doctor, serve, simulate):
    app.command()(command)


@app.command()
def run(
    data: Annotated[str, typer.Option(help="Dataset folder, dataset.yaml or world:<size>.")] = "",
    targets: Annotated[str, typer.Option(help="Target domains, separated by commas or spaces.")] = "",
    as_of: Annotated[str, typer.Option(help="Learn from rows before this moment (UTC).")] = "",
    overrides: Annotated[list[str] | None, typer.Option("--set", help="name=value, several by spaces.")] = None,
    git_ref: Annotated[str, typer.Option(help="Branch, tag or commit.")] = "HEAD",
    promote: Annotated[bool, typer.Option(help="May the new models become champions?")] = True,
) -> None:
    """Start the stack if it is down, trigger a run through Airflow, follow it, show the result."""
    from pipeline.follow.run import run_and_follow

    words = [word for text in overrides or [] for word in text.split()]
    conf = {
        "data": _absolute(data) or None,
        "targets": targets.replace(",", " ").split() or None,
        "as_of": as_of or None,
        "overrides": words,
        "git_ref": git_ref,
        "promote": promote,
    }
    raise typer.Exit(run_and_follow(conf))


@app.command()
def stage(name: str, target: Annotated[str | None, typer.Option()] = None) -> None:
    """Run one stage in the current folder, as `dvc repro` does."""
    from pipeline.runs.wrapper import run_stage

    _log_to_stderr()
    code = run_stage(Path.cwd(), name, target)
    sys.stdout.flush()
    sys.stderr.flush()
    # the outputs are on the disk; tearing down torch, duckdb and Feast takes a second and prints their leaks
    os._exit(code)


@app.command()
def params() -> None:
    """Check params.yaml of the current folder."""
    from pipeline.graph import load_graph
    from pipeline.runs.parameters import check_params, read_params

    check_params(load_graph(Path("dvc.yaml")), read_params(Path("params.yaml")))


@workspace.command("open")
def open_(
    run_id: str,
    as_of: Annotated[str, typer.Option()],
    data: Annotated[str | None, typer.Option()] = None,
    target: Annotated[list[str] | None, typer.Option()] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set")] = None,
    git_ref: Annotated[str, typer.Option()] = "HEAD",
    promote: Annotated[bool, typer.Option()] = True,
    origin: Annotated[str, typer.Option()] = "manual",
    reason: Annotated[str, typer.Option()] = "",
    image: Annotated[list[str] | None, typer.Option(help="name=digest")] = None,
) -> None:
    """Open the workspace of a run and check what was asked of it."""
    from pipeline.runs.as_of import parse_as_of
    from pipeline.runs.opening import open_and_record
    from pipeline.runs.workspace import RunRequest
    from pipeline.settings import settings

    _log_to_stderr()
    request = RunRequest(
        run_id=run_id,
        as_of=parse_as_of(as_of),
        data=data,
        targets=tuple(target) if target else None,
        overrides=tuple(overrides or ()),
        git_ref=git_ref,
        promote=promote,
        origin={"origin": origin, **({"reason": reason} if reason else {})},
        images=dict(text.split("=", 1) for text in image or []),
    )
    typer.echo(f"workspace: {open_and_record(settings(), request)}")


@workspace.command("stage")
def workspace_stage(address: str) -> None:
    """Bring one stage of the workspace in the current folder up to date."""
    from pipeline.runs.process_group import end_group_on_term
    from pipeline.runs.reproduce import reproduce_stage

    _log_to_stderr()
    end_group_on_term()
    raise typer.Exit(reproduce_stage(Path.cwd(), address))


@workspace.command("close")
def close(run_id: str) -> None:
    """Close a run: keep its record, push its artifacts, tidy up."""
    from pipeline.runs.close import close_run
    from pipeline.settings import settings

    _log_to_stderr()
    close_run(settings(), run_id)


def main() -> None:
    """Entry point: a known fault is one sentence and its exit code, not a traceback."""
    from pipeline.runs.faults import explain

    try:
        app()
    except Exception as fault:
        code, sentence = explain(fault)
        if code == BROKE:
            raise
        typer.echo(sentence, err=True)
        sys.exit(code)


def _absolute(data: str) -> str:
    # the run happens elsewhere: a path given here must mean here
    return data if not data or data.startswith("world:") else str(Path(data).expanduser().resolve())


def _log_to_stderr() -> None:
    level = os.environ.get("WARMSTART_LOG_LEVEL", "INFO")
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr, force=True)
    for noisy in (
        "httpx",
        "urllib3",
        "matplotlib",
        "great_expectations",
        "alembic",
        "feast",
        "sentence_transformers",
    ):
        logging.getLogger(noisy).setLevel(logging.WARNING)
