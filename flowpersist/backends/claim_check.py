"""Large bodies apart, in a blob store: a backend round another one, with the same protocol.

A body over the threshold is written to the blob store first, under a name that is drawn at random; the record's own
body is then a claim of 64 bytes, which names it. So a database keeps small records, and takes bodies that it could not
hold itself. What is promised stays what the inner backend promises: the put of the record decides who won.

A blob is never changed. It is removed when its record names another, or none; what is left behind by a crash or a lost
reply is removed by ``sweep`` (``Maintenance.cleanup`` calls it) once it is older than the grace, a day. ``flowpersist``
processes that share a store must all have the same blob store; one that has none changes and deletes records rightly,
but can't read what stands apart.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from typing import ClassVar, Final

from attrs import evolve

from flowpersist.backends._claim_check.bodies import Bodies
from flowpersist.backends._claim_check.claims import CLAIM_BYTES, Claim
from flowpersist.backends._claim_check.known import Known
from flowpersist.backends._claim_check.own import OWN
from flowpersist.backends._claim_check.reading import Reading
from flowpersist.backends._claim_check.sweeping import sweep, turn
from flowpersist.backends._delegating import DelegatingBackend
from flowpersist.backends._home import Home, Reach
from flowpersist.backends._matching import check_put, check_refs, selection
from flowpersist.backends._options import check_options
from flowpersist.backends._outcomes import check_deadline, check_revision
from flowpersist.backends._putting import PutResult, check_puts, put_each
from flowpersist.backends._threads import uninterrupted
from flowpersist.backends.base import (
    BackendHealth,
    BodyLimited,
    Capability,
    Migrating,
    NamespaceSchema,
    Notifying,
    Order,
    Page,
    Put,
    Read,
    Reads,
    Record,
    RecordChange,
    RecordRef,
    StorageBackend,
    Sweeping,
    Where,
    Written,
)
from flowpersist.backends.blobs import BlobStore
from flowpersist.errors import (
    BackendUnavailable,
    DeadlinePassed,
    PersistenceError,
    RevisionConflict,
    StorageError,
)
from flowpersist.errors.arguments import check_instance

__all__ = ["DEFAULT_FROM_BYTES", "ClaimCheckBackend"]

log = logging.getLogger("flowpersist.backends.claim_check")
DEFAULT_FROM_BYTES: Final = 8 * 1024 * 1024
SWEEP_EVERY: Final = timedelta(hours=1)
PURGE_BATCH: Final = 500


class ClaimCheckBackend(DelegatingBackend):
    """``inner`` with bodies of more than ``from_bytes`` in ``blobs``; both are opened and closed with it.

    Where ``inner`` takes smaller bodies only, that is the threshold. ``grace`` is how long a blob that no record names
    is left alone; a put that has not come to its end after half of it is refused.
    """

    #: ``within`` is not forwarded: a transaction that is rolled back can't bring back a blob that was removed for it.
    forwarded: ClassVar[frozenset[type]] = frozenset()

    def __init__(
        self,
        inner: StorageBackend,
        blobs: BlobStore,
        *,
        from_bytes: int = DEFAULT_FROM_BYTES,
        grace: timedelta = timedelta(days=1),
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        check_instance(inner, "inner", StorageBackend, "a backend")
        check_instance(blobs, "blobs", BlobStore, "a BlobStore")
        check_instance(from_bytes, "from_bytes", int, "an int")
        check_instance(grace, "grace", timedelta, "a timedelta")
        check_options(entropy=entropy)
        if type(from_bytes) is bool or from_bytes < 0 or grace <= timedelta(0):
            raise ValueError("Invalid from_bytes or grace: expected bytes of at least 0, and a timedelta above 0")
        super().__init__(inner)
        self.blobs = blobs
        self.from_bytes = min(from_bytes, inner.largest_body) if isinstance(inner, BodyLimited) else from_bytes
        self._grace = grace
        self._entropy = entropy
        self._known = Known()
        self._reading = Reading(inner, self._known)
        self._bodies: Bodies | None = None
        self._namespaces: set[str] = set()
        self._home = Home(inner.name)
        self._busy = 0
        self._idle = asyncio.Event()

    async def open(self, schema: Sequence[NamespaceSchema]) -> None:
        """See ``StorageBackend``."""
        await uninterrupted(self._open(schema))

    async def _open(self, schema: Sequence[NamespaceSchema]) -> None:
        async with self._home.opening() as first:
            if first:
                self._idle = asyncio.Event()
            await self.inner.open([*schema, OWN])
            if self._bodies is None:
                self._bodies = await self._connected()
            self._namespaces.update(namespace.name for namespace in schema)

    async def _connected(self) -> Bodies:
        try:
            await self.blobs.open()
            return Bodies(self.blobs, self.inner, self._entropy)
        except BaseException:
            await self._closed()
            raise

    async def close(self) -> None:
        """See ``StorageBackend``. Waits for what is under way."""
        await uninterrupted(self._close())

    async def _close(self) -> None:
        async with self._home.closing() as reach:
            # What was under way elsewhere ends there, or never.
            while self._busy and reach is Reach.ALL:
                self._idle.clear()
                await self._idle.wait()
            self._bodies = None
            await self._closed()

    async def _closed(self) -> None:
        try:
            await self.inner.close()
        finally:
            await self.blobs.close()

    async def get(self, ref: RecordRef, *, body: bool = True) -> Read:
        """See ``StorageBackend``. A body that is gone at an unchanged revision is an ``IntegrityError``."""
        async with self._using() as bodies:
            return await (self._reading.whole(bodies, ref) if body else self._reading.without_body(ref))

    async def get_many(self, refs: Sequence[RecordRef], *, body: bool = True) -> Reads:
        """See ``StorageBackend``. Blobs are fetched some at a time."""
        check_refs(refs)
        async with self._using() as bodies:
            return await self._reading.several(bodies, tuple(refs), body=body)

    async def put(
        self,
        ref: RecordRef,
        change: RecordChange,
        *,
        if_revision: int | None = None,
        not_after: datetime | None = None,
    ) -> Written:
        """See ``StorageBackend``. If cancelled, the write may still happen. Without a revision it reads first."""
        check_put(if_revision, not_after)
        async with self._using() as bodies:
            if not isinstance(change.body, bytes | None):
                return await self.inner.put(ref, change, if_revision=if_revision, not_after=not_after)
            before = await self._standing(ref, if_revision)
            if change.body is None or not self._apart(change.body):
                written = await self.inner.put(ref, change, if_revision=if_revision, not_after=not_after)
            else:
                written = await self._put_apart(bodies, ref, change, change.body, if_revision, not_after)
            if before is not None:
                await bodies.drop(ref.namespace, before)
            return written

    async def put_many(self, puts: Sequence[Put]) -> tuple[PutResult, ...]:
        """See ``StorageBackend``. Small bodies together, after one read of what stands there; large ones one by one,
        some at the same time.
        """
        check_puts(puts)
        large = [place for place, put in enumerate(puts) if self._is_apart(put)]
        small = sorted(set(range(len(puts))) - set(large))
        async with self._using() as bodies:
            done = await self._put_small(bodies, [puts[place] for place in small])
            others = await put_each(self.put, [puts[place] for place in large])
        results = dict(zip((*small, *large), (*done, *others), strict=True))
        return tuple(results[place] for place in range(len(puts)))

    async def _put_small(self, bodies: Bodies, puts: Sequence[Put]) -> tuple[PutResult, ...]:
        if not puts:
            return ()
        replacing = [put for put in puts if put.if_revision != 0 and isinstance(put.change.body, bytes | None)]
        reads = await self.inner.get_many([put.ref for put in replacing], body=False) if replacing else None
        standing = dict(zip((put.ref for put in replacing), () if reads is None else reads.records, strict=True))
        claims = {
            put.ref: await self._reading.removable(record)
            for put in replacing
            if isinstance(record := standing[put.ref], Record) and put.if_revision in {None, record.revision}
        }
        results = await self.inner.put_many(puts)
        for put, result in zip(puts, results, strict=True):
            claim = claims.get(put.ref)
            if claim is not None and isinstance(result, Written):
                await bodies.drop(put.ref.namespace, claim)
        return results

    def _is_apart(self, put: Put) -> bool:
        return isinstance(put.change.body, bytes) and self._apart(put.change.body)

    def _apart(self, body: bytes) -> bool:
        return len(body) > self.from_bytes or len(body) == CLAIM_BYTES

    async def _put_apart(
        self,
        bodies: Bodies,
        ref: RecordRef,
        change: RecordChange,
        body: bytes,
        if_revision: int | None,
        not_after: datetime | None,
    ) -> Written:
        self._namespaces.add(ref.namespace)
        # Losers lose here, before anything large is sent.
        read = await self.inner.get(ref, body=False)
        check_revision(self.name, ref, 0 if read.record is None else read.record.revision, if_revision)
        check_deadline(self.name, ref, read.now, not_after)
        # After that a sweeper may have taken the blob for garbage, so the put must not happen any more.
        latest = read.now + self._grace / 2
        ours = not_after is None or latest < not_after
        claim = await bodies.keep(ref.namespace, body)
        claimed = evolve(change, body=claim.written())
        try:
            return await self.inner.put(ref, claimed, if_revision=if_revision, not_after=latest if ours else not_after)
        except (RevisionConflict, DeadlinePassed) as error:
            await self._discard(bodies, ref, claim)
            if ours and isinstance(error, DeadlinePassed):
                message = f"the body of record {ref.key} took too long to be kept apart; try again"
                raise BackendUnavailable(message, self.name, True) from error
            raise

    async def _discard(self, bodies: Bodies, ref: RecordRef, claim: Claim) -> None:
        """Remove a loser's blob, unless the record names it: a driver may have been told "no" by its own first try."""
        try:
            record = (await self.inner.get(ref, body=False)).record
            named = None if record is None else await self._reading.newest(record)
        except PersistenceError as error:
            log.warning("a body that was not needed is left to the sweeper: %s", error)
            return
        if named is None or named.nonce != claim.nonce:
            await bodies.drop(ref.namespace, claim)

    async def _standing(self, ref: RecordRef, revision: int | None) -> Claim | None:
        """The claim at a revision that is about to be replaced; None also where the record does not stand there.
        Without a revision it is looked up: a body that comes in between is left to the sweeper.
        """
        if revision == 0:
            return None
        if revision is None:
            record = (await self.inner.get(ref, body=False)).record
            return None if record is None else await self._reading.removable(record)
        standing = self._known.find(ref, revision)
        if standing is None:
            record = (await self.inner.get(ref, body=False)).record
            if record is None or record.revision != revision:
                return None
            await self._reading.removable(record)
            standing = self._known.find(ref, revision)
        return None if standing is None else standing.claim

    async def delete(self, ref: RecordRef, *, if_revision: int | None = None) -> bool:
        """See ``StorageBackend``."""
        check_put(if_revision)
        async with self._using() as bodies:
            before = await self._standing(ref, if_revision)
            removed = await self.inner.delete(ref, if_revision=if_revision)
            if removed and before is not None:
                await bodies.drop(ref.namespace, before)
            return removed

    async def query(
        self,
        namespace: str,
        where: Where,
        *,
        order: Order = "key",
        limit: int,
        after: str | None = None,
        descending: bool = False,
        bodies: bool = False,
    ) -> Page[Record]:
        """See ``StorageBackend``. Sizes of bodies that stand apart are looked up where they are not known."""
        asked = selection(namespace, where, order, limit, None, descending, bodies=bodies)
        async with self._using() as blobs:
            page = await self.inner.query(
                namespace, where, order=order, limit=limit, after=after, descending=descending, bodies=bodies
            )
            return await (self._reading.filled(blobs, asked, page) if bodies else self._reading.sized(asked, page))

    async def purge(self, namespace: str, where: Where, *, limit: int) -> int:
        """See ``StorageBackend``. Blobs of what was changed and purged at the same moment are left to the sweeper."""
        selection(namespace, where, "key", limit, None, False)
        purged = 0
        async with self._using() as bodies:
            while purged < limit:
                batch = min(PURGE_BATCH, limit - purged)
                page = await self.inner.query(namespace, where, limit=batch)
                claims = [(record.ref, await self._reading.removable(record)) for record in page.items]
                removed = await self.inner.purge(namespace, where, limit=batch)
                for ref, claim in claims:
                    if claim is not None:
                        await self._discard(bodies, ref, claim)
                purged += removed
                if removed < batch:
                    break
        return purged

    async def sweep(self) -> int:
        """See ``Sweeping``. At most once an hour for all processes together; gives how many blobs were removed. Those
        of the namespaces with which this backend was opened, and in which it has kept bodies.
        """
        async with self._using() as bodies:
            swept = await self.inner.sweep() if isinstance(self.inner, Sweeping) else 0
            for namespace in sorted(self._namespaces):
                place = await bodies.place(namespace)
                if place is not None and await turn(self.inner, place, SWEEP_EVERY, self._entropy):
                    swept += await sweep(self.inner, bodies, namespace, place, self._grace, self._reading.newest)
            return swept

    async def ping(self) -> BackendHealth:
        """See ``StorageBackend``. Asks the blob store too."""
        async with self._using():
            health = await self.inner.ping()
            await self.blobs.ping()
            return health

    def changes(self, namespace: str) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """See ``Notifying``; only where ``capabilities`` says so."""
        if Capability.NOTIFICATIONS in self.capabilities and isinstance(self.inner, Notifying):
            return self.inner.changes(namespace)
        message = f"the {self.name} backend does not support change notifications; ask again from time to time"
        raise StorageError(message, self.name)

    async def plan(self, schema: Sequence[NamespaceSchema]) -> tuple[str, ...]:
        """See ``Migrating``: what the backend below needs, and then the blob store."""
        below = await self.inner.plan([*schema, OWN]) if isinstance(self.inner, Migrating) else ()
        return (*below, *(await self.blobs.plan()))

    @asynccontextmanager
    async def _using(self) -> AsyncIterator[Bodies]:
        self._home.check()
        bodies = self._bodies
        if bodies is None:
            raise BackendUnavailable(f"the {self.name} store is not open", self.name)
        self._busy += 1
        try:
            yield bodies
        finally:
            self._busy -= 1
            self._idle.set()
