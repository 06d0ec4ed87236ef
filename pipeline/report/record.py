"""A run as its folder tells it: every stage with its state, what it made, and what was judged.

Reads the record of a closed run or the workspace of an open one, and nothing else. Imports neither a machine-learning
library nor pydantic: Airflow's API server reads runs with it too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from pipeline.exit_codes import KILLED, MEANING
from pipeline.graph import ITEM, Graph, load_graph, split_address

EXECUTED, CACHED, FAILED, RUNNING, NOT_RUN = "executed", "cached", "failed", "running", "not run"
OPENING = "open"
JsonObject = dict[str, Any]


@dataclass(frozen=True)
class StageView:
    """One stage of the run.

    Attributes:
        state: one of the five above.
        message: what it found, or the sentence of its failure.
        exit_code: of its last attempt; None while it runs and when it has not run.
        seconds: wall time of the attempt that ended it; None when there was none.
        manifest: of the work that is done, else of the last try; empty for a stage that has none.
        tries: the manifests of all attempts, in order.
        outputs: paths of `dvc.yaml`, with the target in its place.
        reads: the same of what it reads from other stages.
    """

    address: str
    name: str
    target: str | None
    state: str
    message: str
    exit_code: int | None
    seconds: float | None
    manifest: JsonObject
    tries: tuple[JsonObject, ...] = ()
    outputs: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()

    @property
    def meaning(self) -> str:
        """What the exit code means, in words."""
        return MEANING.get(self.exit_code or 0, f"ended with {self.exit_code}")


@dataclass(frozen=True)
class RunView:
    """One run.

    Attributes:
        run: run.yaml.
        stages: by address, in topological order.
        edges: address -> addresses whose outputs it reads.
        validation: results.json of `validate`, of the last attempt if it failed; None without one.
        evaluations: metrics.json by target.
        receipts: receipt.json of `register` by target.
        reports: paths of HTML reports in the folder, relative to it.
    """

    folder: Path
    run: JsonObject
    stages: dict[str, StageView]
    edges: dict[str, tuple[str, ...]]
    validation: JsonObject | None = None
    evaluations: dict[str, JsonObject] = field(default_factory=dict)
    receipts: dict[str, JsonObject] = field(default_factory=dict)
    reports: tuple[str, ...] = ()

    @property
    def closed(self) -> bool:
        """Whether this is the record of a run that has ended."""
        return "closed" in self.run or not self.stages

    @property
    def stopped(self) -> list[StageView]:
        """The stages that failed."""
        return [stage for stage in self.stages.values() if stage.state == FAILED]

    def made_by(self) -> dict[str, StageView]:
        """The stage that writes each path."""
        return {path: stage for stage in self.stages.values() for path in stage.outputs}


def read_run(folder: Path) -> RunView:
    """Read the record of a closed run, or the workspace of an open one.

    A run that could not be opened has neither run.yaml nor dvc.yaml: it is one failed stage, `open`.
    """
    path = folder / "run.yaml"
    run: JsonObject = (yaml.safe_load(path.read_text()) if path.exists() else None) or {"run_id": folder.name}
    targets = run.get("targets") or []
    graph = load_graph(folder / "dvc.yaml") if (folder / "dvc.yaml").exists() else Graph({})
    edges = graph.addresses(targets)
    stages = {address: _stage(folder, graph, address, "closed" in run) for address in edges}
    if not stages:
        stages, edges = {OPENING: _undone(folder, OPENING, True, [], {})}, {OPENING: ()}
    results = [*folder.glob("reports/validation/results.json"), *folder.glob("run/failed/*/**/validation/results.json")]
    return RunView(
        folder=folder,
        run=run,
        stages=stages,
        edges=edges,
        validation=_json(results[0]) if results else None,
        evaluations=_by_target(folder / "reports" / "evaluation", "metrics.json"),
        receipts=_by_target(folder / "receipts" / "register", "receipt.json"),
        reports=tuple(sorted(_reports(folder))),
    )


def _stage(folder: Path, graph: Graph, address: str, closed: bool) -> StageView:
    name, target = split_address(address)
    stage = graph.stages[name]
    made = {out for other in graph.stages.values() for out in other.outs}
    paths = {
        "outputs": _spelled(stage.outs, target),
        "reads": _spelled(tuple(path for path in stage.data if path in made), target),
    }
    kept = folder / "run" / "manifests"
    manifest = _json(kept / f"{address}.json")
    tries = _in_order(kept / "attempts" / address)
    if manifest is None:
        return _undone(folder, address, closed, tries, paths)
    return StageView(
        address, name, target,
        state=CACHED if manifest["source"] == CACHED else EXECUTED,
        message=manifest["message"],
        exit_code=manifest["exit_code"],
        seconds=seconds_between(manifest["started"], manifest["ended"]),
        manifest=manifest,
        tries=tuple(tries),
        **paths,
    )  # fmt: skip


def _undone(
    folder: Path, address: str, closed: bool, tries: list[JsonObject], paths: dict[str, tuple[str, ...]]
) -> StageView:
    """A stage without a manifest of done work: it failed, runs, or has not run."""
    records = _in_order(folder / "run" / "attempts" / address)
    last = tries[-1] if tries else {}
    # a record that is younger than every manifest is of an attempt that has not ended, or could not say so
    if records and records[-1].get("attempt") != last.get("attempt"):
        last = records[-1]
    state, message, code = NOT_RUN, "", None
    if last:
        state, message, code = FAILED, last.get("message", ""), last.get("exit_code")
    if last and "ended" not in last:
        state, code = (FAILED, KILLED) if closed else (RUNNING, None)
        message = "the process was killed (a KILL signal or the memory limit)" if closed else ""
    return StageView(
        address, *split_address(address), state, message, code,
        seconds=seconds_between(last.get("started"), last.get("ended")),
        manifest=tries[-1] if tries else {},
        tries=tuple(tries),
        outputs=paths.get("outputs", ()),
        reads=paths.get("reads", ()),
    )  # fmt: skip


def _in_order(folder: Path) -> list[JsonObject]:
    found = (_json(path) for path in folder.glob("[!.]*.json"))
    return sorted((one for one in found if one), key=lambda one: str(one.get("started")))


def _spelled(paths: tuple[str, ...], target: str | None) -> tuple[str, ...]:
    return tuple(path.replace(ITEM, target or "") for path in paths)


def _by_target(folder: Path, name: str) -> dict[str, JsonObject]:
    found = {path.parent.name: _json(path) for path in sorted(folder.glob(f"*/{name}"))}
    return {target: document for target, document in found.items() if document}


def _reports(folder: Path) -> list[str]:
    names = ["reports/validation/index.html", "run/failed/validate/reports/validation/index.html"]
    for kind in ("augmentation", "compression", "distillation", "evaluation", "transfer"):
        names += [str(path.relative_to(folder)) for path in folder.glob(f"reports/{kind}/*/report.html")]
    return [name for name in names if (folder / name).exists()]


def _json(path: Path) -> JsonObject | None:
    if not path.exists():
        return None
    found: JsonObject = json.loads(path.read_text("utf-8"))
    return found


def seconds_between(start: str | None, end: str | None) -> float | None:
    """Wall time between two ISO moments; None where one is not known."""
    if not start or not end:
        return None
    return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())
