"""The model card of a version: what it was made from, how good it is and for whom, what it costs, what it cannot do.

Markdown, made from the evaluation alone; it is the version's description in MLflow and a file beside the model.
After Mitchell et al. 2019, "Model Cards for Model Reporting".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

FIGURES = {"ndcg10": "NDCG@10", "hr10": "HR@10", "mrr": "MRR", "auc": "AUC"}
SHOWN = ("served", "teacher", "student")


@dataclass(frozen=True)
class Made:
    """Where a version comes from.

    Attributes:
        run_id, as_of, commit, data: of the run.
        manifest: sha256 of the manifest of the attempt that made the model, "none" outside of a workspace.
        dataset_md5: of the snapshot.
        n_bytes, p50_ms: of the served graph; the time of one request on one thread.
    """

    run_id: str
    as_of: str
    commit: str
    data: str
    manifest: str
    dataset_md5: str
    n_bytes: int
    p50_ms: float


def render_card(name: str, metrics: Mapping[str, Any], made: Made, guard_users: int) -> str:
    """The card.

    Args:
        name: of the registered model.
        metrics: `metrics.json` of its evaluation.
        guard_users: parts of the users smaller than this are too few to judge.
    """
    rows = {row["name"]: row for row in metrics["models"]}
    served = rows["served"]
    lines = [
        f"# {name}, run {made.run_id}",
        "",
        f"Ranks the items of the domain **{metrics['target']}** for a user from his interactions and profile.",
        "",
        "## Data",
        "",
        f"- {made.data}, everything before **{made.as_of}** (snapshot `{made.dataset_md5}`)",
        f"- {metrics['n_items']:,} items; {metrics['n']:,} test users, {metrics['protocol'].replace('_', ' ')} split",
        f"- commit `{made.commit}`, manifest `{made.manifest}`",
        "",
        "## How good",
        "",
        f"{metrics['confidence']:.0%} intervals over users. {metrics.get('protocol_words', '')}.",
        "",
        *_figures(rows),
        "",
        "## For whom",
        "",
        *_slices(served, rows, guard_users),
        "",
        "## What it costs",
        "",
        f"{served['parameters']:,} parameters, {made.n_bytes:,} bytes, {made.p50_ms:.2f} ms median for one request "
        "(one thread of the machine that registered it).",
        "",
        "## Limits",
        "",
        *_limits(metrics, served, made, guard_users),
    ]
    return "\n".join(lines) + "\n"


def _figures(rows: Mapping[str, Any]) -> Iterator[str]:
    names = [name for name in SHOWN if name in rows]
    names += [name for name, row in rows.items() if row["kind"] == "baseline"]
    yield "| model | " + " | ".join(FIGURES.values()) + " |"
    yield "|---|" + "---:|" * len(FIGURES)
    for name in names:
        yield f"| {name} | " + " | ".join(_interval(rows[name]["masked"].get(key)) for key in FIGURES) + " |"


def _slices(served: Mapping[str, Any], rows: Mapping[str, Any], guard_users: int) -> Iterator[str]:
    baselines = [row for row in rows.values() if row["kind"] == "baseline"]
    yield "| test users | n | NDCG@10 | best baseline |"
    yield "|---|---:|---:|---:|"
    for part, found in served["slices"].items():
        best = max((row["slices"][part]["ndcg10"]["value"] for row in baselines), default=0.0)
        few = " (few)" if found["n"] < guard_users else ""
        figures = f"{_interval(found['ndcg10'])} | {best:.4f}" if found["n"] else "– | –"
        yield f"| {part}{few} | {found['n']:,} | {figures} |"


def _limits(metrics: Mapping[str, Any], served: Mapping[str, Any], made: Made, guard_users: int) -> Iterator[str]:
    yield f"- It knows nothing that happened at or after {made.as_of}; newer items are placed by content alone."
    yield "- Measured offline on one held-out item per user: not what users did when they were shown its ranking."
    few = [part for part, found in served["slices"].items() if found["n"] < guard_users]
    if few:
        yield f"- Fewer than {guard_users} test users, so little can be said of: {', '.join(few)}."
    if metrics["n"] == 0:
        yield "- There are no test users: nothing has been proven."


def _interval(figure: Mapping[str, Any] | None) -> str:
    if not figure or figure["n"] == 0:
        return "–"
    return f"{figure['value']:.4f} [{figure['low']:.4f}, {figure['high']:.4f}]"
