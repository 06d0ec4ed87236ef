"""torch.compile of a module while it trains: the same weights under the same names, and no trace of it afterwards.

Compiled code is made for the device and the versions at hand, so a training that is resumed elsewhere compiles again.
Batches differ in length: shapes are dynamic, or each length would be compiled anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

log = logging.getLogger(__name__)

INDUCTOR = "inductor"


@contextmanager
def compiled(module: nn.Module, wanted: bool, backend: str | Callable[..., Any] = INDUCTOR) -> Iterator[None]:
    """Run the calls of `module` in the body compiled, on a GPU; on a CPU they run as they are, and the log says so.

    Args:
        wanted: False changes nothing.
        backend: of torch.compile; one other than inductor is used on a CPU too.
    """
    left_out = wanted and backend == INDUCTOR and next(module.parameters()).device.type == "cpu"
    if left_out:
        log.info("nothing is compiled on a CPU: one path gives the same bits on every machine")
    if left_out or not wanted:
        yield
        return
    plain = module.forward
    module.forward = torch.compile(plain, backend=backend, dynamic=True)  # type: ignore[method-assign]
    try:
        yield
    finally:
        del module.forward  # the class's own is back
