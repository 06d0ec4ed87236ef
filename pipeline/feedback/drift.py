"""Is the champion still the model of the world it serves?

    warmstart feedback drift

Three questions, about the last days of feedback: have the features moved (`psi.py`) against what the champion learned
from; does HR@10 of what was shown keep what the evaluation promised; how many answers came from a fallback. Page and
figures go to `$WARMSTART_HOME/feedback/drift/`.
"""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta
from itertools import pairwise

import polars as pl

from pipeline.data.feedback import IMPRESSION, read_feedback, write_whole
from pipeline.data.schema import NEGATIVE_EVENTS
from pipeline.feedback.baseline import Baseline, champion_baseline
from pipeline.feedback.drift_page import page
from pipeline.feedback.drift_report import LEAST_EVENTS, Online, Report
from pipeline.feedback.psi import Shift, shift_of
from pipeline.settings import Settings

FALL = 0.3  # relative loss of HR@10 against the promise that is no drift yet
FALLBACKS = 0.5  # share of answers that the model did not give, above which something is wrong
Z = 3.29  # two-sided 99.9 %
REFERENCE = 4  # times the days of feedback: how far back the champion's own rows are looked at
TOP = 12  # attributes that have a bin of their own
DAY = timedelta(days=1)


def watch(settings: Settings, targets: tuple[str, ...] = (), days: int = 7) -> list[Report]:
    """Judge the champions of `targets` (none: of all with feedback) and write the report; those without are left out.

    Raises:
        PassingFault: PostgreSQL does not answer.
    """
    folder = settings.home / "feedback"
    known = targets or tuple(sorted(path.parent.name for path in folder.glob("*/closed.json")))
    reports = []
    for target in known:
        baseline = champion_baseline(settings, target)
        if baseline is not None:
            reports.append(judge(baseline, read_feedback(settings.home, target).events, days))
    content = json.dumps([report.as_dict() for report in reports], indent=1) + "\n"
    write_whole(folder / "drift" / "drift.json", content.encode())
    write_whole(folder / "drift" / "index.html", page(reports, days).encode())
    return reports


def judge(baseline: Baseline, events: pl.DataFrame, days: int) -> Report:
    """Compare the last `days` of feedback with a champion's world.

    Args:
        events: closed feedback, columns of EVENT_SCHEMA.
    """
    newest = events["timestamp"].max()
    until = newest if isinstance(newest, datetime) else baseline.as_of
    recent = events.filter(pl.col("timestamp") > until - days * DAY)
    taken = recent.filter(~pl.col("event").is_in([IMPRESSION, *NEGATIVE_EVENTS]))
    known = baseline.interactions
    since = baseline.as_of - REFERENCE * days * DAY
    middle = known["timestamp"].median()
    if isinstance(middle, datetime):  # of a young shop: before them something must be known, or nothing is popular
        since = max(since, middle)
    before = known.filter(pl.col("timestamp") >= since)
    then = _features(before, known.filter(pl.col("timestamp") < since), baseline.items)
    now = _features(taken, known, baseline.items)
    shifts = tuple(shift_of(name, then[name], now[name]) for name in then)
    online = measure_online(recent)
    reasons = _reasons(shifts, online, baseline, len(taken))
    return Report(
        baseline.target,
        baseline.run_id,
        f"{until:%Y-%m-%dT%H:%M:%SZ}",
        len(taken),
        shifts,
        online,
        baseline.hr10,
        reasons,
    )


def measure_online(recent: pl.DataFrame) -> Online:
    """HR@10 and fallbacks, from impressions and what was taken under the same request id.

    The service adds to an event's context what it knows of the answer: its `source`, and the item's `rank` (from 1).
    """
    said = recent.filter(pl.col("request_id").is_not_null()).with_columns(
        rank=pl.col("context").str.json_path_match("$.rank").cast(pl.Int64, strict=False),
        source=pl.col("context").str.json_path_match("$.source"),
    )
    shown = said.filter(pl.col("event") == IMPRESSION)
    requests = shown.group_by("request_id").agg(pl.col("source").drop_nulls().first())
    first_ten = shown.filter(pl.col("rank").fill_null(1) <= 10).select("request_id", "item_id").unique()
    taken = said.filter(~pl.col("event").is_in([IMPRESSION, *NEGATIVE_EVENTS])).select("request_id", "item_id").unique()
    hits = first_ten.join(taken, on=["request_id", "item_id"], how="semi")["request_id"].unique()
    models = requests.filter(pl.col("source").fill_null("model") == "model")
    n, k = len(models), int(models["request_id"].is_in(hits.implode()).sum())
    low, high = wilson(k, n)
    sources = requests["source"].drop_nulls()
    fallbacks = float((sources != "model").sum() / len(sources)) if len(sources) else None
    return Online(len(requests), k / n if n else None, low, high, fallbacks)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Interval of a share (Wilson 1927) at `Z`."""
    if not n:
        return 0.0, 1.0
    share, z2 = hits / n, Z * Z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def _features(rows: pl.DataFrame, known: pl.DataFrame, items: pl.DataFrame) -> dict[str, list[str]]:
    """Bins of the features that the model reads of who acts and of what is taken, a value an interaction.

    Args:
        rows: the interactions to describe.
        known: what was known before them.
        items: the champion's catalogue.
    """
    takings = known.group_by("item_id").agg(popularity=pl.len())
    catalogue = items.select("item_id", "attributes", "available_from").join(takings, on="item_id", how="left")
    catalogue = catalogue.with_columns(
        tenth=((pl.col("popularity").fill_null(0).rank("average") - 0.5) / pl.len() * 10).floor().cast(pl.Int64)
    )
    activity = known.group_by("user_id").agg(activity=pl.len())
    table = rows.join(catalogue, on="item_id", how="left").join(activity, on="user_id", how="left")
    age = (pl.col("timestamp") - pl.col("available_from")).dt.total_days()
    described = table.select(
        popularity=pl.when(pl.col("tenth").is_null()).then(pl.lit("unknown item")).otherwise(
            pl.format("tenth {}", pl.col("tenth"))
        ),
        activity=_stepped(pl.col("activity").fill_null(0), (1, 3, 10, 30)),
        age=pl.when(age.is_null()).then(pl.lit("undated")).otherwise(_stepped(age, (7, 30, 90))),
    )  # fmt: skip
    common = items["attributes"].explode(empty_as_null=False, keep_nulls=False).value_counts(sort=True)
    top = set(common.sort(["count", "attributes"], descending=[True, False])["attributes"].head(TOP))
    attributes = [one if one in top else "other" for row in table["attributes"].to_list() for one in row or []]
    return {
        "item popularity": described["popularity"].to_list(),
        "item age in days": described["age"].to_list(),
        "item attributes": attributes,
        "user activity": described["activity"].to_list(),
    }


def _stepped(value: pl.Expr, steps: tuple[int, ...]) -> pl.Expr:
    """`< 1`, `1 to 2`, …, `30 and more`."""
    found = pl.lit(f"{steps[-1]} and more")
    for low, high in reversed(list(pairwise(steps))):
        found = pl.when(value < high).then(pl.lit(f"{low} to {high - 1}")).otherwise(found)
    return pl.when(value < steps[0]).then(pl.lit(f"< {steps[0]}")).otherwise(found)


def _reasons(shifts: tuple[Shift, ...], online: Online, baseline: Baseline, events: int) -> tuple[str, ...]:
    reasons = []
    if events >= LEAST_EVENTS:
        reasons += [
            f"{one.feature} moved since the champion learned (PSI {one.psi:.2f})" for one in shifts if one.shifted
        ]
    if online.requests >= LEAST_EVENTS and baseline.hr10 and online.high < (1 - FALL) * baseline.hr10:
        reasons.append(f"HR@10 online is {online.hr10:.3f}, promised were {baseline.hr10:.3f}")
    if online.requests >= LEAST_EVENTS and (online.fallbacks or 0.0) > FALLBACKS:
        reasons.append(f"{online.fallbacks:.0%} of the answers are fallbacks")
    return tuple(reasons)
