"""`lineage reproduce`: a workspace at a model's commit, with its `dvc.lock`, parameters and data; and the proof.

The workspace has nothing of the run but what its record or, once that is deleted, its manifests say, and the contents
that DVC's cache or remote still has. `run_again` executes every stage from the snapshot's rows to the served model,
past DVC's run-cache, and compares md5 with md5: weights are files, so equal weights are equal hashes.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pipeline.exit_codes import BadConfiguration, DataBrokeContract, PassingFault
from pipeline.graph import Graph, load_graph, split_address
from pipeline.lineage.answer import Version
from pipeline.lineage.cache import listing, object_path
from pipeline.lineage.names import one_version
from pipeline.runs.dvc_lock import locked_outputs
from pipeline.runs.folders import folder_name, record_folder
from pipeline.runs.own_python import python_in
from pipeline.runs.workspace import extract_commit, resolve_commit, share_cache
from pipeline.settings import CHECKOUT, Settings

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)

RAW = "data/snapshot"
MODELS = "models/"
FROM_RECORD = ("run.yaml", "params.yaml", "dvc.lock")


@dataclass(frozen=True)
class Reproduction:
    """A workspace that stands for a model version.

    Attributes:
        stages: addresses from the snapshot's rows to the served model, in order.
        expected: md5 of what each of them wrote then, by path.
    """

    version: Version
    workspace: Path
    stages: tuple[str, ...]
    expected: dict[str, str]


@dataclass(frozen=True)
class Compared:
    """An output then and now."""

    path: str
    then: str
    now: str | None

    @property
    def same(self) -> bool:
        """Whether it is the same, byte for byte."""
        return self.then == self.now


def set_up(
    connection: psycopg.Connection, settings: Settings, asked: str, into: Path | None = None, checkout: Path = CHECKOUT
) -> Reproduction:
    """Make the workspace of the version that `asked` names.

    Args:
        into: a folder that is not there yet; by default under `$WARMSTART_HOME/reproduced/`.

    Raises:
        BadConfiguration: no such version, its commit is not in `checkout`, or `into` exists.
        DataBrokeContract: its rows are gone from the cache and the remote; the sentence says which.
    """
    attempt, version = one_version(connection, asked)
    rows = connection.execute(
        "select facts from attempts "
        "where id in (select %(a)s::int union all select ancestor from ancestry where attempt = %(a)s)",
        {"a": attempt},
    )
    facts: dict[str, dict[str, Any]] = {fact["stage"]: fact for (fact,) in rows}
    commit = resolve_commit(checkout, facts[_registers(facts)]["code"]["commit"])
    workspace = (into or settings.home / "reproduced" / folder_name(str(version))).expanduser().absolute()
    if workspace.exists():
        raise BadConfiguration(f"{workspace} exists; give another folder with --into, or remove it")
    workspace.parent.mkdir(parents=True, exist_ok=True)
    try:
        extract_commit(checkout, commit, workspace)
        share_cache(settings, workspace)
        graph = load_graph(workspace / "dvc.yaml")
        _record_or_manifests(record_folder(settings.home, version.run_id), workspace, graph, facts)
        _bring_data(settings, workspace, facts)
    except BaseException:
        shutil.rmtree(workspace, ignore_errors=True)
        raise
    stages = _stages(graph, facts)
    expected = {path: out["md5"] for stage in stages for path, out in facts[stage]["outputs"].items()}
    return Reproduction(version, workspace, stages, expected)


def run_again(reproduction: Reproduction) -> tuple[Compared, ...]:
    """Execute the stages of a reproduction, whatever DVC has in its run-cache, and compare what they wrote.

    Raises:
        PassingFault: a stage did not finish; its own words stand above.
    """
    words = ["repro", "--quiet", "--force", "--no-run-cache", "--single-item", *reproduction.stages]
    done = python_in(reproduction.workspace, "-m", "dvc", "--wait-for-lock", *words)
    if done.returncode:
        raise PassingFault(f"a stage did not finish in {reproduction.workspace} (dvc ended with {done.returncode})")
    now = {path: out["md5"] for path, out in locked_outputs(reproduction.workspace).items()}
    return tuple(Compared(path, md5, now.get(path)) for path, md5 in reproduction.expected.items())


def _registers(facts: dict[str, dict[str, Any]]) -> str:
    return next(stage for stage, fact in facts.items() if fact.get("model"))


def _stages(graph: Graph, facts: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    """What leads to a model: no stage that changes the world outside, none that only reports, not the snapshot."""
    order = {name: position for position, name in enumerate(graph.stages)}
    named = sorted(facts, key=lambda address: order.get(split_address(address)[0], len(order)))
    wanted: set[str] = set()
    for address in reversed(named):  # from the served model backwards to what it read
        fact = facts[address]
        leads_on = any(
            facts[other]["parents"].get(path) == fact["sha256"] for other in wanted for path in fact["outputs"]
        )
        if any(path.startswith(MODELS) for path in fact["outputs"]) or leads_on:
            wanted.add(address)
    return tuple(address for address in named if address in wanted and RAW not in facts[address]["outputs"])


def _record_or_manifests(record: Path, workspace: Path, graph: Graph, facts: dict[str, dict[str, Any]]) -> None:
    if all((record / name).exists() for name in FROM_RECORD):
        for name in FROM_RECORD:
            shutil.copyfile(record / name, workspace / name)
        return
    log.warning("the record %s is gone: parameters and dvc.lock are made again from the manifests", record)
    parameters: dict[str, Any] = {}
    for fact in facts.values():
        parameters |= fact["parameters"]
    params = yaml.safe_load((workspace / "params.yaml").read_text()) | parameters
    (workspace / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    lock = {"schema": "2.0", "stages": {address: _locked(graph, address, fact) for address, fact in facts.items()}}
    (workspace / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    one = facts[_registers(facts)]
    run = {
        "run_id": one["run_id"], "as_of": one["as_of"], "data": params["data"], "targets": params["targets"],
        "overrides": [], "commit": one["code"]["commit"], "git_ref": one["code"]["commit"], "promote": False,
        "origin": one.get("origin"),
    }  # fmt: skip
    (workspace / "run.yaml").write_text(yaml.safe_dump(run, sort_keys=False))


def _locked(graph: Graph, address: str, fact: dict[str, Any]) -> dict[str, Any]:
    name, target = split_address(address)

    def entry(path: str, file: dict[str, Any]) -> dict[str, Any]:
        count = file.get("nfiles", file.get("files"))
        folder = {"nfiles": count} if str(file["md5"]).endswith(".dir") and count is not None else {}
        return {"path": path, "hash": "md5", "md5": file["md5"], "size": file.get("bytes")} | folder

    return {
        "cmd": graph.stages[name].command.replace("${item}", target or ""),
        "deps": [entry(path, file) for path, file in sorted(fact["inputs"].items())],
        "params": {"params.yaml": fact["parameters"]},
        "outs": [entry(path, out) for path, out in sorted(fact["outputs"].items())],
    }


def _bring_data(settings: Settings, workspace: Path, facts: dict[str, dict[str, Any]]) -> None:
    raw = next(fact["outputs"][RAW]["md5"] for fact in facts.values() if RAW in fact["outputs"])
    cache = settings.home / "dvc" / "cache"
    if _gone(cache, raw):
        python_in(workspace, "-m", "dvc", "--wait-for-lock", "fetch", "--quiet", RAW, capture_output=True)
    gone = _gone(cache, raw)
    if gone:
        shown = ", ".join(gone[:3]) + (f" and {len(gone) - 3} more" if len(gone) > 3 else "")
        raise DataBrokeContract(
            f"the rows it learned from are gone from the cache ({cache}) and from the remote ({settings.dvc_remote}): "
            f"{shown}; bring one of them back from a backup"
        )
    # what else is gone is made again by its stage
    python_in(workspace, "-m", "dvc", "checkout", "--quiet", "--force", capture_output=True)


def _gone(cache: Path, md5: str) -> list[str]:
    folder = object_path(cache, md5)
    if not folder.exists():
        return [f"{RAW} (md5 {md5})"]
    return [
        f"{RAW}/{file['relpath']} (md5 {file['md5']})"
        for file in listing(folder) if not object_path(cache, file["md5"]).exists()
    ]  # fmt: skip
