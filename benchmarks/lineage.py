"""`make bench-lineage`: the lineage questions with 10,000 runs in the index, and whether their answers are right.

A made-up history (`tests/lineage/world.py`: nights, repeated runs, backfills, corrections, failures, retries; two
targets, so 16 stages a run) goes straight into the index of a PostgreSQL of its own, in a temporary folder. Figures:

* `model_s`, `file_s`, `row_s`, `diff_s`: median wall time of a whole question in this process: connection, SQL, JSON;
* `row_item_s`: the same for a user and an item, with the files that may hold them opened: a few thousand rows each,
  `row_item_files` of them for a user;
* `source_s`, `source_window_s`: the same for a source's rows of all time, which touch every run there is (the longest
  answer of all), and for those of a month;
* `oracle_mismatches`: answers that differ from a walk over the manifests as dicts;
* `unresolved_hops`: parents and makers, of every manifest there is, that the index does not have;
* `load_s`, `ingest_ms`, `index_gib`: making the index, one more manifest, its size on the disk.

`python benchmarks/lineage.py 500` does it with 500 runs.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from figures import Figure, write_figures

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.data.schema import write_table
from pipeline.lineage.answer import as_json
from pipeline.lineage.cache import object_path
from pipeline.lineage.database import connected
from pipeline.lineage.diff import differences
from pipeline.lineage.file import file_lineage
from pipeline.lineage.index import close_ancestry, ingest, load, lock_for_writing
from pipeline.lineage.model import model_lineage
from pipeline.lineage.rebuild import measure, settle
from pipeline.lineage.row import row_lineage
from pipeline.lineage.row_files import FILES
from pipeline.lineage.source import source_lineage
from pipeline.settings import CHECKOUT, Settings, settings
from tests.lineage.oracle import Oracle
from tests.lineage.world import REGULARS, START, History, graph_of, regular, user
from tests.postgres_fixture import running_postgres

RUNS, ASKED = 10_000, 25
ITEM, ROWS_A_FILE = "this", 4000
NEEDED_BY_THE_ORACLE = ("sha256", "run_id", "stage", "source", "came_from", "parents", "outputs", "model", "ended")


def main() -> None:
    """Run the benchmark and write its figures."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    where = settings()  # the figures go to this home, the index to its own
    with (
        tempfile.TemporaryDirectory(prefix="warmstart-bench-") as scratch,
        running_postgres(Path(scratch)),
    ):
        began = time.monotonic()
        history, manifests = _fill(runs)
        figures: list[Figure] = [("manifests", len(manifests), "manifests"), ("load_s", time.monotonic() - began, "s")]
        figures += _asked(history, Oracle(manifests), Settings(home=Path(scratch)))
        figures += _ingested(history, Path(scratch))
        with connected() as connection:
            hops = connection.execute(UNRESOLVED).fetchone()
            size = connection.execute("select pg_database_size(current_database())").fetchone()
        figures += [
            ("unresolved_hops", hops[0] if hops else -1, "hops"),
            ("index_gib", size[0] / 2**30 if size else 0, "GiB"),
        ]
    write_figures("lineage", figures, where)


UNRESOLVED = """
    select (select count(*) from inputs i left join attempts p on p.sha256 = i.parent where p.id is null)
         + (select count(*) from attempts a left join attempts m on m.sha256 = a.came_from
            where a.source = 'cached' and m.id is null)
"""


def _fill(runs: int) -> tuple[History, list[dict[str, Any]]]:
    rng = random.Random(7)
    history = History(rng, users_a_day=10)
    stages = list(graph_of(history.targets))
    slim, night, commit = [], 40, 0
    with connected() as connection:
        lock_for_writing(connection)
        touched: set[int] = set()
        for first in range(0, runs, 100):
            batch = []
            for _ in range(min(100, runs - first)):
                kind = rng.choices(["night", "repeat", "backfill", "correction", "code"], [80, 8, 4, 4, 4])[0]
                night, commit = night + (kind == "night"), commit + (kind == "code")
                if kind == "correction":
                    history.correct(rng.choice(history.domains), max(0, night // 30 - rng.randrange(6)))
                at = night - rng.randrange(1, 40) if kind == "backfill" else night
                fails = rng.choice(stages) if rng.random() < 0.03 else None
                retries = tuple(rng.sample(stages, 2)) if rng.random() < 0.1 else ()
                batch += history.run(at, fails=fails, retries=retries, commit=commit)
            touched |= load(connection, batch, history.users.get)[1]
            if (first // 100 + 1).bit_count() == 1:
                measure(connection)
            slim += [{key: manifest[key] for key in NEEDED_BY_THE_ORACLE} for manifest in batch]
        measure(connection)
        close_ancestry(connection, touched)
        _promote(connection, history)
    settle()
    return history, slim


def _promote(connection: Any, history: History) -> None:
    # two of three versions became champion, a day each
    for target, last in history.versions.items():
        columns = "target, decided_at, actor, action, reason, to_version, previous_sha256, sha256"
        with connection.cursor().copy(f"copy promotions ({columns}) from stdin") as copy:
            for version in (v for v in range(1, last + 1) if v % 3):
                decided = START + timedelta(days=400 + version)
                copy.write_row((target, decided, "run x", "promote", "better", version, str(version), str(version + 1)))


def _asked(history: History, oracle: Oracle, home: Settings) -> list[Figure]:
    rng = random.Random(11)
    versions = sorted(oracle.registered)
    months = len({table["path"] for table in history.tables.values()}) // len(history.domains)
    wrong = 0
    figures: list[Figure] = []

    def median(name: str, asked: list[Any], ask: Callable[[Any, Any], Any], right: Callable[[Any, Any], bool]) -> None:
        nonlocal wrong
        seconds = []
        for one in asked:
            began = time.monotonic()
            with connected() as connection:
                answer = ask(connection, one)
            as_json(answer)
            seconds.append(time.monotonic() - began)
            wrong += not right(answer, one)
        figures.append((f"{name}_s", statistics.median(seconds), "s"))
        figures.append((f"{name}_worst_s", max(seconds), "s"))

    median(
        "model", rng.sample(versions, ASKED),
        lambda c, key: model_lineage(c, f"{key[0]}/{key[1]}", home.home),
        lambda answer, key: {
            "steps": {step.stage: step.sha256 for step in answer.steps},
            "made_by": {step.stage: step.made_by for step in answer.steps},
            "files": {f.path.removeprefix("data/snapshot/"): (f.md5, f.rows) for f in answer.files},
        } == oracle.model(key) and not answer.unresolved,
    )  # fmt: skip
    median(
        "file", rng.sample(sorted(oracle.holding), ASKED - 5) + _longest_standing(oracle, 5),
        file_lineage,
        lambda answer, md5: _touched(answer.touched) == oracle.below(oracle.holders({md5})),
    )  # fmt: skip
    median(
        "row", [(rng.choice(history.domains), rng.randrange(months), rng.randrange(300)) for _ in range(ASKED)],
        lambda c, who: row_lineage(c, home, who[0], user(*who)),
        lambda answer, who: _touched(answer.touched)
        == oracle.below(oracle.holders(_files_of(history, who), "data/snapshot")),
    )  # fmt: skip
    pairs = [sorted(rng.sample([v for v in versions if v[0] == "rec-harbour"], 2)) for _ in range(ASKED)]
    median(
        "diff", pairs,
        lambda c, pair: differences(c, f"{pair[0][0]}/{pair[0][1]}", f"{pair[1][0]}/{pair[1][1]}", CHECKOUT),
        lambda answer, pair: {part.path for part in answer.partitions} == oracle.partitions(*pair),
    )  # fmt: skip
    few = rng.sample(range(REGULARS), 5)
    candidates = {number: _keep_files(history, "plaza", number, home) for number in few}
    median(
        "row_item", few,
        lambda c, number: row_lineage(c, home, "plaza", regular("plaza", number), ITEM),
        lambda answer, number: _right_of_item(answer, oracle, *candidates[number]),
    )  # fmt: skip
    figures.append(("row_item_files", statistics.median(len(files) for files, _ in candidates.values()), "files"))
    tables = {md5 for md5, held in oracle.holding.items() if any(path == "data/snapshot" for _, path in held)}
    plaza = {md5 for md5 in tables if history.tables.get(md5, {}).get("path", "").startswith("plaza/")}
    median(
        "source", ["plaza/interactions"] * 3,
        source_lineage,
        lambda answer, _: _touched(answer.touched) == oracle.below(oracle.holders(plaza, "data/snapshot")),
    )  # fmt: skip
    windows = [START + timedelta(days=30 * month) for month in rng.sample(range(months), min(months, 5))]
    median(
        "source_window", windows,
        lambda c, start: source_lineage(c, "plaza/interactions", start, start + timedelta(days=30)),
        lambda answer, start: _touched(answer.touched) == oracle.below(oracle.holders(
            {md5 for md5 in plaza if history.tables[md5]["path"].endswith(f"{(start - START).days // 30:04}.parquet")},
            "data/snapshot",
        )),
    )  # fmt: skip
    return [*figures, ("oracle_mismatches", wrong, "answers")]


def _keep_files(history: History, domain: str, number: int, home: Settings) -> tuple[set[str], set[str]]:
    """Put every file that holds a regular user into the cache; returns their md5, and of those with the item."""
    somebody, rng = regular(domain, number), random.Random(number)
    files = {md5 for md5, users in history.users.items() if somebody in users}
    kept = []
    for item in (ITEM, "another"):
        users = sorted([somebody, *(f"{rng.getrandbits(64):016x}" for _ in range(ROWS_A_FILE - 1))])
        items = [item if user == somebody else f"item{rng.randrange(2000)}" for user in users]
        kept.append(home.home / f"{number}-{item}.parquet")
        write_table(pa.table({"user_id": users, "item_id": items, "value": [1.0] * ROWS_A_FILE}), kept[-1])
    holding = set(rng.sample(sorted(files), len(files) // 2))
    for md5 in files:
        place = object_path(home.home / "dvc" / "cache", md5)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.hardlink_to(kept[md5 not in holding])
    return files, holding


def _right_of_item(answer: Any, oracle: Oracle, files: set[str], holding: set[str]) -> bool:
    wanted = (holding | set(answer.not_opened)) & files
    return (
        len(answer.not_opened) == max(0, len(files) - FILES)
        and {one.md5 for one in answer.held} == wanted
        and _touched(answer.touched) == oracle.below(oracle.holders(wanted, "data/snapshot"))
    )


def _touched(touched: Any) -> tuple[set[tuple[str, int]], dict[str, int], int]:
    versions = {(version.name, version.version) for version in touched.versions}
    return versions, {table.path: table.runs for table in touched.tables}, touched.failed


def _longest_standing(oracle: Oracle, count: int) -> list[str]:
    return sorted(oracle.holding, key=lambda md5: (-len(oracle.holding[md5]), md5))[:count]


def _files_of(history: History, who: tuple[str, int, int]) -> set[str]:
    domain, month, _ = who
    name = user(*who)
    # only a month's own partition, and the quarantine, can have somebody of that month
    partition = f"{domain}/interactions/{month:04}.parquet"
    return {md5 for md5, table in history.tables.items() if table["path"] == partition and name in history.users[md5]}


def _ingested(history: History, home: Path) -> list[Figure]:
    seconds = []
    for manifest in history.run(5):
        began = time.monotonic()
        ingest(manifest, home)
        seconds.append(time.monotonic() - began)
    return [("ingest_ms", 1000 * statistics.median(seconds), "ms")]


if __name__ == "__main__":
    main()
