"""Writing one suspension, or all of a tenant, to a file, sealed as it is.

What stands beside a suspension is written before its head, as the hub writes it, so that whoever imports the lines in
their order never has a head that names what is not there yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import Any, Final

from attrs import define
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Range, Record, Where
from flowpersist.errors import PersistenceError, RevisionConflict, StorageError, StorageFull
from flowpersist.hub.base import HubBase
from flowpersist.hub.export_file import Exported, ExportWriter
from flowpersist.hub.stored import OF_ONE, SHARED, Place, pages_of, places_of
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle.refusals import not_found
from flowpersist.sealed.catalogue import Collection, CollectionCatalog
from flowpersist.sealed.raw import RawRecords

__all__ = ["export"]

#: A suspension that changes while it is read is read again so often.
ATTEMPTS: Final = 20
#: A page of bodies; the last one may be larger.
PAGE: Final = 100


async def export(
    hub: HubBase, path: Path, suspension: SuspensionId | None, tenant: str | None
) -> Result[Exported, PersistenceError]:
    """Write the file. It has its name once all of it is there; what fails or is cancelled leaves none."""
    writer = ExportWriter(path, hub.runtime.entropy)
    exporting = _Export(hub, writer)
    try:
        done = await exporting.whole(suspension, tenant)
        return Success(await asyncio.to_thread(writer.end)) if isinstance(done, Success) else Failure(done.failure())
    except OSError as error:
        kind = StorageFull if error.errno in {ENOSPC, EDQUOT} else StorageError
        failure = kind(f"the file {path} can't be written: {error.strerror or type(error).__name__}", "file")
        failure.__cause__ = error
        return Failure(failure)
    finally:
        writer.drop()


@define
class _Export:
    hub: HubBase
    writer: ExportWriter

    async def whole(self, suspension: SuspensionId | None, tenant: str | None) -> Result[None, PersistenceError]:
        asked = {"suspension": None if suspension is None else str(suspension), "tenant": tenant}
        pinged = await self.hub.suspensions.records.health()
        if not isinstance(pinged, Success):
            return Failure(pinged.failure())
        header = {"namespace": self._root, **asked, "at": pinged.unwrap().now.isoformat()}
        await asyncio.to_thread(self.writer.begin, header)
        async for found in self._places(tenant):
            paged = await self._pages(found.unwrap()) if isinstance(found, Success) else Failure(found.failure())
            if not isinstance(paged, Success):
                return Failure(paged.failure())
        if suspension is not None:
            kept = await self._trails(Where(range=Range("key", prefix=f"{suspension}/")))
            if not isinstance(kept, Success):
                return Failure(kept.failure())
            # Of one that was deleted its trail is all that there is.
            return await self._suspension(str(suspension), must=not kept.unwrap())
        done = await self._suspensions(Where({"tenant": tenant}))
        # Behind the suspensions: one that is deleted meanwhile has its trail among these.
        kept = await self._trails(Where({"tenant": tenant})) if isinstance(done, Success) else Failure(done.failure())
        return kept.map(lambda _: None)

    async def _trails(self, where: Where) -> Result[int, PersistenceError]:
        """The trails that are kept of deleted suspensions; gives how many."""
        return await self._pages(Place("trail", self.hub.suspensions.side_records.trail.purged.records), where)

    @property
    def _root(self) -> str:
        return self.hub.suspensions.records.namespace

    async def _places(self, tenant: str | None) -> AsyncIterator[Result[Place, PersistenceError]]:
        """The dictionaries and audit keys, which suspensions may need, and the collections of the tenant."""
        catalog = CollectionCatalog(self.hub.suspensions.records)
        async for found in places_of(self.hub):
            if not isinstance(found, Success):
                yield found
                return
            place = found.unwrap()
            if place.kind in SHARED:
                yield found
            elif place.kind == "value" and tenant is not None:
                key = place.namespace.removeprefix(catalog.namespace(""))
                read = await catalog.records_of_all.read(key)
                if not isinstance(read, Success):
                    yield Failure(read.failure())
                    return
                record = read.unwrap().record
                if record is not None and _is_of(record.head, tenant):
                    noted = await self._one(Place("collection", catalog.records_of_all), key)
                    yield Success(place) if isinstance(noted, Success) else Failure(noted.failure())

    async def _one(self, place: Place, key: str) -> Result[bool, PersistenceError]:
        read = await RawRecords(self.hub.backend, self.hub.runtime).get(place.records.ref(key), body=True)
        if not isinstance(read, Success):
            return Failure(read.failure())
        record = read.unwrap().record
        if record is not None:
            await self._write(place, [record])
        return Success(record is not None)

    async def _pages(self, place: Place, where: Where | None = None) -> Result[int, PersistenceError]:
        """All records of a place; gives how many."""
        count = 0
        async for listed in pages_of(place, where, bodies=True):
            if not isinstance(listed, Success):
                return Failure(listed.failure())
            page = listed.unwrap()
            if page.unreadable:
                return Failure(page.unreadable[0].error)
            await self._write(place, list(page.items))
            count += len(page.items)
        return Success(count)

    async def _write(self, place: Place, records: list[Record]) -> None:
        beside = place.namespace.removeprefix(self._root)
        await asyncio.to_thread(self.writer.add, beside, records)

    async def _suspensions(self, where: Where) -> Result[None, PersistenceError]:
        place = Place("suspension", self.hub.suspensions.records)
        async for listed in pages_of(place, where, bodies=False):
            if not isinstance(listed, Success):
                return Failure(listed.failure())
            page = listed.unwrap()
            if page.unreadable:
                return Failure(page.unreadable[0].error)
            for record in page.items:
                done = await self._suspension(record.ref.key, must=False)
                if not isinstance(done, Success):
                    return done
        return Success(None)

    async def _suspension(self, key: str, *, must: bool) -> Result[None, PersistenceError]:
        """A suspension behind what stands beside it. Where it has changed meanwhile that is read again: what is written
        twice is imported once.
        """
        records = self.hub.suspensions.records
        raw = RawRecords(self.hub.backend, self.hub.runtime)
        revision: int | None = None
        refused = await records.refused(key)
        if refused is not None:
            return Failure(refused)
        for _ in range(ATTEMPTS):
            read = await raw.get(records.ref(key), body=True)
            if not isinstance(read, Success):
                return Failure(read.failure())
            record = read.unwrap().record
            if record is None:
                # Others delete what has served its time.
                return Failure(not_found(SuspensionId.parse(key).unwrap())) if must else Success(None)
            if record.revision == revision:
                await self._write(Place("suspension", records), [record])
                return Success(None)
            revision = record.revision
            done = await self._beside(key)
            if not isinstance(done, Success):
                return done
        message = f"suspension {key} was changed {ATTEMPTS} times while it was exported: export it again"
        return Failure(RevisionConflict(message, self.hub.backend.name))

    async def _beside(self, key: str) -> Result[None, PersistenceError]:
        where = Where(range=Range("key", prefix=f"{key}/"))
        every: tuple[Any, ...] = self.hub.suspensions.side_records.records
        for kind, records in zip(OF_ONE, every, strict=False):
            done = await self._pages(Place(kind, records), where)
            if not isinstance(done, Success):
                return Failure(done.failure())
        return Success(None)


def _is_of(head: object, tenant: str) -> bool:
    return isinstance(head, Collection) and head.tenant == tenant
