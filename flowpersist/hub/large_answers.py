"""Answers that their head has no room for, each in a record of its own beside the suspension.

Such a record is written before the head that names it and removed after the last head that did. It is sealed for
control, as the head is, under a name that is drawn at random: of two answers that race for one wait each has its own,
and the loser removes nobody else's. What a crash leaves is found by its due: a record that no head names after
``GRACE`` never will be, since a head that names it is put within half of that or not at all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Final

from attrs import field, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import IntegrityError, PersistenceError, RevisionConflict, TamperedEnvelope
from flowpersist.hub.due import due_heads
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle.changes import later
from flowpersist.lifecycle.model import Apart, Head, Kept, WaitState, fingerprint, replace
from flowpersist.lifecycle.views import given
from flowpersist.sealed.drafts import Draft, Loaded
from flowpersist.sealed.encoding import INLINE_BYTES
from flowpersist.sealed.heads import size_of
from flowpersist.sealed.records import SealedRecords

__all__ = ["Aside", "LargeAnswers"]

log = logging.getLogger("flowpersist.hub")
GRACE: Final = timedelta(hours=1)
#: Bytes of an answer, from when on it stands apart.
LARGE: Final = 4 * 1024
#: In a head of more than this the rest of what is larger than a reference stands apart too.
FULL: Final = 96 * 1024
REFERENCE: Final = 128
_NAME_BYTES: Final = 16


@frozen
class LargeAnswers:
    """The records of large answers."""

    records: SealedRecords[Kept]

    async def lay(self, head: Head, value: object, size: int, now: datetime) -> Result[Apart, PersistenceError]:
        """Make an answer durable that no head names yet."""
        name = self.records.runtime.entropy(_NAME_BYTES)
        key = _key(head.id, name)
        mark = fingerprint(value) if size <= INLINE_BYTES else await asyncio.to_thread(fingerprint, value)
        sealed = await self.records.seal_body(key, head.tenant, value, purpose="answer")
        if not isinstance(sealed, Success):
            return Failure(sealed.failure())
        draft = Draft(
            head=Kept(mark),
            attributes={"suspension": str(head.id), "tenant": head.tenant},
            due_at=later(now, GRACE),
            body=sealed.unwrap(),
        )
        written = await self.records.put(key, draft, revision=0)
        return written.map(lambda _: Apart(name, mark))

    async def values(self, head: Head) -> Result[Mapping[str, object], PersistenceError]:
        """The answers that stand apart, by wait, of those that the holder of this pause is given."""
        values: dict[str, object] = {}
        for wait in given(head):
            apart = _apart(wait)
            if apart is not None:
                value = await self._value(head, wait.name, apart)
                if not isinstance(value, Success):
                    return Failure(value.failure())
                values[wait.name] = value.unwrap()
        return Success(values)

    async def _value(self, head: Head, wait: str, apart: Apart) -> Result[object, PersistenceError]:
        read = await self.records.read(_key(head.id, apart.name), body=True)
        if not isinstance(read, Success):
            return Failure(read.failure())
        found = read.unwrap().record
        what = f"the answer to {wait} of suspension {head.id}"
        if found is None:
            return Failure(IntegrityError(f"{what} is gone, which stands in a record of its own; restore it"))
        if found.head.fingerprint != apart.fingerprint:
            message = f"{what} is not the accepted one: its record was replaced; restore it from a backup"
            return Failure(TamperedEnvelope(message))
        return await self.records.open_body(found, purpose="answer")

    async def let_go(self, suspension: SuspensionId, names: Collection[bytes]) -> None:
        """Have removed what no head names any more: after the grace, since somebody may be reading it."""
        for name in names:
            read = await self.records.read(_key(suspension, name))
            found = read.unwrap().record if isinstance(read, Success) else None
            if found is not None:
                put = await self._rearmed(found, later(found.now, GRACE))
                if isinstance(put, Failure):
                    log.warning("a large answer of suspension %s stays until it is removed: %s", suspension, put)

    async def drop(self, suspension: SuspensionId, names: Collection[bytes]) -> None:
        """Remove what no head ever named. Where that fails, the sweep does it."""
        for name in names:
            read = await self.records.read(_key(suspension, name))
            found = read.unwrap().record if isinstance(read, Success) else None
            if found is not None:
                await self.records.delete(found.ref.key, revision=found.revision)

    async def sweep(self, suspensions: SealedRecords[Head]) -> Result[int, PersistenceError]:
        """Remove what is due and no head names; gives how many. What is named is not looked at again."""
        removed = 0
        async for found in due_heads(self.records, {}):
            if not isinstance(found, Success):
                return Failure(found.failure())
            record = found.unwrap()
            named = await self._named(suspensions, record)
            done: Result[object, PersistenceError]
            if not isinstance(named, Success):
                log.warning("the large answer %s is left as it is: %s", record.ref.key, named.failure())
                done = await self._rearmed(record, later(record.now, GRACE))
            elif named.unwrap():
                done = await self._rearmed(record, None)
            else:
                done = await self.records.delete(record.ref.key, revision=record.revision)
                removed += isinstance(done, Success)
            if isinstance(done, Failure) and not isinstance(done.failure(), RevisionConflict):
                return Failure(done.failure())
        return Success(removed)

    async def _named(self, suspensions: SealedRecords[Head], record: Loaded[Kept]) -> Result[bool, PersistenceError]:
        suspension, _, name = record.ref.key.partition("/")
        read = await suspensions.read(suspension)
        if not isinstance(read, Success):
            return Failure(read.failure())
        found = read.unwrap().record
        return Success(found is not None and name in {one.hex() for one in names_in(found.head)})

    async def _rearmed(self, record: Loaded[Kept], due_at: datetime | None) -> Result[object, PersistenceError]:
        draft = Draft(head=record.head, attributes=record.attributes, due_at=due_at)
        return await self.records.put(record.ref.key, draft, revision=record.revision, mark=record.mark)


@frozen
class _Laid:
    apart: Apart
    at: datetime


@frozen
class Aside:
    """The large answers of one call of a verb, which may take several attempts: each is written once."""

    answers: LargeAnswers
    _laid: dict[bytes, _Laid] = field(init=False, factory=dict)

    async def fitted(self, head: Head, before: Head, now: datetime) -> Result[Head, PersistenceError]:
        """The head with references in place of those of its new answers that it has no room for."""
        known = {wait.secret for wait in before.waits if wait.answer is not None}
        new = [w for w in head.waits if w.answer is not None and w.answer.apart is None and w.secret not in known]
        for wait in new:
            own = _weight(wait)
            if own > LARGE or (own > REFERENCE and size_of(head) > FULL):
                made = await self._laid_apart(head, wait, own, now)
                if not isinstance(made, Success):
                    return Failure(made.failure())
                fitting = made.unwrap()
                head = replace(head, waits=tuple(fitting if one is wait else one for one in head.waits))
        return Success(head)

    async def _laid_apart(
        self, head: Head, wait: WaitState, own: int, now: datetime
    ) -> Result[WaitState, PersistenceError]:
        answer, laid = wait.answer, self._laid.get(wait.secret)
        if answer is None:
            return Success(wait)
        if laid is None or now > laid.at + GRACE / 4:
            made = await self.answers.lay(head, answer.value, own, now)
            if not isinstance(made, Success):
                return Failure(made.failure())
            laid = self._laid[wait.secret] = _Laid(made.unwrap(), now)
        return Success(replace(wait, answer=replace(answer, value=None, apart=laid.apart)))

    @property
    def not_after(self) -> datetime | None:
        """Until when a head that names one of them may be put; None where there is none."""
        return min((later(laid.at, GRACE / 2) for laid in self._laid.values()), default=None)

    async def replaced(self, before: Head, after: Head) -> None:
        """Have removed what the head named ``before`` this call has put another."""
        await self.answers.let_go(after.id, names_in(before) - names_in(after))

    async def tidied(self, suspension: SuspensionId, after: Head | None) -> None:
        """Remove what this call has written in vain."""
        named = frozenset[bytes]() if after is None else names_in(after)
        await self.answers.drop(suspension, {laid.apart.name for laid in self._laid.values()} - named)


def _weight(wait: WaitState) -> int:
    """Some measure of an answer's size, in a time that goes by its values alone, of which there are some thousands."""
    pending: list[object] = [None if wait.answer is None else wait.answer.value]
    weight = 0
    while pending:
        item = pending.pop()
        weight += 1
        weight += len(item) if isinstance(item, str) else item.bit_length() // 8 if isinstance(item, int) else 0
        if isinstance(item, dict):
            pending += [*item, *item.values()]
        elif isinstance(item, list):
            pending += item
    return weight


def names_in(head: Head) -> frozenset[bytes]:
    """The names of the large answers of a head."""
    return frozenset([apart.name for apart in map(_apart, head.waits) if apart is not None])


def _apart(wait: WaitState) -> Apart | None:
    return None if wait.answer is None else wait.answer.apart


def _key(suspension: SuspensionId, name: bytes) -> str:
    return f"{suspension}/{name.hex()}"
