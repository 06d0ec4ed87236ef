"""`warmstart compress …`: what smaller models would cost, and keep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="What smaller models would cost, and keep.")


@app.callback()
def compress() -> None:
    """What smaller models would cost, and keep."""


@app.command()
def sweep(
    target: Annotated[str, typer.Option(help="Whose teacher is made smaller.")],
    folder: Annotated[Path, typer.Option(help="Where data and the teacher are, as `dvc repro` leaves them.")] = Path(),
    student: Annotated[list[str] | None, typer.Option(help="Only these students of the grid; may be repeated.")] = None,
    export: Annotated[list[str] | None, typer.Option(help="Only these exports of the grid; may be repeated.")] = None,
    mlflow: Annotated[bool, typer.Option(help="Write the points to MLflow too.")] = True,
) -> None:
    """Draw the frontier of NDCG@10 against bytes and latency, over sizes and methods, as plot and table."""
    from pipeline.exit_codes import BadConfiguration, PassingFault
    from pipeline.graph import load_graph
    from pipeline.runs.attempt import write_json
    from pipeline.runs.parameters import read_params
    from pipeline.settings import settings
    from pipeline.sweep.grid import EXPORTS, STUDENTS
    from pipeline.sweep.points import Source
    from pipeline.sweep.report import render_report
    from pipeline.sweep.sweep import kept_in
    from pipeline.sweep.sweep import sweep as run
    from pipeline.sweep.tracking import track_sweep

    inputs = {name: folder / name for name in ("data/training", "data/item_vectors")}
    inputs["models/teacher"] = folder / "models" / "teacher" / target
    missing = [str(path) for path in inputs.values() if not path.is_dir()]
    if missing:
        raise BadConfiguration(
            f"{missing[0]} is not there; run `dvc repro transfer@{target}` in that folder first, or name another with "
            "--folder"
        )
    source = Source(target, inputs, read_params(folder / "params.yaml"), load_graph(folder / "dvc.yaml"))
    found = run(source, kept_in(settings().home, source), student or list(STUDENTS), export or list(EXPORTS))
    out = folder / "reports" / "compression" / target
    write_json(out / "sweep.json", found)
    page = out / "report.html"
    page.write_text(render_report(found), "utf-8")
    typer.echo(f"on the frontier by bytes: {'; '.join(found['by_bytes'])}")
    typer.echo(f"on the frontier by latency: {'; '.join(found['by_p50_ms'])}")
    typer.echo(f"plots and table: {page}")
    if mlflow:
        try:
            typer.echo(f"in MLflow: run {track_sweep(found, out)}")
        except PassingFault as fault:  # the page is there
            typer.echo(f"not in MLflow: {fault}")
