"""What the lineage questions must answer, by walking dicts of manifests; nothing is shared with the index."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

Key = tuple[str, int]  # model name, version


class Oracle:
    """A history of manifests as plain dicts."""

    def __init__(self, manifests: Iterable[dict[str, Any]]) -> None:
        self.by_sha = {m["sha256"]: m for m in manifests}
        self.children: dict[str, list[str]] = defaultdict(list)
        self.holding: dict[str, set[tuple[str, str]]] = defaultdict(set)  # md5 of a file -> manifest, output
        self.registered: dict[Key, dict[str, Any]] = {}
        for m in sorted(self.by_sha.values(), key=lambda m: m["ended"]):
            for parent in set(m["parents"].values()):
                self.children[parent].append(m["sha256"])
            for path, out in m["outputs"].items():
                for file in out["files"]:
                    self.holding[file["md5"]].add((m["sha256"], path))
            if m["model"]:  # of a version registered again by a retry, the first one counts
                self.registered.setdefault((m["model"]["name"], m["model"]["version"]), m)

    def above(self, sha: str) -> set[str]:
        """sha256 of everything a manifest descends from, and its own."""
        return _reach([sha], lambda one: self.by_sha[one]["parents"].values())

    def holders(self, wanted: Iterable[str], output: str | None = None) -> set[str]:
        """sha256 of the manifests whose outputs (or one of them) hold a file with one of these md5."""
        return {sha for md5 in wanted for sha, path in self.holding.get(md5, ()) if output in (None, path)}

    def below(self, seeds: Iterable[str]) -> tuple[set[Key], dict[str, int], int]:
        """Versions below `seeds`; path of each table -> in how many runs it is below; how many attempts failed."""
        below = _reach(seeds, lambda one: self.children[one])
        versions = {key for key, m in self.registered.items() if m["sha256"] in below}
        tables = {(path, self.by_sha[sha]["run_id"]) for sha in below for path in self.by_sha[sha]["outputs"]}
        counted: dict[str, int] = defaultdict(int)
        for path, _ in tables:
            counted[path] += 1
        return versions, dict(counted), sum(self.by_sha[sha]["source"] == "failed" for sha in below)

    def model(self, key: Key) -> dict[str, Any]:
        """Stage -> sha256; stage -> the run that made its outputs; raw files with md5 and rows."""
        steps = {self.by_sha[sha]["stage"]: self.by_sha[sha] for sha in self.above(self.registered[key]["sha256"])}
        makers = {stage: self.by_sha[m["came_from"] or m["sha256"]]["run_id"] for stage, m in steps.items()}
        return {
            "steps": {stage: m["sha256"] for stage, m in steps.items()},
            "made_by": makers,
            "files": {
                f["path"]: (f["md5"], f.get("rows")) for f in steps["snapshot"]["outputs"]["data/snapshot"]["files"]
            },
        }

    def partitions(self, one: Key, two: Key) -> set[str]:
        """Files of the snapshot that differ between two versions."""
        before, after = self.model(one)["files"], self.model(two)["files"]
        return {path for path in {*before, *after} if before.get(path) != after.get(path)}


def _reach(start: Iterable[str], following: Any) -> set[str]:
    found: set[str] = set()
    todo = list(start)
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo += following(one)
    return found
