"""Sealing records again with the key that seals now, while others read and change them.

A record is sealed again as bytes: its head and body are opened and sealed, and neither is decoded. It is put at the
revision that was read, so whoever changes it meanwhile wins, and it is read again. Each head names the key of its body,
so a walk over a namespace reads the bodies that need it and no others, and finds out what is left without reading any.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final, Generic, Literal, TypeAlias, TypeVar

from attrs import define, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import KEEP, MAX_HEAD_BYTES, Page, Put, Record, RecordChange, Unreadable, Written
from flowpersist.errors import PersistenceError, RevisionConflict, TamperedEnvelope, UnknownDictionary
from flowpersist.sealed.drafts import record_context, tenant_of
from flowpersist.sealed.encoding import in_thread_if_large, opened_body
from flowpersist.sealed.envelope import Sealer, mark_of
from flowpersist.sealed.heads import MAX_BYTES, NO_BODY, HeadCodec, kid_in, mark_in, with_mark
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.refusals import contended, exchanged, head_too_large
from flowpersist.sealed.tenancy import KeyedStore, ready_to_reseal
from flowpersist.stages.header import is_plain, kid_of

__all__ = ["Inner", "Kids", "Reseal", "Resealing", "Tally"]

H = TypeVar("H")
#: Heads of one page, at most 256 KiB each.
PAGE: Final = 64
#: Bodies that are in memory at one time; a larger one alone.
GROUP_BYTES: Final = 4 * 1024 * 1024
#: So often a record is read again that others change.
MAX_CONFLICTS: Final = 32
#: After so many heads others get the event loop.
BRIEF: Final = 8
#: The references of records that could not be sealed again which a tally keeps.
MOST_NAMED: Final = 100

#: Seals again what was sealed for a purpose within a head, under the context of its record.
Reseal: TypeAlias = Callable[[bytes, str], Result[bytes, PersistenceError]]


@frozen
class Inner(Generic[H]):
    """What a head tells of its record: ``kids`` of what is sealed within it; ``changed``, the head once that is sealed
    again with the key of that id; and ``purpose``, what the body is sealed for.
    """

    head_type: type[H]
    purpose: Callable[[H], str]
    kids: Callable[[H], Iterable[str]]
    changed: Callable[[H, Reseal, str], Result[H, PersistenceError]]


@frozen
class Kids:
    """The keys that a record needs: ``kids``, and whether it has a part in ``plain`` text. ``known`` is False where
    the head can't be opened, so that what is within it, or beside it, may need others.
    """

    kids: frozenset[str]
    plain: bool
    known: bool


@define
class Tally:
    """What a walk has met: records, those that it has sealed again, and by reason those that it could not."""

    looked_at: int = 0
    resealed: int = 0
    problems: Counter[str] = field(factory=Counter)
    unreadable: list[Unreadable] = field(factory=list, repr=False)

    def failed(self, one: Unreadable) -> None:
        """Count a record that can't be sealed again."""
        self.problems[one.error.code] += 1
        if len(self.unreadable) < MOST_NAMED:
            self.unreadable.append(one)


class Resealing(Generic[H]):
    """The records of one namespace, their bodies sealed for ``purpose`` unless ``inner`` says for which.
    ``accept_plain``: what is in plain text is sealed too, though anybody may have written it.
    """

    def __init__(
        self,
        records: SealedRecords[H],
        purpose: str = "state",
        *,
        inner: Inner[H] | None = None,
        accept_plain: bool = False,
    ) -> None:
        self.records = records
        self._purpose = purpose
        self._inner = inner
        self._heads = None if inner is None else HeadCodec(inner.head_type)
        self._accept_plain = accept_plain
        self._store = KeyedStore(records.backend, records.runtime, lambda: records.sealer)
        self._plain = records.sealer.with_keyring(None)

    def _sealer(self, record: Record) -> Sealer:
        """What seals a record."""
        return self.records.sealer.for_tenant(tenant_of(record.attributes) or self.records.tenant)

    def _primary(self, record: Record) -> str:
        """The id of the key that seals it."""
        keyring = self._sealer(record).keyring
        return "" if keyring is None else keyring.primary

    async def kids(self, record: Record) -> Result[Kids, PersistenceError]:
        """The keys that a listed record needs."""
        own = kid_of(record.head)
        opened = self._opened(record, accept_plain=True)
        if not isinstance(opened, PersistenceError):
            mark = mark_in(opened)
            return Success(Kids(frozenset({own, kid_in(mark), *self._inner_kids(opened)} - {""}), not own, known=True))
        if record.body_size is None:
            return Success(Kids(frozenset({own} - {""}), not own, known=False))
        read = await self._read(record)
        body = None if not isinstance(read, Success) else read.unwrap()
        if isinstance(read, Failure):
            return Failure(read.failure())
        beside = "" if body is None or body.body is None else kid_of(body.body)
        return Success(Kids(frozenset({own, beside} - {""}), not own, known=False))

    async def reseal(self, page: Page[Record], tally: Tally) -> Result[None, PersistenceError]:
        """Seal again what of a page needs it. A failure is of the store; what can't be opened is counted and left."""
        for left_out in page.unreadable:
            tally.failed(left_out)
        tally.looked_at += len(page.items)
        failed = await ready_to_reseal(self.records.sealer, page.items, self.records.tenant)
        if failed is not None:
            return Failure(failed)
        heads: list[Record] = []
        wholes: list[Record] = []
        for number, record in enumerate(page.items):
            needed = self._needed(record)
            if needed is not None:
                (heads if needed == "head" else wholes).append(record)
            if number % BRIEF == BRIEF - 1:
                await asyncio.sleep(0)
        done = await self._put_all(heads, tally)
        for group in _groups(wholes):
            if isinstance(done, Success):
                done = await self._group(group, tally)
        return done

    async def _group(self, group: Sequence[Record], tally: Tally) -> Result[None, PersistenceError]:
        try:
            reads = await self._store.get_many([record.ref for record in group])
        except PersistenceError as error:
            return Failure(error)
        return await self._put_all([read for read in reads.records if read is not None], tally)

    async def _put_all(self, reads: Sequence[Record | Unreadable], tally: Tally) -> Result[None, PersistenceError]:
        puts = []
        for read in reads:
            put = read if isinstance(read, Unreadable) else await self._put(read)
            if isinstance(put, Unreadable):
                tally.failed(put)
            elif put is not None:
                puts.append(put)
        if not puts:
            return Success(None)
        try:
            written = await self._store.put_many(puts)
        except PersistenceError as error:
            return Failure(error)
        for put, one in zip(puts, written, strict=True):
            settled = await self._settled(put, one, tally)
            if not isinstance(settled, Success):
                return settled
        return Success(None)

    async def _settled(
        self, put: Put, written: Written | PersistenceError, tally: Tally
    ) -> Result[None, PersistenceError]:
        """Count a put; where somebody else came first, read and put again."""
        for attempt in range(1, MAX_CONFLICTS + 1):
            if isinstance(written, Written):
                tally.resealed += 1
                return Success(None)
            if not isinstance(written, RevisionConflict):
                return Failure(written)
            await self.records.runtime.sleep(self.records.runtime.jitter(min(attempt, 5)) if attempt > 1 else 0)
            try:
                record = (await self._store.get(put.ref)).record
                again = None if record is None else await self._put(record)
                if not isinstance(again, Put):
                    if again is not None:
                        tally.failed(again)
                    return Success(None)
                written = await self._store.put(again.ref, again.change, if_revision=again.if_revision)
            except PersistenceError as error:
                written = error
        return Failure(contended(put.ref.key, self.records.backend.name))

    def _needed(self, record: Record) -> Literal["head", "whole"] | None:
        """What must be sealed again: the head alone, or the body too. What can't be opened needs no body."""
        own, primary = kid_of(record.head), self._primary(record)
        opened = self._opened(record, accept_plain=self._accept_plain)
        if isinstance(opened, PersistenceError):
            return "head"
        beside = kid_in(mark_in(opened))
        if beside not in {"", primary} or (not own and mark_in(opened) != NO_BODY):
            return "whole"
        return "head" if {own, *self._inner_kids(opened)} - {primary} else None

    async def _put(self, record: Record) -> Put | Unreadable | None:
        """The put that seals a record again, None where it needs none."""
        if self._needed(record) is None:
            return None
        made = await self._change(record)
        if not isinstance(made, Success):
            return Unreadable(record.ref, made.failure())
        return Put(record.ref, made.unwrap(), record.revision)

    async def _change(self, record: Record) -> Result[RecordChange, PersistenceError]:
        opened = self._opened(record, accept_plain=self._accept_plain)
        if isinstance(opened, PersistenceError):
            return Failure(opened)
        body = await self._body(record, opened)
        if not isinstance(body, Success):
            return Failure(body.failure())
        sealed = body.unwrap()
        data = with_mark(opened, mark_in(opened) if sealed is None else mark_of(sealed))
        head = self._changed_head(record, data).bind(partial(self._sealed_head, record))
        write_id = self.records.runtime.entropy(16).hex()
        return head.map(lambda made: RecordChange(write_id, head=made, body=KEEP if sealed is None else sealed))

    def _opened(self, record: Record, *, accept_plain: bool) -> bytes | PersistenceError:
        """The bytes of a head."""
        sealer = self._plain if accept_plain and is_plain(record.head) else self.records.sealer
        opened = sealer.opened_bytes(record.head, self._context(record), self.records.purpose, MAX_BYTES)
        if isinstance(opened, bytes) and len(opened) < len(NO_BODY):
            return TamperedEnvelope(f"record {record.ref.key} has a head of {len(opened)} bytes; restore it")
        return opened

    async def _body(self, record: Record, head: bytes) -> Result[bytes | None, PersistenceError]:
        """The body sealed again; None where it stays as it is."""
        body, mark = record.body, mark_in(head)
        kid = kid_in(mark)
        # What a sealed head names no key of stands in clear.
        if mark == NO_BODY or kid == self._primary(record) or not (kid or is_plain(record.head)):
            return Success(None)
        if body is None or mark_of(body) != mark:
            return Failure(exchanged(record.ref.key, "body"))
        if not (kid or is_plain(body)):
            return Success(None)
        purpose, context = self._purpose_of(head), self._context(record)
        opened = await self._opened_body(record, body, purpose)
        if not isinstance(opened, Success):
            return Failure(opened.failure())
        seal = partial(self._sealer(record).seal_bytes, context=context, purpose=purpose)
        return (await in_thread_if_large(seal, opened.unwrap())).map(lambda made: made)

    def _purpose_of(self, data: bytes) -> str:
        if self._inner is None or self._heads is None:
            return self._purpose
        head = self._heads.decoded(data)
        return self._purpose if isinstance(head, PersistenceError) else self._inner.purpose(head)

    async def _opened_body(self, record: Record, body: bytes, purpose: str) -> Result[bytes, PersistenceError]:
        records, context, plain = self.records, self._context(record), is_plain(body)

        def sealer() -> Sealer:
            return records.sealer.with_keyring(None) if plain else records.sealer

        opened = await opened_body(sealer().open_bytes, body, context, purpose)
        unknown = opened.failure() if isinstance(opened, Failure) else None
        if not isinstance(unknown, UnknownDictionary) or unknown.id is None or records.learn is None:
            return opened
        learned = await records.learn(unknown.id)
        if not isinstance(learned, Success):
            return Failure(learned.failure())
        return await opened_body(sealer().open_bytes, body, context, purpose)

    def _changed_head(self, record: Record, data: bytes) -> Result[bytes, PersistenceError]:
        """A head's bytes with what is sealed within it sealed again."""
        if self._inner is None or self._heads is None:
            return Success(data)
        head = self._heads.decoded(data)
        if isinstance(head, PersistenceError):
            return Failure(head)
        context = self._context(record)

        def reseal(sealed: bytes, purpose: str) -> Result[bytes, PersistenceError]:
            sealer = self._plain if self._accept_plain and is_plain(sealed) else self.records.sealer
            opened = sealer.open_bytes(sealed, context=context, purpose=purpose)
            return opened.bind(lambda made: self._sealer(record).seal_bytes(made, context=context, purpose=purpose))

        changed = self._inner.changed(head, reseal, self._primary(record))
        heads = self._heads
        return changed.bind(lambda made: heads.encode(made, mark_in(data)))

    def _sealed_head(self, record: Record, data: bytes) -> Result[bytes, PersistenceError]:
        sealed = self._sealer(record).seal_bytes(data, context=self._context(record), purpose=self.records.purpose)
        if isinstance(sealed, Success) and len(sealed.unwrap()) > MAX_HEAD_BYTES:
            return Failure(head_too_large(len(sealed.unwrap()), MAX_HEAD_BYTES))
        return sealed

    def _inner_kids(self, data: bytes) -> Iterable[str]:
        if self._inner is None or self._heads is None:
            return ()
        head = self._heads.decoded(data)
        return () if isinstance(head, PersistenceError) else self._inner.kids(head)

    async def _read(self, record: Record) -> Result[Record | None, PersistenceError]:
        try:
            return Success((await self._store.get(record.ref)).record)
        except PersistenceError as error:
            return Failure(error)

    def _context(self, record: Record) -> bytes:
        return record_context(record.ref, tenant_of(record.attributes))


def _groups(records: Sequence[Record]) -> Iterator[list[Record]]:
    """Records whose bodies fit in memory together, in their order; a large one is alone."""
    group: list[Record] = []
    size = 0
    for record in records:
        own = record.body_size or 0
        if group and size + own > GROUP_BYTES:
            yield group
            group, size = [], 0
        group.append(record)
        size += own
    if group:
        yield group
