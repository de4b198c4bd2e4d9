"""Transactions on suspensions: the steps that all verbs of the hub share.

A verb reads the record, brings its head up to the store's present time, finds the wait that the key opens, asks the
authorizer, decides by a pure transition, and puts the result under the head's revision, not after its next change.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from copy import copy
from datetime import datetime
from functools import partial
from typing import TypeAlias, TypeVar

from attrs import frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import KEEP, Keep, StorageBackend, check_text
from flowpersist.errors import (
    KeyValidationError,
    PersistenceError,
    RevisionConflict,
    SuspensionNotFound,
)
from flowpersist.errors.arguments import check_optional
from flowpersist.errors.tracebacks import Tracebacks
from flowpersist.hub.authorizing import AnyAuthorizer, Authorizer, Question, authorized
from flowpersist.hub.events import Event, Observer, event_of
from flowpersist.hub.halting import Halts
from flowpersist.hub.heads import Heads
from flowpersist.hub.large_answers import AnswerWrites
from flowpersist.hub.paged_heads import PagesOf
from flowpersist.hub.purged_trails import head_of
from flowpersist.hub.room import grown, more_answers, room_of
from flowpersist.hub.side_records import SideRecords
from flowpersist.hub.telemetry import paused_in, record_change
from flowpersist.hub.unknown_keys import UnknownKeys
from flowpersist.inputs.people import By, subject_of
from flowpersist.keys.suspension_key import SuspensionId, SuspensionKey
from flowpersist.lifecycle.changes import due_at, next_change, present
from flowpersist.lifecycle.decisions import Decision
from flowpersist.lifecycle.indexing import attributes_of
from flowpersist.lifecycle.model import (
    Head,
    PartOfHead,
    PartRead,
    WaitReceipt,
    WaitState,
    find,
    replace,
    secret_digest,
)
from flowpersist.lifecycle.parts import require_pages
from flowpersist.lifecycle.refusals import Target, not_found
from flowpersist.sealed.drafts import Decided, Draft, Found, Loaded, Updated
from flowpersist.sealed.retrying import Runtime

__all__ = ["AnyAuthorizer", "Authorizer", "Snapshot", "Suspensions"]

T = TypeVar("T")
Find: TypeAlias = Callable[[], Awaitable[Result[Found[Head], PersistenceError]]]
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
        records: Heads,
        side_records: SideRecords,
        *,
        prefix: str,
        authorizer: AnyAuthorizer | None = None,
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
        self._provisional = False
        self.halts = Halts(records)

    def within(self, joined: StorageBackend, runtime: Runtime) -> Suspensions:
        """The same suspensions in a transaction, by the backend that has joined it.

        What is written may be undone, and is seen by others later: no observer and no metric is told of it, and
        refusals have no entries.
        """
        bound = copy(self)
        bound.records = records = self.records.within(joined, runtime)
        bound.side_records = self.side_records.within(joined, runtime)
        bound.observer = Observer(None, self.tracebacks)
        bound._unknown_keys = UnknownKeys(records, bound.side_records)  # noqa: SLF001 - of a copy of this
        bound._provisional = True  # noqa: SLF001 - as above
        return bound

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
        check_optional(subject_of(by), "by", check_text)
        parsed = self.parse(named)
        if not isinstance(parsed, Success):
            return Failure(parsed.failure())
        key = parsed.unwrap()
        read = await self.records.read_for(key)
        if not isinstance(read, Success):
            return Failure(read.failure())
        return await self._present(verb, key, read.unwrap(), by, answers=False)

    async def purged(self, named: KeyLike, error: PersistenceError) -> Result[Head, PersistenceError]:
        """What is kept of a suspension that ``look`` has not found, as a head with its trail; else that error.

        The secret of a key is verified as before. An authorizer has no suspension to judge, so it hides them all.
        """
        parsed = self.parse(named)
        if not isinstance(error, SuspensionNotFound) or not self.open_to_all or not isinstance(parsed, Success):
            return Failure(error)
        key = parsed.unwrap()
        found = await self.side_records.trail.purged.find(key)
        if not isinstance(found, Success):
            return Failure(found.failure())
        record, looked_at = found.unwrap()
        if record is not None:
            return Success(head_of(record))
        if isinstance(key, SuspensionKey) and not looked_at:
            self._unknown_keys.work(key, self.records.runtime.now())
        return Failure(error)

    async def transact(
        self,
        verb: str,
        named: KeyLike,
        decide: Callable[[Snapshot], Awaitable[Decision[T]]],
        *,
        by: By | None = None,
        body: bool = False,
        answers: bool = False,
        done: Callable[[Result[T, PersistenceError]], object] | None = None,
        pages: PagesOf | None = None,
    ) -> Result[T, PersistenceError]:
        """Run one verb on one suspension; ``answers`` says that it brings an answer. ``pages`` are those of its waits
        that the verb needs beside the one of its key; None: all.

        Where they turn out not to be enough, the verb is decided anew on all. Nothing was put by then.
        """
        actor = subject_of(by)
        parsed = self.parse(named)
        if not isinstance(parsed, Success):
            return Failure(parsed.failure())
        key = parsed.unwrap()
        writes = AnswerWrites(self.side_records.answers)

        async def decided(found: Found[Head]) -> Decided[Head, T]:
            seen = await self._present(verb, key, found, by, answers=answers)
            if not isinstance(seen, Success):
                return Failure(seen.failure())
            return await self._put_or_give(verb, by, seen.unwrap(), await decide(seen.unwrap()), writes)

        every = partial(self.records.read_for, key, body=body)
        # An authorizer and an observer are shown all waits.
        shown = self._authorizer is not None or self.observer.on_event is not None
        find = every if shown or pages is None else partial(every, pages=pages)
        updated = await self.update(verb, actor, record_key(key), decided, find=find, every=every, done=done)
        await writes.settled(key.id if isinstance(key, SuspensionKey) else key, updated)
        if not self._provisional:
            await self._note_refusal(verb, by, key, updated)
        return updated.result

    async def _note_refusal(
        self, verb: str, by: By | None, key: SuspensionKey | SuspensionId, updated: Updated[Head, T]
    ) -> None:
        if isinstance(updated.result, Failure) and updated.draft is None and updated.before is not None:
            error = updated.result.failure()
            await self.side_records.trail.refused(verb, by, updated.before, key, error, self.records)

    async def update(
        self,
        verb: str,
        by: str | None,
        key: str,
        decide: Callable[[Found[Head]], Awaitable[Decided[Head, T]]],
        *,
        new: bool = False,
        find: Find | None = None,
        every: Find | None = None,
        done: Callable[[Result[T, PersistenceError]], object] | None = None,
    ) -> Updated[Head, T]:
        """Update one record, and report what became durable. ``new``: its key is known to nobody yet. ``every`` finds
        it with all its waits, where what ``find`` gives has too few. ``done`` is called with the result before
        ``on_event``, which may take long.
        """
        check_optional(by, "by", check_text)
        if new:
            updated = await self.records.create(key, decide)
        else:
            try:
                updated = await self.records.update(key, decide, find=find)
            except PartRead:
                # What is put is refused before anything is written.
                updated = await self.records.update(key, decide, find=every)
        if done is not None:
            done(updated.result)
        self.measure(verb, updated)
        if updated.draft is not None and updated.found is not None:
            await self.report(verb, by, updated.draft.head, updated.found)
        return updated

    async def remove(self, loaded: Loaded[Head]) -> Result[bool, PersistenceError]:
        """Delete a closed suspension after its side records, once its audit trail is kept; False if somebody else
        deleted or changed it, or its trail can't be read.

        Its head says so first, at the revision that was read: a verb that came before, as the retry of a parked run,
        finds all side records, and one that comes later finds no suspension. A removal that ends in between is repeated
        by the next cleanup, which finds the head where it was.
        """
        kept = await self.side_records.keep_trail(loaded)
        if not isinstance(kept, Success) or not kept.unwrap():
            return kept
        revision = await self._marked(loaded)
        if not isinstance(revision, Success):
            return _unless_changed(revision.failure())
        cleared = await self.side_records.remove(loaded.head.id)
        if isinstance(cleared, Failure):
            return Failure(cleared.failure())
        deleted = await self.records.delete(loaded.ref.key, revision=revision.unwrap())
        return deleted if isinstance(deleted, Success) else _unless_changed(deleted.failure())

    async def _marked(self, loaded: Loaded[Head]) -> Result[int, PersistenceError]:
        """Have a head say that it is being deleted; gives its revision then."""
        if loaded.head.removing:
            return Success(loaded.revision)
        # With its attributes and its due time, by which the next cleanup finds it.
        draft = Draft(replace(loaded.head, removing=True), dict(loaded.attributes), loaded.due_at)
        written = await self.records.put(loaded.ref.key, draft, revision=loaded.revision, mark=loaded.mark)
        return written.map(lambda done: done.revision)

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
        head = paused_in(head, before)
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

    async def allowed(
        self, verb: str, head: Head, by: By | None, *, target: Target = None, answers: bool = False
    ) -> Result[None, PersistenceError]:
        """Ask the authorizer; without one everything is allowed."""
        if self._authorizer is None:
            return Success(None)
        return await authorized(self._authorizer, Question(verb, head, target, by, answers), self.tracebacks)

    async def _present(
        self, verb: str, key: SuspensionKey | SuspensionId, found: Found[Head], by: By | None, *, answers: bool
    ) -> Result[Snapshot, PersistenceError]:
        record = found.record
        if record is None or record.head.removing:
            return Failure(await self._unknown_keys.refuse(key, found.now))
        target = await self._target(record.head, key, found.now)
        if not isinstance(target, Success):
            return Failure(target.failure())
        if isinstance(record.head, PartOfHead) and isinstance(key, SuspensionKey) and find(record.head, key) is None:
            # The key's receipt stands alone: the page that was read says nothing of it.
            again = await self.records.read(record_key(key), body=record.body is not None)
            if not isinstance(again, Success):
                return Failure(again.failure())
            return await self._present(verb, key, again.unwrap(), by, answers=answers)
        head = present(record.head, found.now)
        where = target.unwrap()
        if isinstance(where, WaitState):
            where = next(wait for wait in head.waits if wait.secret == where.secret)
        if self._authorizer is not None:
            allowed = await self.allowed(verb, head, by, target=where, answers=answers)
            if not isinstance(allowed, Success):
                return Failure(allowed.failure())
        return Success(Snapshot(record, head, where, found.now))

    async def _target(
        self, head: Head, key: SuspensionKey | SuspensionId, now: datetime
    ) -> Result[WaitState | WaitReceipt | None, PersistenceError]:
        if isinstance(key, SuspensionId):
            return Success(None)
        target = find(head, key)
        if target is not None:
            return Success(target)
        # Also read if the head has moved no receipts, and a page if it has none: the time must not tell a wrong secret
        # from a right one, nor how many waits there are.
        failed = None if isinstance(head, PartOfHead) else await self._unknown_keys.page(key, now)
        if failed is not None:
            return Failure(failed)
        receipt = await self.side_records.receipt(head.id, head.created_at, secret_digest(key.secret))
        return receipt.bind(lambda found: Failure(not_found(key)) if found is None else Success(found))

    async def _put_or_give(
        self, verb: str, by: By | None, seen: Snapshot, decision: Decision[T], writes: AnswerWrites
    ) -> Decided[Head, T]:
        """The record with the head that was decided; only the result if the head is unchanged."""
        if decision.head is seen.head:
            return decision.result
        fitting = await self.side_records.moved(decision.head, len(seen.head.receipts))
        if isinstance(fitting, Success) and more_answers(decision.head, seen.head):
            fitting = await writes.separated(fitting.unwrap(), seen.head, seen.now)
        if isinstance(fitting, Success):
            heads = (seen.record.head, seen.head, fitting.unwrap(), decision.head)
            fitting = await self.side_records.trail.extended(verb, by, *heads, seen.now)
        if not isinstance(fitting, Success):
            return Failure(fitting.failure())
        bounds = [] if writes.not_after is None else [writes.not_after]
        if decision.head.fence != seen.head.fence:
            # Whatever raises the fence takes the run, under any verb's name.
            claimable = await self.halts.claimable_until(seen.head, seen.now)
            if not isinstance(claimable, Success):
                return Failure(claimable.failure())
            bounds.append(claimable.unwrap())
        require_pages(fitting.unwrap())
        return self.draft(
            fitting.unwrap(), decision.result, before=seen.head, body=decision.body, not_after=min(bounds, default=None)
        )

    def measure(self, verb: str, updated: Updated[Head, T]) -> None:
        """Tell the telemetry of an update, whether or not it has changed something."""
        before = None if updated.before is None else updated.before.head
        if updated.found is not None:
            after = None if updated.draft is None or self._provisional else updated.draft.head
            record_change(verb, before, after, updated.found.now)

    async def report(self, verb: str, by: str | None, head: Head, found: Found[Head]) -> None:
        """Tell the observer of a head that became durable."""
        if self.observer.on_event is not None:
            await self.observer.told(event_of(verb, by, head, found))


def _unless_changed(error: PersistenceError) -> Result[bool, PersistenceError]:
    """False where somebody else changed a record, else why it failed."""
    return Success(False) if isinstance(error, RevisionConflict) else Failure(error)


def record_key(key: SuspensionKey | SuspensionId) -> str:
    """The key of a suspension's record: its id."""
    return str(key.id if isinstance(key, SuspensionKey) else key)
