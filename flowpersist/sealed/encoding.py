"""Encoding values without blocking the event loop, each as it was at one moment.

A small value is encoded in the event loop, where no other task can come between. A larger one is encoded in a thread
and looked at again once all is read: in the event loop where that is brief, else in the thread. Why, and what it
promises, is told in specs/persistence/design.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol, TypeVar

from returns.result import Failure, Result, Success

from flowpersist.codec import Codec
from flowpersist.codec.codec import Watched
from flowpersist.errors import PersistenceError

__all__ = ["INLINE_BYTES", "Opening", "encoded", "in_thread_if_large", "opened_body"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
#: More bytes than this are opened and sealed in a thread, so that the event loop is not blocked.
INLINE_BYTES: Final = 128 * 1024


async def encoded(
    codec: Codec, value: object, then: Callable[[bytes], Result[T, PersistenceError]]
) -> Result[T, PersistenceError]:
    """Encode a value and pass the bytes to ``then``; ``StateChanged`` if another task changes the value."""
    brief = codec.encode_brief(value)
    if brief is not None:
        return then(brief)
    made = await asyncio.to_thread(_made, codec, value, then)
    if not isinstance(made, Watched):
        return made
    settled = made.settled()
    if not isinstance(settled, Success):
        return Failure(settled.failure())
    return await in_thread_if_large(then, settled.unwrap())


async def in_thread_if_large(function: Callable[[bytes], T], data: bytes) -> T:
    """What the function gives for the bytes. If they are many it runs in a thread."""
    return function(data) if len(data) <= INLINE_BYTES else await asyncio.to_thread(function, data)


def _made(
    codec: Codec, value: object, then: Callable[[bytes], Result[T, PersistenceError]]
) -> Watched | Result[T, PersistenceError]:
    """What is to be looked at in the event loop; or, where that would take too long there, the end of it all."""
    watched = codec.encode_watched(value)
    if not isinstance(watched, Success):
        return Failure(watched.failure())
    made: Watched = watched.unwrap()
    if made.is_brief:
        return made
    settled = made.settled()
    if not isinstance(settled, Success):
        return Failure(settled.failure())
    return then(settled.unwrap())


class Opening(Protocol[T_co]):
    """``Sealer.open`` or ``Sealer.open_bytes``."""

    def __call__(self, data: bytes, *, context: bytes, purpose: str) -> Result[T_co, PersistenceError]:
        """The value that was sealed for this context and purpose."""
        ...


async def opened_body(opening: Opening[T], body: bytes, context: bytes, purpose: str) -> Result[T, PersistenceError]:
    """Open a sealed body, in a thread if it is large."""
    return await in_thread_if_large(partial(opening, context=context, purpose=purpose), body)
