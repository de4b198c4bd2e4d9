"""The key and the value of a collection's record, wherever they stand in it: in the head, in the sealed body, or in a
body in clear.
"""

from __future__ import annotations

import asyncio
from typing import Final

from returns.result import Failure, Result, Success

from flowpersist.errors import PersistenceError
from flowpersist.sealed.cards import Card, split_body
from flowpersist.sealed.clear import clear_value
from flowpersist.sealed.drafts import Loaded
from flowpersist.sealed.encoding import in_thread_if_large
from flowpersist.sealed.naming import Parts
from flowpersist.sealed.records import SealedRecords

__all__ = ["PURPOSE", "opened_value"]

#: What heads and bodies of values are sealed for.
PURPOSE: Final = "value"


async def opened_value(
    records: SealedRecords[Card], record: Loaded[Card], *, decode: bool = True
) -> Result[tuple[Parts | bytes, object], PersistenceError]:
    """The key as it is kept, and the value, of a record whose body was read if it has one; a large one is opened in a
    thread. ``decode``: else the value stays as the codec encoded it.
    """
    card = record.head
    if card.key is None:
        both = (await records.open_body_bytes(record, purpose=PURPOSE)).bind(split_body)
        if not isinstance(both, Success):
            return Failure(both.failure())
        key, data = both.unwrap()
        return _beside(key, await _decoded(records, data, decode=decode))
    if card.value is not None:
        value = await _decoded(records, card.value, decode=decode)
    elif card.clear is not None:
        shown = await asyncio.to_thread(clear_value, record.body, card.clear)
        value = shown if decode else shown.bind(records.sealer.codec.encode)
    elif decode:
        value = await records.open_body(record, purpose=PURPOSE)
    else:
        value = await records.open_body_bytes(record, purpose=PURPOSE)
    return _beside(card.key, value)


async def _decoded(records: SealedRecords[Card], data: bytes, *, decode: bool) -> Result[object, PersistenceError]:
    return await in_thread_if_large(records.sealer.codec.decode, data) if decode else Success(data)


def _beside(
    key: Parts | bytes, value: Result[object, PersistenceError]
) -> Result[tuple[Parts | bytes, object], PersistenceError]:
    return value.map(lambda found: (key, found))
