"""The log of heads: one Merkle tree of a namespace, whose leaves say how each suspension's audit trail stood.

A trail can't show that its whole suspension was deleted; the log can, since a leaf stays when a suspension goes, and a
legal removal appends a leaf of its own before it deletes anything.

The log's head is replaced by compare-and-set and holds the newest leaves. Once they fill a tile, the next writer stores
the tile, and the places of its leaves, before it puts the head without them. Both depend on the head that it found
alone, so any number of writers store the same, and one that ends in between leaves nothing that is wrong.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from attrs import evolve
from returns.result import Failure, Result, Success

from flowpersist.backends.base import NamespaceSchema, Order, Page, Put, Range, Record, Where, Written
from flowpersist.errors import (
    InputValidationError,
    IntegrityError,
    PersistenceError,
    RevisionConflict,
    TamperedEnvelope,
)
from flowpersist.hub.audit_trail import made_at
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle.log_records import (
    TILE,
    Leaf,
    LogHead,
    LogPlace,
    LogTile,
    Tile,
    lacks,
    places_in,
    read_leaf,
    rolled,
)
from flowpersist.lifecycle.model import Head
from flowpersist.sealed.drafts import Decided, Draft, Found, Loaded
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.refusals import contended
from flowpersist.sealed.walking import stored_pages

__all__ = ["AuditLog", "log_schemas"]

#: The key of the log's head in its namespace.
KEY: Final = "log"
#: Suspensions that are looked at together, and the most leaves of one put.
PAGE: Final = 100
#: A change may become visible so much later than the time that it bears; a longer transaction is found by the walk.
OVERLAP: Final = timedelta(minutes=1)
#: Suspensions that a process remembers, in some 200 bytes each.
MOST_DONE: Final = 20_000
#: How often places are written that others write at the same time.
_TRIES: Final = 8
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def logs_of(namespace: str) -> str:
    """Where the head of a namespace's log is."""
    return f"{namespace}.log"


def tiles_of(namespace: str) -> str:
    """Where the tiles of a namespace's log are."""
    return f"{namespace}.log-tiles"


def places_of(namespace: str) -> str:
    """Where it is kept which leaf is a suspension's last."""
    return f"{namespace}.log-places"


def log_schemas(namespace: str) -> list[NamespaceSchema]:
    """The namespaces of the log of a namespace."""
    return [NamespaceSchema(of(namespace)) for of in (logs_of, tiles_of, places_of)]


class AuditLog:
    """The log of the namespace of suspensions. ``kept``: whether ``append`` adds to it."""

    def __init__(self, of: SealedRecords[Head], *, kept: bool = True) -> None:
        backend, sealer, runtime = of.backend, of.sealer, of.runtime
        self.heads = SealedRecords(backend, sealer, logs_of(of.namespace), LogHead, purpose="audit", runtime=runtime)
        self.tiles = SealedRecords(backend, sealer, tiles_of(of.namespace), LogTile, purpose="audit", runtime=runtime)
        self.places = SealedRecords(
            backend, sealer, places_of(of.namespace), LogPlace, purpose="audit", runtime=runtime
        )
        self.kept = kept
        #: How far this process has looked, by the time of changes and by key.
        self._seen: datetime | None = None
        self._walked: str | None = None
        self._begun = False
        self._size = 0
        #: Suspensions of whose records of that revision this process has seen the leaves: the overlap has many.
        self._done: OrderedDict[str, int] = OrderedDict()

    @property
    def records(self) -> tuple[SealedRecords[LogHead], SealedRecords[LogTile], SealedRecords[LogPlace]]:
        """The records of all kinds."""
        return self.heads, self.tiles, self.places

    async def head(self) -> Result[LogHead, PersistenceError]:
        """The log as it stands, empty where it was never written."""
        read = await self.heads.read(KEY)
        return read.map(lambda found: LogHead() if found.record is None else found.record.head)

    async def append(self, suspensions: SealedRecords[Head]) -> Result[int, PersistenceError]:
        """Add a leaf for each suspension whose trail has grown; gives how many.

        It looks at those that have changed since the last time, and at one page of all: a change that became visible
        late, or was made before the store's clock was moved back, is found by that.
        """
        if not self.kept:
            return Success(0)
        found = await self.head()
        if not isinstance(found, Success):
            return Failure(found.failure())
        head = found.unwrap()
        if head.size < self._size or not self._begun:
            # What this process has seen is in another log than this one.
            self._seen, self._walked, self._begun = head.seen, head.walked, True
            self._done.clear()
        self._size = head.size
        changed = await self._append_changed(suspensions)
        if not isinstance(changed, Success):
            return changed
        walked = await self._append_page(suspensions)
        return walked.map(lambda added: added + changed.unwrap())

    async def _append_changed(self, suspensions: SealedRecords[Head]) -> Result[int, PersistenceError]:
        where = Where(range=Range("updated", since=None if self._seen is None else self._seen - OVERLAP))
        walk = stored_pages(suspensions, where, order="updated", limit=PAGE)
        begun: datetime | None = None
        added = 0
        async for listed in walk:
            if not isinstance(listed, Success):
                return Failure(listed.failure())
            page = listed.unwrap()
            begun = page.now if begun is None else begun
            last = page.items[-1].updated_at if page.items else begun
            done = await self._add_records(suspensions, page, seen=min(last, begun))
            if not isinstance(done, Success):
                return done
            added += done.unwrap()
            # What changes while this goes on is for the next time, so that it ends.
            if last > begun:
                break
        self._seen = begun
        if walk.read > 1 and not added:
            saved = await self._save()
            return saved.map(lambda _: added)
        return Success(added)

    async def _add_records(
        self, suspensions: SealedRecords[Head], page: Page[Record], *, seen: datetime | None = None
    ) -> Result[int, PersistenceError]:
        """Add leaves for what this process has not seen yet of a page. What can't be opened is left out."""
        found: list[Loaded[Head]] = []
        for record in page.items:
            opened = None if self._done.get(record.ref.key) == record.revision else suspensions.open(record, page.now)
            found += [opened.unwrap()] if isinstance(opened, Success) else []
            await asyncio.sleep(0)
        added = await self.add([one.head for one in found], seen=seen)
        if isinstance(added, Success):
            self._done.update((one.ref.key, one.revision) for one in found)
            while len(self._done) > MOST_DONE:
                self._done.popitem(last=False)
        return added

    async def _append_page(self, suspensions: SealedRecords[Head]) -> Result[int, PersistenceError]:
        order: Order = "key"
        listed = await suspensions.listed(Where(), order=order, limit=PAGE, after=self._walked)
        if isinstance(listed, Failure) and isinstance(listed.failure(), InputValidationError):
            # The store no longer accepts the cursor.
            self._walked = None
            listed = await suspensions.listed(Where(), order=order, limit=PAGE)
        if not isinstance(listed, Success):
            return Failure(listed.failure())
        page = listed.unwrap()
        done = await self._add_records(suspensions, page)
        if isinstance(done, Success):
            self._walked = page.next
        return done

    async def add(
        self, heads: Sequence[Head], *, purged: bool = False, seen: datetime | None = None
    ) -> Result[int, PersistenceError]:
        """Add leaves for those of these suspensions whose trails the log does not have as they stand; gives how many.

        ``purged``: they are about to be deleted. One that the log has never had gets no leaf then, as nobody can miss
        it. ``seen`` is how far suspensions were looked at.
        """
        added = 0
        for start in range(0, len(heads), PAGE):
            wanted = [_leaf(head, purged) for head in heads[start : start + PAGE] if head.trail.count]
            done = await self._add(wanted, seen) if wanted else Success(0)
            if not isinstance(done, Success):
                return done
            added += done.unwrap()
        return Success(added)

    async def add_leaf(self, leaf: Leaf) -> Result[int, PersistenceError]:
        """Add the leaf of a trail that is no suspension's, where the log lacks it; gives how many were added."""
        return await self._add([leaf], None)

    async def _add(self, wanted: Sequence[Leaf], seen: datetime | None) -> Result[int, PersistenceError]:
        async def decide(found: Found[LogHead]) -> Decided[LogHead, int]:
            before = LogHead() if found.record is None else found.record.head
            if not before.size and wanted[0].purged:
                return Success(0)
            known = await self.known(before, [one.id for one in wanted])
            if not isinstance(known, Success):
                return Failure(known.failure())
            places = known.unwrap()
            if any(place.index >= before.size for place in places.values()):
                older = await self._older(found)
                if not isinstance(older, Success):
                    return Failure(older.failure())
            at = (found.now - _EPOCH) // timedelta(microseconds=1)
            new = tuple(evolve(one, at=at).encoded() for one in wanted if lacks(places.get(one.id), one))
            if not new:
                return Success(0)
            moved = await self._moved(before)
            if not isinstance(moved, Success):
                return Failure(moved.failure())
            return _draft(_grown(moved.unwrap(), new, seen, self._walked), len(new))

        return (await self.heads.update(KEY, decide)).result

    async def _save(self) -> Result[None, PersistenceError]:
        """Keep how far suspensions were looked at, so that a process that starts need not look at them again."""

        async def decide(found: Found[LogHead]) -> Decided[LogHead, int]:
            if found.record is None:
                return Success(0)
            return _draft(_grown(found.record.head, (), self._seen, self._walked), 0)

        return (await self.heads.update(KEY, decide)).result.map(lambda _: None)

    async def _older(self, found: Found[LogHead]) -> Result[None, PersistenceError]:
        """Places tell of leaves that the head does not have: a failure, unless somebody has appended meanwhile, so
        that the put at this head's revision will not happen.
        """
        read = await self.heads.read(KEY)
        if not isinstance(read, Success):
            return Failure(read.failure())
        before, now = found.record, read.unwrap().record
        if now is not None and (before is None or now.revision != before.revision):
            return Success(None)
        message = "the audit log is shorter than it was: its head was replaced by an older one, or deleted"
        return Failure(TamperedEnvelope(f"{message}; restore the records of the log from a backup"))

    async def known(self, head: LogHead, ids: Iterable[bytes]) -> Result[dict[bytes, LogPlace], PersistenceError]:
        """The last leaves of these suspensions: their places, and what they say."""
        places: dict[bytes, LogPlace] = {}
        asked = set(ids)
        for index, data in enumerate(head.leaves, start=head.size - len(head.leaves)):
            leaf = read_leaf(data)
            if leaf is not None and leaf.id in asked:
                places[leaf.id] = LogPlace(index, leaf.made, leaf.count, leaf.purged)
        # Those of the head are the later ones, and most that are asked for have one there.
        others = sorted(asked - places.keys())
        read = await self.places.read_many([_key(one) for one in others])
        if not isinstance(read, Success):
            return Failure(read.failure())
        for name, one in zip(others, read.unwrap(), strict=True):
            if not isinstance(one, Success):
                return Failure(one.failure())
            record = one.unwrap().record
            if record is not None:
                places[name] = record.head
        return Success(places)

    async def _moved(self, durable: LogHead) -> Result[LogHead, PersistenceError]:
        """The log's durable head without what stands in tiles now."""
        first = durable.size - len(durable.leaves)
        head, tiles = rolled(durable)
        for tile in tiles:
            stored = await self._store(tile)
            if not isinstance(stored, Success):
                return Failure(stored.failure())
        moved = durable.leaves[: len(durable.leaves) - len(head.leaves)]
        kept = await self._place(places_in(moved, first))
        return kept.map(lambda _: head)

    async def _store(self, tile: Tile) -> Result[None, PersistenceError]:
        key = tile_key(tile.level, tile.number)
        written = await self.tiles.put(key, Draft(head=LogTile(tile.parts), attributes={}, due_at=None), revision=0)
        if isinstance(written, Success):
            return Success(None)
        if not isinstance(written.failure(), RevisionConflict):
            return Failure(written.failure())
        read = await self.tiles.read(key)
        if not isinstance(read, Success):
            return Failure(read.failure())
        record = read.unwrap().record
        if record is None or record.head.parts == tile.parts:
            # Somebody deletes tiles, if it is gone: whoever reads it says so.
            return Success(None)
        message = f"tile {key} of the audit log is not its own: the log's head was replaced by an older one"
        return Failure(TamperedEnvelope(f"{message}; restore the records of the log from a backup"))

    async def _place(self, places: dict[bytes, LogPlace]) -> Result[None, PersistenceError]:
        """Keep where the last leaves of suspensions stand. A later place stays."""
        left = places
        for attempt in range(_TRIES):
            if attempt:
                await asyncio.sleep(0)
            puts = await self._place_puts(left)
            if not isinstance(puts, Success):
                return Failure(puts.failure())
            made = puts.unwrap()
            try:
                written = await self.places.put_all(tuple(made.values())) if made else ()
            except PersistenceError as error:
                return Failure(error)
            failed = {name: one for name, one in zip(made, written, strict=True) if not isinstance(one, Written)}
            other = next((one for one in failed.values() if not isinstance(one, RevisionConflict)), None)
            if other is not None:
                return Failure(other)
            left = {name: places[name] for name in failed}
            if not left:
                return Success(None)
        return Failure(contended("of a place in the audit log", self.places.backend.name))

    async def _place_puts(self, places: Mapping[bytes, LogPlace]) -> Result[dict[bytes, Put], PersistenceError]:
        """The puts of those that are later than what is kept."""
        read = await self.places.read_many([_key(name) for name in places])
        if not isinstance(read, Success):
            return Failure(read.failure())
        puts: dict[bytes, Put] = {}
        for name, one in zip(places, read.unwrap(), strict=True):
            if not isinstance(one, Success):
                return Failure(one.failure())
            record = one.unwrap().record
            if record is not None and record.head.index >= places[name].index:
                continue
            draft = Draft(head=places[name], attributes={}, due_at=None)
            made = self.places.sealed_put(_key(name), draft, 0 if record is None else record.revision)
            if not isinstance(made, Success):
                return Failure(made.failure())
            puts[name] = made.unwrap()
        return Success(puts)

    async def tile(self, level: int, number: int) -> Result[tuple[bytes, ...], PersistenceError]:
        """The leaves or hashes of a stored tile; ``IntegrityError`` where it is missing."""
        key = tile_key(level, number)
        read = await self.tiles.read(key)
        if not isinstance(read, Success):
            return Failure(read.failure())
        record = read.unwrap().record
        if record is None or len(record.head.parts) != TILE:
            message = f"tile {key} of the audit log is missing: it was deleted; restore it from a backup"
            return Failure(IntegrityError(message))
        return Success(record.head.parts)


def tile_key(level: int, number: int) -> str:
    """The key of a tile's record: level and number."""
    return f"{level}/{number:012}"


def _key(id: bytes) -> str:
    return str(SuspensionId(id))


def _leaf(head: Head, purged: bool) -> Leaf:  # noqa: FBT001
    trail = head.trail
    return Leaf(head.id.value, made_at(head), trail.count, 0, trail.mac, trail.digest, purged)


def _grown(head: LogHead, new: tuple[bytes, ...], seen: datetime | None, walked: str | None) -> LogHead:
    times = [one for one in (head.seen, seen) if one is not None]
    return evolve(
        head,
        size=head.size + len(new),
        leaves=head.leaves + new,
        seen=max(times, default=None),
        walked=walked,
    )


def _draft(head: LogHead, added: int) -> Draft[LogHead, int]:
    return Draft(head=head, attributes={}, due_at=None, result=Success(added))
