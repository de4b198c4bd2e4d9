"""Sealed records: the one place that knows both the sealer and the backend.

Here what ``seals`` has sealed is put, and what is read is opened by it; conflicts are settled by reading and deciding
again, and a backend's exceptions become failures. Whoever builds on it sees values and ``Result``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from datetime import datetime
from typing import Any, Final, TypeVar

from attrs import evolve
from returns.result import Failure, Result, Success

from flowpersist.backends.base import (
    KEEP,
    MAX_REFS,
    BackendHealth,
    Order,
    Page,
    Put,
    Record,
    StorageBackend,
    Sweeping,
    Unreadable,
    Where,
    Written,
)
from flowpersist.errors import (
    DeadlinePassed,
    EncryptionError,
    PersistenceError,
    RevisionConflict,
)
from flowpersist.sealed.clock import Reading
from flowpersist.sealed.drafts import Decided, Draft, Found, Loaded, Updated, marked
from flowpersist.sealed.envelope import Sealer
from flowpersist.sealed.heads import NO_BODY
from flowpersist.sealed.moved import unmoved
from flowpersist.sealed.refusals import contended, foreign_cursor
from flowpersist.sealed.retrying import Runtime, tried
from flowpersist.sealed.seals import RecordSeals
from flowpersist.sealed.tenancy import KeyedStore
from flowpersist.sealed.turns import Turns

__all__ = ["SealedRecords"]

H = TypeVar("H")
T = TypeVar("T")
#: After opening a head of more than this, a page lets others have the event loop.
BRIEF_BYTES: Final = 4 * 1024


class SealedRecords(RecordSeals[H]):
    """Records of a namespace, of ``tenant`` where no attribute says whose; heads are ``head_type``, for ``purpose``."""

    def __init__(
        self,
        backend: StorageBackend,
        sealer: Sealer,
        namespace: str,
        head_type: type[H],
        *,
        purpose: str = "head",
        runtime: Runtime | None = None,
        tenant: str | None = None,
    ) -> None:
        super().__init__(
            sealer,
            namespace,
            head_type,
            purpose=purpose,
            runtime=Runtime() if runtime is None else runtime,
            tenant=tenant,
        )
        self.backend = backend
        self._store = KeyedStore(backend, self.runtime, lambda: self.sealer)
        #: The latest is of all replies, those of pages among them: near enough to know what may be due.
        self._reading: Reading | None = None
        self._latest: Reading | None = None
        self._turns = Turns(self.runtime)

    def within(self, joined: StorageBackend, runtime: Runtime) -> SealedRecords[H]:
        """The same records in a transaction, by the backend that has joined it."""
        bound = copy(self)
        store = KeyedStore(joined, runtime, lambda: bound.sealer)
        vars(bound).update(backend=joined, runtime=runtime, _store=store, _turns=Turns(runtime), _reading=None)
        return bound

    async def read(self, key: str, *, body: bool = False) -> Result[Found[H], PersistenceError]:
        """One record, or none, and the store's clock."""
        sent = self.runtime.monotonic()
        try:
            read = await self._store.get(self.ref(key), body=body)
        except PersistenceError as error:
            return Failure(error)
        self._heard(read.now, sent)
        return self._found(read.record, read.now)

    async def read_many(
        self, keys: Sequence[str], *, body: bool = False
    ) -> Result[tuple[Result[Found[H], PersistenceError], ...], PersistenceError]:
        """Several records, each for itself, in the order of the keys. One that can't be opened is a failure there."""
        found: list[Result[Found[H], PersistenceError]] = []
        for start in range(0, len(keys), MAX_REFS):
            try:
                reads = await self._store.get_many(list(map(self.ref, keys[start : start + MAX_REFS])), body=body)
            except PersistenceError as error:
                return Failure(error)
            for one in reads.records:
                found.append(self._found(one, reads.now))
                if isinstance(one, Record) and len(one.head) > BRIEF_BYTES:
                    await asyncio.sleep(0)
        return Success(tuple(found))

    def _found(self, one: Record | Unreadable | None, now: datetime) -> Result[Found[H], PersistenceError]:
        if one is None:
            return Success(Found(None, now))
        loaded = one.error if isinstance(one, Unreadable) else self._loaded(one, now)
        return Success(Found(loaded, now)) if isinstance(loaded, Loaded) else Failure(loaded)

    async def opened(self, record: Record, now: datetime) -> Result[Loaded[H], PersistenceError]:
        """A listed record with its whole head. What can't be opened is remembered, as by ``open``."""
        loaded = await self.whole(record, now)
        if isinstance(loaded, Failure):
            self.unreadable.meet(record.ref.key, record.revision, loaded.failure())
        return loaded

    async def glanced(self, record: Record, now: datetime) -> Result[Loaded[H], PersistenceError]:
        """The same for whoever looks for due records and reads again those that it takes."""
        return await self.opened(record, now)

    async def whole(self, record: Record, now: datetime) -> Result[Loaded[H], PersistenceError]:
        """A record with its head opened, and with what belongs to the head and stands beside it."""
        return self.loaded(record, now)

    async def health(self) -> Result[BackendHealth, PersistenceError]:
        """One round trip, not retried: whoever asks wants to know how it is."""
        return await tried(self.backend.ping())

    async def update(
        self,
        key: str,
        decide: Callable[[Found[H]], Awaitable[Decided[H, T]]],
        *,
        body: bool = False,
        find: Callable[[], Awaitable[Result[Found[H], PersistenceError]]] | None = None,
    ) -> Updated[H, T]:
        """Read, or ``find`` it, decide, put; again where somebody else came first or a deadline passed in between."""

        async def attempt() -> Updated[H, T] | None:
            read = await (self.read(key, body=body) if find is None else find())
            if not isinstance(read, Success):
                return Updated(Failure(read.failure()))
            found = read.unwrap()
            decided = await decide(found)
            if not isinstance(decided, Draft):
                return Updated(decided, None, found)
            before = found.record
            revision, mark = (0, NO_BODY) if before is None else (before.revision, before.mark)
            written = await self.put(key, decided, revision=revision, mark=mark)
            if isinstance(written, Success):
                return Updated(decided.result, decided, found, written.unwrap())
            passed = isinstance(written.failure(), RevisionConflict | DeadlinePassed)
            return None if passed else Updated(Failure(written.failure()))

        updated = await self._turns.changed(key, attempt)
        return Updated(Failure(contended(key, self.backend.name))) if updated is None else updated

    async def create(self, key: str, decide: Callable[[Found[H]], Awaitable[Decided[H, T]]]) -> Updated[H, T]:
        """The same for a key that nobody else can know, which spares a round trip: the present is reckoned.

        Where the put's reply says that the store's clock was moved, the record is put right before anybody hears of it.
        """
        reading, started = self._reading, self.runtime.monotonic()
        if reading is None or not reading.sharp:
            return await self.update(key, decide)
        found: Found[H] = Found(None, reading.reckoned(started))
        decided = await decide(found)
        if not isinstance(decided, Draft):
            return Updated(decided, None, found)
        written = await self.put(key, decided, revision=0)
        if isinstance(written, Success):
            now, revision = written.unwrap().now, written.unwrap().revision
            if reading.fits(Reading(now, started, self.runtime.monotonic())):
                return Updated(decided.result, decided, found, written.unwrap())
            found = Found(None, now)
            decided = await decide(found)
            if not isinstance(decided, Draft):
                return Updated(decided, None, found)
            mark = marked(decided.body, NO_BODY)
            written = await self.put(key, evolve(decided, body=KEEP), revision=revision, mark=mark)
        if isinstance(written, Success):
            return Updated(decided.result, decided, found, written.unwrap())
        # It can be ours, done but not acknowledged, or not put right yet, and changed since by somebody who found it in
        # a listing: then the result is by what stands there.
        lost = isinstance(written.failure(), RevisionConflict)
        return await self.update(key, decide) if lost else Updated(Failure(written.failure()))

    async def put(
        self, key: str, draft: Draft[H, Any], *, revision: int | None, mark: bytes = NO_BODY
    ) -> Result[Written, PersistenceError]:
        """Put one draft at one revision; ``mark`` is that of the body there. A lost acknowledgement is cleared up by
        the write id. Without a revision the draft replaces whatever is there, and keeps no body: ``ValueError``.
        """
        failed = await self.ready(draft.attributes)
        made = self.sealed_put(key, draft, revision, mark) if failed is None else Failure(failed)
        if isinstance(made, Failure):
            return Failure(made.failure())
        put, sent = made.unwrap(), self.runtime.monotonic()
        try:
            written = await self._store.put(put.ref, put.change, if_revision=revision, not_after=draft.not_after)
        except PersistenceError as error:
            return Failure(error)
        self._heard(written.now, sent)
        return Success(written)

    async def put_all(self, puts: Sequence[Put]) -> tuple[Written | PersistenceError, ...]:
        """Put what ``sealed_put`` has made, each for itself."""
        sent = self.runtime.monotonic()
        written = await self._store.put_many(puts)
        told = max((one.now for one in written if isinstance(one, Written)), default=None)
        if told is not None:
            self._heard(told, sent)
        return written

    def _heard(self, now: datetime, sent: float) -> None:
        self._reading = self._latest = Reading(now, sent, self.runtime.monotonic())

    async def delete(self, key: str, *, revision: int | None) -> Result[bool, PersistenceError]:
        """Remove one record at one revision, None: at any."""
        return await tried(self._store.delete(self.ref(key), if_revision=revision))

    async def purge(self, where: Where, *, limit: int) -> Result[int, PersistenceError]:
        """Remove at most ``limit`` records; gives how many."""
        return await tried(self._store.purge(self.namespace, where, limit=limit))

    async def sweep(self) -> Result[int, PersistenceError]:
        """Remove what crashes have left in the store, if it is time to; gives how many pieces."""
        return await tried(self.backend.sweep()) if isinstance(self.backend, Sweeping) else Success(0)

    async def page(
        self,
        where: Where,
        *,
        order: Order = "key",
        limit: int,
        after: str | None = None,
        descending: bool = False,
        bodies: bool = False,
        require_key: bool = False,
    ) -> Result[Page[Loaded[H]], PersistenceError]:
        """A page of records, also with ``bodies``. One that the store can't read, or whose head can't be opened, is
        left out, so that it blocks nobody: it is reported, and is in the page's ``unreadable``. With ``require_key`` it
        is a failure where the keyring opens none of them.
        """
        listed = await self.listed(where, order=order, limit=limit, after=after, descending=descending, bodies=bodies)
        if not isinstance(listed, Success):
            return Failure(listed.failure())
        page = unmoved(listed.unwrap())
        opened = []
        for record in page.items:
            opened.append(await self.opened(record, page.now))
            if len(record.head) > BRIEF_BYTES:
                await asyncio.sleep(0)
        failures = [result.failure() for result in opened if isinstance(result, Failure)]
        if require_key and failures and len(failures) == len(opened) and isinstance(failures[0], EncryptionError):
            return Failure(failures[0])
        sealed = tuple(
            Unreadable(record.ref, result.failure())
            for record, result in zip(page.items, opened, strict=True)
            if isinstance(result, Failure)
        )
        items = tuple(result.unwrap() for result in opened if isinstance(result, Success))
        return Success(Page(items, page.next, page.now, page.unreadable + sealed))

    async def listed(
        self,
        where: Where,
        *,
        order: Order = "key",
        limit: int,
        after: str | None = None,
        descending: bool = False,
        bodies: bool = False,
    ) -> Result[Page[Record], PersistenceError]:
        """The same with the heads as they are stored, for ``open``."""
        sent = self.runtime.monotonic()
        try:
            page = await self._store.query(
                self.namespace, where, order=order, limit=limit, after=after, descending=descending, bodies=bodies
            )
        except PersistenceError as error:
            return Failure(error)
        except ValueError:
            return Failure(foreign_cursor())
        self._latest = Reading(page.now, sent, self.runtime.monotonic())
        for left_out in page.unreadable:
            self.unreadable.meet(None if left_out.ref is None else left_out.ref.key, None, left_out.error)
        return Success(page)

    @property
    def reading(self) -> Reading | None:
        """What the last reply to a read or a put said of the store's clock."""
        return self._reading

    def reckoned(self) -> datetime:
        """The store's present as this process knows it: by the last reply, else by its own clock."""
        return self.runtime.now() if self._latest is None else self._latest.reckoned(self.runtime.monotonic())
