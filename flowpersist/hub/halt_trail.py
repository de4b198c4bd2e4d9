"""The audit trail of the halts of a namespace: made, read, verified, stripped, and the leaf that the log has of it.

Its newest links stand in the record that has the halts. Once they are many, the next writer copies those that it found
there into a record of their own, as ``audit_trail`` does for suspensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from attrs import field, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Where
from flowpersist.errors import PersistenceError, RevisionConflict, TamperedEnvelope
from flowpersist.hub.audit_keys import AuditKeys
from flowpersist.hub.bare_links import bare_links, strip_moved
from flowpersist.lifecycle.evidence import HALTS, HALTS_ID, halts_origin
from flowpersist.lifecycle.halt_history import (
    HaltEntry,
    halt_entries,
    read_halt_facts,
    read_halt_private,
)
from flowpersist.lifecycle.halts import HaltFacts, HaltPrivate, HaltRecord
from flowpersist.lifecycle.log_records import Leaf
from flowpersist.lifecycle.model import MovedEntries, Trail, replace
from flowpersist.sealed.catalogue import FollowingRecords
from flowpersist.sealed.chain import MAC_BYTES, Chain, Link, chain_digest, open_link, without_private
from flowpersist.sealed.drafts import Decided, Draft, Found, Loaded
from flowpersist.sealed.heads import packed
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.walking import pages

__all__ = ["HaltTrail", "Halted", "Meant"]

#: Entries that stay in the record.
MOST_LINKS: Final = 64
_PAGE: Final = 200
_WHAT: Final = "the audit trail of the halts"
_START: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: Whether an entry is to be stripped.
Meant: TypeAlias = Callable[[HaltFacts, HaltPrivate], bool]


@frozen
class Halted:
    """The trail as it was read: when its record was made, in microseconds, its links as they are stored, and what they
    say.
    """

    made: int
    links: tuple[bytes, ...] = field(repr=False)
    entries: tuple[HaltEntry, ...]


class HaltTrail:
    """The trail in the record of all halts, ``record_of``; ``of`` are the suspensions of the same namespace."""

    def __init__(self, of: SealedRecords[Any], record_of: FollowingRecords[HaltRecord]) -> None:
        self._records = record_of
        self._moved = FollowingRecords(of, f"{of.namespace}.halt-entries", MovedEntries, purpose="audit")
        self._keys = AuditKeys(of)
        self._entropy = of.runtime.entropy

    @property
    def moved(self) -> SealedRecords[MovedEntries]:
        """What has left the record."""
        return self._moved.now

    async def extended(
        self, record: HaltRecord, facts: HaltFacts, private: HaltPrivate
    ) -> Result[HaltRecord, PersistenceError]:
        """A durable record, or one that is made of it, with one more entry."""
        digest = await self.digest(record)
        moved = await self._without_old(record.trail)
        data, told = packed(facts), packed(private)
        for one in (digest, moved, data, told):
            if not isinstance(one, Success):
                return Failure(one.failure())
        trail = moved.unwrap()
        mac = trail.mac or self._origin(record)
        made = self._chain().linked(mac, trail.count + 1, data.unwrap(), told.unwrap())
        if not isinstance(made, Success):
            return Failure(made.failure())
        link = made.unwrap()
        after = replace(
            trail,
            count=trail.count + 1,
            mac=link[:MAC_BYTES],
            digest=chain_digest(digest.unwrap(), link),
            links=(*trail.links, link),
        )
        return Success(replace(record, trail=after))

    async def digest(self, record: HaltRecord) -> Result[bytes, PersistenceError]:
        """The digest of all entries; of a record of before it had one, of what it has."""
        trail, origin = record.trail, self._origin(record)
        if trail.digest or not trail.count:
            return Success(trail.digest or origin)
        links = await self.links(record)
        if not isinstance(links, Success):
            return Failure(links.failure())
        for link in links.unwrap():
            origin = chain_digest(origin, link)
        return Success(origin)

    async def leaf(self) -> Result[Leaf | None, PersistenceError]:
        """What the log says of the trail as it stands; None where nothing was ever halted."""
        read = await self._records.now.read(HALTS)
        if not isinstance(read, Success):
            return Failure(read.failure())
        loaded = read.unwrap().record
        if loaded is None or not loaded.head.trail.count:
            return Success(None)
        record = loaded.head
        digest = await self.digest(record)
        return digest.map(lambda made: _leaf(record, made))

    async def read(self) -> Result[Halted | None, PersistenceError]:
        """All of it, verified; None where nothing was ever halted."""
        return await self._read(0)

    async def entries(self, after: int = 0) -> Result[tuple[HaltEntry, ...], PersistenceError]:
        """The entries behind the one of that number, all of the trail verified. Without any, one small read."""
        read = await self._read(after)
        return read.map(lambda found: () if found is None else found.entries[after:])

    async def _read(self, after: int) -> Result[Halted | None, PersistenceError]:
        """All of it, verified; None where it has no more entries than that."""
        read = await self._records.now.read(HALTS)
        if not isinstance(read, Success):
            return Failure(read.failure())
        loaded = read.unwrap().record
        if loaded is None or loaded.head.trail.count <= after:
            return Success(None)
        record = loaded.head
        links = await self.links(record)
        if not isinstance(links, Success):
            return Failure(links.failure())
        verified = await self._verified(record, links.unwrap())
        made = verified.bind(lambda found: halt_entries(self._records.now.namespace, found))
        return made.map(lambda entries: Halted(_made(record), tuple(links.unwrap()), entries))

    async def links(self, record: HaltRecord) -> Result[list[bytes], PersistenceError]:
        """All links as they are stored, not verified."""
        trail = record.trail
        links: list[bytes] = []
        count = trail.count - len(trail.links)
        if count <= 0:
            return Success([*trail.links])
        async for listed in pages(self._moved.now, Where(), limit=_PAGE, whole=True):
            if not isinstance(listed, Success):
                return Failure(listed.failure())
            links += [link for moved in listed.unwrap().items for link in moved.head.links]
            if len(links) >= count:
                break
        return Success([*links[:count], *trail.links])

    async def _verified(self, record: HaltRecord, links: Sequence[bytes]) -> Result[tuple[Link, ...], PersistenceError]:
        chain, trail = self._chain(), record.trail
        learned = await self._keys.learn(chain.unknown(links), chain)
        if not isinstance(learned, Success):
            return Failure(learned.failure())
        return chain.verified(self._origin(record), links, count=trail.count, mac=trail.mac, what=_WHAT)

    async def _without_old(self, trail: Trail) -> Result[Trail, PersistenceError]:
        """The trail without the links that have a copy now. Those that the durable record has too: a crash leaves a
        copy that nobody needs yet.
        """
        if len(trail.links) < MOST_LINKS:
            return Success(trail)
        key = f"{trail.count - len(trail.links) + 1:010}"
        draft: Draft[MovedEntries] = Draft(MovedEntries(trail.links), {}, None)
        written = await self._moved.now.put(key, draft, revision=0)
        if isinstance(written, Success):
            return Success(replace(trail, links=()))
        if not isinstance(written.failure(), RevisionConflict):
            return Failure(written.failure())
        read = await self._moved.now.read(key)
        if not isinstance(read, Success):
            return Failure(read.failure())
        return await self._behind(trail, read.unwrap().record)

    async def _behind(self, trail: Trail, copied: Loaded[MovedEntries] | None) -> Result[Trail, PersistenceError]:
        """The same behind another writer, whose copy may have what was stripped from the record since."""
        if copied is None or list(map(_signed, copied.head.links)) != list(map(_signed, trail.links)):
            return Failure(TamperedEnvelope(f"{_WHAT} has entries beside it that are not its own"))
        links = tuple(min(pair, key=len) for pair in zip(trail.links, copied.head.links, strict=True))
        if links != copied.head.links:
            draft: Draft[MovedEntries] = Draft(MovedEntries(links), {}, None)
            written = await self._moved.now.put(copied.ref.key, draft, revision=copied.revision)
            if isinstance(written, Failure):
                return Failure(written.failure())
        return Success(replace(trail, links=()))

    # ---------------------------------------------------------------------------------------------------------- strip

    async def strip(
        self,
        meant: Meant,
        by: Mapping[str, object] | None,
        reason: str | None,
        *,
        dry_run: bool,
    ) -> Result[int, PersistenceError]:
        """Remove what is private from the entries that are meant; gives how many. The trail verifies as before."""
        stripping = _Stripping(meant)
        if dry_run:
            read = await self.read()
            return read.map(lambda found: 0 if found is None else sum(map(stripping.is_meant, found.links)))
        first = (await self._records.now.update(HALTS, stripping.record)).result
        if not isinstance(first, Success):
            return first
        moved = await strip_moved(self._moved.now, Where(), stripping.is_meant)
        if not isinstance(moved, Success):
            return moved
        count = first.unwrap() + moved.unwrap()
        if not count:
            return first
        told = (await self._records.now.update(HALTS, lambda found: self._told(found, by, reason))).result
        return told.map(lambda _: count)

    async def _told(
        self, found: Found[HaltRecord], by: Mapping[str, object] | None, reason: str | None
    ) -> Decided[HaltRecord, None]:
        if found.record is None:
            return Success(None)
        facts, private = HaltFacts(found.now, "strip", ""), HaltPrivate(by, reason)
        made = await self.extended(found.record.head, facts, private)
        if not isinstance(made, Success):
            return Failure(made.failure())
        return Draft(made.unwrap(), {}, None, result=Success(None))

    def _origin(self, record: HaltRecord) -> bytes:
        return halts_origin(self._records.now.namespace, record.made_at)

    def _chain(self) -> Chain:
        return Chain(self._records.now.sealer.keyring, self._entropy)


@frozen
class _Stripping:
    meant: Meant

    async def record(self, found: Found[HaltRecord]) -> Decided[HaltRecord, int]:
        if found.record is None:
            return Success(0)
        record = found.record.head
        links, count = bare_links(record.trail.links, self.is_meant)
        after = replace(record, trail=replace(record.trail, links=links))
        draft: Draft[HaltRecord, int] = Draft(after, {}, None, result=Success(count))
        return draft if count else Success(0)

    def is_meant(self, data: bytes) -> bool:
        """Whether a link is to be stripped."""
        link = open_link(data, b"")
        # One that has another form is for verify to tell of.
        if link is None or link.private is None:
            return False
        facts, private = read_halt_facts(link.facts), read_halt_private(link.private)
        if not isinstance(facts, Success) or not isinstance(private, Success):
            return False
        return self.meant(facts.unwrap(), private.unwrap())


def _leaf(record: HaltRecord, digest: bytes) -> Leaf:
    return Leaf(HALTS_ID, _made(record), record.trail.count, 0, record.trail.mac, digest)


def _made(record: HaltRecord) -> int:
    return (record.made_at - _START) // timedelta(microseconds=1)


def _signed(link: bytes) -> bytes:
    """A link without what is private; what is no link as it is."""
    return link if open_link(link, b"") is None else without_private(link)
