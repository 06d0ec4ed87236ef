"""What a person sees while a simulation runs: what is being done now, and a line for what is over."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

from pipeline.simulation.choice import regret
from pipeline.simulation.journal import Visit

COLOURS = {"promote": "green", "refuse": "red"}


class Terminal:
    """A spinner with a line under it for each day and night; in a log only the lines."""

    def __init__(self) -> None:
        # a log has no width of its own
        self._console = Console() if sys.stdout.isatty() else Console(width=120)
        self._status = self._console.status("")
        self._said = ""

    def __enter__(self) -> Terminal:
        self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.stop()

    def say(self, text: str) -> None:
        """What is being done now; a log gets a line when it is another thing (what stands before the first colon)."""
        self._status.update(escape(text))
        topic = text.split(":")[0]
        if not self._console.is_terminal and topic != self._said:
            self._line(f"[dim]{escape(topic)}[/]")
        self._said = topic

    def day(self, day: int, visits: Sequence[Visit]) -> None:
        """What came of a day."""
        for target in sorted({visit.target for visit in visits}):
            own = [visit for visit in visits if visit.target == target]
            ours, theirs = np.mean([v.hit for v in own]), np.mean([v.popular_hit for v in own])
            left = np.mean([regret(v.utility, v.best) for v in own])
            popular = np.mean([regret(v.popular_utility, v.best) for v in own])
            sources = ", ".join(
                f"{name} {n / len(own):.0%}" for name, n in Counter(v.source for v in own).most_common()
            )
            self._line(
                f"day {day:<3} {target:9} HR@10 {ours:.3f} (popularity {theirs:.3f})  regret {left:.2f} ({popular:.2f})"
                f"  n {len(own)}  [dim]{sources}[/]"
            )

    def night(self, night: int, told: Mapping[str, Any]) -> None:
        """How a night ended for each target."""
        for target, receipt in told["verdicts"].items():
            verdict = f"[{COLOURS.get(receipt['verdict'], 'magenta')}]{receipt['verdict']}[/]"
            why = escape("; ".join(receipt["reasons"]))
            self._line(f"night {night:<1} {target:9} {verdict} version {receipt['version']}: {why}")

    def done(self, page: Path) -> None:
        """Where to look."""
        self._console.print(f"page      {page}\nfigures   {page.with_name('figures.json')}", soft_wrap=True)

    def _line(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, highlight=False)
