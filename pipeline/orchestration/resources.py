"""`meta:` of a stage as numbers: what an orchestrator gives it, and no more.

meta: {image: stage, gpus: auto, pool: gpu, cpus: 2, memory: 8g, shm: 1g, timeout: 6h, retries: 2}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

_SECONDS = {"s": 1, "m": 60, "h": 3600}
_BYTES = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


@dataclass(frozen=True)
class Resources:
    """What a container of a stage may use.

    Attributes:
        image: which of the images, `stage`.
        cpus: a limit, in cores.
        memory: a limit, bytes.
        shm: size of /dev/shm, bytes.
        gpus: how many; "auto" is one where there is one, else the CPU; 0 is none.
        network: "stack" is the stack's servers, "outside" is beyond them.
    """

    image: str
    cpus: float
    memory: int
    shm: int
    gpus: int | Literal["auto"]
    network: Literal["stack", "outside"]

    def out_of_memory(self, what: str) -> str:
        """What to tell a person when the kernel has killed `what` for want of memory."""
        return (
            f"out of memory (OOMKilled): {what} was killed, the limit is {self.memory / 2**30:.2f} GiB, and the peak "
            "was at that limit; raise meta.memory of the stage in dvc.yaml, or let it do less at once"
        )


def resources(meta: Mapping[str, Any]) -> Resources:
    """Read a stage's `meta`.

    Raises:
        ValueError: names the entry and how it is written.
    """
    gpus = meta.get("gpus", 0)
    if gpus != "auto" and (not isinstance(gpus, int) or gpus < 0):
        raise ValueError(f"meta.gpus is {gpus!r}; write a number or auto")
    cpus = meta.get("cpus", 1)
    if not isinstance(cpus, int | float) or cpus <= 0:
        raise ValueError(f"meta.cpus is {cpus!r}; write a number of cores above 0")
    network = meta.get("network", "stack")
    if network not in ("stack", "outside"):
        raise ValueError(f"meta.network is {network!r}; write stack or outside")
    return Resources(
        image=str(meta.get("image", "stage")),
        cpus=float(cpus),
        memory=size("memory", meta.get("memory", "4g")),
        shm=size("shm", meta.get("shm", "256m")),
        gpus=gpus,
        network=network,
    )


def size(name: str, text: object) -> int:
    """`512m`, `8g` in bytes.

    Raises:
        ValueError: anything else.
    """
    match = re.fullmatch(r"([1-9]\d*)([kmgt])", str(text))
    if match is None:
        raise ValueError(f"meta.{name} is {text!r}; write it as 512m or 8g")
    return int(match[1]) * _BYTES[match[2]]


def timeout(text: str) -> timedelta:
    """`90s`, `30m`, `6h` as a duration.

    Raises:
        ValueError: anything else.
    """
    match = re.fullmatch(r"(\d+)([smh])", text)
    if match is None:
        raise ValueError(f"meta.timeout is {text!r}; write it as 90s, 30m or 6h")
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
