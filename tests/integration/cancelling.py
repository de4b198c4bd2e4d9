"""Cancelling a coroutine at each of its awaits, and a backend that has some."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

from flowpersist.backends.memory import MemoryBackend


class Hesitant(MemoryBackend):
    """A memory backend that can be cancelled before each call, and between a put and its acknowledgement."""

    async def get(self, ref, *, body=True):
        await asyncio.sleep(0)
        read = await super().get(ref, body=body)
        await asyncio.sleep(0)
        return read

    async def put(self, ref, change, *, if_revision, not_after=None):
        await asyncio.sleep(0)
        written = await super().put(ref, change, if_revision=if_revision, not_after=not_after)
        await asyncio.sleep(0)
        return written

    async def query(self, namespace, where, **options):
        await asyncio.sleep(0)
        return await super().query(namespace, where, **options)


class CancelledAt:
    """Awaits a coroutine, and throws ``CancelledError`` into it where it awaits for the ``at``-th time.

    As a task's cancellation does: the future that it waits for is cancelled, then the error is thrown.
    """

    def __init__(self, coroutine, at):
        self.coroutine, self.at, self.reached = coroutine, at, False

    def __await__(self) -> Generator[object, None, object]:
        count, error = 0, None
        while True:
            try:
                waits_for = self.coroutine.send(None) if error is None else self.coroutine.throw(error)
            except StopIteration as stop:
                return stop.value
            count, error = count + 1, None
            if count == self.at:
                self.reached = True
                if waits_for is not None:
                    waits_for._asyncio_future_blocking = False
                    waits_for.cancel()
                error = asyncio.CancelledError()
            else:
                try:
                    yield waits_for
                except GeneratorExit:
                    raise
                except BaseException as thrown:  # noqa: BLE001 - a task throws what the future has failed with
                    error = thrown
