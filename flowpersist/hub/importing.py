"""Putting the records of an export into a store: first the whole file is checked, then its records are put in order.

Each suspension's head comes after what stands beside it, so that a run is there with all of it, or not at all. An
import that was cut is repeated: what is there already is passed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

from attrs import define, evolve, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Record, RecordChange
from flowpersist.errors import ConfigurationError, ImportRefused, IntegrityError, PersistenceError, UnknownKey
from flowpersist.hub.base import HubBase
from flowpersist.hub.export_file import ImportedRecord, Reader
from flowpersist.hub.stored import BESIDE, OF_ONE, SHARED, Place, places_of
from flowpersist.hub.sweeping import GRACE
from flowpersist.keys.text_file import open_regular
from flowpersist.lifecycle.moments import later
from flowpersist.sealed.cards import Card
from flowpersist.sealed.catalogue import CollectionCatalog
from flowpersist.sealed.contents import PURPOSE
from flowpersist.sealed.encoding import in_thread_if_large
from flowpersist.sealed.envelope import mark_of
from flowpersist.sealed.heads import NO_BODY
from flowpersist.sealed.raw import RawRecords
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.tenancy import ready_to_open
from flowpersist.stages.header import parse_envelope

__all__ = ["Imported", "import_file"]

#: Records of a batch, and bytes of their bodies; one more may be as large as it likes.
BATCH: Final = 100
BATCH_BYTES: Final = 16 * 1024 * 1024


@frozen
class Imported:
    """How many records were put, how many replaced an older one, and how many were there already."""

    created: int
    replaced: int
    present: int


async def import_file(hub: HubBase, path: Path, *, replace: bool, dry_run: bool) -> Result[Imported, PersistenceError]:
    """Check the whole file, then put what is not there. With ``dry_run`` it is only checked and counted."""
    places = await _places(hub)
    if not isinstance(places, Success):
        return Failure(places.failure())
    importing = _Import(hub, places.unwrap(), replace=replace)
    looks = (importing.check, importing.compare)
    for step in looks if dry_run else (*looks, importing.put):
        importing.counted = Imported(0, 0, 0)
        file = await asyncio.to_thread(_opened, path)
        try:
            done = await importing.whole(file, step)
        finally:
            file.close()
        if not isinstance(done, Success):
            return Failure(done.failure())
    return Success(importing.counted)


def _opened(path: Path) -> IO[bytes]:
    try:
        return open_regular(path)
    except OSError as error:
        raise ConfigurationError(f"the file {path} can't be read: {error.strerror}", "path") from error


async def _places(hub: HubBase) -> Result[dict[str, Place], PersistenceError]:
    """The kinds of records that there are, by their namespaces; collections are added as the file names them."""
    places: dict[str, Place] = {}
    async for found in places_of(hub):
        if not isinstance(found, Success):
            return Failure(found.failure())
        places[found.unwrap().namespace] = found.unwrap()
    return Success(places)


@define
class _Import:
    hub: HubBase
    places: dict[str, Place]
    replace: bool
    counted: Imported = Imported(0, 0, 0)
    #: What the write ids of this file's puts begin with.
    mark: str = ""

    async def whole(
        self, file: IO[bytes], step: Callable[[ImportedRecord], Awaitable[Result[None, PersistenceError]]]
    ) -> Result[None, PersistenceError]:
        """Do one step with each record of the file."""
        reader = Reader(file, self.hub.suspensions.records.sealer.codec.limits.max_bytes)
        header = await asyncio.to_thread(reader.header)
        if not isinstance(header, Success):
            return Failure(header.failure())
        root = self.hub.suspensions.records.namespace
        if header.unwrap().get("namespace") != root:
            message = (
                f"the file is of the namespace {header.unwrap().get('namespace')!r:.80}, to which its seals are bound"
            )
            return Failure(ImportRefused(f"{message}, and the hub has {root!r}: open one with that namespace"))
        async for batch in _batches(reader.records(root)):
            done = await _each(batch.unwrap(), step) if isinstance(batch, Success) else Failure(batch.failure())
            if not isinstance(done, Success):
                return done
        end = reader.end
        self.mark = "" if end is None else end.sha256[:32]
        return Success(None)

    async def check(self, one: ImportedRecord) -> Result[None, PersistenceError]:
        """Whether this hub can read the record."""
        unsound = await self._unsound(one)
        return Success(None) if unsound is None else Failure(unsound)

    async def compare(self, one: ImportedRecord) -> Result[None, PersistenceError]:
        """Whether the store has no other record in its place."""
        return (await self._standing(one)).map(lambda _: None)

    async def put(self, one: ImportedRecord) -> Result[None, PersistenceError]:
        """Put the record, unless it is there."""
        armed = await self._armed(one)
        if not isinstance(armed, Success):
            return Failure(armed.failure())
        one = armed.unwrap()
        standing = await self._standing(one)
        if not isinstance(standing, Success):
            return Failure(standing.failure())
        revision = standing.unwrap()
        if revision is None:
            return Success(None)
        head = await self._admitted(one)
        if not isinstance(head, Success):
            return Failure(head.failure())
        change = RecordChange(
            self._write_id(),
            attributes=dict(one.attributes),
            head=head.unwrap(),
            body=one.body,
            due_at=one.due_at,
        )
        put = await RawRecords(self.hub.backend, self.hub.runtime).put(one.ref, change, if_revision=revision)
        return put.map(lambda _: None)

    def _write_id(self) -> str:
        return f"{self.mark}{self.hub.runtime.entropy(8).hex()}"

    async def _armed(self, one: ImportedRecord) -> Result[ImportedRecord, PersistenceError]:
        """The record, due as if it were written now where a sweep comes to what no head names: its head is put after
        it. So is one that an import has left here which was cut.
        """
        place = self._place(one.ref.namespace)
        if one.due_at is None or place is None or place.kind not in OF_ONE:
            return Success(one)
        raw = RawRecords(self.hub.backend, self.hub.runtime)
        read = await raw.get(one.ref, body=False)
        if not isinstance(read, Success):
            return Failure(read.failure())
        now, there = read.unwrap().now, read.unwrap().record
        due, due_there = later(now, GRACE), None if there is None else there.due_at
        soon = due_there is not None and due_there < later(now, GRACE / 2)
        if there is not None and soon and there.head == one.head:
            put = await raw.put(there.ref, RecordChange(self._write_id(), due_at=due), if_revision=there.revision)
            if not isinstance(put, Success):
                return Failure(put.failure())
        return Success(evolve(one, due_at=due))

    async def _admitted(self, one: ImportedRecord) -> Result[bytes, PersistenceError]:
        """The sealed head of a record, as the replay ledger takes it."""
        heads = self.hub.suspensions.records
        if one.ref.namespace != heads.namespace:
            return Success(one.head)
        now = one.updated_at
        record = Record(one.ref, 1, "", one.attributes, one.head, one.body, _size(one.body), now, now, one.due_at)
        return await heads.admitted(record, now)

    async def _standing(self, one: ImportedRecord) -> Result[int | None, PersistenceError]:
        """The revision at which the record is to be put; None where it is there."""
        read = await RawRecords(self.hub.backend, self.hub.runtime).get(one.ref, body=False)
        if not isinstance(read, Success):
            return Failure(read.failure())
        standing, counted = read.unwrap().record, self.counted
        if standing is None:
            self.counted = evolve(counted, created=counted.created + 1)
            return Success(0)
        place = self._place(one.ref.namespace)
        if standing.head == one.head or (place is not None and place.kind in SHARED):
            # The seal is drawn anew for each write, and names its body: so it is the same.
            self.counted = evolve(counted, present=counted.present + 1)
            return Success(None)
        # A record that changed while it was exported stands in the file twice.
        is_own = bool(self.mark) and standing.write_id.startswith(self.mark)
        if not is_own and not (self.replace and standing.updated_at < one.updated_at):
            return Failure(_stands(one, standing, replace=self.replace))
        self.counted = evolve(counted, replaced=counted.replaced + 1)
        return Success(standing.revision)

    async def _unsound(self, one: ImportedRecord) -> PersistenceError | None:
        """Why a record of the file can't be read by this hub; None where it can."""
        place = self._place(one.ref.namespace)
        if place is None:
            return IntegrityError("the file has records of a kind that this release does not know: upgrade flowpersist")
        now = one.updated_at
        record = Record(one.ref, 1, "", one.attributes, one.head, one.body, _size(one.body), now, now, one.due_at)
        unready = await ready_to_open(place.records.sealer, [record])
        if unready is not None:
            return unready
        loaded = place.records.loaded(record, now)
        if isinstance(loaded, Success):
            mark = NO_BODY if one.body is None else mark_of(one.body)
            torn = await _torn(one, place)
            return torn if mark == loaded.unwrap().mark else IntegrityError(f"record {one.ref.key} lacks its own body")
        error = loaded.failure()
        return None if isinstance(error, UnknownKey) and self._is_for_the_state(one.head) else error

    def _is_for_the_state(self, head: bytes) -> bool:
        """Whether the keyring has the key, and not the subkey, which nothing here needs."""
        keyring = self.hub.suspensions.records.sealer.keyring
        parsed = parse_envelope(head)
        return isinstance(parsed, Success) and keyring is not None and parsed.unwrap().kid in keyring.keys

    def _place(self, namespace: str) -> Place | None:
        found = self.places.get(namespace)
        of = self.hub.suspensions.records
        values = CollectionCatalog(of).namespace("")
        if found is None and namespace.startswith(values):
            records: SealedRecords[Any] = SealedRecords(
                of.backend, of.sealer, namespace, Card, purpose=PURPOSE, runtime=of.runtime
            )
            found = self.places[namespace] = Place("value", records)
        return found


async def _each(
    records: list[ImportedRecord], step: Callable[[ImportedRecord], Awaitable[Result[None, PersistenceError]]]
) -> Result[None, PersistenceError]:
    for one in records:
        done = await step(one)
        if not isinstance(done, Success):
            return done
    return Success(None)


async def _torn(one: ImportedRecord, place: Place) -> PersistenceError | None:
    """What is wrong with the checksum of a sealed body."""
    if one.body is None or place.kind not in {"suspension", "dictionary", "trail", *BESIDE}:
        return None
    parsed = await in_thread_if_large(parse_envelope, one.body)
    return parsed.failure() if isinstance(parsed, Failure) else None


def _size(body: bytes | None) -> int | None:
    return None if body is None else len(body)


def _stands(one: ImportedRecord, standing: Record, *, replace: bool) -> ImportRefused:
    newer = standing.updated_at >= one.updated_at
    what = "a newer one" if newer else "another one"
    remedy = "delete it first" if newer or replace else "import with replace=True to put the file's in its place"
    return ImportRefused(
        f"record {one.ref.key} of {one.ref.namespace} stands in the store already, as {what}: {remedy}"
    )


async def _batches(
    records: Iterator[Result[ImportedRecord, PersistenceError]],
) -> AsyncIterator[Result[list[ImportedRecord], PersistenceError]]:
    """Records some at a time, read in a thread."""

    def batch() -> list[Result[ImportedRecord, PersistenceError]]:
        taken, size = [], 0
        for one in islice(records, BATCH):
            taken.append(one)
            size += len(one.unwrap().body or b"") if isinstance(one, Success) else 0
            if size > BATCH_BYTES:
                break
        return taken

    while taken := await asyncio.to_thread(batch):
        failed = next((one.failure() for one in taken if isinstance(one, Failure)), None)
        if failed is not None:
            yield Failure(failed)
            return
        yield Success([one.unwrap() for one in taken])
