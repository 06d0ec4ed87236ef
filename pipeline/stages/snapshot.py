"""snapshot: every domain's tables as they were known at `as_of`, canonical and pseudonymised.

A row is in when it happened before `as_of` *and* was known before `as_of` (`created_at`): a backfill sees what the
night itself would have seen. Wrong rows are in too, for `validate` to judge. Users and items that only the
interactions know get rows of their own where the dataset has no table for them (users: always). What the service was
told since (feedback and listed items) is added to its target domain as one more source (`pipeline/data/feedback.py`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import Field

from pipeline.data.canonical import canonicalise
from pipeline.data.dataset import WORLD_PREFIX, Dataset, Domain, Source, load_dataset
from pipeline.data.digests import verify_digests
from pipeline.data.feedback import SOURCE, read_feedback, with_feedback
from pipeline.data.partitions import write_rows
from pipeline.data.pseudonyms import DIGITS, PUBLIC_KEY, pseudonymise, secret_key
from pipeline.data.schema import EARLIEST, SORTED_BY, TABLES, TableName, schema_of
from pipeline.data.sources import read_source
from pipeline.exit_codes import BadConfiguration, DataBrokeContract
from pipeline.runs.contract import AsOf, Folders, Job, StageParams, Summary
from pipeline.settings import settings

log = logging.getLogger(__name__)
Tables = dict[TableName, pl.DataFrame]
LAST_TENTH = 0.9  # of the time range: the test period of the temporal protocol at its default share


class Params(StageParams):
    """Parameters of snapshot."""

    data: str = Field(description="a dataset folder, a dataset.yaml, or world:<size>")
    as_of: AsOf
    sources: dict[str, str] = Field(default_factory=dict, description="digest of every source when the run was opened")
    seed: int = Field(default=7, ge=0, description="of the synthetic world; real data is not drawn")


def run(inputs: Folders, outputs: Folders, params: Params, job: Job) -> Summary:
    """Write `dataset.json`, `<domain>/interactions/<month>.parquet` and `<domain>/{items,users}.parquet`.

    Raises:
        BadConfiguration: no such data, or an `as_of` before everything.
        DataBrokeContract: a source cannot be read as what it should be, or changed since the run was opened.
    """
    out = outputs["data/snapshot"]
    dataset = load_dataset(params.data)
    changed = verify_digests(params.data, dataset, params.sources)
    if changed is not None:
        raise DataBrokeContract(
            f"{changed} of {params.data} changed after the run was opened: its digest is not the recorded one; "
            "start a new run."
        )
    key = PUBLIC_KEY if _pseudonyms(dataset) == "public" else secret_key()
    rows, best = 0, {}
    events: set[str] = set()  # of feedback
    first_rows: list[datetime] = []
    sources: dict[str, dict[str, object]] = {}
    for name, tables in _domains(dataset, params):
        sane = tables["interactions"].filter(pl.col("timestamp") >= EARLIEST)["timestamp"]
        first_rows += sane.bottom_k(1).to_list()
        known = _known_at(tables, params.as_of)
        rows += len(known["interactions"].filter(pl.col("timestamp") >= EARLIEST))
        frames = _pseudonymised(_complete(known), key)
        pinned = params.sources.get(f"{name}/{SOURCE}")
        if pinned is not None:
            frames, added = with_feedback(frames, read_feedback(settings().home, name, pinned), params.as_of)
            rows += len(added)
            events |= set(added["event"])
            place = f"feedback of the service for {name}"
            sources[f"{name}/{SOURCE}"] = {"place": place, "md5": pinned, "rows": len(added)}
        for table in TABLES:
            frame = frames[table].sort(SORTED_BY[table], nulls_last=False, maintain_order=True)
            write_rows(frame, out / name, table, schema_of(table, frame.columns))
            sources |= _source(dataset, params, name, table, len(known[table]))
        if "oracle_rank" in frames["interactions"].columns and "target" in dataset.roles[name]:
            best[name] = best_achievable(frames["interactions"])
        log.info("%s: %s interactions, %s items, %s users", name, *(f"{len(frames[t]):,}" for t in TABLES))
    if first_rows and rows == 0:
        raise BadConfiguration(
            f"as_of {params.as_of:%Y-%m-%dT%H:%M:%SZ} is not after the first interaction of {dataset.name} "
            f"({min(first_rows):%Y-%m-%dT%H:%M:%SZ}): nothing was known yet; give a later as_of."
        )
    _write_json(out / "dataset.json", _description(dataset, params, events))
    if best:
        _write_json(out / "best_achievable.json", best)
    return Summary(
        found=f"{rows:,} interactions of {len(dataset.roles)} domains before {params.as_of:%Y-%m-%d %H:%M} UTC",
        metrics={"interactions": float(rows), "domains": float(len(dataset.roles))},
        facts={"sources": sources},
    )


def _domains(dataset: Dataset, params: Params) -> Iterator[tuple[str, Tables]]:
    """Canonical tables of one domain after the other, nothing left out yet."""
    if dataset.world is not None:
        from pipeline.data.world.dirt import soil
        from pipeline.data.world.generate import generate

        seed = params.seed if dataset.world.seed is None else dataset.world.seed
        markets: dict[str, Tables] = {
            name: {"interactions": market.interactions, "items": market.items, "users": market.users}
            for name, market in generate(dataset.world, seed).markets.items()
        }
        for name, tables in soil(markets, dataset.world.dirt_by_kind, seed).items():
            made = Source(path=f"{WORLD_PREFIX}{dataset.world.size}")
            yield name, {t: canonicalise(tables[t], t, made, "real", f"{name}/{t}") for t in TABLES}
        return
    for name, domain in dataset.domains.items():
        yield name, _read_domain(name, domain, dataset, params.as_of)


def _read_domain(name: str, domain: Domain, dataset: Dataset, as_of: datetime) -> Tables:
    tables: Tables = {}
    for table in TABLES:
        source = domain.table(table)
        where = f"{name}/{table}"
        if source is None:
            nothing = pl.DataFrame(schema=dict.fromkeys(schema_of(table, []).names, pl.Null))
            tables[table] = canonicalise(nothing, table, Source(path="none"), "real", where)
        else:
            raw = read_source(source, table, dataset.root, as_of)
            tables[table] = canonicalise(raw, table, source, dataset.clock, f"{where} ({source.place})")
    if domain.items is None:
        ids = tables["interactions"].select("item_id").drop_nulls().unique(maintain_order=True)
        tables["items"] = pl.concat([tables["items"], ids], how="diagonal").with_columns(
            pl.col("attributes").fill_null(pl.lit([], dtype=pl.List(pl.String)))
        )
    return tables


def _source(dataset: Dataset, params: Params, domain: str, table: TableName, rows: int) -> dict[str, dict[str, object]]:
    """`<domain>/<table>`: where its rows came from, the digest of that, and how many of them were known at `as_of`."""
    name = f"{domain}/{table}"
    if dataset.world is not None:
        return {name: {"place": f"{WORLD_PREFIX}{dataset.world.size}", "md5": None, "rows": rows}}
    source = dataset.domains[domain].table(table)
    if source is None:
        return {}
    return {name: {"place": source.place, "md5": params.sources.get(name), "rows": rows}}


def _known_at(tables: Tables, as_of: datetime) -> Tables:
    """What had happened and was known before `as_of`; a missing timestamp is kept for the contracts to judge."""
    before = (pl.col("timestamp").is_null() | (pl.col("timestamp") < as_of)) & (
        pl.col("created_at").is_null() | (pl.col("created_at") < as_of)
    )
    return {**tables, "interactions": tables["interactions"].filter(before)}


def _complete(tables: Tables) -> Tables:
    """Everybody who did something is a user, whether the users table knows them or not."""
    users = tables["users"]
    active = tables["interactions"].select("user_id").drop_nulls().unique(maintain_order=True)
    unknown = active.join(users, on="user_id", how="anti", maintain_order="left").filter(
        pl.col("user_id").str.strip_chars() != "", pl.col("user_id").str.len_chars() <= 256
    )
    strangers = unknown.with_columns(attributes=pl.lit([], dtype=pl.List(pl.String)))
    return {**tables, "users": pl.concat([users, strangers])}


def _pseudonymised(tables: Tables, key: bytes) -> Tables:
    hidden: Tables = {
        t: tables[t].with_columns(pseudonymise(tables[t]["user_id"], key)) for t in ("interactions", "users")
    }
    return {**tables, **hidden}


def best_achievable(interactions: pl.DataFrame) -> dict[str, float | int | str]:
    """What the true probabilities score on each user's first interaction in the last tenth of the time range.

    NDCG@10 and HR@10 with seen items masked, over all items available at that moment. The oracle knows every taste that
    a model has to guess from behaviour: an upper bound, not a goal that can be reached.
    """
    sane = interactions.filter(
        pl.col("timestamp") >= EARLIEST, pl.col("oracle_rank") > 0, pl.col("user_id").str.len_chars() == DIGITS
    )
    start, end = sane["timestamp"].min(), sane["timestamp"].max()
    cut = start + LAST_TENTH * (end - start) if len(sane) else EARLIEST  # type: ignore[operator]
    first = (
        sane.filter(pl.col("timestamp") >= cut).sort("timestamp").unique("user_id", keep="first", maintain_order=True)
    )
    rank = first["oracle_rank"].to_numpy()
    hit = rank <= 10
    return {
        "ndcg10": round(float(np.mean(hit / np.log2(rank + 1))), 6) if len(rank) else 0.0,
        "hr10": round(float(np.mean(hit)), 6) if len(rank) else 0.0,
        "n": len(rank),
        "definition": "true probabilities, seen items masked; each user's first interaction in the last tenth of time",
    }


def _pseudonyms(dataset: Dataset) -> str:
    """Which key the user ids are hidden with: "public" or "keyed"."""
    return "public" if dataset.world is not None else dataset.pseudonyms


def _description(dataset: Dataset, params: Params, of_feedback: set[str]) -> dict[str, object]:
    described: dict[str, object] = {
        "name": dataset.name,
        "clock": dataset.clock,
        "protocol": dataset.protocol,
        "pseudonyms": _pseudonyms(dataset),  # a server has to call a user by the same name
        "domains": {name: {"role": roles} for name, roles in dataset.roles.items()},
        "sources": dict(sorted(params.sources.items())),
    }
    if dataset.events is not None:
        described["events"] = [*dataset.events, *sorted(of_feedback - set(dataset.events))]
    return described


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
