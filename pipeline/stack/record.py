"""`run/services.json`: what was started and how. `child` starts services from it; a second `up` compares with it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.exit_codes import BadConfiguration
from pipeline.settings import Settings
from pipeline.stack.credentials import write_privately
from pipeline.stack.services import Service


def services_path(settings: Settings) -> Path:
    """The record of this home. Mode 600: Airflow's keys stand in it."""
    return settings.home / "run" / "services.json"


def write_record(settings: Settings, table: list[Service]) -> None:
    """Keep what is about to be started."""
    write_privately(services_path(settings), _record(settings, table))


def refuse_other_settings(settings: Settings, table: list[Service]) -> None:
    """A stack that runs is not changed under the tasks that use it.

    Raises:
        BadConfiguration: it was started with other settings; names what differs, without values (some are secret).
    """
    path = services_path(settings)
    before: dict[str, dict[str, Any]] = json.loads(path.read_text())["services"] if path.exists() else {}
    now: dict[str, dict[str, Any]] = json.loads(_record(settings, table))["services"]
    differing = {
        difference
        for name in before.keys() | now.keys()
        for difference in _differences(name, before.get(name, {}), now.get(name, {}))
    }
    if differing:
        raise BadConfiguration(
            f"The stack of {settings.home} is running with other settings ({', '.join(sorted(differing))} differ): "
            "run `warmstart down`, then `warmstart up`."
        )


def _differences(service: str, before: dict[str, Any], now: dict[str, Any]) -> set[str]:
    """Environment variables that differ, and the service's name when anything else of it does."""
    environments = before.get("environment", {}), now.get("environment", {})
    names = environments[0].keys() | environments[1].keys()
    changed = {name for name in names if environments[0].get(name) != environments[1].get(name)}
    same_otherwise = before | {"environment": None} == now | {"environment": None}
    return changed if same_otherwise else changed | {service} if before and now else {service}


def _record(settings: Settings, table: list[Service]) -> str:
    services = {service.name: asdict(service) for service in table}
    return json.dumps({"home": str(settings.home), "services": services}, indent=2)
