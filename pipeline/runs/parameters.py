"""params.yaml, a run's overrides, and each stage's typed parameters.

A wrong name or value is refused before anything runs, with the nearest right name:

    pretrain.lerning_rate is not a parameter; did you mean pretrain.learning_rate?
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.exit_codes import BadConfiguration
from pipeline.graph import Graph, Stage
from pipeline.runs.contract import StageParams


def read_params(path: Path) -> dict[str, Any]:
    """params.yaml as nested dictionaries.

    Raises:
        BadConfiguration: the file is missing or no mapping.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as fault:
        raise BadConfiguration(f"{path} cannot be read as parameters: {fault}") from fault
    if not isinstance(values, dict):
        raise BadConfiguration(f"{path} holds {type(values).__name__}, expected sections of `name: value`")
    return values


def apply_overrides(params: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """`params` with `section.name=value` applied; values are read as YAML (`3`, `0.1`, `true`, `[a, b]`).

    Raises:
        BadConfiguration: an override without `=`, or a name that params.yaml does not have.
    """
    changed = {k: dict(v) if isinstance(v, dict) else v for k, v in params.items()}
    names = list(_names(params))
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            raise BadConfiguration(f"override {override!r} has no value; write it as name=value")
        if name not in names:
            raise BadConfiguration(_unknown(name, names))
        section, _, key = name.rpartition(".")
        (changed[section] if section else changed)[key] = yaml.safe_load(text)
    return changed


def stage_params(stage: Stage, params: Mapping[str, Any]) -> StageParams:
    """The typed parameters of one stage: its own section and the top-level values `dvc.yaml` lists for it.

    Raises:
        BadConfiguration: an unknown name, or a value that is not allowed.
    """
    model: type[StageParams] = importlib.import_module(f"pipeline.stages.{stage.name}").Params
    own = params.get(stage.name) or {}
    shared = {name: params.get(name) for name in stage.params if name != stage.name}
    try:
        return model(**own, **shared)
    except ValidationError as fault:
        names = [f"{stage.name}.{field}" for field in model.model_fields if field not in shared]
        raise BadConfiguration("; ".join(_explain(stage.name, shared, e, names) for e in fault.errors())) from fault


def check_params(graph: Graph, params: Mapping[str, Any]) -> None:
    """Check the parameters of every stage at once.

    Raises:
        BadConfiguration: names every fault found.
    """
    faults = []
    sections = {*graph.stages, *(name for stage in graph.stages.values() for name in stage.params)}
    faults += [_unknown(name, sorted(sections)) for name in params if name not in sections]
    for stage in graph.stages.values():
        try:
            stage_params(stage, params)
        except BadConfiguration as fault:
            faults.append(str(fault))
    if faults:
        raise BadConfiguration("; ".join(dict.fromkeys(faults)))


def _names(params: Mapping[str, Any]) -> Iterable[str]:
    for name, value in params.items():
        yield name
        if isinstance(value, dict):
            yield from (f"{name}.{key}" for key in value)


def _unknown(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"the names are {', '.join(sorted(names))}"
    return f"{name} is not a parameter; {hint}"


def _explain(section: str, shared: Mapping[str, Any], error: Any, names: list[str]) -> str:
    key = ".".join(str(part) for part in error["loc"])
    name = key if key.split(".")[0] in shared else f"{section}.{key}"
    if error["type"] == "extra_forbidden":
        return _unknown(name, names)
    if error["type"] == "missing":
        return f"{name} is missing from params.yaml"
    return f"{name} is {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"
