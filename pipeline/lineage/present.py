"""Answers on one screen: what matters first, long lists counted and cut, everything in `--json`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import singledispatch
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from pipeline.lineage.answer import Interval
from pipeline.lineage.diff import Change, Differences, Side
from pipeline.lineage.file import FileLineage
from pipeline.lineage.layout import (
    SHOWN,
    and_more,
    count_of,
    cut,
    day,
    fact_table,
    minute,
    more,
    moved,
    number,
    span,
    table_of,
    value_text,
)  # fmt: skip
from pipeline.lineage.model import RAW, ModelLineage, RawFile, Step
from pipeline.lineage.row import Held, RowLineage
from pipeline.lineage.source import SourceLineage
from pipeline.lineage.touched import Place, Touched

LOG_WIDTH = 120  # a log has no width of its own


def show(answer: Any) -> None:
    """Print an answer."""
    console = Console(highlight=False) if sys.stdout.isatty() else Console(width=LOG_WIDTH, highlight=False)
    console.print(render(answer))


@singledispatch
def render(answer: Any) -> Any:
    """An answer as Rich draws it."""
    raise TypeError(f"{type(answer).__name__} is no answer")


@render.register
def _(answer: ModelLineage) -> Any:
    version, airflow = answer.version, answer.airflow or {}
    facts = fact_table(
        ("champion", "; ".join(_interval(i) for i in version.champion) or "never"),
        ("verdict", f"{version.verdict or '–'}: {'; '.join(answer.reasons)}" if answer.reasons else version.verdict),
        ("run", f"{version.run_id}, as_of {day(version.as_of)}"),
        (
            "code",
            f"commit {str(answer.code.get('commit'))[:10]}{'' if answer.code.get('clean', True) else ' + changes'}",
        ),
        ("environment", _environment(answer.environment)),
        ("airflow", airflow.get("url") or "not run by Airflow"),
        ("features", _features(answer.features)),
        ("validation", _validation(answer.validation)),
        ("reproduce", answer.reproduce),
    )
    parts: list[Any] = [f"[bold]{version}[/]", facts, _stage_tree(answer)]
    if answer.unresolved:
        parts.append("[red]not in the index:[/] " + escape("; ".join(answer.unresolved)))
    return Group(*parts)


@render.register
def _(answer: FileLineage) -> Any:
    contents = [
        f"{c.md5}  {count_of(c.rows, 'row')}{span(c.first, c.last)}{'' if c.bytes is None else f', {c.bytes:,} bytes'}"
        for c in answer.contents
    ]
    return Group(f"[bold]{escape(answer.asked)}[/]", *cut(contents), _places(answer.places), _touched(answer.touched))


@render.register
def _(answer: SourceLineage) -> Any:
    window = f" with events{span(answer.since, answer.until)}" if answer.since or answer.until else ""
    table = table_of("read as", "rows", "runs", "first as_of", "last as_of")
    for v in answer.versions[-SHOWN:]:
        table.add_row(f"{v.name} {escape(v.place or '')} [dim]{(v.md5 or '')[:10]}[/]", number(v.rows), number(v.runs),
                      day(v.first), day(v.last))  # fmt: skip
    parts: list[Any] = [f"[bold]{escape(answer.name)}[/]{window}", table, *more(len(answer.versions), "version")]
    if answer.undated and window:
        have = "1 file has" if len(answer.undated) == 1 else f"{len(answer.undated)} files have"
        parts.append(f"[dim]{have} no times of events, and may hold rows of any window[/]")
    return Group(*parts, _places(answer.places), _touched(answer.touched))


@render.register
def _(answer: RowLineage) -> Any:
    item = f" item {escape(answer.item)}" if answer.item else ""
    title = f"[bold]{escape(answer.domain)}[/] user {' or '.join(answer.user)}{item}"
    if not answer.held and not answer.quarantined:
        return Group(title, "no snapshot that was ever taken holds such a row")
    parts: list[Any] = [title, _held(answer.held, f"held by {count_of(len(answer.snapshots), 'snapshot')}, in")]
    if answer.quarantined:
        parts.append(_held(answer.quarantined, "quarantined in"))
        if answer.item is None:
            parts.append("[dim]which of the rows: --item[/]")
    else:
        parts.append("never quarantined")
    for why, unknown, remedy in (
        ("not in the cache", answer.not_in_cache, ""),
        ("not opened", answer.not_opened, "; --every-file opens them too"),
    ):
        if unknown:
            some = ", ".join(md5[:8] for md5 in unknown[:3]) + (", …" if len(unknown) > 3 else "")
            files = count_of(len(unknown), "file")
            parts.append(f"[yellow]{why}[/], so counted as holding it: {files} ({some}){remedy}")
    return Group(*parts, _touched(answer.touched))


@render.register
def _(answer: Differences) -> Any:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=True)
    table.add_column(no_wrap=True)  # a path is copied whole
    for name in (_side(answer.before), _side(answer.after)):
        table.add_column(name, overflow="fold")
    commits = [answer.before.commit, answer.after.commit]
    table.add_row(
        "[bold]code[/]", *((c or "–")[:10] for c in commits) if commits[0] != commits[1] else ("same commit", "")
    )
    for change in answer.code[:SHOWN]:
        table.add_row(f"  {change.name}", value_text(change.before, 10), value_text(change.after, 10))
    and_more(table, answer.code)
    delta = (answer.rows.after or 0) - (answer.rows.before or 0)
    table.add_row("[bold]data[/], rows", number(answer.rows.before), f"{number(answer.rows.after)}  ({delta:+,})")
    for part in answer.partitions[:SHOWN]:
        mark = {"added": "[green]+[/]", "removed": "[red]-[/]"}.get(part.change, "[yellow]~[/]")
        by = f"{number(part.after)}  ({(part.after or 0) - (part.before or 0):+,})"
        known = part.before is not None or part.after is not None
        table.add_row(f"  {mark} {escape(part.path)}", number(part.before), by if known else "–")
    and_more(table, answer.partitions)
    sections = ("sources", "parameters", "features", "environment", "metrics", "stages")
    for name in sections:
        changes: tuple[Change, ...] = getattr(answer, name)
        table.add_row(f"[bold]{name}[/]", *(("the same", "") if not changes else ("", "")))
        for change in changes[:SHOWN]:
            table.add_row(
                f"  {escape(change.name)}", value_text(change.before), value_text(change.after) + moved(change)
            )
        and_more(table, changes)
    log = [escape(line) for line in answer.commits] or (
        [f"[dim]{escape(answer.commits_note)}[/]"] if answer.commits_note else []
    )
    return Group(table, *cut(log))


def _stage_tree(answer: ModelLineage) -> Tree:
    # every stage once: below the one of its readers that comes latest before the model, so that the spine is the
    # longest way from the model to the rows
    steps = {step.stage: step for step in answer.steps}
    readers: dict[str, list[str]] = {}
    for step in answer.steps:
        for parent in step.parents:
            readers.setdefault(parent, []).append(step.stage)
    order = {step.stage: position for position, step in enumerate(answer.steps)}
    top = answer.steps[-1]
    tree = Tree(_step(top, answer.version.run_id))
    branches = {top.stage: tree}
    for step in reversed(answer.steps[:-1]):
        reader = min(
            (r for r in readers.get(step.stage, []) if r in branches), key=lambda r: order[r], default=top.stage
        )
        branches[step.stage] = branches[reader].add(_step(steps[step.stage], answer.version.run_id))
    leaf = next((branches[s.stage] for s in answer.steps if any(o.path == RAW for o in s.outputs)), tree)
    for line in _raw(answer):
        leaf.add(line)
    return tree


def _step(step: Step, run_id: str) -> str:
    written = "  ".join(
        f"{o.path} {count_of(o.rows, 'row')}" if o.rows else f"{o.path} {o.md5[:8]}" for o in step.outputs
    )
    origin = "" if step.made_by == run_id else f" [cyan]from the cache: {step.made_by or 'unknown'}[/]"
    return f"[bold]{step.stage}[/]{origin}  [dim]{escape(written)}[/]"


def _raw(answer: ModelLineage) -> list[str]:
    groups: dict[str, list[RawFile]] = {}
    for file in answer.files:
        inside = file.path.removeprefix(f"{RAW}/").removesuffix(".parquet").split("/")
        groups.setdefault("/".join(inside[:2]), []).append(file)
    reads = {source.name: source for source in answer.sources}
    lines = []
    for name, files in sorted(groups.items()):
        rows = [f.rows for f in files if f.rows is not None]
        if not rows:
            continue
        source = reads.get(name)
        origin = f"  [dim]from {escape(source.place or '')} {(source.md5 or '')[:8]}[/]" if source else ""
        starts, ends = [f.first for f in files if f.first], [f.last for f in files if f.last]
        covered = span(min(starts), max(ends)) if starts and ends else ""
        lines.append(f"{name}  {count_of(len(files), 'file')}, {count_of(sum(rows), 'row')}{covered}{origin}")
    return list(cut(lines, 24))


def _touched(found: Touched) -> Any:
    served = [version for version in found.versions if version.champion]
    parts: list[Any] = [
        f"touched {count_of(found.runs, 'run')}, {count_of(len(found.tables), 'table')}, "
        f"{count_of(len(found.versions), 'model version')}, [bold]{count_of(len(served), 'champion')}[/]"
        + (f"; {count_of(found.failed, 'attempt')} below it failed" if found.failed else "")
    ]
    if found.tables:
        listed = [f"{t.path} [dim]{number(t.contents)}[/]" for t in found.tables]
        parts.append(
            "tables, [dim]and how many contents of each[/]: "
            + ", ".join(listed[:16])
            + (f" and {len(listed) - 16} more" if len(listed) > 16 else "")
        )
    if found.versions:
        table = table_of("model", "verdict", "as_of", "run", "champion (UTC)")
        newest = sorted(
            found.versions, key=lambda v: (not v.champion, -(v.registered.timestamp() if v.registered else 0))
        )
        for v in newest[:SHOWN]:
            when = "\n".join(_served(interval) for interval in v.champion[-3:]) or "never"
            table.add_row(str(v), v.verdict or "–", day(v.as_of), v.run_id, when)
        parts += [table, *more(len(found.versions), "model version")]
    return Group(*parts)


def _places(found: Sequence[Place]) -> Any:
    table = table_of("stood at", "contents", "runs", "first as_of", "last as_of")
    for place in found[-SHOWN:]:
        table.add_row(escape(place.path), number(place.contents), number(place.runs), day(place.first), day(place.last))
    return Group(table, *more(len(found), "path"))


def _held(found: Sequence[Held], title: str) -> Any:
    table = table_of(title, "its rows", "rows", "runs", "first as_of", "last as_of")
    for one in found[-SHOWN:]:
        rules = f" [dim]{escape(', '.join(one.rules))}[/]" if one.rules else ""
        where = f"{escape(one.path)} [dim]{one.md5[:8]}[/]{rules}"
        counts = (number(one.matching), number(one.rows), number(one.runs))
        table.add_row(where, *counts, day(one.first), day(one.last))
    return Group(table, *more(len(found), "file"))


def _served(interval: Interval) -> str:
    return f"{minute(interval.since)} to {'now' if interval.until is None else minute(interval.until)}"


def _interval(interval: Interval) -> str:
    return f"{_served(interval)}, by {interval.by}"


def _side(side: Side) -> str:
    return f"{side.name}\n[dim]as_of {day(side.as_of)}[/]"


def _environment(found: dict[str, Any]) -> str:
    lock = f"requirements/stages.txt {str(found.get('lock'))[:10]}"
    return f"{lock}, image {found['image']}" if found.get("image") else lock


def _features(found: dict[str, Any] | None) -> str:
    if not found:
        return "–"
    views = ", ".join(found.get("views") or {})
    return f"service {found.get('service')}: {views}; registry {str(found.get('registry'))[:10]}"


def _validation(found: dict[str, Any] | None) -> str:
    if not found:
        return "–"
    counts = [n for rules in (found.get("quarantined") or {}).values() for n in rules.values()]
    ending = "passed" if found.get("success") else "failed"
    return f"{ending}, {sum(counts):,} quarantined; report {found['report'] or 'no longer there'}"
