"""`warmstart simulate`: the whole product in one picture."""

from __future__ import annotations

from typing import Annotated

import typer


def simulate(
    days: Annotated[int, typer.Option(min=1, help="to simulate; more than before goes on from there")] = 5,
    size: Annotated[str, typer.Option(help="of the world: tiny, small, medium or large")] = "small",
    seed: Annotated[int, typer.Option(min=0, help="of the world, and of all that its users do")] = 7,
    data: Annotated[
        str, typer.Option(help="a folder of `warmstart data world`, or world:SIZE; without it one is written")
    ] = "",
    targets: Annotated[str, typer.Option(help="target domains, separated by commas or spaces; without it all")] = "",
    users_per_day: Annotated[int, typer.Option(min=1, help="who come each day, in each target")] = 150,
    searching: Annotated[
        float, typer.Option(min=0, max=1, help="share who search for what they want where it was not shown")
    ] = 1.0,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="parameters of every night: name=value, several by spaces")
    ] = None,
    address: Annotated[
        str, typer.Option(help="of a running `warmstart serve --simulated-clock`; without it one is started")
    ] = "",
    out: Annotated[str, typer.Option(help="folder; without it $WARMSTART_HOME/simulation/SIZE-SEED")] = "",
) -> None:
    """Users of the synthetic world against the service, nights through Airflow; plots HR@10 and regret by day."""
    import signal
    import sys

    from pipeline.exit_codes import BROKE, TERMINATED, StageError
    from pipeline.settings import settings
    from pipeline.simulation.play import Asked
    from pipeline.simulation.play import simulate as begin

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # the service it has started ends with it
    words = tuple(word for text in overrides or [] for word in text.split())
    wanted = tuple(targets.replace(",", " ").split())
    try:
        begin(settings(), Asked(days, size, seed, data, wanted, users_per_day, searching, words, address, out))
    except StageError as fault:
        if fault.exit_code != BROKE:
            raise
        typer.echo(str(fault), err=True)  # a night broke, not this process: no traceback of it
        raise typer.Exit(BROKE) from None
