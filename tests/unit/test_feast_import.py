"""Feast is imported without traces: no folder of its metrics, no variable that changes how others count."""

from __future__ import annotations

import os
import subprocess
import sys

# as a stage: no handler of the end of a process runs
CODE = """
import os
before = dict(os.environ)
from pipeline.features.feast_import import import_feast
import_feast()
from feast.metrics import track_online_store_read
track_online_store_read(0.1)
from pipeline.serving.metrics import Metrics
metrics = Metrics()
metrics.degraded.labels("feature-store").inc()
print({k: v for k, v in os.environ.items() if before.get(k) != v}, metrics.text().decode(), flush=True)
os._exit(0)
"""


def test_a_process_that_ends_at_once_leaves_nothing_behind(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PROMETHEUS", "FEAST"))}
    words = [sys.executable, "-c", CODE]
    said = subprocess.run(
        words, env=environment | {"TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=True
    ).stdout
    assert list(tmp_path.iterdir()) == []
    assert said.startswith("{'FEAST_USAGE': 'False'} ")
    assert 'warmstart_degraded_total{what="feature-store"} 1.0' in said
