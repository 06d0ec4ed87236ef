"""Import Feast without what it does not need here: 2 CPU-seconds in place of 7, in every stage that asks it anything.

Two things cost the rest. Feast decorates its classes with typeguard's `@typechecked`, which parses and recompiles their
source on every import; and it imports torch, to hand tensors to transformations on demand, of which there are none.

Its metrics would also make a folder in the temporary directory for each process, and switch prometheus_client, here and
in every child, to files in it: only Feast's own server reads them.
"""

from __future__ import annotations

import os
import sys
from typing import Any

METRICS_FOLDER = ("PROMETHEUS_MULTIPROCESS_DIR", "PROMETHEUS_MULTIPROC_DIR")  # Feast's name, prometheus_client's


def import_feast() -> None:
    """After this `from feast import …` is cheap; repeating it costs nothing."""
    if "feast" in sys.modules:
        return
    os.environ.setdefault("FEAST_USAGE", "False")
    import prometheus_client  # noqa: F401  first: where it keeps its numbers, the variables of this moment say
    import typeguard

    checked, torch_known = typeguard.typechecked, "torch" in sys.modules
    typeguard.typechecked = _unchecked
    if not torch_known:
        sys.modules["torch"] = None  # type: ignore[assignment]  # an import of it fails, and Feast goes on without
    given = {name: os.environ.get(name) for name in METRICS_FOLDER}
    os.environ.setdefault(METRICS_FOLDER[0], os.devnull)  # Feast makes no folder where one is named
    try:
        import feast.metrics  # noqa: F401
    finally:
        typeguard.typechecked = checked
        if not torch_known:
            del sys.modules["torch"]
        for name, value in given.items():
            if value is None:
                os.environ.pop(name, None)


def _unchecked(target: Any = None, **_: Any) -> Any:
    return target if target is not None else _unchecked
