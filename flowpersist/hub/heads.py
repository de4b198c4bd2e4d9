"""The records of suspensions, whose heads get a position with each write, held against the replay ledger if the hub has
one.

A head is read before its entry. Where it is behind that, it is read again: the entry was raised after its head was
durable, so what is behind it then was put back.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar, cast

from attrs import evolve
from returns.result import Failure, Result, Success

from flowpersist.backends.base import NamespaceSchema, Order, Page, Record, StorageBackend, Unreadable, Where, Written
from flowpersist.errors import LedgerUnavailable, PersistenceError, RollbackDetected
from flowpersist.hub.ledger import Ledger
from flowpersist.hub.paged_heads import PagedHeads
from flowpersist.lifecycle.model import Head, replace
from flowpersist.lifecycle.positions import advanced, first_number, floor_of, standing
from flowpersist.sealed.drafts import Decided, Draft, Found, Updated
from flowpersist.sealed.heads import NO_BODY
from flowpersist.sealed.retrying import Runtime

__all__ = ["Heads", "put_back"]

T = TypeVar("T")
log = logging.getLogger("flowpersist.hub")
#: The bytes of the random part of a position.
_CHANCE_BYTES: Final = 3
#: So often head and entry are read: an id that is derived can be removed and made again between two reads.
LOOKS: Final = 3


class Heads(PagedHeads):
    """The records of suspensions."""

    #: None: nobody can tell that a record was put back.
    ledger: Ledger | None = None
    _provisional = False

    async def open_stores(self, schema: Sequence[NamespaceSchema], *, create: bool) -> None:
        """Open the store, and then the ledger's. Raises what opening a hub raises."""
        await self.backend.open(schema)
        if self.ledger is not None:
            await self.ledger.open(create=create)

    async def close_stores(self) -> None:
        """Close both."""
        try:
            await self.backend.close()
        finally:
            if self.ledger is not None:
                await self.ledger.close()

    def within(self, joined: StorageBackend, runtime: Runtime) -> Heads:
        """The same in a transaction. What is written may be undone, so the ledger is not told of it."""
        bound = cast("Heads", super().within(joined, runtime))
        vars(bound).update(_provisional=True)
        return bound

    async def bare(self, key: str, *, body: bool = False) -> Result[Found[Head], PersistenceError]:
        """One record, or none; ``RollbackDetected`` where the ledger knows a later one. Pages are read after that."""
        found = await super().bare(key, body=body)
        ledger = self.ledger
        if ledger is None or not isinstance(found, Success):
            return found
        for _ in range(LOOKS):
            known = await ledger.read(key)
            if not isinstance(known, Success):
                return Failure(known.failure())
            entry = known.unwrap()
            for again in (False, True):
                found = await super().bare(key, body=body) if again else found
                if not isinstance(found, Success):
                    return found
                record = found.unwrap().record
                head = None if record is None else record.head
                stands = standing(head, entry, ledger.since)
                if stands == "ahead" and head is not None:
                    await self._raise({key: head})
                if stands != "back":
                    return found
        return Failure(put_back(key, found.unwrap().record is None, ledger))

    async def refused(self, key: str) -> PersistenceError | None:
        """Why the ledger refuses what stands there, for whoever reads it without a key; it may not be readable."""
        read = None if self.ledger is None else await self.bare(key)
        failed = read.failure() if isinstance(read, Failure) else None
        return failed if isinstance(failed, RollbackDetected | LedgerUnavailable) else None

    async def bare_many(
        self, keys: Sequence[str], *, body: bool = False
    ) -> Result[tuple[Result[Found[Head], PersistenceError], ...], PersistenceError]:
        """Several records, each for itself, in the order of the keys."""
        read = await super().bare_many(keys, body=body)
        if self.ledger is None or not isinstance(read, Success):
            return read
        known = await self.ledger.read_many(keys)
        if not isinstance(known, Success):
            return Failure(known.failure())
        every: list[Result[Found[Head], PersistenceError]] = []
        ahead: dict[str, Head] = {}
        for key, found in zip(keys, read.unwrap(), strict=True):
            entry = known.unwrap()[key]
            record = found.unwrap().record if isinstance(found, Success) else None
            head = None if record is None else record.head
            stands = "back" if isinstance(entry, PersistenceError) else standing(head, entry, self.ledger.since)
            if stands == "ahead" and head is not None:
                ahead[key] = head
            every.append(found if isinstance(found, Failure) or stands != "back" else await self.bare(key, body=body))
        await self._raise(ahead)
        return Success(tuple(every))

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
        """A page of records as they are stored. One that was put back is left out, as one that can't be read."""
        listed = await super().listed(
            where, order=order, limit=limit, after=after, descending=descending, bodies=bodies
        )
        ledger = self.ledger
        if ledger is None or not isinstance(listed, Success):
            return listed
        page = listed.unwrap()
        opened = {record.ref.key: self.loaded(record, page.now) for record in page.items}
        heads = {key: one.unwrap().head for key, one in opened.items() if isinstance(one, Success)}
        known = await ledger.read_many(list(heads))
        if not isinstance(known, Success):
            return Failure(known.failure())
        left_out: dict[str, PersistenceError] = {}
        ahead: dict[str, Head] = {}
        for key, entry in known.unwrap().items():
            stands = "back" if isinstance(entry, PersistenceError) else standing(heads[key], entry, ledger.since)
            if stands == "ahead":
                ahead[key] = heads[key]
            checked = await self.bare(key) if stands == "back" else None
            if isinstance(checked, Failure):
                left_out[key] = checked.failure()
        await self._raise(ahead)
        refused = [
            Unreadable(record.ref, left_out[record.ref.key]) for record in page.items if record.ref.key in left_out
        ]
        for one in refused:
            self.unreadable.meet(None if one.ref is None else one.ref.key, None, one.error)
        kept = tuple(record for record in page.items if record.ref.key not in left_out)
        return Success(evolve(page, items=kept, unreadable=(*page.unreadable, *refused)))

    async def create(self, key: str, decide: Callable[[Found[Head]], Awaitable[Decided[Head, T]]]) -> Updated[Head, T]:
        """See ``SealedRecords``. Where the record is put right, its position follows that of the first put, however
        the store's clock was moved.
        """
        last = 0

        async def numbered(found: Found[Head]) -> Decided[Head, T]:
            nonlocal last
            decided = await decide(found)
            if not isinstance(decided, Draft):
                return decided
            if found.record is None:
                number = max(first_number(decided.head.created_at), last + 1)
                # The put adds one.
                last, decided = number, evolve(decided, head=replace(decided.head, position=floor_of(number - 1)))
            return decided

        return await super().create(key, numbered)

    async def put(
        self, key: str, draft: Draft[Head, Any], *, revision: int | None, mark: bytes = NO_BODY
    ) -> Result[Written, PersistenceError]:
        """Put one draft at its next position. The ledger knows of a new one before, and of a change after it."""
        least, told = 0, self.ledger is not None and not self._provisional
        if self.ledger is not None and revision == 0:
            enrolled = await self.ledger.enroll(key, first_number(draft.head.created_at))
            if not isinstance(enrolled, Success):
                return Failure(enrolled.failure())
            least, told = enrolled.unwrap().least, told and enrolled.unwrap().again
        head = advanced(draft.head, self.runtime.entropy(_CHANCE_BYTES), least)
        written = await super().put(key, evolve(draft, head=head), revision=revision, mark=mark)
        if told and isinstance(written, Success):
            await self._raise({key: head})
        return written

    async def delete(self, key: str, *, revision: int | None) -> Result[bool, PersistenceError]:
        """Remove one record. The ledger knows before that it may be missing."""
        if self.ledger is None:
            return await super().delete(key, revision=revision)
        left = await self.ledger.leave(key)
        if not isinstance(left, Success):
            return Failure(left.failure())
        deleted = await super().delete(key, revision=revision)
        if isinstance(deleted, Success) and deleted.unwrap() and not self._provisional:
            await self.ledger.forget(key)
        return deleted

    async def admitted(self, record: Record, now: datetime) -> Result[bytes, PersistenceError]:
        """The sealed head with which a record from elsewhere is put here; another one where the ledger would take its
        own for one that was put back.
        """
        loaded = self.loaded(record, now)
        if self.ledger is None or not isinstance(loaded, Success):
            return Success(record.head)
        least = await self.ledger.admit(record.ref.key, loaded.unwrap().head)
        if not isinstance(least, Success) or not least.unwrap():
            return least.map(lambda _: record.head)
        head = advanced(loaded.unwrap().head, self.runtime.entropy(_CHANCE_BYTES), least.unwrap())
        failed = await self.ready(record.attributes)
        draft: Draft[Head] = Draft(head, dict(record.attributes), record.due_at)
        return self._sealed_head(record.ref, draft, loaded.unwrap().mark) if failed is None else Failure(failed)

    async def _raise(self, heads: dict[str, Head]) -> None:
        """Have the ledger know of durable heads. A failure leaves it behind, which the next verb finds."""
        if self.ledger is None or self._provisional or not heads:
            return
        if len(heads) > 1:
            await self.ledger.raise_all(heads)
            return
        for key, head in heads.items():
            raised = await self.ledger.raise_to(key, head)
            if isinstance(raised, Failure):
                log.warning("the replay ledger is behind suspension %s: %s", key, raised.failure())


def put_back(key: str, missing: bool, ledger: Ledger) -> RollbackDetected:  # noqa: FBT001
    """The error for a suspension that is behind the ledger."""
    what = "was deleted" if missing else "was put back as it was earlier"
    return RollbackDetected(
        f"suspension {key} {what}: the replay ledger on {ledger.backend.name} knows a later state of it. "
        "Find out who writes to the store, and restore the newest backup; "
        "if you have restored one knowingly, accept what stands there: flowpersist accept-restored"
    )
