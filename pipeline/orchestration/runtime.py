"""Where a stage runs: `WARMSTART_RUNTIME`, one operator for each, all of the same shape.

| runtime | a task is |
|---|---|
| process | a process group of the stages' environment on this machine |
| docker | a container of the stages' image on a Docker engine |
| kubernetes | a pod of that image |

The choice is made when the DAG is read, so that nothing of the other runtimes is imported then.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

RUNTIMES = ("process", "docker", "kubernetes")


def runtime() -> str:
    """The runtime that was chosen.

    Raises:
        ValueError: there is none of that name.
    """
    chosen = os.environ.get("WARMSTART_RUNTIME") or "process"
    if chosen not in RUNTIMES:
        raise ValueError(f"WARMSTART_RUNTIME is {chosen!r}; write one of {', '.join(RUNTIMES)}")
    return chosen


if TYPE_CHECKING or runtime() == "process":
    from pipeline.orchestration.process import ProcessOperator as RuntimeOperator
elif runtime() == "docker":
    from pipeline.orchestration.container import ContainerOperator as RuntimeOperator
else:
    from pipeline.orchestration.pod import PodOperator as RuntimeOperator

# A run is opened and closed by what has the checkout and its git: a process beside Airflow; in a cluster a pod; where
# Airflow is in a container itself, a container on the network that this variable names.
if TYPE_CHECKING or (runtime() != "kubernetes" and not os.environ.get("WARMSTART_LIFECYCLE_NETWORK")):
    from pipeline.orchestration.process import ProcessOperator as LifecycleOperator
else:
    LifecycleOperator = RuntimeOperator

__all__ = ["RUNTIMES", "LifecycleOperator", "RuntimeOperator", "runtime"]
