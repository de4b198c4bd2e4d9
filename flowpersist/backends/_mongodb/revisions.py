"""Revisions that are never used twice for a reference, on a server without transactions.

A revision is the number of the record's life, and below it that of the change in this life. Each insert draws the
number of a life from a counter with ``$inc``, which is atomic, and a number that was drawn is never drawn again. So:

- Two lives of a reference have different numbers, whatever becomes of either: no revision of one is one of the other's,
  and whoever has read an earlier life can change nothing in a later one. Nothing need be kept of what was deleted, and
  no order of "read the counter", "delete", "raise the counter" needs to be right: a floor that is read before an insert
  and raised before a delete is not safe, since the insert may come after both with the floor from before.
- Within a life each change adds one in the same compare-and-set.
- They rise: a life that begins after another has ended has drawn its number later. (An insert that began before a life
  and ended after it may have a lower number than that life, which nobody can tell from an insert that came before.)

The number is drawn while the body goes up, and under the same write concern as all else, so that a failover does not
draw it again. A number that was drawn and not used is lost, which does no harm. There are 64 counters, so that inserts
don't queue for one document; a reference has always the same.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final
from zlib import crc32

from bson.int64 import Int64
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from flowpersist.backends._mongodb.client import Collections
from flowpersist.backends._mongodb.errors import NAME, mapped
from flowpersist.backends.base import RecordRef
from flowpersist.errors import StorageError

__all__ = ["first_revision", "next_revision"]

SHARDS: Final = 64
#: Bits for the changes of one life: a billion. As many bits remain for the lives of one counter, and eight times more.
CHANGE_BITS: Final = 30


async def first_revision(store: Collections, document_id: str) -> int:
    """The first revision of a new life."""
    counter = f"life-{crc32(document_id.encode()) % SHARDS:02}"
    while True:
        # What is lost here changes no record.
        with mapped(), suppress(DuplicateKeyError):
            drawn = await store.meta.find_one_and_update(
                {"_id": counter}, {"$inc": {"n": Int64(1)}}, upsert=True, return_document=ReturnDocument.AFTER
            )
            return int((drawn or {})["n"]) << CHANGE_BITS
        # Two made the counter at once: it is there now.


def next_revision(ref: RecordRef, revision: int) -> int:
    """The revision after this one, of the same life."""
    following = revision + 1
    if following % (1 << CHANGE_BITS) == 0:
        message = f"record {ref.key} was changed {1 << CHANGE_BITS} times, more than the store can count: make it anew"
        raise StorageError(message, NAME)
    return following
