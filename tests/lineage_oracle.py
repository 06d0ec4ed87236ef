"""What the lineage questions must answer, by walking dicts of manifests: slow, short, and with nothing shared."""

from __future__ import annotations

from typing import Any

Manifests = list[dict[str, Any]]


def above(manifests: Manifests, sha: str) -> set[str]:
    """sha256 of everything a manifest descends from, and its own."""
    by_sha = {m["sha256"]: m for m in manifests}
    found, todo = set(), [sha]
    while todo:
        sha = todo.pop()
        if sha not in found:
            found.add(sha)
            todo += by_sha[sha]["parents"].values()
    return found


def registrations(manifests: Manifests) -> dict[tuple[str, int], dict[str, Any]]:
    """(name, version) -> the manifest that registered it first."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for m in sorted((m for m in manifests if m["model"]), key=lambda m: m["ended"]):
        found.setdefault((m["model"]["name"], m["model"]["version"]), m)
    return found


def holders(manifests: Manifests, wanted: set[str], output: str | None = None) -> set[str]:
    """sha256 of the manifests whose outputs (or one of them) hold a file with one of these md5."""
    return {
        m["sha256"] for m in manifests for path, out in m["outputs"].items()
        if output in (None, path) and any(f["md5"] in wanted for f in out["files"])
    }  # fmt: skip


def descending(manifests: Manifests, seeds: set[str]) -> tuple[set[tuple[str, int]], dict[str, int], int]:
    """Versions below `seeds`; path of each table below them -> in how many runs; how many attempts below failed."""
    below = [m for m in manifests if above(manifests, m["sha256"]) & seeds]
    shas = {m["sha256"] for m in below}
    versions = {key for key, m in registrations(manifests).items() if m["sha256"] in shas}
    tables = {(path, m["run_id"]) for m in below for path in m["outputs"]}
    counted = {path: sum(p == path for p, _ in tables) for path, _ in tables}
    return versions, counted, sum(m["source"] == "failed" for m in below)


def of_model(manifests: Manifests, key: tuple[str, int]) -> dict[str, Any]:
    """Stage -> sha256 and the run that made it; raw files with their rows."""
    by_sha = {m["sha256"]: m for m in manifests}
    steps = {by_sha[sha]["stage"]: by_sha[sha] for sha in above(manifests, registrations(manifests)[key]["sha256"])}
    made_by = {s: by_sha[m["came_from"]]["run_id"] if m["came_from"] else m["run_id"] for s, m in steps.items()}
    files = {f["path"]: (f["md5"], f.get("rows")) for f in steps["snapshot"]["outputs"]["data/snapshot"]["files"]}
    return {"steps": {stage: m["sha256"] for stage, m in steps.items()}, "made_by": made_by, "files": files}
