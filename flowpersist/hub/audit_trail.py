"""The audit trail of suspensions: an entry for each change, made durable by the put that makes the change durable.

The newest entries stand in the head. Once they are many, the next writer copies those that it found there into a record
of their own, before it puts the head without them. So an entry exists if and only if its change does, and a crash can
leave a copy that no head needs, but no head that lacks a copy.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from returns.result import Failure, Result, Success

from flowpersist.backends.base import Range, StorageBackend, Where
from flowpersist.errors import PersistenceError, RevisionConflict, TamperedEnvelope
from flowpersist.hub.audit_keys import AuditKeys
from flowpersist.hub.purged_trails import PurgedTrails, made_at
from flowpersist.inputs.people import By
from flowpersist.keys.keyring import KeyRing
from flowpersist.keys.suspension_key import SuspensionId, SuspensionKey
from flowpersist.lifecycle.changes import due_at
from flowpersist.lifecycle.entries import Noted, noted, noted_refusal, refused_verb
from flowpersist.lifecycle.evidence import trail_origin
from flowpersist.lifecycle.indexing import attributes_of
from flowpersist.lifecycle.model import Head, MovedEntries, Trail, WaitReceipt, find, replace
from flowpersist.sealed.chain import MAC_BYTES, Chain, Link, chain_digest, open_link, without_private
from flowpersist.sealed.drafts import Draft, Loaded
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.retrying import Runtime
from flowpersist.sealed.walking import pages

__all__ = ["AuditTrail", "made_at", "prefix_of"]

log = logging.getLogger("flowpersist.hub")

#: Links that a head keeps until the next writer moves them, and their bytes.
MOST_LINKS: Final = 16
LINKS_BYTES: Final = 4 * 1024
#: Entries of refused verbs that a suspension has at most, and the least time between two.
MOST_REFUSALS: Final = 100
BETWEEN_REFUSALS: Final = timedelta(seconds=1)
#: Seconds that a refusal waits for its entry.
PATIENCE: Final = 1.0
_PAGE: Final = 200


class AuditTrail:
    """The trails of all suspensions of a namespace. ``records`` has what left the heads, ``purged`` the trails whose
    suspensions were deleted.
    """

    def __init__(
        self, records: SealedRecords[MovedEntries], keys: AuditKeys, purged: PurgedTrails, *, kept: bool = True
    ) -> None:
        self.records = records
        self.purged = purged
        #: What verifies the entries of retired keys.
        self.keys = keys
        #: Whether changes have entries.
        self.kept = kept
        self._chain = Chain(records.sealer.keyring, records.runtime.entropy)

    @classmethod
    def of(
        cls,
        suspensions: SealedRecords[Head],
        records: SealedRecords[MovedEntries],
        retention: timedelta | None,
        *,
        kept: bool = True,
    ) -> AuditTrail:
        """The trails of these suspensions; ``retention``: how long those of deleted ones are kept."""
        return cls(records, AuditKeys(suspensions), PurgedTrails(suspensions, retention), kept=kept)

    def within(self, joined: StorageBackend, runtime: Runtime) -> AuditTrail:
        """The same trails in a transaction, by the backend that has joined it."""
        records, purged = self.records.within(joined, runtime), self.purged.within(joined, runtime)
        return AuditTrail(records, self.keys, purged, kept=self.kept)

    async def extended(
        self, verb: str, by: By | None, stored: Head | None, seen: Head | None, after: Head, given: Head, now: datetime
    ) -> Result[Head, PersistenceError]:
        """The head ``after``, with the entries of its changes; the arguments are those of ``noted``."""
        entries = noted(verb, by, stored, seen, after, given, now) if self.kept else ()
        if not entries:
            return Success(after)
        return await self._appended(after, entries, stored)

    async def _appended(
        self, after: Head, entries: Sequence[Noted], stored: Head | None
    ) -> Result[Head, PersistenceError]:
        trail = after.trail
        if stored is not None and _full(stored.trail):
            moved = await self._moved(stored)
            if not isinstance(moved, Success):
                return Failure(moved.failure())
            trail = moved.unwrap()
        origin = self.origin(after)
        mac, digest, links = trail.mac or origin, trail.digest or origin, [*trail.links]
        chain = self._current()
        for number, entry in enumerate(entries, start=trail.count + 1):
            parts = entry.packed()
            if not isinstance(parts, Success):
                return Failure(parts.failure())
            made = chain.linked(mac, number, *parts.unwrap())
            if not isinstance(made, Success):
                return Failure(made.failure())
            links.append(made.unwrap())
            mac, digest = links[-1][:MAC_BYTES], chain_digest(digest, links[-1])
        extended = replace(trail, count=trail.count + len(entries), mac=mac, digest=digest, links=tuple(links))
        return Success(replace(after, trail=extended))

    async def refused(
        self,
        verb: str,
        by: By | None,
        found: Loaded[Head],
        key: SuspensionKey | SuspensionId,
        error: PersistenceError,
        heads: SealedRecords[Head],
    ) -> None:
        """Make an entry of a verb that was refused, if it has one and the suspension has not had many lately.

        A wrong secret has none, and costs what an unknown id costs.

        It takes a put of its own, which is tried once and for a short time: the refusal stands without it.
        """
        head, now = found.head, found.now
        if not self.kept or not refused_verb(verb, by, error) or _many(head.trail, now):
            return
        counted = replace(head, trail=replace(head.trail, refusals=head.trail.refusals + 1, refused_at=now))
        try:
            async with asyncio.timeout(PATIENCE):
                made = await self._appended(
                    counted, [noted_refusal(verb, by, head, _named(head, key), error, now)], counted
                )
                if isinstance(made, Success):
                    # What time has changed since is for the next verb to write: it tells the observer of it.
                    draft = Draft(made.unwrap(), attributes_of(head), due_at(head))
                    await heads.put(found.ref.key, draft, revision=found.revision, mark=found.mark)
        except TimeoutError:
            log.debug("the refusal of %s on suspension %s has no entry: the store is slow", verb, head.id)

    async def verified(self, head: Head) -> Result[tuple[Link, ...], PersistenceError]:
        """All links of a suspension's trail, verified against its head."""
        links = await self.links(head)
        return await self.checked(head, links.unwrap()) if isinstance(links, Success) else Failure(links.failure())

    async def checked(self, head: Head, links: Sequence[bytes]) -> Result[tuple[Link, ...], PersistenceError]:
        """These links, verified against the head whose trail they are."""
        what = f"the audit trail of suspension {head.id}"
        count, mac = head.trail.count, head.trail.mac
        chain = self._current()
        learned = await self.keys.learn(chain.unknown(links), chain)
        if not isinstance(learned, Success):
            return Failure(learned.failure())
        return chain.verified(self.origin(head), links, count=count, mac=mac, what=what)

    async def links(self, head: Head) -> Result[tuple[bytes, ...], PersistenceError]:
        """The same as they are stored, not verified."""
        first = head.trail.count - len(head.trail.links)
        moved: list[bytes] = []
        if first:
            found = await self._read(head)
            if not isinstance(found, Success):
                return Failure(found.failure())
            moved = found.unwrap()[:first]
        if len(moved) < first:
            # Its suspension was deleted, or a removal has ended before it was.
            whole = await self.purged.links(head)
            if not isinstance(whole, Success):
                return Failure(whole.failure())
            moved = max(moved, list(whole.unwrap()[:first]), key=len)
        return Success((*moved, *head.trail.links))

    async def _read(self, head: Head) -> Result[list[bytes], PersistenceError]:
        """The links in the records of their own, in the order of their numbers."""
        links: list[bytes] = []
        where = Where(range=Range("key", prefix=prefix_of(head)))
        async for listed in pages(self.records, where, limit=_PAGE, whole=True):
            if not isinstance(listed, Success):
                return Failure(listed.failure())
            for record in listed.unwrap().items:
                links += record.head.links
        return Success(links)

    async def _moved(self, stored: Head) -> Result[Trail, PersistenceError]:
        """The trail of a durable head without the links that have a copy now."""
        trail = stored.trail
        key = f"{prefix_of(stored)}{trail.count - len(trail.links) + 1:010}"
        draft = Draft(
            head=MovedEntries(trail.links),
            attributes={"suspension": str(stored.id), "tenant": stored.tenant},
            due_at=None,
        )
        written = await self.records.put(key, draft, revision=0)
        if isinstance(written, Success):
            return Success(replace(trail, links=()))
        if not isinstance(written.failure(), RevisionConflict):
            return Failure(written.failure())
        read = await self.records.read(key)
        if not isinstance(read, Success):
            return Failure(read.failure())
        copied = read.unwrap().record
        return Success(trail) if copied is None else await self._stripped(stored, copied)

    async def _stripped(self, stored: Head, copied: Loaded[MovedEntries]) -> Result[Trail, PersistenceError]:
        """The same behind another writer, whose copy may have what was stripped from the head since."""
        left = _copied(stored, copied)
        own = stored.trail.links[: len(copied.head.links)]
        links = tuple(min(pair, key=len) for pair in zip(own, copied.head.links, strict=False))
        if not isinstance(left, Success) or links == copied.head.links:
            return left
        draft: Draft[MovedEntries] = Draft(MovedEntries(links), dict(copied.attributes), copied.due_at)
        written = await self.records.put(copied.ref.key, draft, revision=copied.revision)
        return left if isinstance(written, Success) else Failure(written.failure())

    async def with_entry(self, head: Head, entry: Noted) -> Result[Head, PersistenceError]:
        """A durable head with one more entry."""
        return await self._appended(head, [entry], head) if self.kept else Success(head)

    def origin(self, head: Head) -> bytes:
        """What stands before the first link of a suspension's trail."""
        return trail_origin(self.records.namespace, str(head.id), head.tenant, made_at(head))

    def _current(self) -> Chain:
        keyring: KeyRing | None = self.records.sealer.keyring
        if self._chain.keyring is not keyring:
            self._chain = Chain(keyring, self.records.runtime.entropy)
        return self._chain


def _named(head: Head, key: SuspensionKey | SuspensionId) -> str | None:
    """The wait that a key opens."""
    wait = find(head, key) if isinstance(key, SuspensionKey) else None
    return wait.wait if isinstance(wait, WaitReceipt) else None if wait is None else wait.name


def _many(trail: Trail, now: datetime) -> bool:
    lately = trail.refused_at is not None and now < trail.refused_at + BETWEEN_REFUSALS
    return lately or trail.refusals >= MOST_REFUSALS


def _full(trail: Trail) -> bool:
    return len(trail.links) >= MOST_LINKS or sum(map(len, trail.links)) >= LINKS_BYTES


def _copied(stored: Head, record: Loaded[MovedEntries]) -> Result[Trail, PersistenceError]:
    """The trail without what a writer has copied that ended before its head was put, or that another one copies now.

    The copy is the beginning of what the head has, but for what is private.
    """
    copied = record.head.links
    own = stored.trail.links[: len(copied)]
    if own == copied or (len(own) == len(copied) and list(map(_signed, own)) == list(map(_signed, copied))):
        return Success(replace(stored.trail, links=stored.trail.links[len(copied) :]))
    message = f"audit entries of suspension {stored.id} stand beside it that are not its own: restore it from a backup"
    return Failure(TamperedEnvelope(message))


def _signed(link: bytes) -> bytes:
    """A link without what is private; what is no link as it is."""
    return link if open_link(link, b"") is None else without_private(link)


def prefix_of(head: Head) -> str:
    """What the keys of the records of a trail begin with."""
    # An id that is derived from an idempotency key can be used by a later suspension too.
    return f"{head.id}/{made_at(head):016x}/"
