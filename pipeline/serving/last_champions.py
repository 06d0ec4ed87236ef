"""The last champions of this home: what a start goes by while neither MLflow nor PostgreSQL can be asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.serving.champion import Identity


class LastChampions:
    """A note for each target, beside the served folders.

    Args:
        cache: of the served folders, by content.
    """

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    def remember(self, identity: Identity) -> None:
        """It was loaded and answers."""
        path = self._note(identity.target)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(identity)) + "\n", "utf-8")
        draft.replace(path)

    def recall(self, target: str) -> Identity | None:
        """The last champion of a target; None without one, or when its folder is gone."""
        try:
            told: dict[str, Any] = json.loads(self._note(target).read_text("utf-8"))
            found = Identity(**told)
            return found if found.content and (self._cache / found.content).is_dir() else None
        except (OSError, ValueError, TypeError):
            return None

    def __iter__(self) -> Iterator[Identity]:
        """All that can be loaded, by target."""
        for path in sorted((self._cache / "last").glob("*.json")):
            identity = self.recall(path.stem)
            if identity is not None:
                yield identity

    def _note(self, target: str) -> Path:
        return self._cache / "last" / f"{target}.json"
