"""Accepting what stands in a store that was put back knowingly, as from a backup, against its replay ledger.

The ledger is never lowered. A suspension that was put back is written again as it is, at a position after all that the
ledger knows, so none of its later states is taken for a newer one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from returns.result import Failure, Result, Success

from flowpersist.backends.base import Where
from flowpersist.errors import ConfigurationError, IntegrityError, PersistenceError, RevisionConflict, RollbackDetected
from flowpersist.hub.heads import Heads
from flowpersist.hub.ledger import Ledger
from flowpersist.lifecycle.changes import due_at
from flowpersist.lifecycle.indexing import attributes_of
from flowpersist.lifecycle.model import Head, replace
from flowpersist.lifecycle.positions import floor_of, is_floor, standing
from flowpersist.sealed.drafts import Draft, Loaded
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.turns import MAX_CONFLICTS
from flowpersist.sealed.walking import pages

__all__ = ["accept_restored", "deleted_keys"]

PAGE = 64


async def accept_restored(heads: Heads, key: str | None) -> Result[int, PersistenceError]:
    """Accept one suspension as it stands, or all; gives how many the ledger had refused. One that can't be accepted,
    because what belongs to it was not put back, keeps no other one from it: its failure comes at the end.
    """
    ledger = heads.ledger
    if ledger is None:
        message = "the hub has no replay ledger, so it refuses nothing: set FLOWPERSIST_LEDGER_URL, or pass ledger"
        return Failure(ConfigurationError(message, "FLOWPERSIST_LEDGER_URL"))
    if key is not None:
        return (await _accept(heads, ledger, key)).map(int)
    accepted = 0
    failed: PersistenceError | None = None
    async for found in _refused(heads, ledger):
        done = await _accept(heads, ledger, found.unwrap()) if isinstance(found, Success) else found
        if isinstance(done, Success):
            accepted += bool(done.unwrap())
        elif isinstance(done.failure(), IntegrityError):
            failed = failed or done.failure()
        else:
            return Failure(done.failure())
    return Success(accepted) if failed is None else Failure(failed)


async def deleted_keys(heads: Heads, ledger: Ledger) -> AsyncIterator[Result[str, PersistenceError]]:
    """The keys of suspensions that the ledger knows and the store has not; ends at the first failure."""
    async for listed in pages(ledger.records[0], Where(), limit=PAGE):
        if not isinstance(listed, Success):
            yield Failure(listed.failure())
            return
        page = listed.unwrap()
        keys = [one.head.key for one in page.items if not one.head.gone and not is_floor(one.head)]
        read = await heads.read_many(keys)
        if not isinstance(read, Success):
            yield Failure(read.failure())
            return
        for key, found in zip(keys, read.unwrap(), strict=True):
            if isinstance(found, Failure) and isinstance(found.failure(), RollbackDetected):
                there = await SealedRecords.read(heads, key)
                if isinstance(there, Success) and there.unwrap().record is None:
                    yield Success(key)


async def _refused(heads: Heads, ledger: Ledger) -> AsyncIterator[Result[str, PersistenceError]]:
    """The keys of what stands in the store and was put back, and then of what was deleted from it."""
    async for listed in pages(heads, Where(), limit=PAGE):
        if not isinstance(listed, Success):
            yield Failure(listed.failure())
            return
        for one in listed.unwrap().unreadable:
            if one.ref is not None and isinstance(one.error, RollbackDetected):
                yield Success(one.ref.key)
    async for found in deleted_keys(heads, ledger):
        yield found


async def _accept(heads: Heads, ledger: Ledger, key: str) -> Result[bool, PersistenceError]:
    """Accept what stands there; False where the ledger refuses nothing of it."""
    for _ in range(MAX_CONFLICTS):
        known = await ledger.read(key)
        read = await SealedRecords.read(heads, key)
        if not isinstance(known, Success) or not isinstance(read, Success):
            return Failure(known.failure() if isinstance(known, Failure) else read.failure())
        record = read.unwrap().record
        if standing(None if record is None else record.head, known.unwrap(), ledger.since) != "back":
            return Success(False)
        done = await (ledger.leave(key) if record is None else _written(heads, ledger, record))
        if isinstance(done, Success) or not isinstance(done.failure(), RevisionConflict):
            heads.unreadable.forget()
            return done.map(lambda _: True)
    return Failure(IntegrityError(f"suspension {key} was changed by others at every attempt: repeat the call"))


async def _written(heads: Heads, ledger: Ledger, record: Loaded[Head]) -> Result[object, PersistenceError]:
    """Write a suspension again, after all that the ledger knows of it."""
    key = record.ref.key
    whole = await heads.completed(record)
    if not isinstance(whole, Success):
        return whole
    admitted = await ledger.admit(key, record.head)
    if not isinstance(admitted, Success) or not admitted.unwrap():
        return admitted
    # The put adds one.
    head: Head = replace(whole.unwrap().head, position=floor_of(admitted.unwrap() - 1))
    draft: Draft[Head] = Draft(head, attributes_of(head), due_at(head))
    return await heads.put(key, draft, revision=record.revision, mark=record.mark)
