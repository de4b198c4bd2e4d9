"""The removal of blobs that no record names.

Crashed writers, lost races whose loser died, and deletes whose acknowledgement was lost leave blobs behind. A blob may
go when it is older than the grace and no record names it. Three things make that safe: a put that is later than half
of the grace after it looked at the clock is refused, in the same atomic step that compares the revision, so an old blob
is named already or never will be; the blobs are listed before the records are walked; and a name is never used again.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from flowpersist.backends._claim_check.bodies import Bodies
from flowpersist.backends._claim_check.claims import CLAIM_BYTES, Claim
from flowpersist.backends._claim_check.own import OWN
from flowpersist.backends.base import Record, RecordChange, RecordRef, StorageBackend, Where
from flowpersist.errors import IntegrityError, RevisionConflict

__all__ = ["sweep", "turn"]

log = logging.getLogger("flowpersist.backends.claim_check")
_PAGE: Final = 500


async def turn(inner: StorageBackend, place: str, every: timedelta, entropy: Callable[[int], bytes]) -> bool:
    """Whether it is time to sweep a place, and ours to do it: of all processes that use it one has the turn."""
    ref = RecordRef(OWN.name, place)
    read = await inner.get(ref, body=False)
    if read.record is not None and read.now - read.record.updated_at < every:
        return False
    try:
        await inner.put(
            ref, RecordChange(entropy(16).hex()), if_revision=0 if read.record is None else read.record.revision
        )
    except RevisionConflict:
        return False
    return True


async def sweep(
    inner: StorageBackend,
    bodies: Bodies,
    namespace: str,
    place: str,
    grace: timedelta,
    newest: Callable[[Record], Awaitable[Claim | None]],
) -> int:
    """Remove the blobs of a namespace that are older than the grace and that no record names; gives how many.

    A record that can't be read may name any blob of its time.
    """
    before = await bodies.blobs.now() - grace
    old = {blob.name: blob.modified async for blob in bodies.blobs.walk(place) if blob.modified < before}
    after: str | None = None
    while old:
        page = await inner.query(namespace, Where(), limit=_PAGE, after=after)
        for record in page.items:
            if record.body_size != CLAIM_BYTES:
                continue
            try:
                claim = await newest(record)
            except IntegrityError as error:
                log.error("bodies of the time of a record are not swept: %s", error)  # noqa: TRY400 - the message is all there is
                # It was written within half of the grace, and the two stores' clocks may not agree.
                first, last = record.created_at - grace, record.updated_at + grace
                old = {name: modified for name, modified in old.items() if not first <= modified <= last}
                continue
            if claim is not None:
                old.pop(f"{place}/{claim.nonce}", None)
        after = page.next
        if after is None:
            break
    for name in old:
        await bodies.blobs.delete(name)
    return len(old)
