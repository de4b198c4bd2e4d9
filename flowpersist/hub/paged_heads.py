"""Heads whose waits stand on pages beside them: read as one, and written page by page.

What is read has all its waits, wherever they stand; so no verb knows of pages. A put writes the pages that have changed
under new names, and then the head, whose compare-and-set decides as ever. The pages that it replaces stay for a while.
A crash in between leaves pages that no head names: they are due, and a sweep removes them.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeAlias, cast

from attrs import evolve
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Put, Record, StorageBackend, Written
from flowpersist.errors import IntegrityError, PersistenceError, StateTooLarge, TamperedEnvelope
from flowpersist.hub.room import room_of_pages, room_of_waits
from flowpersist.hub.sweeping import GRACE, sweep_unnamed
from flowpersist.keys.suspension_key import SuspensionId, SuspensionKey
from flowpersist.lifecycle.model import Head, Paged, PageReference, PartOfHead, WaitPage, find, references_of, replace
from flowpersist.lifecycle.moments import later
from flowpersist.lifecycle.pages import UNREAD, PageContent
from flowpersist.lifecycle.paging import NAME_BYTES, Divided, NewPage, divided, is_paged, joined, read_page
from flowpersist.lifecycle.parts import enough, pages_of, part_of, prefix_of
from flowpersist.sealed.drafts import Draft, Found, Loaded
from flowpersist.sealed.envelope import Sealer
from flowpersist.sealed.heads import NO_BODY
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.refusals import contended
from flowpersist.sealed.retrying import Runtime

__all__ = ["PagedHeads", "PagesOf", "page_key", "pages_named", "waits_of"]

log = logging.getLogger("flowpersist.hub")
#: So often a head is read whose pages were replaced meanwhile.
LOOKS: Final = 64
#: So many waits are brought onto pages in the event loop.
BRIEF: Final = 1_000
#: So many pages are put at a time.
BATCH: Final = 64
#: The pages that a verb needs beside those of its key; None: all.
PagesOf: TypeAlias = Callable[[Head], Sequence[PageReference] | None]


def waits_of(namespace: str) -> str:
    """Where the pages of a namespace are."""
    return f"{namespace}.waits"


def page_key(suspension: SuspensionId, name: bytes) -> str:
    """The key of the record of a page."""
    return f"{suspension}/{name.hex()}"


def pages_named(head: Head) -> frozenset[bytes]:
    """The names of the pages of a head, and of those that it still knows of."""
    paged = head.paged or Paged()
    return frozenset([*(one.name for one in paged.pages), *paged.replaced])


class PagedHeads(SealedRecords[Head]):
    """The records of suspensions and of the pages of their waits."""

    def __init__(
        self, backend: StorageBackend, sealer: Sealer, namespace: str, *, runtime: Runtime | None = None
    ) -> None:
        super().__init__(backend, sealer, namespace, Head, runtime=runtime)
        self.pages: SealedRecords[WaitPage] = SealedRecords(
            backend, sealer, waits_of(namespace), WaitPage, runtime=self.runtime
        )

    def within(self, joined: StorageBackend, runtime: Runtime) -> PagedHeads:
        """The same records in a transaction, by the backend that has joined it."""
        bound = cast("PagedHeads", super().within(joined, runtime))
        bound.pages = self.pages.within(joined, runtime)
        return bound

    async def read(self, key: str, *, body: bool = False) -> Result[Found[Head], PersistenceError]:
        """One record with all its waits, or none."""
        known: dict[bytes, PageContent] = {}
        revision: int | None = None
        for _ in range(LOOKS):
            found = await self.bare(key, body=body)
            record = found.unwrap().record if isinstance(found, Success) else None
            if record is None or not references_of(record.head):
                return found
            whole = await self._whole(record, known)
            if whole is not None:
                return whole.map(lambda loaded: Found(loaded, loaded.now))
            if record.revision == revision:
                return Failure(_missing(record))
            revision = record.revision
        return Failure(contended(key, self.backend.name))

    async def read_for(
        self, key: SuspensionKey | SuspensionId, *, body: bool = False, pages: PagesOf | None = None
    ) -> Result[Found[Head], PersistenceError]:
        """The record that a key or an id names, or none: with all its waits, or with those of the key's page
        alone where neither head nor page has the key's secret. Where these are enough as time stands, it has those
        alone of the key's page and of the ``pages``, which are asked for with the head; None of these: all.
        """
        named = str(key.id if isinstance(key, SuspensionKey) else key)
        found = await self.bare(named, body=body)
        record = found.unwrap().record if isinstance(found, Success) else None
        if record is None or not references_of(record.head):
            return found
        known: dict[bytes, PageContent] = {}
        own = pages_of(record.head, [prefix_of(key.secret)] if isinstance(key, SuspensionKey) else [])
        learned = await self._learn(record.head, own, known)
        if not isinstance(learned, Success):
            return Failure(learned.failure())
        part = part_of(record.head, known) if known else None
        if part is not None and isinstance(key, SuspensionKey) and find(part, key) is None:
            return Success(Found(evolve(record, head=part), record.now))
        wanted = pages(record.head) if pages is not None and enough(record.head, record.now) else None
        if wanted is not None:
            further = [one for one in (*own, *wanted) if one.name not in known]
            learned = await self._learn(record.head, further, known) if further else learned
            if not isinstance(learned, Success):
                return Failure(learned.failure())
            if learned.unwrap() and len(known) < len(references_of(record.head)):
                part = part_of(record.head, known) if further or part is None else part
                return Success(Found(evolve(record, head=part), record.now))
        whole = await self._whole(record, known)
        return await self.read(named, body=body) if whole is None else whole.map(lambda one: Found(one, one.now))

    async def bare(self, key: str, *, body: bool = False) -> Result[Found[Head], PersistenceError]:
        """The same without the waits that stand on pages: whoever looks at these is refused."""
        return await super().read(key, body=body)

    async def read_many(
        self, keys: Sequence[str], *, body: bool = False
    ) -> Result[tuple[Result[Found[Head], PersistenceError], ...], PersistenceError]:
        """Several records, each for itself, in the order of the keys."""
        read = await self.bare_many(keys, body=body)
        if not isinstance(read, Success):
            return read
        every: list[Result[Found[Head], PersistenceError]] = []
        for key, found in zip(keys, read.unwrap(), strict=True):
            record = found.unwrap().record if isinstance(found, Success) else None
            whole = None if record is None else await self._whole(record, {})
            if whole is not None:
                every.append(whole.map(lambda loaded: Found(loaded, loaded.now)))
            else:
                every.append(found if record is None else await self.read(key, body=body))
        return Success(tuple(every))

    async def bare_many(
        self, keys: Sequence[str], *, body: bool = False
    ) -> Result[tuple[Result[Found[Head], PersistenceError], ...], PersistenceError]:
        """The same without the waits that stand on pages."""
        return await super().read_many(keys, body=body)

    async def whole(self, record: Record, now: datetime) -> Result[Loaded[Head], PersistenceError]:
        """A listed record with all its waits. Where it has changed since, it is as it is now; one that is gone is
        being removed.
        """
        return await self._filled(self.loaded(record, now))

    async def glanced(self, record: Record, now: datetime) -> Result[Loaded[Head], PersistenceError]:
        """A listed record, without the waits of its pages where time has changed none of them."""
        loaded = self.loaded(record, now)
        head = loaded.unwrap().head if isinstance(loaded, Success) else None
        if head is not None and references_of(head) and enough(head, now):
            return loaded.map(lambda one: evolve(one, head=part_of(one.head, {})))
        filled = await self._filled(loaded)
        if isinstance(filled, Failure):
            self.unreadable.meet(record.ref.key, record.revision, filled.failure())
        return filled

    async def _filled(self, loaded: Result[Loaded[Head], PersistenceError]) -> Result[Loaded[Head], PersistenceError]:
        if not isinstance(loaded, Success):
            return loaded
        whole = await self._whole(loaded.unwrap(), {})
        return whole if whole is not None else await self._again(loaded.unwrap())

    async def completed(self, bare: Loaded[Head]) -> Result[Loaded[Head], PersistenceError]:
        """A record with the waits of its pages, which must be there: whoever has put back a head alone has to put back
        these too.
        """
        whole = await self._whole(bare, {})
        return Failure(_missing(bare)) if whole is None else whole

    async def _again(self, listed: Loaded[Head]) -> Result[Loaded[Head], PersistenceError]:
        read = await self.read(listed.ref.key, body=listed.body is not None)
        gone = evolve(listed, head=replace(listed.head, waits=(), removing=True))
        return read.map(lambda found: gone if found.record is None else found.record)

    def _loaded(self, record: Record, now: datetime) -> Loaded[Head] | PersistenceError:
        loaded = super()._loaded(record, now)
        if isinstance(loaded, PersistenceError) or not references_of(loaded.head):
            return loaded
        return evolve(loaded, head=replace(loaded.head, waits=UNREAD))

    async def _whole(
        self, bare: Loaded[Head], known: dict[bytes, PageContent]
    ) -> Result[Loaded[Head], PersistenceError] | None:
        """A record with the waits of its pages; None where one of these is gone. ``known`` are pages that were read."""
        head, references = bare.head, references_of(bare.head)
        if not references:
            return Success(bare)
        learned = await self._learn(head, references, known)
        if not isinstance(learned, Success):
            return Failure(learned.failure())
        contents = [known[one.name] for one in references if one.name in known]
        # What is beside a head that is being removed goes before it.
        if len(contents) < len(references) and not head.removing:
            return None
        return Success(evolve(bare, head=joined(head, contents)))

    async def _learn(
        self, head: Head, references: Sequence[PageReference], known: dict[bytes, PageContent]
    ) -> Result[bool, PersistenceError]:
        """Read those of these pages that are not ``known`` yet; False where one is gone."""
        wanted = [one for one in references if one.name not in known]
        keys = [page_key(head.id, one.name) for one in wanted]
        # A single page is read as it is for an unknown key, so that the calls do not tell them apart.
        read = Success((await self.pages.read(keys[0]),)) if len(keys) == 1 else await self.pages.read_many(keys)
        if not isinstance(read, Success):
            return Failure(read.failure())
        gone = False
        for reference, found in zip(wanted, read.unwrap(), strict=True):
            if not isinstance(found, Success):
                return Failure(found.failure())
            page = found.unwrap().record
            if page is None:
                gone = True
                continue
            content = _content(head, reference, page.head)
            if not isinstance(content, Success):
                return Failure(content.failure())
            known[reference.name] = content.unwrap()
            if len(wanted) > 1:
                # Others have the event loop in between.
                await asyncio.sleep(0)
        return Success(not gone)

    async def put(
        self, key: str, draft: Draft[Head, Any], *, revision: int | None, mark: bytes = NO_BODY
    ) -> Result[Written, PersistenceError]:
        """Put one draft, behind the pages of it that have changed."""
        head = draft.head
        if head.waits is UNREAD:
            raise ValueError("a head is put with all its waits, or not at all: read it whole")
        if not is_paged(head):
            if head.paged is None:
                written = await super().put(key, draft, revision=revision, mark=mark)
            else:
                written = await self._put(key, draft, revision, mark)
            # What does not fit in a head may fit in one with pages.
            if not isinstance(written, Failure) or not isinstance(written.failure(), StateTooLarge) or not head.waits:
                return written
            paged = await self._put(key, draft, revision, mark, pages=True)
            return written if isinstance(paged, Failure) and isinstance(paged.failure(), StateTooLarge) else paged
        return await self._put(key, draft, revision, mark, pages=True)

    async def _put(
        self, key: str, draft: Draft[Head, Any], revision: int | None, mark: bytes, *, pages: bool = False
    ) -> Result[Written, PersistenceError]:
        made = await self._divided(draft.head, pages=pages)
        if not isinstance(made, Success):
            return Failure(made.failure())
        parts, now = made.unwrap(), self.reckoned()
        left = await self._remove(draft.head.id, parts.removed)
        told = await self._write(draft, parts, now)
        if isinstance(told, Success) and told.unwrap() > now + GRACE / 4:
            # The store's clock was moved, so that these are due too soon.
            await self._remove(draft.head.id, [one.reference.name for one in parts.new])
            parts, now = parts.renamed(partial(self.runtime.entropy, NAME_BYTES)), told.unwrap()
            told = await self._write(draft, parts, now)
        if not isinstance(told, Success):
            return Failure(told.failure())
        stored = evolve(draft, head=_knowing(parts.head, left))
        if pages and draft.room and not isinstance(draft.head, PartOfHead):
            stored = evolve(stored, room=room_of_pages(parts.head, draft.head.waits))
        if parts.new:
            bounds = (draft.not_after, later(now, GRACE / 2))
            stored = evolve(stored, not_after=min(bound for bound in bounds if bound is not None))
        written = await super().put(key, stored, revision=revision, mark=mark)
        # Of any other error, a conflict among them, the put may have been done: then the sweep decides.
        if isinstance(written, Failure) and isinstance(written.failure(), StateTooLarge):
            await self._remove(draft.head.id, [one.reference.name for one in parts.new])
        return written

    async def _divided(self, head: Head, *, pages: bool) -> Result[Divided, PersistenceError]:
        """In a thread where there are many waits, so that the event loop goes on."""
        divide = partial(divided, head, partial(self.runtime.entropy, NAME_BYTES), pages=pages)
        return divide() if len(head.waits) <= BRIEF else await asyncio.to_thread(divide)

    async def _write(
        self, draft: Draft[Head, Any], parts: Divided, now: datetime
    ) -> Result[datetime, PersistenceError]:
        """Write the pages that no head names yet; gives what the store says of its clock."""
        head, told = draft.head, now
        attributes = {"suspension": str(head.id), "tenant": head.tenant}
        failed = await self.pages.ready(attributes)
        if failed is not None:
            return Failure(failed)
        for start in range(0, len(parts.new), BATCH):
            puts: list[Put] = []
            for one in parts.new[start : start + BATCH]:
                page = Draft(one.page, attributes, later(now, GRACE), room=_room(draft, one))
                sealed = self.pages.sealed_put(page_key(head.id, one.reference.name), page, 0)
                if not isinstance(sealed, Success):
                    return Failure(sealed.failure())
                puts.append(sealed.unwrap())
            for written in await self.pages.put_all(puts):
                if not isinstance(written, Written):
                    return Failure(written)
                told = max(told, written.now)
        return Success(told)

    async def _remove(self, suspension: SuspensionId, names: Sequence[bytes]) -> list[bytes]:
        """Remove pages whose waits no head needs any more; gives those that are still there."""
        left: list[bytes] = []
        for name in names:
            gone = await self.pages.delete(page_key(suspension, name), revision=None)
            if isinstance(gone, Failure):
                log.warning("a page of waits of suspension %s stays until later: %s", suspension, gone.failure())
                left.append(name)
        return left

    async def sweep_pages(self) -> Result[int, PersistenceError]:
        """Remove due pages that no head names, and give their number."""
        return await sweep_unnamed(self.pages, self.bare, pages_named)


def _knowing(head: Head, replaced: Sequence[bytes]) -> Head:
    """A head that names further pages that were replaced."""
    if not replaced:
        return head
    paged = head.paged or Paged()
    return replace(head, paged=replace(paged, replaced=(*replaced, *paged.replaced)))


def _room(draft: Draft[Head, Any], page: NewPage) -> int:
    """The bytes that must stay free on a page: of one with several entries half can move to another."""
    return room_of_waits(page.waits) if draft.room and page.reference.entries == 1 else 0


def _content(head: Head, reference: PageReference, page: WaitPage) -> Result[PageContent, PersistenceError]:
    if hashlib.sha256(page.content).digest() != reference.digest:
        message = f"a page of waits of suspension {head.id} is not its head's own: it was replaced"
        return Failure(TamperedEnvelope(f"{message}; restore it from a backup"))
    return read_page(page.content)


def _missing(record: Loaded[Head]) -> PersistenceError:
    return IntegrityError(f"a page of waits of suspension {record.head.id} is gone; restore it from a backup")
