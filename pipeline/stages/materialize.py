"""Fill the online store up to `as_of`, from where the last run left it.

    python -m pipeline stage materialize

Safe to repeat and to kill: the watermark of a view moves after each chunk, forward only. A run older than the one
that was here last does nothing. With nothing to do Feast is not even imported.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, replace
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.features.online_plan import Plan, Table, chunks, from_micros, plan, settled_before
from pipeline.features.online_store import open_online_store, push, remove_vanished, store_name
from pipeline.features.store import JOIN_KEYS, VIEWS, project_name
from pipeline.features.watermarks import Ledger, Watermark, open_ledger
from pipeline.runs.contract import AsOf, Folders, Job, StageParams, Summary
from pipeline.settings import settings

if TYPE_CHECKING:
    from feast import FeatureStore

log = logging.getLogger(__name__)
SERVICE = "serving"  # what the views pushed here are asked for, online


class Params(StageParams):
    """Parameters of `materialize`."""

    as_of: AsOf
    chunk_rows: int = Field(50_000, ge=1, description="states pushed before the watermark moves")


def run(inputs: Folders, outputs: Folders, params: Params, job: Job) -> Summary:
    """Push what the online store lacks; write `receipt.json`.

    Raises:
        PassingFault: PostgreSQL does not answer, or another run is pushing.
    """
    features, where = inputs["data/features"], settings()
    described = json.loads((features / "dataset.json").read_text("utf-8"))
    dataset = described["name"]
    project = project_name(dataset)
    feast = cache(lambda: open_online_store(where, features, project))
    plans: dict[str, Plan] = {}
    with open_ledger(where.postgres_url("warmstart"), store_name(where), project) as ledger:
        marks = ledger.read()
        for view in VIEWS:
            table = Table(features / f"{view}.parquet", JOIN_KEYS[view])
            plans[view] = planned = plan(table, marks, view, params.as_of)
            log.info("%s: %s; %s states to push", view, planned.reason, f"{len(planned.rows):,}")
            if planned.start is None and not planned.nothing:
                # from here on an older run keeps away, and a later one knows that nothing is certain
                ledger.write(view, Watermark(params.as_of))
            if planned.reason == "history changed":
                removed = remove_vanished(where, feast(), view, table.ids(planned.rows))
                log.info("%s: removed %s keys the data no longer has", view, f"{removed:,}")
            if not planned.nothing:
                _push(feast(), ledger, view, table, planned, params)
        marks = ledger.read()
    receipt = {
        "dataset": dataset,
        "online_store": store_name(where),
        "as_of": params.as_of,
        "watermarks": {view: mark.watermark for view, mark in sorted(marks.items())},
        "views": {view: {**asdict(planned), "rows": len(planned.rows)} for view, planned in plans.items()},
    }
    for about in receipt["views"].values():
        del about["known_at"]
    text = json.dumps(receipt, indent=2, sort_keys=True, default=datetime.isoformat) + "\n"
    (outputs["receipts/materialize"] / "receipt.json").write_text(text, "utf-8")
    # the definitions are those the features were made with: both stages run at one commit
    facts = {**described["definitions"], "service": SERVICE, "entities": None}
    return replace(_summary(plans, marks, params), facts={"features": facts})


def _push(store: FeatureStore, ledger: Ledger, view: str, table: Table, planned: Plan, params: Params) -> None:
    """Push one view chunk by chunk, and move its watermark after each."""
    n, done = len(planned.rows), 0
    for chunk in chunks(planned, params.chunk_rows):
        push(store, view, table.read(planned.rows[chunk]), params.chunk_rows)
        done = chunk.stop
        # everything known up to and including this moment is online
        reached = from_micros(int(planned.known_at[chunk.stop - 1]) + 1)
        ledger.write(view, Watermark(params.as_of, reached, table.digest(settled_before(reached))))
        log.info("%s: pushed %s of %s states", view, f"{done:,}", f"{n:,}")
    settled = table.digest(settled_before(params.as_of))
    ledger.write(view, Watermark(params.as_of, params.as_of, settled, table.digest(params.as_of)))


def _summary(plans: dict[str, Plan], marks: dict[str, Watermark], params: Params) -> Summary:
    pushed = sum(len(planned.rows) for planned in plans.values())
    if any(planned.reason == "newer run was here" for planned in plans.values()):
        newest = max(mark.as_of for mark in marks.values())
        found = f"a run of {newest:%Y-%m-%d %H:%M} UTC was here already; this one is older and pushed nothing"
    elif all(planned.nothing for planned in plans.values()):
        found = f"the online store is already filled up to {params.as_of:%Y-%m-%d %H:%M} UTC"
    else:
        found = f"{pushed:,} states pushed; the online store is filled up to {params.as_of:%Y-%m-%d %H:%M} UTC"
    return Summary(found=found, metrics={"states_pushed": float(pushed)})
