"""Transactions on suspensions: the steps that all verbs of the hub share.

A verb reads the record, brings its head up to the store's present time, finds the wait that the key opens, asks the
authorizer, decides by a pure transition, and puts the result under the head's revision, not after its next change.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeAlias, TypeVar

from attrs import frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import KEEP, Keep, check_text
from flowpersist.errors import (
    KeyValidationError,
    PersistenceError,
    RevisionConflict,
    StorageError,
)
from flowpersist.errors.arguments import check_optional
from flowpersist.errors.tracebacks import Tracebacks
from flowpersist.hub.authorizing import Authorizer, authorized
from flowpersist.hub.events import Event, Observer, event_of
from flowpersist.hub.large_answers import AnswerWrites
from flowpersist.hub.room import grown, more_answers, room_of
from flowpersist.hub.side_records import SideRecords
from flowpersist.hub.unknown_keys import UnknownKeys
from flowpersist.inputs.people import By, subject_of
from flowpersist.keys.suspension_key import SuspensionId, SuspensionKey
from flowpersist.lifecycle.changes import due_at, next_change, present
from flowpersist.lifecycle.decisions import Decision
from flowpersist.lifecycle.indexing import attributes_of
from flowpersist.lifecycle.model import (
    MAX_RECEIPTS,
    Head,
    WaitReceipt,
    WaitState,
    find,
    replace,
    secret_digest,
)
from flowpersist.lifecycle.refusals import not_found
from flowpersist.sealed.drafts import Decided, Draft, Found, Loaded, Updated
from flowpersist.sealed.records import SealedRecords

__all__ = ["Authorizer", "Snapshot", "Suspensions"]

T = TypeVar("T")
KeyLike: TypeAlias = str | SuspensionKey | SuspensionId


@frozen
class Snapshot:
    """A suspension as a verb sees it: its record, its head as of now, and the wait that the key opens (None: named by
    id).
    """

    record: Loaded[Head]
    head: Head
    target: WaitState | WaitReceipt | None
    now: datetime


class Suspensions:
    """The records of suspensions, and their side records."""

    def __init__(
        self,
        records: SealedRecords[Head],
        side_records: SideRecords,
        *,
        prefix: str,
        authorizer: Authorizer | None = None,
        on_event: Callable[[Event], object] | None = None,
        tracebacks: Tracebacks = Tracebacks(),  # noqa: B008 - frozen
    ) -> None:
        self.records = records
        self.side_records = side_records
        self.prefix = prefix
        self.tracebacks = tracebacks
        self._authorizer = authorizer
        self.observer = Observer(on_event, tracebacks)
        self._unknown_keys = UnknownKeys(records, side_records)

    def parse(self, named: KeyLike) -> Result[SuspensionKey | SuspensionId, PersistenceError]:
        """The key or id that a caller names. A str is the token of a key; an id must be a ``SuspensionId``."""
        if isinstance(named, str):
            return SuspensionKey.parse(named, prefix=self.prefix)
        if not isinstance(named, SuspensionKey | SuspensionId):
            msg = f"Invalid key: expected a SuspensionKey, its text or a SuspensionId, not {type(named).__name__}"
            raise TypeError(msg)
        if isinstance(named, SuspensionKey) and named.prefix != self.prefix:
            return Failure(KeyValidationError(f"Invalid key of {named.id}: expected the prefix {self.prefix!r}"))
        return Success(named)

    async def look(self, verb: str, named: KeyLike, *, by: By | None = None) -> Result[Snapshot, PersistenceError]:
        """Read a suspension as of now, without writing what time has changed."""
        by = subject_of(by)
        check_optional(by, "by", check_text)
        parsed = self.parse(named)
        if not isinstance(parsed, Success):
            return Failure(parsed.failure())
        key = parsed.unwrap()
        read = await self.records.read(record_key(key))
        if not isinstance(read, Success):
            return Failure(read.failure())
        return await self._present(verb, key, read.unwrap(), by)

    async def transact(
        self,
        verb: str,
        named: KeyLike,
        decide: Callable[[Snapshot], Awaitable[Decision[T]]],
        *,
        by: By | None = None,
        body: bool = False,
        done: Callable[[Result[T, PersistenceError]], object] | None = None,
    ) -> Result[T, PersistenceError]:
        """Run one verb on one suspension."""
        actor = subject_of(by)
        parsed = self.parse(named)
        if not isinstance(parsed, Success):
            return Failure(parsed.failure())
        key = parsed.unwrap()
        writes = AnswerWrites(self.side_records.answers)

        async def decided(found: Found[Head]) -> Decided[Head, T]:
            seen = await self._present(verb, key, found, actor)
            if not isinstance(seen, Success):
                return Failure(seen.failure())
            return await self._put_or_give(verb, by, seen.unwrap(), await decide(seen.unwrap()), writes)

        updated = await self.update(verb, actor, record_key(key), decided, body=body, done=done)
        await self._cleaned_up(key, writes, updated)
        if isinstance(updated.result, Failure) and updated.draft is None and updated.before is not None:
            error = updated.result.failure()
            await self.side_records.trail.refused(verb, by, updated.before, key, error, self.records)
        return updated.result

    async def _cleaned_up(
        self, key: SuspensionKey | SuspensionId, writes: AnswerWrites, updated: Updated[Head, T]
    ) -> None:
        """Let large answers be removed that no head names; not those of a put whose reply was lost."""
        before, result = updated.before, updated.result
        after = None if updated.draft is None else updated.draft.head
        if before is not None and after is not None:
            await writes.replaced(before.head, after)
        if after is not None or not isinstance(result, Failure) or not isinstance(result.failure(), StorageError):
            await writes.cleaned_up(key.id if isinstance(key, SuspensionKey) else key, after)

    async def update(
        self,
        verb: str,
        by: str | None,
        key: str,
        decide: Callable[[Found[Head]], Awaitable[Decided[Head, T]]],
        *,
        body: bool = False,
        new: bool = False,
        done: Callable[[Result[T, PersistenceError]], object] | None = None,
    ) -> Updated[Head, T]:
        """Update one record, and report what became durable. ``new``: its key is known to nobody yet. ``done`` is
        called with the result before ``on_event``, which may take long.
        """
        check_optional(by, "by", check_text)
        if new:
            updated = await self.records.create(key, decide)
        else:
            updated = await self.records.update(key, decide, body=body)
        if done is not None:
            done(updated.result)
        if updated.draft is not None and updated.found is not None:
            await self.report(verb, by, updated.draft.head, updated.found)
        return updated

    async def remove(self, loaded: Loaded[Head]) -> Result[bool, PersistenceError]:
        """Delete a closed suspension after its side records; False if somebody else deleted or changed it."""
        cleared = await self.side_records.remove(loaded.head.id)
        if isinstance(cleared, Failure):
            return Failure(cleared.failure())
        deleted = await self.records.delete(loaded.ref.key, revision=loaded.revision)
        if isinstance(deleted, Failure) and isinstance(deleted.failure(), RevisionConflict):
            return Success(False)
        return deleted

    def draft(
        self,
        head: Head,
        result: Result[T, PersistenceError],
        *,
        before: Head | None,
        body: bytes | Keep | None = KEEP,
        not_after: datetime | None = None,
    ) -> Draft[Head, T]:
        """The record of a head, and the result once it is durable.

        The decision holds until ``before``, on which it was made, changes by itself, and no longer than ``not_after``.
        """
        bounds = (not_after, None if before is None else next_change(before))
        not_after = min((bound for bound in bounds if bound is not None), default=None)
        room = room_of(head) if before is None or grown(head, before) else 0
        return Draft(
            head=head,
            attributes=attributes_of(head),
            due_at=due_at(head),
            body=body,
            not_after=not_after,
            room=room,
            result=result,
        )

    @property
    def open_to_all(self) -> bool:
        """Whether the hub has no authorizer."""
        return self._authorizer is None

    async def allowed(self, verb: str, head: Head, by: str | None) -> Result[None, PersistenceError]:
        """Ask the authorizer; without one everything is allowed."""
        if self._authorizer is None:
            return Success(None)
        return await authorized(self._authorizer, verb, head, by, self.tracebacks)

    async def _present(
        self, verb: str, key: SuspensionKey | SuspensionId, found: Found[Head], by: str | None
    ) -> Result[Snapshot, PersistenceError]:
        record = found.record
        if record is None:
            return Failure(await self._unknown_keys.refuse(key, found.now))
        target = await self._target(record.head, key)
        if not isinstance(target, Success):
            return Failure(target.failure())
        head = present(record.head, found.now)
        where = target.unwrap()
        if isinstance(where, WaitState):
            where = next(wait for wait in head.waits if wait.secret == where.secret)
        if self._authorizer is not None:
            allowed = await authorized(self._authorizer, verb, head, by, self.tracebacks)
            if not isinstance(allowed, Success):
                return Failure(allowed.failure())
        return Success(Snapshot(record, head, where, found.now))

    async def _target(
        self, head: Head, key: SuspensionKey | SuspensionId
    ) -> Result[WaitState | WaitReceipt | None, PersistenceError]:
        if isinstance(key, SuspensionId):
            return Success(None)
        target = find(head, key)
        if target is not None:
            return Success(target)
        # Also read if the head has moved no receipts: the time must not tell a wrong secret from a right one.
        receipt = await self.side_records.receipt(head.id, head.created_at, secret_digest(key.secret))
        return receipt.bind(lambda found: Failure(not_found(key)) if found is None else Success(found))

    async def _put_or_give(
        self, verb: str, by: By | None, seen: Snapshot, decision: Decision[T], writes: AnswerWrites
    ) -> Decided[Head, T]:
        """The record with the head that was decided; only the result if the head is unchanged."""
        if decision.head is seen.head:
            return decision.result
        fitting = await self._move_receipts(decision.head, len(seen.head.receipts))
        if isinstance(fitting, Success) and more_answers(decision.head, seen.head):
            fitting = await writes.separated(fitting.unwrap(), seen.head, seen.now)
        if isinstance(fitting, Success):
            heads = (seen.record.head, seen.head, fitting.unwrap(), decision.head)
            fitting = await self.side_records.trail.extended(verb, by, *heads, seen.now)
        if not isinstance(fitting, Success):
            return Failure(fitting.failure())
        return self.draft(
            fitting.unwrap(), decision.result, before=seen.head, body=decision.body, not_after=writes.not_after
        )

    async def _move_receipts(self, head: Head, durable: int) -> Result[Head, PersistenceError]:
        """Move the oldest receipts to records of their own, before the head without them is written.

        Only receipts that are in the ``durable`` head are moved, since this put may fail.
        """
        over = head.receipts[: min(durable, max(0, len(head.receipts) - MAX_RECEIPTS))]
        if not over:
            return Success(head)
        kept = await self.side_records.keep(head, over)
        if not isinstance(kept, Success):
            return Failure(kept.failure())
        moved = head.moved_receipts + len(over)
        return Success(replace(head, receipts=head.receipts[len(over) :], moved_receipts=moved))

    async def report(self, verb: str, by: str | None, head: Head, found: Found[Head]) -> None:
        """Tell the observer of a head that became durable."""
        if self.observer.on_event is not None:
            await self.observer.told(event_of(verb, by, head, found))


def record_key(key: SuspensionKey | SuspensionId) -> str:
    """The key of a suspension's record: its id."""
    return str(key.id if isinstance(key, SuspensionKey) else key)
