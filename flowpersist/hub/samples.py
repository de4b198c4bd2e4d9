"""The states that a dictionary learns from."""

from __future__ import annotations

import logging
from typing import Final

from returns.result import Failure, Result, Success

from flowpersist.backends.base import Where
from flowpersist.errors import IntegrityError, PersistenceError
from flowpersist.lifecycle.changes import present
from flowpersist.lifecycle.criteria import Criteria
from flowpersist.lifecycle.indexing import matches, order_of, where
from flowpersist.lifecycle.model import Head
from flowpersist.sealed.drafts import Loaded
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.walking import Pages
from flowpersist.stages.zstd import DICTIONARY_REACH

__all__ = ["samples_of"]

log = logging.getLogger("flowpersist.hub")

_PAGE: Final = 100
#: A trainer takes no more bytes of samples than this many times the dictionary's: more teaches it hardly anything.
_SAMPLES_PER_BYTE: Final = 100


async def samples_of(
    records: SealedRecords[Head], criteria: Criteria, *, most: int, size: int
) -> Result[list[bytes], PersistenceError]:
    """Encoded states to learn from, the newest first: small ones of live suspensions, at most ``most``, and no more
    than teach a dictionary of ``size`` bytes something. One that is damaged is reported in the log and passed over.
    """
    conditions = where(criteria)
    live = Where({**conditions.equals, "live": True}, conditions.range)
    samples: list[bytes] = []
    room = size * _SAMPLES_PER_BYTE
    walk = Pages(
        lambda after: records.page(
            live, order=order_of(live), limit=_PAGE, after=after, descending=True, require_key=after is None
        )
    )
    async for found in walk:
        if not isinstance(found, Success):
            return Failure(found.failure())
        for one in found.unwrap().items:
            encoded = await _encoded(records, one, criteria)
            if not isinstance(encoded, Success):
                return Failure(encoded.failure())
            samples.extend(encoded.unwrap())
            room -= sum(map(len, encoded.unwrap()))
            if len(samples) >= most or room <= 0:
                return Success(samples)
    return Success(samples)


async def _encoded(
    records: SealedRecords[Head], listed: Loaded[Head], criteria: Criteria
) -> Result[tuple[bytes, ...], PersistenceError]:
    """The encoded state of one record, if it has a small one."""
    # A sealed state is larger than the reach of a dictionary only if the state itself is.
    if listed.body_size is None or listed.body_size > 2 * DICTIONARY_REACH:
        return Success(())
    read = await records.read(listed.ref.key, body=True)
    if not isinstance(read, Success):
        return Failure(read.failure())
    record = read.unwrap().record
    if record is None or record.body is None:
        return Success(())
    # The run may have ended since it was listed: then its body is an outcome.
    head = present(record.head, record.now)
    if head.status.closed or not matches(criteria, head):
        return Success(())
    opened = await records.open_body_bytes(record, purpose="state")
    if isinstance(opened, Failure) and isinstance(opened.failure(), IntegrityError):
        log.error("the state of record %s can't be opened and was left out: %s", listed.ref.key, opened.failure())
        return Success(())
    return opened.map(lambda data: (data,) if len(data) <= DICTIONARY_REACH else ())
