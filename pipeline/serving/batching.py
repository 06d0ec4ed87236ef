"""Requests that arrive together share one call of the model.

While a call computes (in a thread; ONNX Runtime lets go of the interpreter), what arrives waits for the next one, so
batches grow with the load and a lone request waits for nobody. Clipper calls this adaptive batching (Crankshaw et al.,
NSDI 2017, section 4.3).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

MOST = 64  # requests of one call
WAIT_SECONDS = 0.002  # how long a call that others have joined waits for still more

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Batcher(Generic[Asked, Answer]):
    """Turns a function over many into one for each, inside one event loop."""

    def __init__(
        self,
        compute: Callable[[Sequence[Asked]], Sequence[Answer]],
        executor: Executor,
        most: int = MOST,
        wait: float = WAIT_SECONDS,
        seen: Callable[[int], object] | None = None,
    ) -> None:
        """Args:
        compute: answers in the order of what was asked; runs in a thread of `executor`.
        most: at most so many at a time.
        wait: seconds that a batch of more than one waits to be filled; 0 for none.
        seen: told the size of each batch.
        """
        self._compute, self._executor, self._most, self._wait = compute, executor, most, wait
        self._waiting: list[tuple[Asked, asyncio.Future[Answer]]] = []
        self._worker: asyncio.Task[None] | None = None
        self._seen = seen

    async def __call__(self, asked: Asked) -> Answer:
        """The answer to one; a fault of the call is the fault of each of its requests."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)  # requests that were read in this turn of the loop come along
        while self._waiting:
            if self._wait and 1 < len(self._waiting) < self._most // 4:
                await asyncio.sleep(self._wait)
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            batch = [one for one in batch if not one[1].done()]  # whoever hung up needs no answer
            if not batch:
                continue
            if self._seen is not None:
                self._seen(len(batch))
            try:
                answers = await loop.run_in_executor(self._executor, self._compute, [asked for asked, _ in batch])
            except Exception as fault:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(fault)
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
