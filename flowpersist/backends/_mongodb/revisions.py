"""Revisions that are never used twice for a reference, on a server without transactions.

A revision is the number of the record's life, and below it that of the change in this life. Each insert draws the
number of a life from a counter with ``$inc``, which is atomic, and a number that was drawn is never drawn again. So:

- Two lives of a reference always have different numbers, so they share no revision, and a caller that read an earlier
  life cannot change a later one. Nothing need be kept for deleted records, and no order of "read the counter", "delete"
  and "raise the counter" must be kept: a floor that is read before an insert and raised before a delete would not be
  safe, since the insert may happen after both with the old floor.
- Within a life each change adds one in the same compare-and-set.
- They rise: a life that begins after another has ended has drawn its number later. (An insert that began before a life
  and ended after it may have a lower number than that life, but no caller can tell it from an insert that happened
  before.)

The number is drawn while the body is uploaded, with the write concern of all other writes, so that it is not drawn
again after a failover. A number that was drawn and not used is lost, which is harmless. There are 64 counters, so that
inserts don't queue for one document; a reference always uses the same one.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final
from zlib import crc32

from bson.int64 import Int64
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from flowpersist.backends._damage import LAST_REVISION
from flowpersist.backends._mongodb.client import Collections
from flowpersist.backends._mongodb.errors import NAME, mapped
from flowpersist.backends.base import RecordRef
from flowpersist.errors import StorageError

__all__ = ["COUNTABLE", "first_revision", "next_revision"]

SHARDS: Final = 64
#: The number of bits for the changes of one life (a billion). The lives of one counter have 33 bits left.
CHANGE_BITS: Final = 30
#: The condition for one more change: a valid revision that is not the last of its life.
COUNTABLE: Final[Mapping[str, Any]] = {
    "v": {"$gt": 0, "$lt": LAST_REVISION},
    "$nor": [{"v": {"$mod": [1 << CHANGE_BITS, (1 << CHANGE_BITS) - 1]}}],
}


async def first_revision(store: Collections, document_id: str) -> int:
    """Draw the first revision of a new life."""
    counter = f"life-{crc32(document_id.encode()) % SHARDS:02}"
    while True:
        # A failure here changes no record.
        with mapped(), suppress(DuplicateKeyError):
            drawn = await store.meta.find_one_and_update(
                {"_id": counter}, {"$inc": {"n": Int64(1)}}, upsert=True, return_document=ReturnDocument.AFTER
            )
            return int((drawn or {})["n"]) << CHANGE_BITS
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
