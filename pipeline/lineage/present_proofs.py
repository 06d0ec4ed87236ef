"""The answers of `verify` and `reproduce` on a screen; apart from `present.py`, which loads fast."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.markup import escape

from pipeline.lineage.layout import count_of, cut, table_of
from pipeline.lineage.present import render
from pipeline.lineage.reproduce import Compared, Reproduction
from pipeline.lineage.verify import Verified


@render.register
def _(answer: Verified) -> Any:
    whole = (count_of(answer.manifests, "manifest"), count_of(answer.contents, "content"))
    records = count_of(answer.record_files, "file")
    parts: list[Any] = [
        f"[bold]{escape(answer.asked)}[/]: {', '.join(whole)} and {records} of records are what they were"
    ]
    for title, found in (("[red]altered[/]", answer.altered), ("[yellow]missing[/]", answer.missing)):
        if found:
            parts += [
                f"{title}: {len(found):,}",
                *cut([f"  {f.kind} {escape(f.name)}: {escape(f.problem)}" for f in found]),
            ]
    return Group(*parts)


@render.register
def _(answer: Reproduction) -> Any:
    training = " ".join(answer.stages)
    return Group(
        f"[bold]{answer.version}[/] stands in {escape(str(answer.workspace))}",
        "the same by training it again, with the hashes compared: add --run; or by hand:",
        f"  cd {escape(str(answer.workspace))} && dvc repro --force --no-run-cache --single-item {training}",
    )


@render.register(tuple)
def _(answer: tuple[Compared, ...]) -> Any:
    table = table_of("output", "then", "now", "")
    for one in answer:
        table.add_row(one.path, one.then, one.now or "–", "[green]the same[/]" if one.same else "[red]another[/]")
    return table
