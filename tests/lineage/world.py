"""Made-up histories of runs as manifests: nights with cache hits, retries, failures and backfills.

`random_history` draws small ones for the oracle tests; `nights` makes long ones for `make bench-lineage`. Both hold to
what `pipeline.runs.manifest` writes: a run is whole in itself (`parents` are manifests of the same run), and a stage
that came from the cache has the outputs of the attempt it came from.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.runs.manifest_store import digest_of

# stage -> the outputs it reads, the outputs it writes; `T` is the target
COMMON = {
    "snapshot": ((), ("data/snapshot",)),
    "validate": (("data/snapshot",), ("data/valid", "data/quarantine", "reports/validation")),
    "features": (("data/valid",), ("data/features", "data/training")),
    "materialize": (("data/features",), ("receipts/materialize",)),
    "embed": (("data/training",), ("data/item_vectors",)),
    "pretrain": (("data/training", "data/item_vectors"), ("models/backbone",)),
}
PER_TARGET = {
    "transfer@T": (("data/training", "data/item_vectors", "models/backbone"), ("models/teacher/T",)),
    "distill@T": (("data/training", "models/teacher/T"), ("models/student/T",)),
    "prune@T": (("data/training", "models/student/T"), ("models/served/T",)),
    "evaluate@T": (("data/training", "models/served/T"), ("reports/evaluation/T",)),
    "register@T": (("models/served/T", "reports/evaluation/T"), ("receipts/register/T",)),
}
ALWAYS = ("materialize", "register")
START = datetime(2024, 1, 1, tzinfo=UTC)
REGULARS = 32


def graph_of(targets: tuple[str, ...]) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Stage address -> (reads, writes), in topological order."""
    spelled = dict(COMMON)
    for target in targets:
        for stage, (reads, writes) in PER_TARGET.items():
            spelled[stage.replace("T", target)] = tuple(  # type: ignore[assignment]
                tuple(path.replace("/T", f"/{target}") for path in paths) for paths in (reads, writes)
            )
    return spelled


def md5(*parts: Any) -> str:
    return hashlib.md5("|".join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()


def instant(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class History:
    """A sequence of runs; `run` adds one and returns its manifests in the order they were written."""

    rng: random.Random
    targets: tuple[str, ...] = ("harbour", "orchard")
    domains: tuple[str, ...] = ("harbour", "orchard", "plaza")
    files_of_a_model: int = 3
    made: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)  # cache key -> manifest sha, outputs
    versions: dict[str, int] = field(default_factory=dict)
    users: dict[str, list[str]] = field(default_factory=dict)  # md5 of a file -> pseudonyms in it
    changed: dict[str, int] = field(default_factory=dict)  # how often a partition was corrected
    users_a_day: int = 3
    serial: int = 0
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)  # each content once, however many folders hold it

    def run(
        self, night: int, *, fails: str | None = None, retries: tuple[str, ...] = (), commit: int = 0, lr: float = 0.1,
        promote: bool = True,
    ) -> list[dict[str, Any]]:  # fmt: skip
        """A run with as_of `START + night days`.

        Args:
            fails: a stage that fails for good: nothing below it runs.
            retries: stages whose first try fails.
        """
        self.serial += 1
        run_id = f"manual__{instant(START + timedelta(days=night))}_{self.serial}"
        clock = START + timedelta(days=400 + self.serial)
        manifests: list[dict[str, Any]] = []
        stood: dict[str, tuple[dict[str, Any], str]] = {}  # path -> output, manifest that wrote it
        for stage, (reads, writes) in graph_of(self.targets).items():
            if any(path not in stood for path in reads):
                continue
            name = stage.partition("@")[0]
            common = {
                "format": 1, "run_id": run_id, "stage": stage, "as_of": instant(START + timedelta(days=night)),
                "code": {"commit": md5("commit", commit) + "0" * 8, "clean": True},
                "environment": {"lock": md5("lock", commit // 3) * 2, "image": None},
                "parameters": {name: {"learning_rate": lr}} if name == "pretrain" else {name: {}},
                "inputs": {
                    **{path: {k: stood[path][0][k] for k in ("md5", "bytes")} for path in reads},
                    f"pipeline/stages/{name}.py": {"md5": md5(name, commit), "bytes": 100},
                },
                "parents": {path: stood[path][1] for path in reads},
                "origin": "manual", "airflow": None, "mlflow_run_id": None, "metrics": {}, "promoted": None,
                "sources": {}, "validation": None, "features": None, "model": None,
                "machine": {"cores": 2}, "cpu_seconds": 1.0, "peak_memory_bytes": 1 << 20,
            }  # fmt: skip
            tries = 0
            if stage in retries or stage == fails:
                tries, clock = 1, clock + timedelta(seconds=7)
                manifests.append(self._sealed(common, tries, "failed", 75 if stage in retries else 65, clock, {}))
            if stage == fails:
                continue
            clock += timedelta(seconds=11)
            key = md5(stage, sorted((p, f["md5"]) for p, f in common["inputs"].items()), common["parameters"],
                      night if name == "snapshot" else "")  # fmt: skip
            cached = self.made.get(key) if name not in ALWAYS else None
            outputs = cached[1] if cached else {path: self._output(path, name, key, night, run_id) for path in writes}
            facts = self._facts(name, stage, run_id, night, outputs, promote)
            done = self._sealed({**common, **facts}, tries + 1, "cached" if cached else "executed", 0, clock, outputs,
                                came_from=cached[0] if cached else None)  # fmt: skip
            if not cached:
                self.made[key] = (done["sha256"], outputs)
            manifests.append(done)
            for path, output in outputs.items():
                stood[path] = (output, done["sha256"])
        return manifests

    def correct(self, domain: str, month: int) -> None:
        """A partition of the past becomes another: late rows, or a repaired source."""
        self.changed[f"{domain}/{month}"] = self.changed.get(f"{domain}/{month}", 0) + 1

    def _sealed(self, common: dict[str, Any], number: int, source: str, code: int, clock: datetime,
                outputs: dict[str, Any], came_from: str | None = None) -> dict[str, Any]:  # fmt: skip
        manifest = {
            **common, "attempt": md5(common["run_id"], common["stage"], number)[:12], "try": number, "source": source,
            "came_from": came_from, "exit_code": code, "message": "done" if code == 0 else "a sentence",
            "started": instant(clock - timedelta(seconds=5)), "ended": instant(clock), "outputs": outputs,
        }  # fmt: skip
        return {**manifest, "sha256": digest_of(manifest)}

    def _output(self, path: str, name: str, key: str, night: int, run_id: str) -> dict[str, Any]:
        files: list[dict[str, Any]]
        if path in ("data/snapshot", "data/valid"):
            files = [file for domain in self.domains for file in self._tables(domain, night)]
        elif path == "data/quarantine":
            files = self._quarantine(night)
        elif name in ALWAYS:
            files = [{"path": "receipt.json", "md5": md5(path, run_id), "bytes": 90}]
        else:
            files = [
                {"path": f"{i}.bin", "md5": md5(path, key, i), "bytes": 100 + i} for i in range(self.files_of_a_model)
            ]
        listed = md5(path.split("/")[0], *((f["path"], f["md5"]) for f in files)) + ".dir"
        return {"md5": listed, "bytes": sum(f["bytes"] for f in files), "nfiles": len(files),
                "rows": sum(f.get("rows", 0) for f in files) or None, "files": files}  # fmt: skip

    def _tables(self, domain: str, night: int) -> Iterator[dict[str, Any]]:
        # months of 30 days; the last one grows every night, those before it stay as they are unless corrected
        for month in range(max(0, night // 30 - 11), night // 30 + 1):
            days = min(night - 30 * month, 30)
            if days == 0:
                continue
            edition = self.changed.get(f"{domain}/{month}", 0)
            start = START + timedelta(days=30 * month)
            digest = md5(domain, month, days, edition)
            there = range(self.users_a_day * days + edition)
            names = [user(domain, month, number) for number in there]
            self.users.setdefault(digest, [*names, regular(domain, month % REGULARS)])
            yield self.tables.setdefault(digest, {
                "path": f"{domain}/interactions/{month:04}.parquet", "md5": digest, "bytes": 50 * days,
                "rows": 10 * days + edition, "columns": {"user_id": "string", "item_id": "string"},
                "from": instant(start), "to": instant(start + timedelta(days=days, seconds=-1)),
            })  # fmt: skip
        yield {"path": f"{domain}/items.parquet", "md5": md5(domain, "items", night // 30), "bytes": 900, "rows": 40}

    def _quarantine(self, night: int) -> list[dict[str, Any]]:
        digest = md5("quarantine", night // 10)
        self.users.setdefault(digest, [user(self.domains[0], night // 30, 0)])
        return [{"path": f"{self.domains[0]}/interactions/{night // 30:04}.parquet", "md5": digest, "bytes": 10,
                 "rows": 1}]  # fmt: skip

    def _facts(self, name: str, stage: str, run_id: str, night: int, outputs: dict[str, Any], promote: bool) -> Any:
        if name == "snapshot":
            return {"sources": {
                f"{domain}/{table}": {"place": f"{domain}/{table}.csv", "md5": md5(domain, table, night), "rows": night}
                for domain in self.domains for table in ("interactions", "items")
            }}  # fmt: skip
        if name == "validate":
            return {"validation": {"suites": {"interactions": "a" * 64}, "success": True, "quarantined": {}}}
        if name == "features":
            return {"features": {"registry": "b" * 64, "service": "retrain", "views": {"user_history": "c" * 64},
                                 "definitions": "d" * 64, "entities": md5(night)}}  # fmt: skip
        if name == "evaluate":
            return {"metrics": {"ndcg10": round(self.rng.random(), 4)}}
        if name == "register":
            target = stage.partition("@")[2]
            number = self.versions[target] = self.versions.get(target, 0) + 1
            verdict = "promote" if promote else "hold"
            return {"model": {"name": f"rec-{target}", "version": number, "verdict": verdict, "reasons": ["better"]}}
        return {}


def user(domain: str, month: int, number: int) -> str:
    """A pseudonym; in a month's partition stands `number` 0, 1, … of that month and domain."""
    return md5("user", domain, month, number)[:16]


def regular(domain: str, number: int) -> str:
    """A pseudonym that stands in every edition of every month that is `number` modulo `REGULARS`."""
    return md5("regular", domain, number)[:16]


def random_history(seed: int, runs: int = 12) -> tuple[History, list[dict[str, Any]]]:
    """Some runs of everything at once: nights, repeated ones, backfills, failures, retries, corrections."""
    rng = random.Random(seed)
    history = History(rng)
    manifests, night, commit, stages = [], rng.randrange(1, 60), 0, list(graph_of(history.targets))
    for _ in range(runs):
        kind = rng.choice(["night", "night", "repeat", "backfill", "correction", "code"])
        night += kind == "night"
        commit += kind == "code"
        if kind == "correction":
            history.correct(rng.choice(history.domains), night // 30)
        at = max(1, night - rng.randrange(1, 30)) if kind == "backfill" else night
        manifests += history.run(
            at,
            fails=rng.choice(stages) if rng.random() < 0.25 else None,
            retries=tuple(rng.sample(stages, 2)) if rng.random() < 0.4 else (),
            commit=commit,
            lr=rng.choice([0.1, 0.2]),
            promote=rng.random() < 0.6,
        )
    return history, manifests
