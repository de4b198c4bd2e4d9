"""The MongoDB backend's operations on one record: each change is one compare-and-set on one document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from itertools import count
from typing import Any, Final

from attrs import define, field
from pymongo.errors import AutoReconnect, DuplicateKeyError

from flowpersist.backends._mongodb.bodies import (
    INLINE_BYTES,
    Started,
    Stored,
    name_body,
    remove,
    stored_body,
    tombstoned,
    upload,
)
from flowpersist.backends._mongodb.context import StoreContext
from flowpersist.backends._mongodb.documents import Document, attribute_entries, identity, place, standing_of
from flowpersist.backends._mongodb.errors import NAME, mapped
from flowpersist.backends._mongodb.revisions import COUNTABLE, next_revision
from flowpersist.backends._mongodb.sending import Sending, TooLate
from flowpersist.backends._outcomes import check_deadline, check_revision, check_unwritten
from flowpersist.backends.base import Keep, RecordChange, RecordRef, Written
from flowpersist.errors import DeadlinePassed, RevisionConflict

__all__ = ["delete", "put"]

#: A put with a larger body first checks the revision, so that a losing writer does not upload it.
_LOOKED_FIRST: Final = 1024 * 1024
_BODY: Final = ("s", "i", "x", "m")


async def put(
    context: StoreContext, ref: RecordRef, change: RecordChange, if_revision: int | None, not_after: datetime | None
) -> Written:
    """Write the body, compare and set the record, then remove the body that it had."""
    return await _Put(context, ref, change, if_revision, not_after).run()


@define(eq=False)
class _Put:
    """A put that is running."""

    context: StoreContext
    ref: RecordRef
    change: RecordChange
    if_revision: int | None
    not_after: datetime | None
    document_id: str = field(init=False)
    body: Stored | None = None
    #: Whether a put without a revision has tried both to replace the record and to insert it.
    turned: bool = False
    #: The token identifies this very call. The driver repeats a write after a failover; a server that executed both
    #: finds the second one at the wrong revision, with this token.
    sending: Sending = field(factory=Sending)
    started: Started = field(factory=Started)

    def __attrs_post_init__(self) -> None:
        self.document_id = identity(self.ref)

    async def run(self) -> Written:
        try:
            revision = await self._prepare()
            return await self._write(revision)
        except (RevisionConflict, DeadlinePassed):
            if self.body is not None:
                _ = self.context.underway.background(self._drop(self.body))
            raise

    async def _drop(self, body: Stored) -> None:
        """Remove the body of a write that lost, unless the record names it: whether the driver sent the write twice may
        no longer show if the record was changed since and kept its body.
        """
        with mapped():
            named = await self.context.store.records.find_one({"_id": self.document_id, "x": body.name}, {"_id": 1})
        if named is None:
            await remove(self.context.store, [body])

    async def _prepare(self) -> int:
        """Write the body, and give the next revision."""
        body = self.change.body
        if not isinstance(body, bytes) or len(body) <= INLINE_BYTES:
            return await self._next()
        stored = name_body(await self.context.now(), body)
        if len(body) > _LOOKED_FIRST and self.if_revision is not None:
            check_revision(NAME, self.ref, await self._standing(), self.if_revision)
        # Starts once the upload waits, so the number is drawn while the server handles the body.
        drawing = self.context.underway.background(self._next())
        await upload(self.context.store, stored, self.document_id, body)
        self.body = stored
        return await drawing

    async def _next(self) -> int:
        if self.if_revision:
            return next_revision(self.ref, self.if_revision)
        if self.if_revision is None and self.ref.namespace not in self.context.growing:
            # Drawn only if the record turns out to be new.
            return 0
        return await self._first()

    async def _first(self) -> int:
        return await self.context.lives.first_revision(self.document_id)

    async def _write(self, revision: int) -> Written:
        for attempt in count(1):
            now = await self.context.now()
            if self.not_after is not None and now > self.not_after:
                check_revision(NAME, self.ref, await self._standing(), self.if_revision)
                check_deadline(NAME, self.ref, now, self.not_after)
            self.sending.expect(now, self.not_after)
            try:
                done = await self._sent(revision, now)
            except TooLate:
                # No connection became free in time.
                continue
            if done:
                self._learn(new=bool(revision))
                return await self._told(done, now)
            if self.if_revision is None and not self.turned:
                # To a replace no record is there, or none that may be changed: the insert shows which. To an insert a
                # record is there.
                self.turned = True
                revision = 0 if revision else await self._first()
                continue
            self.turned = False
            found = await self._found()
            if found is not None and found.get("t") == self.sending.token:
                return await self._told(standing_of(found, self.ref), now)
            check_revision(NAME, self.ref, standing_of(found, self.ref), self.if_revision)
            self._check_unwritten(found)
            self.context.check_attempt(self.ref, attempt)
            # The record has reached that revision since it was compared.
            revision = 0 if self.if_revision is None and found is not None else await self._next()
        raise AssertionError("unreachable: the loop has no end")

    def _learn(self, *, new: bool) -> None:
        """What is written next is mostly as what was written last: new records one after another, or the same ones."""
        if self.if_revision is None and new:
            self.context.growing.add(self.ref.namespace)
        elif self.if_revision is None:
            self.context.growing.discard(self.ref.namespace)

    def _check_unwritten(self, found: Document | None) -> None:
        if self.if_revision is None and found is not None:
            check_unwritten(NAME, self.ref, found.get("w"), self.change.write_id)
            # A change after the last revision of this life would take those of the next.
            next_revision(self.ref, standing_of(found, self.ref))

    def _writing(self, revision: int) -> Callable[[int, datetime], Awaitable[int]]:
        if self.if_revision is None:
            return self._insert if revision else self._replace
        return self._insert if self.if_revision == 0 else self._update

    async def _sent(self, revision: int, now: datetime) -> int:
        """Send the change of the record; its new revision, or 0 if it was not made. Raises ``TooLate`` if it was not
        sent.
        """
        before = self.sending.times
        write = self._writing(revision)
        with mapped(writing=True, sent=lambda: self.sending.times - before):
            try:
                return await write(revision, now)
            except TooLate as error:
                if self.sending.times == before:
                    raise
                # The first transmission failed and was not repeated; it may have succeeded.
                raise AutoReconnect("not sent again after the deadline") from error

    async def _told(self, revision: int, now: datetime) -> Written:
        """The result of a change that was made."""
        body = self.change.body
        if self.body is not None and isinstance(body, bytes):
            if self.started.is_prompt():
                self.context.watch.add(self.body.name, len(body), self._keep_body)
            else:
                await self._keep_body()
        return Written(revision, now)

    async def _insert(self, revision: int, now: datetime) -> int:
        placed = place(now, self.ref.key)
        document = {"_id": self.document_id, "n": self.ref.namespace, "c": placed, "a": [], "h": b"", **self._set(now)}
        document["v"] = revision
        try:
            await self.context.store.records.insert_one(document)
        except DuplicateKeyError:
            return 0
        return revision

    async def _update(self, revision: int, now: datetime) -> int:
        records = self.context.store.records
        compared = {"_id": self.document_id, "v": self.if_revision}
        changes = self._changes(now)
        changes["$set"]["v"] = revision
        if isinstance(self.change.body, Keep):
            return revision if (await records.update_one(compared, changes)).matched_count == 1 else 0
        old = await records.find_one_and_update(compared, changes, projection=self.context.held)
        self.context.let_go(stored_body(old))
        return 0 if old is None else revision

    async def _replace(self, _: int, now: datetime) -> int:
        """Change the record at any revision, unless none is there or this write has made it already."""
        changes = self._changes(now)
        changes["$inc"] = {"v": 1}
        old = await self.context.store.records.find_one_and_update(
            {"_id": self.document_id, "w": {"$ne": self.change.write_id}, **COUNTABLE},
            changes,
            projection=None if self.context.held is None else {**self.context.held, "v": 1},
        )
        if old is None:
            return 0
        if not isinstance(self.change.body, Keep):
            self.context.let_go(stored_body(old))
        return standing_of(old, self.ref) + 1

    def _changes(self, now: datetime) -> dict[str, Any]:
        changes: dict[str, Any] = {"$set": self._set(now)}
        dropped = self._dropped(changes["$set"])
        if dropped:
            changes["$unset"] = dict.fromkeys(dropped, "")
        return changes

    def _set(self, now: datetime) -> Document:
        """The fields that the change sets."""
        change = self.change
        fields: Document = {"w": change.write_id, "t": self.sending, "u": place(now, self.ref.key)}
        if not isinstance(change.attributes, Keep):
            fields["a"] = attribute_entries(change.attributes or {})
        if not isinstance(change.head, Keep):
            fields["h"] = change.head or b""
        if isinstance(change.due_at, datetime):
            fields["d"] = place(change.due_at, self.ref.key)
        if isinstance(change.body, bytes):
            fields["s"] = len(change.body)
            fields.update({"i": change.body} if self.body is None else {"x": self.body.name, "m": self.body.count})
        return fields

    def _dropped(self, fields: Document) -> list[str]:
        """The fields that the change removes."""
        dropped = ["d"] if self.change.due_at is None else []
        if not isinstance(self.change.body, Keep):
            dropped += [name for name in _BODY if name not in fields]
        return dropped

    async def _keep_body(self) -> None:
        """Upload the body again if the sweeper has marked it as an orphan (see ``bodies``)."""
        body, store = self.change.body, self.context.store
        while self.body is not None and isinstance(body, bytes) and await tombstoned(store, [self.body.name]):
            again = name_body(await self.context.now(), body)
            await upload(store, again, self.document_id, body)
            with mapped(writing=True):
                moved = await store.records.update_one(
                    {"_id": self.document_id, "x": self.body.name}, {"$set": {"x": again.name}}
                )
            if moved.matched_count == 0:
                # The record was replaced or deleted since.
                self.context.let_go(again)
                return
            self.body = again

    async def _standing(self) -> int:
        return standing_of(await self._found(), self.ref)

    async def _found(self) -> Document | None:
        """The state of a record that was not at the expected revision."""
        with mapped():
            found = await self.context.store.records.find_one({"_id": self.document_id}, {"v": 1, "w": 1, "t": 1})
            if found is not None and found.get("w") == self.change.write_id:
                await self._confirm()
        return found

    async def _confirm(self) -> None:
        """An earlier transmission of this write succeeded but its acknowledgement was lost: wait until a majority has
        it before it is reported. A later majority write implies it.
        """
        with suppress(DuplicateKeyError):
            await self.context.store.meta.update_one({"_id": "confirmed"}, {"$inc": {"n": 1}}, upsert=True)


async def delete(context: StoreContext, ref: RecordRef, if_revision: int | None) -> bool:
    """Remove a record, then its body."""
    compared = {"_id": identity(ref)} if if_revision is None else {"_id": identity(ref), "v": if_revision}
    for attempt in count(1):
        with mapped(writing=True):
            old = await context.store.records.find_one_and_delete(compared, projection=context.held)
        if old is not None:
            context.let_go(stored_body(old))
            return True
        with mapped():
            found = await context.store.records.find_one({"_id": compared["_id"]}, {"v": 1})
        if found is None:
            return False
        # Retried if the record has reached that revision since.
        check_revision(NAME, ref, standing_of(found, ref), if_revision)
        context.check_attempt(ref, attempt)
    raise AssertionError("unreachable: the loop has no end")
