"""Close a run: keep its record, push its artifacts, close it in MLflow, tidy up.

A finished run's workspace is removed: its record (`$WARMSTART_HOME/records/<run>/`) and the DVC cache can make it
again. A failed run's workspace is kept for inspection, for as long as `keep_failed_days` says.
"""

from __future__ import annotations

import logging
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import yaml

from pipeline.exit_codes import PassingFault
from pipeline.graph import Graph, load_graph
from pipeline.openlineage.delivery import emit_run
from pipeline.registry.mlflow_rest import MlflowRest
from pipeline.report.address import page_path
from pipeline.runs.as_of import format_as_of
from pipeline.runs.attempt_end import bury_killed
from pipeline.runs.begun import is_alive
from pipeline.runs.faults import explain
from pipeline.runs.manifest import read_every_attempt, read_manifests
from pipeline.runs.manifest_store import FORMAT
from pipeline.runs.own_python import python_in
from pipeline.runs.tracking import end_parent_run, track_stage
from pipeline.runs.workspace import record_path, run_record, workspace_path
from pipeline.runs.wrapper import RUN_FOLDER
from pipeline.settings import Settings

log = logging.getLogger(__name__)

KEPT = ("run.yaml", "params.yaml", "dvc.yaml", "dvc.lock", "reports", "receipts")
GRACE_SECONDS = 15  # more than an operator gives a process group to end
KEPT_OF_RUN = ("manifests", "attempts", "failed")


def close_run(settings: Settings, run_id: str) -> bool:
    """Close a run, finished or not; returns whether every stage of it finished. Safe to repeat.

    Raises:
        PassingFault: the artifacts could not be pushed; the workspace is untouched then.
    """
    workspace = workspace_path(settings, run_id)
    if not workspace.exists():
        log.info("%s is closed already: %s", run_id, record_path(settings, run_id))
        return bool(run_record(record_path(settings, run_id)).get("finished"))
    graph = load_graph(workspace / "dvc.yaml")
    _bury(settings, workspace, graph)
    missing = unfinished(workspace, graph)
    _push(settings, workspace)
    page = settings.airflow_uri + page_path(record_path(settings, run_id).name)
    tracked = _track(settings, workspace, not missing, page)
    _keep_record(settings, workspace, run_id, missing)
    _index(settings, workspace)
    _draw(settings, run_id, tracked)
    emit_run(run_record(record_path(settings, run_id)), read_every_attempt(workspace), settings.home)
    if missing:
        log.warning("not finished: %s; the workspace stays for inspection: %s", ", ".join(missing), workspace)
    else:
        workspace.rename(workspace.with_name(f".{workspace.name}.closed"))  # readers see all of it, or the record
    _remove_old(settings)
    return not missing


def _bury(settings: Settings, workspace: Path, graph: Graph) -> None:
    """Tell of the attempts that were killed. One that Airflow has just ended may need its seconds of grace."""
    addresses = list(graph.addresses(run_record(workspace)["targets"]))
    end = time.monotonic() + GRACE_SECONDS
    while (alive := [a for a in addresses if is_alive(workspace, a)]) and time.monotonic() < end:
        time.sleep(0.2)
    if alive:
        log.warning("%s: still at work while the run is closed; what becomes of it is not told", ", ".join(alive))
    for address in addresses:
        bury_killed(workspace, settings.home, graph, address)


def unfinished(workspace: Path, graph: Graph) -> list[str]:
    """Addresses of the stages of a run that have no manifest."""
    done = read_manifests(workspace)
    return [address for address in graph.addresses(run_record(workspace)["targets"]) if address not in done]


def _push(settings: Settings, workspace: Path) -> None:
    if not (workspace / "dvc.lock").exists():
        return
    pushed = python_in(workspace, "-m", "dvc", "--wait-for-lock", "push", "--quiet", "--run-cache")
    if pushed.returncode:
        raise PassingFault(f"dvc push to {settings.dvc_remote} failed; is it there, and is there space on it?")


def _track(settings: Settings, workspace: Path, finished: bool, page: str) -> str:
    rest = MlflowRest(settings.mlflow_uri)
    for manifest in read_manifests(workspace).values():
        # the code of an older commit wrote manifests of another form
        if manifest.get("format") == FORMAT and manifest["mlflow_run_id"] is None:
            track_stage(workspace, manifest, rest)
    return end_parent_run(rest, run_record(workspace), finished, page)


def _draw(settings: Settings, run_id: str, tracked: str) -> None:
    """The page of the run, in its record; a run is closed without one rather than not at all."""
    try:
        from pipeline.report.page import write_page

        log.info("%s", write_page(record_path(settings, run_id), {"MLflow": f"{settings.mlflow_uri}/#/runs/{tracked}"}))
    except Exception as fault:
        log.warning("the page of this run could not be drawn: %s", explain(fault)[1])
        log.debug("", exc_info=True)


def _index(settings: Settings, workspace: Path) -> None:
    """Tell the lineage index of the run's manifests; they stand in the store, so that nothing is lost if it is away."""
    try:
        from pipeline.lineage.index import ingest

        for manifest in read_every_attempt(workspace):
            ingest(manifest, settings.home)
    except Exception as fault:
        log.warning(
            "the lineage index does not know this run yet: %s; `warmstart lineage rebuild` tells it", explain(fault)[1]
        )
        log.debug("", exc_info=True)


def _keep_record(settings: Settings, workspace: Path, run_id: str, missing: list[str]) -> None:
    record = record_path(settings, run_id)
    fresh = record.with_name(f".{record.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name in KEPT:
        source = workspace / name
        if source.is_dir():
            # copies, not links: the cache's files are write-protected and may be collected
            shutil.copytree(source, fresh / name, copy_function=shutil.copyfile)
        elif source.exists():
            shutil.copyfile(source, fresh / name)
    for name in KEPT_OF_RUN:
        # the record may hold attempts of its own: those at opening the run
        for source in (record / RUN_FOLDER / name, workspace / RUN_FOLDER / name):
            if source.is_dir():
                shutil.copytree(source, fresh / RUN_FOLDER / name, copy_function=shutil.copyfile, dirs_exist_ok=True)
    ended = {"closed": format_as_of(datetime.now(UTC)), "finished": not missing, "unfinished": missing}
    (fresh / "run.yaml").write_text(yaml.safe_dump(run_record(workspace) | ended, sort_keys=False))
    shutil.rmtree(record, ignore_errors=True)
    fresh.rename(record)


def _remove_old(settings: Settings) -> None:
    """Workspaces of closed runs, and of failed ones after some days."""
    runs = settings.home / "runs"
    for closed in runs.glob(".*.closed"):
        try:
            shutil.rmtree(closed)
        except FileNotFoundError:
            log.info("another close removes %s too; what both leave is for the next", closed)
    limit = time.time() - settings.keep_failed_days * 86_400
    for workspace in runs.glob("[!.]*"):
        record = settings.home / "records" / workspace.name / "run.yaml"
        if record.exists() and record.stat().st_mtime < limit:
            log.info("removing the workspace of a run that failed over %d days ago: %s",
                     settings.keep_failed_days, workspace)  # fmt: skip
            shutil.rmtree(workspace)
