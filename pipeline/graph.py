"""`dvc.yaml` as stages and edges: the one graph that DVC, Airflow and containers share.

Standard library and yaml only, because both environments import it and a DAG is parsed every few seconds.

    >>> graph = load_graph(Path("dvc.yaml"))
    >>> graph.upstream("pretrain")
    ('embed', 'features')
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

# What a per-target stage writes for its target, in `dvc.yaml`'s own templating.
ITEM = "${item}"


@dataclass(frozen=True)
class Stage:
    """One stage of `dvc.yaml`; per-target stages are kept as their template, with `${item}` in their paths.

    Attributes:
        name: the stage's name; DVC addresses the stage of target T as `name@T`.
        per_target: written with `foreach: ${targets}`.
        data: the dependencies that other stages write, or a person brings; without code.
        code: the dependencies that are part of the repository.
        outs: folders the stage writes.
        params: names in params.yaml that the stage reads: its own section and top-level values.
        meta: what only an orchestrator needs: image, network, gpus, pool, cpus, memory, timeout, retries.
        always_changed: runs every time, because it changes the world outside.
    """

    name: str
    description: str
    command: str
    per_target: bool
    data: tuple[str, ...]
    code: tuple[str, ...]
    outs: tuple[str, ...]
    params: tuple[str, ...]
    always_changed: bool = False
    meta: Mapping[str, Any] = field(default_factory=dict)

    def address(self, target: str | None) -> str:
        """The name DVC knows this stage by: `pretrain`, or `transfer@harbour`."""
        return f"{self.name}@{target}" if self.per_target else self.name


@dataclass(frozen=True)
class Graph:
    """Stages in the order of `dvc.yaml`, which is a topological order (checked on loading)."""

    stages: Mapping[str, Stage]

    def upstream(self, name: str) -> tuple[str, ...]:
        """Names of the stages whose outputs `name` reads, sorted; per-target stages by their template's name."""
        reads = self.stages[name].data
        return tuple(sorted(s.name for s in self.stages.values() if any(o in reads for o in s.outs)))

    def addresses(self, targets: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """The graph spelled out for `targets`: DVC address of every stage -> addresses it waits for."""
        spelled: dict[str, tuple[str, ...]] = {}
        targets = list(targets)
        for stage in self.stages.values():
            for target in targets if stage.per_target else [None]:
                above = (self.stages[name].address(target) for name in self.upstream(stage.name))
                spelled[stage.address(target)] = tuple(sorted(above))
        return spelled


def load_graph(path: Path) -> Graph:
    """Read a `dvc.yaml`.

    Raises:
        ValueError: the file has a form this project does not use, or a stage reads what a later stage writes.
    """
    document = yaml.safe_load(path.read_text()) or {}
    stages: dict[str, Stage] = {}
    for name, body in document.get("stages", {}).items():
        stages[name] = _stage(name, body, path)
    graph = Graph(stages)
    _refuse_disorder(graph, path)
    return graph


def different_stages(one: Graph, other: Graph) -> list[str]:
    """Names of the stages that an orchestrator would run differently: another edge, another `meta`, or not there."""
    names = [*one.stages, *(name for name in other.stages if name not in one.stages)]
    return [name for name in names if _as_orchestrated(one, name) != _as_orchestrated(other, name)]


def split_address(address: str) -> tuple[str, str | None]:
    """`transfer@harbour` -> ("transfer", "harbour"); `pretrain` -> ("pretrain", None)."""
    name, _, target = address.partition("@")
    return name, target or None


def _as_orchestrated(graph: Graph, name: str) -> tuple[Any, ...] | None:
    if name not in graph.stages:
        return None
    stage = graph.stages[name]
    return stage.per_target, graph.upstream(name), stage.command, dict(stage.meta)


def _stage(name: str, body: dict[str, Any], path: Path) -> Stage:
    per_target = "foreach" in body
    if per_target and body["foreach"] != "${targets}":
        raise ValueError(f"{path}: stage {name} has foreach {body['foreach']!r}; only '${{targets}}' is rendered")
    if per_target:
        body = body["do"]
    paths = [_path_of(dep) for dep in body.get("deps", [])]
    code = tuple(p for p in paths if p.split("/")[0] in ("pipeline", "feature_repo"))
    return Stage(
        name=name,
        description=body.get("desc", ""),
        command=body["cmd"],
        per_target=per_target,
        data=tuple(p for p in paths if p not in code),
        code=code,
        outs=tuple(_path_of(out) for out in body.get("outs", [])),
        params=tuple(body.get("params", [])),
        always_changed=bool(body.get("always_changed", False)),
        meta=body.get("meta", {}),
    )


def _path_of(entry: str | dict[str, Any]) -> str:
    # DVC writes an output with options as {path: {option: value}}
    return entry if isinstance(entry, str) else next(iter(entry))


def _refuse_disorder(graph: Graph, path: Path) -> None:
    seen: set[str] = set()
    for name in graph.stages:
        late = [above for above in graph.upstream(name) if above not in seen]
        if late:
            raise ValueError(f"{path}: stage {name} reads what {', '.join(late)} writes; write it below them")
        seen.add(name)
