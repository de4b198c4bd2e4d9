"""The server's clock, sampled: MongoDB reports it in milliseconds, and only on request.

A sample is a command that was sent at ``t0`` and answered at ``t1``, both on this machine's monotonic clock, with the
server's time truncated to the millisecond. So at ``t0`` the server's clock was at most one millisecond past that time.
From this **upper bound** the time advances with the monotonic clock, plus an allowance for drift.

With the upper bound a late write loses: if this clock says that a deadline has not passed, it has not passed on the
server when the command is sent. It may pass while the command is on its way, and a write just before a deadline may be
refused: the margin of both is one round trip and some milliseconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from attrs import frozen

from flowpersist.backends._clock import from_micros, to_micros

__all__ = ["ServerClock"]

#: From the first age on a new sample is taken in the background; from the second on operations wait for it.
FRESH: Final = 1.0
STALE: Final = 5.0
#: The microseconds by which two clocks may drift apart in a second: NTP corrects by 500, and quartz drifts less.
DRIFT: Final = 1000
#: The server's clock counts as set back if a new bound is earlier than the old one by more than this.
SET_BACK: Final = 1_000_000
MILLISECOND: Final = 1000


@frozen
class _Bound:
    """The server's clock is at most ``ahead`` microseconds ahead of the monotonic clock, as of ``at`` seconds."""

    ahead: float
    at: float

    def aged(self, now: float) -> float:
        return self.ahead + max(0.0, now - self.at) * DRIFT


class ServerClock:
    """The server's clock; ``ask`` makes a round trip and gives the server's time."""

    def __init__(
        self,
        ask: Callable[[], Awaitable[datetime]],
        background: Callable[[Awaitable[object]], object],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._background = background
        self._monotonic = monotonic
        self._bound: _Bound | None = None
        self._last = 0
        self._sampling: asyncio.Future[None] | None = None

    async def now(self) -> datetime:
        """The server's time to the microsecond; never earlier than the last result, unless the server's clock was set
        back.
        """
        age = None if self._bound is None else self._monotonic() - self._bound.at
        if age is None or age > STALE:
            await self.sample()
        elif age > FRESH and self._sampling is None:
            self._background(self.sample())
        return self._read()

    async def sample(self) -> None:
        """Ask the server. Callers that come while a request is running share its answer."""
        if self._sampling is None:
            self._sampling = asyncio.ensure_future(self._sample())
            self._sampling.add_done_callback(self._sampled)
        await asyncio.shield(self._sampling)

    def _sampled(self, done: asyncio.Future[None]) -> None:
        self._sampling = None
        if not done.cancelled():
            done.exception()

    async def _sample(self) -> None:
        sent = self._monotonic()
        told = await self._ask()
        answered = self._monotonic()
        micros = to_micros(told.replace(tzinfo=UTC) if told.tzinfo is None else told)
        found = _Bound(micros + MILLISECOND - sent * 1e6, answered)
        self._bound = found if self._bound is None else _tighter(self._bound, found, micros - answered * 1e6)

    def _read(self) -> datetime:
        now = self._monotonic()
        assert self._bound is not None  # noqa: S101 - now() has sampled
        micros = int(self._bound.aged(now) + now * 1e6)
        if micros < self._last <= micros + SET_BACK:
            micros = self._last
        self._last = micros
        return from_micros(micros)


def _tighter(old: _Bound, found: _Bound, least: float) -> _Bound:
    """The lower of two upper bounds, since both hold. But if the newer sample's lower bound is above the old upper
    bound, the server's clock was set forward, or another server has become primary.
    """
    aged = old.aged(found.at)
    return found if least > aged or found.ahead < aged else _Bound(aged, found.at)
