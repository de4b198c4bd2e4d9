"""Records whose bodies may be claims: read whole, without their bodies, and several at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from attrs import evolve, frozen

from flowpersist.backends._claim_check.bodies import Bodies
from flowpersist.backends._claim_check.claims import CLAIM_BYTES, Claim
from flowpersist.backends._claim_check.known import Known, shown
from flowpersist.backends._matching import Selection
from flowpersist.backends._outcomes import body_missing
from flowpersist.backends._pages import One, awaited_one, fitting, split, still_there
from flowpersist.backends.base import Page, Read, Reads, Record, RecordRef, StorageBackend
from flowpersist.errors import BackendUnavailable, IntegrityError

__all__ = ["Reading"]

log = logging.getLogger("flowpersist.backends.claim_check")
#: A record that is changed all the time may lose its body between reading it and reading that; so often it is tried.
READS: Final = 20
LOOKUPS_AT_ONCE: Final = 16


@frozen(eq=False)
class Reading:
    """Reads from ``inner``, and remembers the claims that it has seen."""

    inner: StorageBackend
    known: Known

    async def without_body(self, ref: RecordRef) -> Read:
        """A record with its body's real size."""
        read = await self.inner.get(ref, body=False)
        if read.record is None:
            return read
        standing = self.known.at(read.record)
        if standing is not None:
            return Read(shown(read.record, standing.claim), read.now)
        read = await self.inner.get(ref)
        return read if read.record is None else Read(shown(read.record, self.known.note(read.record)), read.now)

    async def whole(self, bodies: Bodies, ref: RecordRef) -> Read:
        """A record with its body; one that is gone at an unchanged revision is an ``IntegrityError``."""
        missing: int | None = None
        for _ in range(READS):
            read = await self.inner.get(ref)
            record = read.record
            claim = None if record is None else self.known.note(record)
            if record is None or claim is None:
                return read
            data, fits = await bodies.fetch(ref.namespace, claim)
            if fits:
                return Read(evolve(record, body=data, body_size=claim.size), read.now)
            # Whoever changed the record since may have removed what it named before.
            if data is not None or record.revision == missing:
                raise body_missing(self.inner.name, ref)
            missing = record.revision
        message = f"record {ref.key} changes faster than its body can be read; try again"
        raise BackendUnavailable(message, self.inner.name, True)

    async def newest(self, record: Record) -> Claim | None:
        """The claim of a record that was read without its body, or of what it has become since."""
        standing = self.known.at(record)
        if standing is not None:
            return standing.claim
        newer = (await self.inner.get(record.ref)).record
        return None if newer is None else self.known.note(newer)

    async def removable(self, record: Record) -> Claim | None:
        """The same; None also if the inner backend has lost the claim, so that such a record can be removed."""
        try:
            return await self.newest(record)
        except IntegrityError as error:
            log.warning("a body whose claim is lost is left to the sweeper: %s", error)
            return None

    async def sized(self, asked: Selection, page: Page[Record]) -> Page[Record]:
        """A page without bodies, with their real sizes; these are looked up where they are not known."""
        if all(record.body_size != CLAIM_BYTES for record in page.items):
            return page

        async def sized(record: Record) -> One:
            return still_there(asked, record, await self._sized(record))

        return split(page, await _some(sized, page.items))

    async def filled(self, bodies: Bodies, asked: Selection, page: Page[Record]) -> Page[Record]:
        """A page with the bodies that its claims name, as many as fit."""
        real = [evolve(record, body_size=_size(record)) for record in page.items]
        fits = fitting(asked, evolve(page, items=tuple(real)))

        async def filled(record: Record) -> One:
            return still_there(asked, record, await self._filled(bodies, record))

        return split(fits, await _some(filled, page.items[: len(fits.items)]))

    async def several(self, bodies: Bodies, refs: tuple[RecordRef, ...], *, body: bool) -> Reads:
        """Several records, each for itself."""
        reads = await self.inner.get_many(refs, body=body)

        async def one(found: One) -> One:
            if not isinstance(found, Record):
                return found
            if body:
                return await self._filled(bodies, found)
            return await self._sized(found)

        return Reads(tuple(await _some(one, reads.records)), reads.now)

    async def _sized(self, record: Record) -> One:
        """A record that was read without its body, with that one's real size."""
        standing = self.known.at(record)
        if standing is not None:
            return shown(record, standing.claim)
        return await awaited_one(record.ref, self.without_body(record.ref))

    async def _filled(self, bodies: Bodies, record: Record) -> One:
        """A record that was read with its claim, with the body that it names."""
        claim = self.known.note(record)
        if claim is None:
            return record
        data, fits = await bodies.fetch(record.ref.namespace, claim)
        if fits:
            return evolve(record, body=data, body_size=claim.size)
        return await awaited_one(record.ref, self.whole(bodies, record.ref))


def _size(record: Record) -> int | None:
    claim = Claim.read(record.body)
    return record.body_size if claim is None else claim.size


async def _some(work: Callable[[Record], Awaitable[One]], items: Iterable[One]) -> list[One]:
    """Work on many, some at a time, in their order."""
    free = asyncio.Semaphore(LOOKUPS_AT_ONCE)

    async def one(item: One) -> One:
        async with free:
            return await work(item)  # type: ignore[arg-type] # whatever the caller has given

    return list(await asyncio.gather(*(one(item) for item in items)))
