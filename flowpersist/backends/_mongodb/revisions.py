"""Revisions that are never used twice for a reference, on a server without transactions.

A revision is the number of the record's life, and below it that of the change in this life. Numbers of lives come from
one counter with ``$inc``, which is atomic, so a number that one process has drawn is never drawn again. So:

- Two lives of a reference always have different numbers, so they share no revision, and a caller that read an earlier
  life cannot change a later one. Nothing need be kept for deleted records, and no order of "read the counter", "delete"
  and "raise the counter" must be kept: a floor that is read before an insert and raised before a delete would not be
  safe, since the insert may happen after both with the old floor.
- Within a life each change adds one in the same compare-and-set.
- The lives that one process begins rise. Lives of several processes tell no order, since each draws numbers ahead.

A process draws a block of numbers, one at first and up to 64 later, so that an insert mostly takes one round trip. Only
the lives of one reference need different numbers. So references are divided into shards by a checksum, and each shard
takes each number of the block once: a block is enough for tens of thousands of inserts. When a shard has taken the last
one, the next block is for all shards. Blocks are kept in memory alone: no other process and no later one uses them, and
what is left of them is lost, which is harmless. They are drawn with the write concern of all other writes, so that they
are not drawn again after a failover. Who puts back the memory of a running process, as a restored image of a virtual
machine does, puts its block back too: end the process before such an image is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final
from zlib import crc32

from attrs import define, field
from bson.int64 import Int64
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from flowpersist.backends._damage import LAST_REVISION
from flowpersist.backends._mongodb.client import Collections
from flowpersist.backends._mongodb.errors import NAME, mapped
from flowpersist.backends.base import RecordRef
from flowpersist.errors import StorageError

__all__ = ["COUNTABLE", "Lives", "next_revision"]

SHARDS: Final = 4096
#: How many numbers the blocks have: the first, and the most; each is so many times as large as the one before.
FIRST_BLOCK: Final = 1
LARGEST_BLOCK: Final = 64
GROWTH: Final = 8
#: The number of bits for the changes of one life (a billion). The numbers of lives have 32 bits left.
CHANGE_BITS: Final = 30
#: The condition for one more change: a valid revision that is not the last of its life.
COUNTABLE: Final[Mapping[str, Any]] = {
    "v": {"$gt": 0, "$lt": LAST_REVISION},
    "$nor": [{"v": {"$mod": [1 << CHANGE_BITS, (1 << CHANGE_BITS) - 1]}}],
}


@define(eq=False)
class Lives:
    """Gives new lives of records their first revisions."""

    store: Collections
    _block: range = range(0)
    _size: int = FIRST_BLOCK
    #: The next number of each shard that has taken any of the block.
    _next: dict[int, int] = field(factory=dict)
    #: One draw at a time, so that the numbers of this process rise.
    _turn: asyncio.Lock = field(factory=asyncio.Lock)

    async def first_revision(self, document_id: str) -> int:
        """The first revision of a new life."""
        shard = crc32(document_id.encode()) % SHARDS
        while (number := self._taken(shard)) is None:
            block = self._block
            async with self._turn:
                # Another task may have drawn a block meanwhile.
                if self._block is block:
                    await self._draw()
        return number << CHANGE_BITS

    def _taken(self, shard: int) -> int | None:
        number = self._next.get(shard, self._block.start)
        if number not in self._block:
            return None
        self._next[shard] = number + 1
        return number

    async def _draw(self) -> None:
        size = self._size
        last = await self._raised(size)
        self._block = range(last - size + 1, last + 1)
        self._next.clear()
        self._size = min(size * GROWTH, LARGEST_BLOCK)

    async def _raised(self, size: int) -> int:
        """The counter, after it was raised by that much."""
        while True:
            # A failure here changes no record.
            with mapped(), suppress(DuplicateKeyError):
                drawn = await self.store.meta.find_one_and_update(
                    {"_id": "lives"}, {"$inc": {"n": Int64(size)}}, upsert=True, return_document=ReturnDocument.AFTER
                )
                return int((drawn or {})["n"])
            # Two writers created the counter at once; it exists now.


def next_revision(ref: RecordRef, revision: int) -> int:
    """The next revision of the same life."""
    following = revision + 1
    if following % (1 << CHANGE_BITS) == 0:
        message = (
            f"record {ref.key} was changed {1 << CHANGE_BITS} times, the limit of this store: delete it and "
            "create it again"
        )
        raise StorageError(message, NAME)
    return following
