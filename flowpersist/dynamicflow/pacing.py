"""How the tasks of one leg share the event loop with all others."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

from attrs import define, field

__all__ = ["SLICE_SECONDS", "Pace"]

#: The most time that the tasks of a leg may keep the event loop, one after another.
SLICE_SECONDS: Final = 0.01


@define(eq=False)
class Pace:
    """Time slices of the tasks of one leg. Each slice is for all of them: with one for each, a thousand would keep the
    loop a thousand times as long.
    """

    #: When the slice began.
    began: float = field(factory=time.monotonic)
    #: The tasks that have found the slice used up, in the order in which they go on.
    _queue: deque[asyncio.Future[None]] = field(factory=deque, init=False, repr=False)
    _called: bool = field(default=False, init=False)

    async def turn(self) -> None:
        """Let all other tasks run. The caller has checked that the slice is used up, which it does at each step."""
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        self._call()
        await turn

    def _call(self) -> None:
        if self._queue and not self._called:
            self._called = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        """Let one go on, in the loop's next round; those after it as long as the slice lasts, or in later rounds."""
        self._called = False
        if time.monotonic() - self.began > SLICE_SECONDS:
            self.began = time.monotonic()
        turn = self._queue.popleft()
        # One that was cancelled has ended its turn itself.
        if not turn.done():
            turn.set_result(None)
        self._call()
