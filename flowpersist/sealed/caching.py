"""Records as they were read a while ago, for readers that need not have the newest.

Nothing is given that was read longer ago than the bound. Whoever hears of changes drops what has changed at once. A
record is kept sealed, so that each reader opens a value of their own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final, Generic, TypeVar

from attrs import field, frozen
from returns.result import Result, Success

from flowpersist.errors import PersistenceError
from flowpersist.sealed.drafts import Found

__all__ = ["RecordCache"]

H = TypeVar("H")
#: Sealed bytes of all records together.
MOST_BYTES: Final = 32 * 1024 * 1024
#: What a record takes beside its body, at most.
HEAD_BYTES: Final = 16 * 1024


@frozen
class _Kept(Generic[H]):
    found: Found[H] = field(repr=False)
    until: float
    size: int


class RecordCache(Generic[H]):
    """What was read within ``bound``, by names, by a monotonic clock."""

    def __init__(self, bound: timedelta, monotonic: Callable[[], float]) -> None:
        self._bound = bound.total_seconds()
        self._monotonic = monotonic
        self._kept: OrderedDict[str, _Kept[H]] = OrderedDict()
        self._size = 0
        #: Of each record that is being read the newest reading, until it is dropped.
        self._readings: dict[str, object] = {}

    async def found(
        self, name: str, read: Callable[[], Awaitable[Result[Found[H], PersistenceError]]]
    ) -> Result[Found[H], PersistenceError]:
        """What is kept, else what ``read`` gives. That nothing is there is not kept."""
        kept, sent = self._kept.get(name), self._monotonic()
        if kept is not None and sent < kept.until:
            self._kept.move_to_end(name)
            return Success(kept.found)
        reading = self._readings[name] = object()
        try:
            result = await read()
            if isinstance(result, Success) and self._readings.get(name) is reading:
                self._keep(name, result.unwrap(), sent + self._bound)
            return result
        finally:
            if self._readings.get(name) is reading:
                del self._readings[name]

    def drop(self, name: str) -> None:
        """The record has changed: what is being read may be what was there before, and is not kept either."""
        self._readings.pop(name, None)
        kept = self._kept.pop(name, None)
        self._size -= 0 if kept is None else kept.size

    def clear(self) -> None:
        """All records may have changed."""
        self._readings.clear()
        self._kept.clear()
        self._size = 0

    def _keep(self, name: str, found: Found[H], until: float) -> None:
        self.drop(name)
        if found.record is None:
            return
        size = HEAD_BYTES + (found.record.body_size or 0)
        self._kept[name] = _Kept(found, until, size)
        self._size += size
        while self._size > MOST_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._size -= oldest.size
