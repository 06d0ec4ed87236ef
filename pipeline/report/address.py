"""Where Airflow serves the page of a run (`pipeline.orchestration.run_pages`). Standard library only."""

from __future__ import annotations

ROUTE = "/warmstart"


def page_path(run_folder: str) -> str:
    """Path of a run's page on Airflow's server; `run_folder` is the run's id as a folder name."""
    return f"{ROUTE}/runs/{run_folder}/run.html"
