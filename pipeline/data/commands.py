"""`warmstart data prepare` and `warmstart data world`: make dataset folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Make dataset folders: public data, or the synthetic world.", no_args_is_help=True)

Out = Annotated[Path, typer.Option("--out", help="the dataset folder to write")]


@app.command()
def prepare(
    name: Annotated[str, typer.Argument(help="ml-latest-small, ml-1m, ml-25m or amazon")],
    out: Out,
    source_dir: Annotated[
        Path | None, typer.Option("--from", help="folder with the raw files; without it MovieLens is fetched")
    ] = None,
    sources: Annotated[str, typer.Option(help="amazon: source shops, a comma between them")] = "",
    targets: Annotated[str, typer.Option(help="amazon: target shops, a comma between them")] = "",
    protocol: Annotated[str, typer.Option(help="leave_one_out or temporal")] = "leave_one_out",
    drop_shared_users: Annotated[
        bool, typer.Option(help="amazon: leave users of the targets out of the sources (strict transfer)")
    ] = False,
) -> None:
    """Bring a public dataset into the canonical layout."""
    from pipeline.data.adapters import amazon, movielens
    from pipeline.data.dataset import nearest
    from pipeline.exit_codes import BadConfiguration

    names = [*movielens.RELEASES, "amazon"]
    if name not in names:
        raise BadConfiguration(f"there is no adapter for {name!r}{nearest(name, names)}.")
    if protocol not in ("leave_one_out", "temporal"):
        known = ["leave_one_out", "temporal"]
        raise BadConfiguration(f"--protocol: there is no protocol {protocol!r}{nearest(protocol, known)}.")
    if source_dir is not None and not source_dir.is_dir():
        raise BadConfiguration(f"--from {source_dir.absolute()} is no folder.")
    if name != "amazon":
        written = movielens.prepare(name, source_dir, out, protocol)
    elif source_dir is None:
        raise BadConfiguration("amazon has no address to fetch it from; give its folder with --from.")
    elif protocol == "temporal":
        raise BadConfiguration(
            "amazon has an order but no clock; --protocol leave_one_out is the one that can be used."
        )
    else:
        written = amazon.prepare(source_dir, out, _names(sources), _names(targets), protocol, drop_shared_users)
    typer.echo(f"wrote {written}; next: make run DATA={written.parent}")


def _names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",") if name.strip()]


@app.command()
def world(
    out: Out,
    size: Annotated[str, typer.Option(help="tiny, small, medium or large")] = "small",
    seed: Annotated[int, typer.Option(min=0)] = 7,
    dirt: Annotated[
        list[str] | None, typer.Option(help="share of broken rows of every kind (0.01), or KIND=SHARE; may be repeated")
    ] = None,
) -> None:
    """Write the synthetic world as a dataset folder, e.g. to look at it or to change it."""
    from pipeline.data.world.publish import parse_dirt, publish

    written = publish(out, size, seed, parse_dirt(dirt or []))
    typer.echo(f"wrote {written}; next: make run DATA={written.parent}")
