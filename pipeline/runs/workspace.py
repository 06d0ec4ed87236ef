"""A run is a workspace: a clean checkout of one pinned commit under `$WARMSTART_HOME/runs/<run>/`.

Two runs never share a working tree, and the developer's checkout is never touched. The workspaces share one DVC
cache, which holds the run-cache: a stage whose inputs, parameters and code were seen before is restored, not run.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import yaml

from pipeline.exit_codes import BadConfiguration
from pipeline.graph import different_stages, load_graph
from pipeline.runs.as_of import format_as_of, parse_as_of
from pipeline.runs.folders import record_folder, workspace_folder
from pipeline.runs.own_python import python_in
from pipeline.runs.parameters import apply_overrides, read_params
from pipeline.settings import CHECKOUT, Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunRequest:
    """What a caller asks of a run; None takes the value of params.yaml at the pinned commit.

    Attributes:
        run_id: the orchestrator's name for the run, e.g. `manual__2026-01-02T03:04:05+00:00`.
        as_of: exclusive upper bound, UTC.
        data: a dataset folder, a dataset.yaml or `world:<size>`.
        targets: target domains; None means those of the dataset.
        overrides: `section.name=value`.
        git_ref: branch, tag or commit of the checkout.
        promote: False registers the models and leaves the champion alone.
        origin: who asked (manual, scheduled, asset_triggered, backfill), why (`reason`), and the orchestrator's ids.
        images: digest of every container image, by its name under `meta:`; empty where stages are processes.
    """

    run_id: str
    as_of: datetime | None = None
    data: str | None = None
    targets: tuple[str, ...] | None = None
    overrides: tuple[str, ...] = ()
    git_ref: str = "HEAD"
    promote: bool = True
    origin: dict[str, str] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)


def workspace_path(settings: Settings, run_id: str) -> Path:
    """Where the workspace of a run stands while the run is open."""
    return workspace_folder(settings.home, run_id)


def record_path(settings: Settings, run_id: str) -> Path:
    """Where the record of a closed run stands."""
    return record_folder(settings.home, run_id)


def open_workspace(settings: Settings, request: RunRequest, checkout: Path = CHECKOUT) -> Path:
    """Make the workspace of a run, or return the one that an earlier attempt made; its parameters are checked.

    A run that was closed is opened again from its record, with the outputs it had (a task of it was cleared).

    Raises:
        BadConfiguration: an unknown git ref, a graph that differs from the checkout's, a wrong parameter or dataset.
    """
    workspace = workspace_path(settings, request.run_id)
    if (workspace / "run.yaml").exists():
        log.info("the workspace is already open: %s", workspace)
        return workspace
    record = record_path(settings, request.run_id)
    known = run_record(record) if (record / "run.yaml").exists() else None
    commit = resolve_commit(checkout, known["commit"] if known else request.git_ref)
    settings.home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.home, prefix="opening-") as scratch:
        fresh = Path(scratch) / "workspace"
        extract_commit(checkout, commit, fresh)
        _refuse_other_graph(checkout, fresh, request.git_ref)
        share_cache(settings, fresh)
        if known:
            _restore(record, fresh)
        else:
            _begin(settings, fresh, request, commit)
        workspace.parent.mkdir(exist_ok=True)
        shutil.rmtree(workspace, ignore_errors=True)  # a torn one, from a time before run.yaml was written
        fresh.rename(workspace)
    return workspace


def _begin(settings: Settings, workspace: Path, request: RunRequest, commit: str) -> None:
    params = _effective_params(settings, workspace, request)
    (workspace / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    _check_params(workspace)
    (workspace / "run.yaml").write_text(yaml.safe_dump(_run_record(request, params, commit), sort_keys=False))


def _restore(record: Path, workspace: Path) -> None:
    for name in ("run.yaml", "params.yaml", "dvc.lock"):
        if (record / name).exists():
            shutil.copyfile(record / name, workspace / name)
    if (record / "run").is_dir():
        shutil.copytree(record / "run", workspace / "run")
    # what the cache no longer holds is made again by its stage
    python_in(workspace, "-m", "dvc", "checkout", "--quiet", "--force")


def run_record(workspace: Path) -> dict[str, Any]:
    """run.yaml of an open or a closed run."""
    record: dict[str, Any] = yaml.safe_load((workspace / "run.yaml").read_text())
    return record


def resolve_commit(checkout: Path, ref: str) -> str:
    """The commit that a branch, tag or abbreviation means in `checkout`.

    Raises:
        BadConfiguration: it is not there.
    """
    found = _git(checkout, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    if found.returncode:
        raise BadConfiguration(f"git ref {ref!r} is not in {checkout}; fetch it, or give a branch, tag or commit there")
    changed = _git(checkout, "status", "--porcelain", "--untracked-files=no").stdout.decode().splitlines()
    if changed and ref == "HEAD":
        log.warning(
            "the run uses the last commit; %d changed file(s) in %s are not part of it: %s",
            len(changed), checkout, ", ".join(line[3:] for line in changed[:5]),
        )  # fmt: skip
    return found.stdout.decode().strip()


def extract_commit(checkout: Path, commit: str, into: Path) -> None:
    """Write the files of a commit into a new folder.

    Raises:
        BadConfiguration: git cannot read it.
    """
    archive = _git(checkout, "archive", "--format=tar", commit)
    if archive.returncode:
        raise BadConfiguration(f"commit {commit} of {checkout} cannot be read: {archive.stderr.decode().strip()}")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)  # Python before 3.11.4 has none
        tar.extractall(into)


def _git(checkout: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", str(checkout), *words], capture_output=True, check=False)


def _refuse_other_graph(checkout: Path, workspace: Path, ref: str) -> None:
    differing = different_stages(load_graph(checkout / "dvc.yaml"), load_graph(workspace / "dvc.yaml"))
    if differing:
        raise BadConfiguration(
            f"the graph at {ref} differs from the one the DAG was rendered from, in: {', '.join(differing)}; "
            "check that ref out where Airflow reads its DAGs, or run `dvc repro` there"
        )


def _effective_params(settings: Settings, workspace: Path, request: RunRequest) -> dict[str, Any]:
    from pipeline.data.dataset import dataset_targets
    from pipeline.data.digests import source_digests
    from pipeline.data.feedback import feedback_digests
    from pipeline.runs.warm_start import CHAMPION, champion_backbone

    params = read_params(workspace / "params.yaml")
    if request.data is not None:
        params["data"] = request.data
    if not str(params["data"]).startswith("world:"):
        params["data"] = str(Path(params["data"]).expanduser().resolve())
    if request.as_of is not None:
        params["as_of"] = format_as_of(request.as_of)
    params = apply_overrides(params, request.overrides)
    if not request.promote:
        params["register"]["promote"] = False
    offered = dataset_targets(params["data"])
    wanted = list(request.targets) if request.targets else offered
    unknown = [target for target in wanted if target not in offered]
    if unknown or not wanted:
        raise BadConfiguration(
            f"{params['data']} has no target domain {', '.join(unknown) or 'at all'}; its targets are: "
            f"{', '.join(offered) or 'none: give a domain `role: target` in dataset.yaml'}"
        )
    params["targets"] = wanted
    params["sources"] = source_digests(params["data"])
    if (workspace / "pipeline" / "data" / "feedback.py").exists():  # older code would not know what it is
        try:
            as_of = parse_as_of(str(params["as_of"]))
        except ValueError as error:
            raise BadConfiguration(f"{error}.") from error
        params["sources"] |= feedback_digests(settings.home, offered, as_of)
    if (params.get("pretrain") or {}).get("warm_start") == CHAMPION:
        params["pretrain"]["start"] = champion_backbone(settings, wanted)
    return params


def _check_params(workspace: Path) -> None:
    # by the code of the pinned commit, not by ours
    checked = python_in(workspace, "-m", "pipeline", "params", capture_output=True, text=True)
    if checked.returncode:
        raise BadConfiguration(checked.stderr.strip() or checked.stdout.strip())


def share_cache(settings: Settings, workspace: Path) -> None:
    """Point the DVC of a workspace at this home's cache and remote."""
    local = {
        'core': {"no_scm": "true", "remote": "warmstart", "site_cache_dir": str(settings.home / "dvc" / "site")},
        'cache': {"dir": str(settings.home / "dvc" / "cache")},
        "'remote \"warmstart\"'": {"url": settings.dvc_remote},
    }  # fmt: skip
    lines = [f"[{section}]\n" + "".join(f"    {k} = {v}\n" for k, v in body.items()) for section, body in local.items()]
    (workspace / ".dvc" / "config.local").write_text("".join(lines))


def _run_record(request: RunRequest, params: dict[str, Any], commit: str) -> dict[str, Any]:
    return {
        "run_id": request.run_id,
        "as_of": params["as_of"],
        "data": params["data"],
        "targets": params["targets"],
        "overrides": list(request.overrides),
        "commit": commit,
        "git_ref": request.git_ref,
        "promote": request.promote,
        "opened": format_as_of(datetime.now(UTC)),
        **request.origin,
        **({"images": request.images} if request.images else {}),
    }
