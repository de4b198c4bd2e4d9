"""Moving all that a hub has to another store, while both are in use.

A suspension or value is moved by one compare-and-set of its record in the old store: from then on whoever comes for it
there is refused and told where it went, and it is put into the new store. An answer that comes first changes the
record's revision, so the move begins anew with it; one that comes later is refused. What stands beside a suspension is
in the new store before that. The mark keeps the record until it was read back from the new store, so a copy that was
cut is finished by repeating it.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any, Final

from attrs import define, evolve, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Range, Record, RecordChange, RecordRef, StorageBackend, Where
from flowpersist.errors import IntegrityError, PersistenceError, RevisionConflict, StateTooLarge
from flowpersist.hub.base import HubBase
from flowpersist.hub.opening import hub_schema
from flowpersist.hub.stored import OF_ONE, Place, places_of
from flowpersist.hub.sweeping import GRACE
from flowpersist.lifecycle.changes import present
from flowpersist.lifecycle.model import Head
from flowpersist.lifecycle.moments import later
from flowpersist.sealed.moved import Moved, is_mark, moved_in
from flowpersist.sealed.raw import RawRecords
from flowpersist.sealed.tenancy import ready_to_open
from flowpersist.sealed.walking import Pages

__all__ = ["Copied", "copy"]

PAGE: Final = 100
#: A record that others change is moved again so often in one pass.
ATTEMPTS: Final = 10
#: What the write ids of copies begin with: so long as it stands, nobody has changed the record in the new store.
OURS: Final = "copy:"


@frozen
class Copied:
    """What one pass did: suspensions and values that it ``moved``, records beside them that it ``copied``, and what is
    left.

    ``busy`` are runs that somebody holds: they are moved by a later pass, once they pause or end. ``conflicts`` are
    records that were written in the old store after they had been moved and changed in the new one: there the new
    store's stays, and the old store's too. With both 0 everything is in the new store.
    """

    moved: int
    copied: int
    busy: int
    conflicts: int

    @property
    def complete(self) -> bool:
        """Whether nothing was left to be moved."""
        return not (self.busy or self.conflicts)


async def copy(hub: HubBase, to: StorageBackend, name: str) -> Result[Copied, PersistenceError]:
    """One pass over everything. ``to`` is opened and closed here."""
    try:
        await to.open(hub_schema(hub.defaults.namespace))
        try:
            return await _Copy(hub, RawRecords(hub.backend, hub.runtime), RawRecords(to, hub.runtime), name).whole()
        finally:
            await to.close()
    except PersistenceError as error:
        return Failure(error)


@define
class _Copy:
    hub: HubBase
    old: RawRecords
    new: RawRecords
    name: str
    moved: int = 0
    copied: int = 0
    busy: int = 0
    conflicts: int = 0

    async def whole(self) -> Result[Copied, PersistenceError]:
        async for found in places_of(self.hub):
            if not isinstance(found, Success):
                return Failure(found.failure())
            place = found.unwrap()
            # What belongs to one suspension goes with it.
            done = Success(None) if place.kind in OF_ONE else await self._place(place)
            if not isinstance(done, Success):
                return Failure(done.failure())
        return Success(Copied(self.moved, self.copied, self.busy, self.conflicts))

    async def _place(self, place: Place) -> Result[None, PersistenceError]:
        # In the order in which they were made, so that they are listed in it there too.
        async for listed in self._pages(place.namespace, Where()):
            if not isinstance(listed, Success):
                return Failure(listed.failure())
            for record in listed.unwrap().items:
                is_moved = place.kind in {"suspension", "value"}
                done = await (self._moving(place, record.ref) if is_moved else self._copying(record.ref))
                if not isinstance(done, Success):
                    return done
        return Success(None)

    def _pages(self, namespace: str, where: Where) -> Pages[Record]:
        order = "created" if where.range is None else where.range.by
        return Pages(
            lambda after: self.old.query(namespace, where, order=order, limit=PAGE, after=after),
            whole=True,
        )

    async def _moving(self, place: Place, ref: RecordRef) -> Result[None, PersistenceError]:
        """Move one record with what stands beside it; begin anew where others change it."""
        for _ in range(ATTEMPTS):
            read = await self.old.get(ref, body=True)
            if not isinstance(read, Success):
                return Failure(read.failure())
            record, now = read.unwrap().record, read.unwrap().now
            if record is None:
                return Success(None)
            if is_mark(record.head):
                return await self._finished(place, record, cut=True)
            done = await self._begun(place, record, now)
            if not isinstance(done, Failure) or not isinstance(done.failure(), RevisionConflict):
                return done
        self.busy += 1
        return Success(None)

    async def _begun(self, place: Place, record: Record, now: datetime) -> Result[None, PersistenceError]:
        unready = await ready_to_open(place.records.sealer, [record])
        loaded = await place.records.whole(record, now) if unready is None else Failure(unready)
        if not isinstance(loaded, Success):
            # A mark can't be told from damage later on: damage is for a backup, and for verify to name.
            return Failure(loaded.failure()) if place.kind == "suspension" else await self._marked(place, record)
        head = loaded.unwrap().head
        if isinstance(head, Head):
            refused = await self.hub.suspensions.records.refused(record.ref.key)
            if refused is not None:
                return Failure(refused)
            # A lease that has ended holds nobody.
            if present(head, now).lease_until is not None:
                # Its holder may be storing steps, which a move would not see.
                self.busy += 1
                return Success(None)
            beside = await self._beside(record.ref.key)
            if not isinstance(beside, Success):
                return beside
        return await self._marked(place, record)

    async def _marked(self, place: Place, record: Record) -> Result[None, PersistenceError]:
        """The moment of the move, unless the new store has what somebody has changed there."""
        standing = await self.new.get(record.ref, body=False)
        if not isinstance(standing, Success):
            return Failure(standing.failure())
        there = standing.unwrap().record
        if there is not None and not there.write_id.startswith(OURS):
            self.conflicts += 1
            return Success(None)
        change = Moved.change(record, self.name, self.old.write_id())
        if change is None:
            what = f"the head of record {record.ref.key}"
            return Failure(StateTooLarge(f"{what} leaves no room for the mark of a move: answer or end its run first"))
        marked = await self.old.put(record.ref, change, if_revision=record.revision)
        if not isinstance(marked, Success):
            return Failure(marked.failure())
        read = await self.old.get(record.ref, body=True)
        if not isinstance(read, Success):
            return Failure(read.failure())
        found = read.unwrap().record
        return Success(None) if found is None else await self._finished(place, found)

    async def _finished(self, place: Place, mark: Record, *, cut: bool = False) -> Result[None, PersistenceError]:
        """Put what a mark holds into the new store, read it back, and only then let the old store forget it.

        A move that was ``cut`` may have been so long ago that the new store has swept away what no head named.
        """
        found = moved_in(mark)
        if found is None:
            return Failure(IntegrityError(f"the mark in the place of record {mark.ref.key} can't be read"))
        if found.record is None:
            return Success(None)
        beside = await self._beside(mark.ref.key) if cut and place.kind == "suspension" else Success(None)
        if not isinstance(beside, Success):
            return beside
        put = await self._same(found.record)
        if isinstance(put, Success) and not put.unwrap():
            put = await self._goes_on(place, found.record)
        if not isinstance(put, Success):
            return Failure(put.failure())
        self.conflicts += not put.unwrap()
        self.moved += put.unwrap()
        if not put.unwrap():
            return Success(None)
        return (await self.old.put(mark.ref, found.ended(self.old.write_id()), if_revision=mark.revision)).map(_nothing)

    async def _goes_on(self, place: Place, was: Record) -> Result[bool, PersistenceError]:
        """Whether the new store has the same suspension, which was put there by a copy that was cut afterwards, and has
        been used there since. Of values nobody can tell.
        """
        read = await self.new.get(was.ref, body=False)
        if not isinstance(read, Success):
            return Failure(read.failure())
        there, now = read.unwrap().record, read.unwrap().now
        heads = [None if one is None else place.records.loaded(one, now).value_or(None) for one in (was, there)]
        made = [one.head.created_at if one is not None and isinstance(one.head, Head) else None for one in heads]
        return Success(made[0] is not None and made[0] == made[1])

    async def _beside(self, key: str) -> Result[None, PersistenceError]:
        every: tuple[Any, ...] = self.hub.suspensions.side_records.records
        for _, records in zip(OF_ONE, every, strict=False):
            where = Where(range=Range("key", prefix=f"{key}/"))
            async for listed in self._pages(records.namespace, where):
                if not isinstance(listed, Success):
                    return Failure(listed.failure())
                for record in listed.unwrap().items:
                    done = await self._copying(record.ref, unnamed=True)
                    if not isinstance(done, Success):
                        return done
        return Success(None)

    async def _copying(self, ref: RecordRef, *, unnamed: bool = False) -> Result[None, PersistenceError]:
        """Copy a record that stays in the old store; ``unnamed``: the new store has no head yet that names it."""
        read = await self.old.get(ref, body=True)
        if not isinstance(read, Success):
            return Failure(read.failure())
        record = read.unwrap().record
        put = Success(True) if record is None else await self._same(record, unnamed=unnamed)
        self.copied += put.unwrap() if isinstance(put, Success) else 0
        return put.map(lambda _: None)

    async def _same(self, record: Record, *, unnamed: bool = False) -> Result[bool, PersistenceError]:
        """Have the same record in the new store, by digest; False where somebody has changed it there."""
        for _ in range(ATTEMPTS):
            read = await self.new.get(record.ref, body=True)
            if not isinstance(read, Success):
                return Failure(read.failure())
            there = read.unwrap().record
            if unnamed and record.due_at is not None:
                # So the new store's sweep leaves it until its head is there.
                due, now = None if there is None else there.due_at, read.unwrap().now
                late = due is not None and due > later(now, GRACE / 2)
                record, unnamed = evolve(record, due_at=due if late else later(now, GRACE)), False
            if there is not None and digest(there) == digest(record):
                return Success(True)
            if there is not None and not there.write_id.startswith(OURS):
                return Success(False)
            whole = RecordChange(
                f"{OURS}{self.hub.runtime.entropy(16).hex()}",
                attributes=dict(record.attributes),
                head=record.head,
                body=record.body if record.body_size is not None else None,
                due_at=record.due_at,
            )
            put = await self.new.put(record.ref, whole, if_revision=0 if there is None else there.revision)
            if isinstance(put, Failure) and not isinstance(put.failure(), RevisionConflict):
                return Failure(put.failure())
        return Failure(IntegrityError(f"record {record.ref.key} does not read back from the new store as it was put"))


def _nothing(_: object) -> None:
    return None


def digest(record: Record) -> bytes:
    """SHA-256 of all that a record holds, but for its revision, write id and times."""
    beside = {"attributes": sorted((n, type(v).__name__, v) for n, v in record.attributes.items())}
    due = None if record.due_at is None else record.due_at.isoformat()
    hashed = hashlib.sha256(json.dumps([beside, due, len(record.head), record.body_size]).encode())
    hashed.update(record.head)
    hashed.update(record.body or b"")
    return hashed.digest()
