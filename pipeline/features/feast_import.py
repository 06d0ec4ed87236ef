"""Import Feast without what it does not need here: 2 CPU-seconds in place of 7, in every stage that asks it anything.

Two things cost the rest. Feast decorates its classes with typeguard's `@typechecked`, which parses and recompiles their
source on every import; and it imports torch, to hand tensors to transformations on demand, of which there are none.
"""

from __future__ import annotations

import os
import sys
from typing import Any


def import_feast() -> None:
    """After this `from feast import …` is cheap; repeating it costs nothing."""
    if "feast" in sys.modules:
        return
    os.environ.setdefault("FEAST_USAGE", "False")
    import typeguard

    checked, torch_known = typeguard.typechecked, "torch" in sys.modules
    typeguard.typechecked = _unchecked
    if not torch_known:
        sys.modules["torch"] = None  # type: ignore[assignment]  # an import of it fails, and Feast goes on without
    try:
        import feast  # noqa: F401
    finally:
        typeguard.typechecked = checked
        if not torch_known:
            del sys.modules["torch"]


def _unchecked(target: Any = None, **_: Any) -> Any:
    return target if target is not None else _unchecked
