"""Removing records that stand beside suspensions and that no head names, as a crash leaves them.

Such a record is written before the head that names it, and is due once no head can name it any more. What is named then
is not due again.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from returns.result import Failure, Result, Success

from flowpersist.errors import PersistenceError, RevisionConflict
from flowpersist.hub.due import due_heads
from flowpersist.lifecycle.model import Head
from flowpersist.lifecycle.moments import later
from flowpersist.sealed.drafts import Draft, Found, Loaded
from flowpersist.sealed.records import SealedRecords

__all__ = ["GRACE", "name_in", "rearmed", "sweep_unnamed"]

H = TypeVar("H")
log = logging.getLogger("flowpersist.hub")
#: A head that names a record is put within half of this time after the record or not at all.
GRACE: Final = timedelta(hours=1)
#: What the heads of so many suspensions name is kept during a sweep, which so reads each once, not for each record.
MOST_KNOWN: Final = 100


async def sweep_unnamed(
    records: SealedRecords[H],
    read: Callable[[str], Awaitable[Result[Found[Head], PersistenceError]]],
    names: Callable[[Head], frozenset[bytes]],
) -> Result[int, PersistenceError]:
    """Remove due records that no head names, and give their number. ``read`` reads a suspension, and ``names`` are
    those in its head. One that many due records are of is read once: no later head names what was due by then.
    """
    removed = 0
    known: dict[str, tuple[datetime, Result[frozenset[bytes], PersistenceError]]] = {}
    async for found in due_heads(records, {}):
        if not isinstance(found, Success):
            return Failure(found.failure())
        record = found.unwrap()
        suspension = record.ref.key.partition("/")[0]
        looked, named = known.get(suspension, (None, None))
        if named is None or looked is None or record.due_at is None or record.due_at > looked:
            if len(known) == MOST_KNOWN:
                known.clear()
            seen = await read(suspension)
            named = seen.map(lambda one: frozenset[bytes]() if one.record is None else names(one.record.head))
            known[suspension] = seen.unwrap().now if isinstance(seen, Success) else record.now, named
        done: Result[object, PersistenceError]
        if not isinstance(named, Success):
            log.warning("record %s of %s is left as it is: %s", record.ref.key, records.namespace, named.failure())
            done = await rearmed(records, record, later(record.now, GRACE))
        elif name_in(record.ref.key) in named.unwrap():
            done = await rearmed(records, record, None)
        else:
            done = await records.delete(record.ref.key, revision=record.revision)
            removed += isinstance(done, Success)
        if isinstance(done, Failure) and not isinstance(done.failure(), RevisionConflict):
            return Failure(done.failure())
    return Success(removed)


def name_in(key: str) -> bytes | None:
    """The name by which a head names the record of a key; None where it is no such key."""
    try:
        return bytes.fromhex(key.partition("/")[2])
    except ValueError:
        return None


async def rearmed(
    records: SealedRecords[H], record: Loaded[H], due_at: datetime | None
) -> Result[object, PersistenceError]:
    """Put a record with another due time."""
    draft: Draft[H, Any] = Draft(head=record.head, attributes=record.attributes, due_at=due_at)
    return await records.put(record.ref.key, draft, revision=record.revision, mark=record.mark)
