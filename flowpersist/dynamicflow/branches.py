"""Tasks of one step, or of one graph, that run at once: the first with a verdict ends the others.

``asyncio.TaskGroup`` does not serve here. Before CPython 3.12.3 it swallows a cancellation from outside that comes
while it ends its own tasks (python/cpython issue 116720), so that a branch which was given up went on, and its run
waited for it for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from attrs import define, field, frozen

from flowpersist.dynamicflow.outcomes import Failed

__all__ = ["Branches", "Verdict"]


@frozen
class Verdict:
    """Ends all branches. ``failed`` is None where enough of them have finished."""

    failed: Failed | None


@define(eq=False)
class Branches:
    """Branches that run at once, as tasks; each gives a verdict, or None where the others go on."""

    _running: set[asyncio.Task[Verdict | None]] = field(factory=set, init=False)
    _verdict: Verdict | None = field(default=None, init=False)
    _errors: list[BaseException] = field(factory=list, init=False)
    _stopping: bool = field(default=False, init=False)
    #: Set once there is something to do for the one who waits: a verdict, an error, or the end of the last branch.
    _news: asyncio.Event = field(factory=asyncio.Event, init=False)

    def start(self, branch: Coroutine[Any, Any, Verdict | None]) -> None:
        """Run a branch beside the others."""
        task = asyncio.create_task(branch)
        self._running.add(task)
        task.add_done_callback(self._ended)
        if self._stopping:
            task.cancel()

    async def verdict(self) -> Verdict | None:
        """Wait until all have ended; the first verdict and the first error end those that run. Cancelling does so too.

        One error is raised as it is, several in a group. No branch runs any more when it returns or raises.
        """
        try:
            while self._running and not self._decided:
                self._news.clear()
                await self._news.wait()
        finally:
            await self._stop()
        if len(self._errors) > 1:
            msg = "several branches raised errors"
            raise BaseExceptionGroup(msg, self._errors)
        if self._errors:
            raise self._errors[0]
        return self._verdict

    @property
    def _decided(self) -> bool:
        return self._verdict is not None or bool(self._errors)

    async def _stop(self) -> None:
        self._stopping = True
        for task in self._running:
            task.cancel()
        cancelled: asyncio.CancelledError | None = None
        while self._running:
            self._news.clear()
            try:
                await self._news.wait()
            except asyncio.CancelledError as error:
                # What runs is not left behind; whoever cancels hears of it after that.
                cancelled = error
        if cancelled is not None:
            raise cancelled

    def _ended(self, task: asyncio.Task[Verdict | None]) -> None:
        self._running.discard(task)
        if task.cancelled():
            if not self._stopping:
                self._errors.append(asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            self._errors.append(error)
        elif self._verdict is None:
            self._verdict = task.result()
        if self._decided or not self._running:
            self._news.set()
