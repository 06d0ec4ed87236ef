"""`warmstart run`: trigger the DAG through Airflow's API, follow it, show what came of it."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console

from pipeline.exit_codes import BROKE, DONE
from pipeline.follow.airflow_api import AirflowApi
from pipeline.follow.live import exit_code_of, follow, run_folder
from pipeline.follow.result import show_result
from pipeline.graph import load_graph
from pipeline.settings import CHECKOUT, settings
from pipeline.stack.containers import refuse_unready_runtime
from pipeline.stack.credentials import airflow_login, airflow_passwords
from pipeline.stack.lifecycle import up


def run_and_follow(conf: dict[str, Any]) -> int:
    """Returns the run's exit code: 0 for a finished run (also one that promoted nothing), else the failed stage's."""
    # a log has no width of its own
    console = Console() if sys.stdout.isatty() else Console(width=120)
    where = settings()
    refuse_unready_runtime(where)
    with console.status("the stack") as status:
        up(where, status.update)
    api = AirflowApi(where.airflow_uri, *airflow_login(where))
    api.await_dag()
    run_id = api.trigger(conf)
    console.print(f"run       {run_id}\nairflow   {where.airflow_uri}/dags/retrain/runs/{run_id}", soft_wrap=True)
    state = follow(api, run_id, load_graph(CHECKOUT / "dvc.yaml"), where, console)
    folder = run_folder(where, run_id)
    if folder is not None:
        show_result(console, folder, where, {} if where.airflow_api_url else airflow_passwords(where))
    if state == "success":
        return DONE
    console.print()
    kept = f"its workspace is kept: {folder}" if folder else "it could not be opened"
    console.print(f"[bold red]the run failed[/]; {kept}; logs in Airflow", soft_wrap=True)
    return exit_code_of(run_id, where) or BROKE
