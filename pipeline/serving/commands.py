"""`warmstart serve`: the champions, over HTTP."""

from __future__ import annotations

import os
from typing import Annotated

import typer


def serve(
    host: Annotated[str, typer.Option(help="Address to listen at; every address is 0.0.0.0.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8000,
    target: Annotated[list[str] | None, typer.Option(help="Only this target; may be repeated.")] = None,
    simulated_clock: Annotated[
        bool, typer.Option(help="Now is the newest event's time: for simulated worlds.")
    ] = False,
) -> None:
    """Answer requests with each target's champion, and take feedback. Documentation: http://HOST:PORT/docs."""
    # one process on few cores: a library's own threads would only wait for each other
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ.setdefault(variable, "1")
    import gc

    import uvicorn

    from pipeline.serving.app import make_app
    from pipeline.serving.structured_log import log_json_lines
    from pipeline.settings import settings

    log_json_lines(os.environ.get("WARMSTART_LOG_LEVEL", "INFO"))
    gc.set_threshold(50_000, 20, 100)  # requests leave no circles behind; looking for some is the latency's tail
    app = make_app(settings(), target, simulated_clock=simulated_clock)
    uvicorn.run(
        app, host=host, port=port, loop="uvloop", http="httptools", access_log=False, log_config=None,
        server_header=False, timeout_graceful_shutdown=10,
    )  # fmt: skip
