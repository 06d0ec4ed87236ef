"""Look at the registry and the log without changing either: what there is, who was champion when, what does not fit."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from pipeline.exit_codes import BadConfiguration
from pipeline.registry.champion import (
    ALIAS,
    AS_OF_TAG,
    BYTES_TAG,
    NDCG_TAG,
    P50_TAG,
    PREFIX,
    PROMOTION_TAG,
    RUN_TAG,
    VERDICT_TAG,
    Version,
    model_name,
    target_of,
    version_of,
)
from pipeline.registry.mlflow_rest import MlflowRest
from pipeline.registry.promotion_log import Entry, broken_links, entries, log_connection


@dataclass(frozen=True)
class Row:
    """A version in a list; None where it is not known."""

    model: str
    version: int
    champion: bool
    as_of: str | None
    run_id: str | None
    ndcg10: str | None
    n_bytes: float | None
    p50_ms: float | None
    verdict: str | None

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def named(rest: MlflowRest, text: str) -> tuple[str, int | None]:
    """(target, version) of `harbour`, `rec-harbour`, `rec-harbour/3` or `rec-harbour@champion`; None: no version named.

    Raises:
        BadConfiguration: there is no such model or version; names the nearest.
    """
    name, at, alias = text.partition("@")
    name, slash, number = name.partition("/")
    name = name if name.startswith(PREFIX) else model_name(name)
    known = rest.models(PREFIX)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known[:6]
        hint = f"did you mean {' or '.join(near)}?" if near else "nothing has been registered yet: `make run`"
        raise BadConfiguration(f"there is no model {name!r}; {hint}")
    if at:
        if alias != ALIAS:
            raise BadConfiguration(f"{text}: the only alias is {ALIAS}; write {name}@{ALIAS} or {name}/VERSION")
        chain = log_of(target_of(name))
        if not chain:
            raise BadConfiguration(f"{name} has no champion yet; `warmstart models list` shows its versions")
        return target_of(name), chain[-1].to_version
    if not slash:
        return target_of(name), None
    every = [int(version["version"]) for version in rest.versions(name)]
    if not number.isdigit() or int(number) not in every:
        wanted = int(number) if number.isdigit() else max(every)
        near_numbers = sorted(sorted(every, key=lambda v: abs(v - wanted))[:3])
        raise BadConfiguration(f"{name} has no version {number!r}; the nearest are {', '.join(map(str, near_numbers))}")
    return target_of(name), int(number)


def rows(rest: MlflowRest, target: str | None = None) -> list[Row]:
    """Every version of one target or of all, newest first."""
    names = [model_name(target)] if target else rest.models(PREFIX)
    found = []
    for name in names:
        chain = log_of(target_of(name))
        champion = chain[-1].to_version if chain else None
        for version in map(version_of, reversed(rest.versions(name))):
            tag = version.tags.get
            found.append(
                Row(
                    name, version.version, version.version == champion, tag(AS_OF_TAG), tag(RUN_TAG), tag(NDCG_TAG),
                    version.figure(BYTES_TAG), version.figure(P50_TAG), tag(VERDICT_TAG),
                )
            )  # fmt: skip
    return found


def log_of(target: str | None) -> list[Entry]:
    """The promotion log of one target or of all, oldest first."""
    with log_connection() as connection:
        return entries(connection, target)


def reigns(chain: list[Entry], version: int) -> list[tuple[datetime, datetime | None]]:
    """When a version was champion: (since, until); until is None while it still is."""
    ends = [*(entry.decided_at for entry in chain[1:]), None]
    return [(entry.decided_at, end) for entry, end in zip(chain, ends, strict=True) if entry.to_version == version]


def problems(rest: MlflowRest, target: str | None = None) -> list[str]:
    """Every entry that was tampered with and every alias that is not where the log says; empty when all is well."""
    chains: dict[str, list[Entry]] = {}
    for entry in log_of(target):
        chains.setdefault(entry.target, []).append(entry)
    targets = {target} if target else {*chains, *map(target_of, rest.models(PREFIX))}
    return [problem for one in sorted(targets) for problem in _problems(rest, one, chains.get(one, []))]


def _problems(rest: MlflowRest, target: str, chain: list[Entry]) -> list[str]:
    found = broken_links(chain)
    name = model_name(target)
    versions = [version_of(answer) for answer in rest.versions(name)]
    known = {entry.sha256 for entry in chain}
    for version in versions:
        mark = version.tags.get(PROMOTION_TAG)
        if mark and mark not in known:
            found.append(f"{name} version {version.version} was promoted by entry {mark[:12]}, which is not in the log")
    answer = rest.version_by_alias(name, ALIAS)
    shown = int(answer["version"]) if answer else None
    wanted = chain[-1].to_version if chain else None
    if wanted is not None and wanted not in {version.version for version in versions}:
        found.append(f"{name}: the champion by the log, version {wanted}, is gone from MLflow")
    elif shown != wanted:
        found.append(
            f"{name}: MLflow's alias points to {_number(shown)}, the log says {_number(wanted)}; "
            "the next promotion, rollback, `models list` or `warmstart up` lets the alias follow"
        )
    return found


def _number(version: int | None) -> str:
    return "nothing" if version is None else f"version {version}"


def version_named(rest: MlflowRest, target: str, number: int) -> Version:
    """A version that `named` has found."""
    answer = rest.version(model_name(target), number)
    if answer is None:
        raise BadConfiguration(f"{model_name(target)} version {number} is gone from MLflow")
    return version_of(answer)
