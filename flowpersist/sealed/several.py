"""Several values of a collection put together, in as few steps as the backend has for them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from attrs import define, field
from returns.result import Failure, Result, Success

from flowpersist.backends.base import MAX_BODIES_BYTES, MAX_REFS, Put, Scalar, Written
from flowpersist.errors import PersistenceError
from flowpersist.sealed.cards import Card
from flowpersist.sealed.collection import Content, SealedCollection, expiry
from flowpersist.sealed.drafts import Draft
from flowpersist.sealed.naming import Parts
from flowpersist.sealed.records import SealedRecords

__all__ = ["save_many"]

#: So many values are made ready at the same time.
AT_A_TIME: Final = 16


async def save_many(
    collection: SealedCollection,
    values: Sequence[tuple[Parts, object]],
    ttl: timedelta | None,
    attributes: Mapping[str, Scalar],
) -> list[Result[Written, PersistenceError]]:
    """Put values whatever stands there, each for itself; all are tried. Of two of one key the later one is there."""
    step = _Step(collection, ttl, attributes)
    for start in range(0, len(values), AT_A_TIME):
        some = values[start : start + AT_A_TIME]
        for place, one in enumerate(await asyncio.gather(*(collection.ready(*it) for it in some)), start):
            await step.add(place, one)
    await step.put()
    return [step.results[place] for place in range(len(values))]


@define(eq=False)
class _Step:
    """What is put next: contents by the names of their records."""

    collection: SealedCollection
    ttl: timedelta | None
    attributes: Mapping[str, Scalar]
    contents: dict[str, tuple[int, Content]] = field(factory=dict)
    taken: int = 0
    results: dict[int, Result[Written, PersistenceError]] = field(factory=dict)

    async def add(self, place: int, ready: Result[tuple[str, Content], PersistenceError]) -> None:
        if not isinstance(ready, Success):
            self.results[place] = Failure(ready.failure())
            return
        name, content = ready.unwrap()
        size = len(content.body or b"")
        if name in self.contents or len(self.contents) == MAX_REFS or self.taken + size > MAX_BODIES_BYTES:
            await self.put()
        self.contents[name] = place, content
        self.taken += size

    async def put(self) -> None:
        contents, self.contents, self.taken = self.contents, {}, 0
        if not contents:
            return
        present = await self.collection.present() if self.ttl else None
        if isinstance(present, Failure):
            self.results.update({place: Failure(present.failure()) for place, _ in contents.values()})
            return
        reading = None if present is None else present.unwrap()
        now = None if reading is None else reading[0].reckoned(reading[1])
        made = {name: self._draft(content, now) for name, (_, content) in contents.items()}
        for name, written in (await _put(self.collection.records, made)).items():
            place, content = contents[name]
            right = written
            if reading is not None:
                right = await self.collection.mended(name, partial(self._draft, content), written, reading)
            self.results[place] = self.collection.named(name, right)

    def _draft(self, content: Content, now: datetime | None) -> Draft[Card]:
        return content.draft(self.attributes, expiry(now, self.ttl))


async def _put(
    records: SealedRecords[Card], drafts: Mapping[str, Draft[Card]]
) -> dict[str, Result[Written, PersistenceError]]:
    results: dict[str, Result[Written, PersistenceError]] = {}
    puts: list[Put] = []
    for key, draft in drafts.items():
        made = records.sealed_put(key, draft, None)
        if isinstance(made, Success):
            puts.append(made.unwrap())
        else:
            results[key] = Failure(made.failure())
    for put, one in zip(puts, await records.put_all(puts), strict=True):
        results[put.ref.key] = Success(one) if isinstance(one, Written) else Failure(one)
    return results
