"""The replay ledger: what a second store knows of how far each suspension has come, so that one which was put back is
detected.

An entry is made before its suspension, raised once a change of it is durable, and removed after it. So by a crash in
between, an entry can only be behind, which is what the next verb finds and mends, and never before. Entries are raised
by compare-and-set, and never lowered. specs/persistence/ledger.md is the specification.
"""

from __future__ import annotations

import base64
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from attrs import frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Migrating, NamespaceSchema, StorageBackend
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import (
    ConfigurationError,
    LedgerUnavailable,
    PersistenceError,
    RevisionConflict,
    StorageError,
)
from flowpersist.keys.crypto import KeyedDigest
from flowpersist.lifecycle.model import Head, replace
from flowpersist.lifecycle.positions import (
    LEARNING,
    LedgerCard,
    LedgerEntry,
    after,
    first_number,
    floor_of,
    is_floor,
    standing,
)
from flowpersist.sealed.drafts import Draft
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.turns import MAX_CONFLICTS

__all__ = ["Enrolled", "Ledger", "ledger_of"]

T = TypeVar("T")
log = logging.getLogger("flowpersist.hub")
SECRET_BYTES: Final = 32
_NAME_BYTES: Final = 24
_CARD: Final = "card"
#: The entries of which this process remembers the revision, so that raising one takes one round trip.
KNOWN: Final = 4096


@frozen
class Known:
    """An entry as it was read: None, at revision 0, where there is none."""

    entry: LedgerEntry | None
    revision: int


@frozen
class Enrolled:
    """The least number of a suspension that is about to be made. ``again``: the ledger knows an earlier one of its id,
    whose entry is to be raised.
    """

    least: int
    again: bool


class Ledger:
    """The ledger of a hub's suspensions in a ``backend`` of its own; ``of`` are their records."""

    def __init__(self, of: SealedRecords[Head], backend: StorageBackend) -> None:
        self.backend = backend
        self._of = of
        self._entries = SealedRecords(
            backend, of.sealer, f"{of.namespace}.ledger", LedgerEntry, purpose="ledger", runtime=of.runtime
        )
        self._cards = SealedRecords(
            backend, of.sealer, f"{of.namespace}.ledger-card", LedgerCard, purpose="ledger", runtime=of.runtime
        )
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._card = LedgerCard(b"", 0)
        self._digest = KeyedDigest(b"")

    @property
    def since(self) -> int:
        """The first number of which it knows all suspensions."""
        return self._card.since

    @property
    def records(self) -> tuple[SealedRecords[LedgerEntry], SealedRecords[LedgerCard]]:
        """Its entries and its card, sealed by the hub's keyring of now."""
        every: tuple[SealedRecords[Any], ...] = (self._entries, self._cards)
        for records in every:
            if records.sealer is not self._of.sealer:
                records.sealer = self._of.sealer
                records.unreadable.forget()
        return self._entries, self._cards

    async def open(self, *, create: bool) -> None:
        """Open its store, and read or make its card; the store of the suspensions is open. Raises what opening a hub
        raises.
        """
        entries, cards = self.records
        schema = [NamespaceSchema(entries.namespace), NamespaceSchema(cards.namespace)]
        if not create and isinstance(self.backend, Migrating) and await self.backend.plan(schema):
            message = f"the {self.backend.name} store of the replay ledger is not there: check its URL"
            raise ConfigurationError(message, "FLOWPERSIST_LEDGER_URL")
        await self.backend.open(schema)
        card = await self._read_card()
        if card is None:
            # Whoever else opens it at this moment may make it: then that one counts.
            made = LedgerCard(cards.runtime.entropy(SECRET_BYTES), first_number(await self._now()) + LEARNING)
            put = await cards.put(_CARD, Draft(made, {}, None, body=None), revision=0)
            if isinstance(put, Failure) and not isinstance(put.failure(), RevisionConflict):
                raise put.failure()
            card = await self._read_card() or made
        self._card, self._digest = card, KeyedDigest(card.secret)

    async def _read_card(self) -> LedgerCard | None:
        read = await self.records[1].read(_CARD)
        if not isinstance(read, Success):
            raise read.failure()
        found = read.unwrap().record
        return None if found is None else found.head

    async def _now(self) -> datetime:
        pinged = await self._of.health()
        if not isinstance(pinged, Success):
            raise pinged.failure()
        now: datetime = pinged.unwrap().now
        return now

    async def read(self, key: str) -> Result[LedgerEntry | None, PersistenceError]:
        """What it knows of a record's key."""
        found = (await self.records[0].read(self._name(key))).map(lambda one: one.record)
        if not isinstance(found, Success):
            return Failure(self._failed(found.failure()))
        record = found.unwrap()
        known = Known(None, 0) if record is None else Known(record.head, record.revision)
        self._remember(key, known)
        return Success(known.entry)

    async def read_many(
        self, keys: Sequence[str]
    ) -> Result[Mapping[str, LedgerEntry | PersistenceError | None], PersistenceError]:
        """The same of several keys. An entry that can't be opened is an error in its place."""
        if not keys:
            return Success({})
        read = await self.records[0].read_many([self._name(key) for key in keys])
        if not isinstance(read, Success):
            return Failure(self._failed(read.failure()))
        entries: dict[str, LedgerEntry | PersistenceError | None] = {}
        for key, found in zip(keys, read.unwrap(), strict=True):
            record = found.unwrap().record if isinstance(found, Success) else None
            entries[key] = found.failure() if isinstance(found, Failure) else None if record is None else record.head
            self._remember(key, Known(None, 0) if record is None else Known(record.head, record.revision))
        return Success(entries)

    async def enroll(self, key: str, number: int) -> Result[Enrolled, PersistenceError]:
        """Know of a suspension before it is made, with a life that begins with that number."""
        for _ in range(MAX_CONFLICTS):
            entry = LedgerEntry(key, floor_of(number), number)
            put = await self._put(key, entry, 0)
            if isinstance(put, Success):
                return Success(Enrolled(number, again=False))
            if not isinstance(put.failure(), RevisionConflict):
                return Failure(put.failure())
            read = await self.read(key)
            if not isinstance(read, Success):
                return Failure(read.failure())
            there = read.unwrap()
            if there is not None:
                # Made by somebody who makes the same one now, or left by an earlier one.
                return Success(Enrolled(max(number, after(there)), again=not is_floor(there)))
        return Failure(self._contended())

    async def raise_to(self, key: str, head: Head) -> Result[None, PersistenceError]:
        """Know of a durable head, unless a later one is known."""
        known = self._known.get(key)
        for _ in range(MAX_CONFLICTS):
            if known is None:
                read = await self.read(key)
                if not isinstance(read, Success):
                    return Failure(read.failure())
                known = self._known[key]
            raised = _raised(key, head, known.entry)
            if raised is None:
                return Success(None)
            put = await self._put(key, raised, known.revision)
            if isinstance(put, Success) or not isinstance(put.failure(), RevisionConflict):
                return put
            known = None
        return Failure(self._contended())

    async def raise_all(self, heads: Mapping[str, Head]) -> None:
        """The same of several, each tried once: the next reader finds what was not."""
        entries, puts = self.records[0], []
        for key, head in heads.items():
            known = self._known.get(key) or Known(None, 0)
            raised = _raised(key, head, known.entry)
            if raised is not None:
                made = entries.sealed_put(self._name(key), Draft(raised, {}, None, body=None), known.revision)
                puts += [made.unwrap()] if isinstance(made, Success) else []
            self._known.pop(key, None)
        if puts:
            await entries.put_all(puts)

    async def leave(self, key: str) -> Result[None, PersistenceError]:
        """Know that a suspension is about to be removed: from now on it may be missing."""
        for _ in range(MAX_CONFLICTS):
            read = await self.read(key)
            if not isinstance(read, Success):
                return Failure(read.failure())
            known = self._known[key]
            if known.entry is None or known.entry.gone:
                return Success(None)
            put = await self._put(key, replace(known.entry, gone=True), known.revision)
            if isinstance(put, Success) or not isinstance(put.failure(), RevisionConflict):
                return put
        return Failure(self._contended())

    async def forget(self, key: str) -> None:
        """Remove the entry of a suspension that is no longer there, unless a copy of that would be taken for one that
        is older than the ledger.
        """
        known = self._known.pop(key, None)
        if known is None or known.entry is None or not known.entry.gone or known.entry.began < self.since:
            return
        removed = await self.records[0].delete(self._name(key), revision=known.revision)
        if isinstance(removed, Failure):
            log.info("the entry of a removed suspension stays in the replay ledger: %s", removed.failure())

    async def admit(self, key: str, head: Head) -> Result[int, PersistenceError]:
        """Know of a head that is about to be put as it is, as by an import; gives 0, or, where the ledger would take it
        for one that was put back, the least number with which it is to be put.
        """
        read = await self.read(key)
        if not isinstance(read, Success):
            return Failure(read.failure())
        entry = read.unwrap()
        if entry is not None:
            return Success(0 if standing(head, entry, self.since) != "back" else after(entry))
        raised = await self.raise_to(key, head)
        return raised.map(lambda _: 0)

    async def close(self) -> None:
        """Close its store."""
        await self.backend.close()

    async def _put(self, key: str, entry: LedgerEntry, revision: int) -> Result[None, PersistenceError]:
        put = await self.records[0].put(self._name(key), Draft(entry, {}, None, body=None), revision=revision)
        if not isinstance(put, Success):
            self._known.pop(key, None)
            return Failure(self._failed(put.failure()))
        self._remember(key, Known(entry, put.unwrap().revision))
        return Success(None)

    def _remember(self, key: str, known: Known) -> None:
        self._known[key] = known
        self._known.move_to_end(key)
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)

    def _name(self, key: str) -> str:
        return base64.urlsafe_b64encode(self._digest.of(key.encode())[:_NAME_BYTES]).decode("ascii")

    def _failed(self, error: PersistenceError) -> PersistenceError:
        if isinstance(error, RevisionConflict) or not isinstance(error, StorageError):
            return error
        name = self.backend.name
        message = f"the replay ledger on {name} can't be asked: bring that store back, and repeat the call"
        failed = LedgerUnavailable(message, name, True)
        failed.__cause__ = error
        return failed

    def _contended(self) -> LedgerUnavailable:
        message = "an entry of the replay ledger was changed by others at every attempt: repeat the call"
        return LedgerUnavailable(message, self.backend.name, True)


def ledger_of(of: SealedRecords[Head], given: str | StorageBackend | None) -> Ledger | None:
    """The ledger in a store of that URL, or in that backend."""
    if given is None:
        return None
    backend = backend_from_url(given) if isinstance(given, str) else given
    if backend is of.backend:
        message = "Invalid ledger: expected another store than the hub's own, which is put back with it"
        raise ConfigurationError(message, "FLOWPERSIST_LEDGER_URL")
    return Ledger(of, backend)


def _raised(key: str, head: Head, entry: LedgerEntry | None) -> LedgerEntry | None:
    """The entry of a head; None where the ledger knows it, or a later one."""
    if entry is None:
        return LedgerEntry(key, head.position, first_number(head.created_at))
    # An entry that is gone stays so: only a later head shows that its suspension was not removed.
    return None if head.position <= entry.position else replace(entry, position=head.position, gone=False)
