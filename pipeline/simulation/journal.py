"""What is kept of a simulation, so that one that was killed goes on where it was.

    <out>/simulation.json         what was asked for; another question needs another folder
    <out>/world/                  the dataset folder that the nights read
    <out>/days/2026-01-01.jsonl   the day's visits, a line each, written when the service has acknowledged its feedback
    <out>/days/2026-01-01.json    how its night ended; a day with this file is finished

The visits are the whole state: who had what is made again from them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from pipeline.data.feedback import write_whole
from pipeline.exit_codes import BadConfiguration


@dataclass(frozen=True)
class Visit:
    """One user, one list, what came of it.

    Attributes:
        target, user: who, the user by index in the market.
        at: microseconds since 1970 UTC.
        wanted: index of the item that the truth drew; shown: those that were recommended.
        taken: `wanted` when it was shown, or was found by searching; None when the user left with nothing.
        utility, best: of the shown list and of the best one (`choice.py`).
        popular_hit, popular_utility: the same request answered by popularity.
        source, model: as the service said.
        cold_user: nothing had in this market before.
        wanted_age: whole days since the wanted item was listed; None for the world's own items.
        last_event: its newest event as it was sent.
    """

    target: str
    user: int
    at: int
    wanted: int
    shown: list[int]
    taken: int | None
    utility: float
    best: float
    popular_hit: bool
    popular_utility: float
    source: str
    model: str
    cold_user: bool
    wanted_age: int | None
    last_event: dict[str, Any]

    @property
    def hit(self) -> bool:
        """Was the wanted item shown?"""
        return self.wanted in self.shown


class Journal:
    """The folder of one simulation.

    Attributes:
        folder: where it stands.
        asked: what was asked for.
    """

    def __init__(self, folder: Path, asked: dict[str, Any]) -> None:
        """Make the folder, or open the one that the same question made.

        Raises:
            BadConfiguration: it belongs to another simulation.
        """
        self.folder, self.asked = folder, asked
        path = folder / "simulation.json"
        if path.exists():
            before: dict[str, Any] = json.loads(path.read_text("utf-8"))
            other = [
                f"{name} was {before.get(name)!r}, now {asked[name]!r}"
                for name in asked
                if before.get(name) != asked[name]
            ]
            if other:
                raise BadConfiguration(
                    f"--out {folder} holds another simulation ({'; '.join(other)}); give a new folder."
                )
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise BadConfiguration(f"--out {folder} is there and holds no simulation; give a new folder.")
        else:
            write_whole(path, (json.dumps(asked, indent=1) + "\n").encode())
        (folder / "days").mkdir(exist_ok=True)

    def visits(self, day: date) -> list[Visit]:
        """Visits of a day so far; a line that was being written when the process was killed is removed."""
        path = self._path(day, "jsonl")
        if not path.exists():
            return []
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            content = content[: content.rfind(b"\n") + 1]
            write_whole(path, content)
        return [Visit(**json.loads(line)) for line in content.splitlines()]

    def add(self, day: date, visit: Visit) -> None:
        """Keep a visit."""
        with self._path(day, "jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(visit)) + "\n")

    def night(self, day: date) -> dict[str, Any] | None:
        """How the night after a day ended; None while it has not."""
        path = self._path(day, "json")
        return json.loads(path.read_text("utf-8")) if path.exists() else None

    def finish(self, day: date, night: dict[str, Any]) -> None:
        """The day and its night are over."""
        write_whole(self._path(day, "json"), (json.dumps(night, indent=1) + "\n").encode())

    def _path(self, day: date, ending: str) -> Path:
        return self.folder / "days" / f"{day}.{ending}"
