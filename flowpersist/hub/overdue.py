"""Waiting for users' code: it may take as long as it likes, but nobody has to guess what a call waits for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["FIRST", "overdue"]

log = logging.getLogger("flowpersist.hub")
#: Seconds until the first warning. The pause before each further one is twice as long, so a wait of a day has a dozen.
FIRST: Final = 30.0


@contextmanager
def overdue(what: str, *about: object) -> Iterator[None]:
    """Log a warning once the block has lasted long, and again after each time twice as long.

    - ``what``: what has not returned, a format for ``about``.
    """
    loop = asyncio.get_running_loop()
    timers: list[asyncio.TimerHandle] = []

    def warn(pause: float, waited: float) -> None:
        log.warning("%s has not returned for %g s, and what called it waits: give it a timeout", what % about, waited)
        timers[:] = [loop.call_later(2 * pause, warn, 2 * pause, waited + 2 * pause)]

    timers.append(loop.call_later(FIRST, warn, FIRST, FIRST))
    try:
        yield
    finally:
        timers[0].cancel()
