"""Answers that do not fit in their head. Each has a record of its own, which the head refers to by a name.

The record is written before the first head that names it, and removed after the last one. It is sealed with the control
subkey, as the head is. Its name is random, so two answers that race for one wait have different records, and the loser
removes only its own. Records that a crash leaves are found when they become due: a head that names a record is put
within half of ``GRACE`` or not at all, so a record that no head names after ``GRACE`` can be removed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final

from attrs import field, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import IntegrityError, PersistenceError, StorageError, TamperedEnvelope
from flowpersist.hub.sweeping import GRACE, rearmed, sweep_unnamed
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle.giving import given
from flowpersist.lifecycle.model import (
    MAX_RECEIPTS,
    Answer,
    AnswerReference,
    Head,
    LargeAnswer,
    WaitState,
    fingerprint,
    replace,
)
from flowpersist.lifecycle.moments import later
from flowpersist.lifecycle.paging import is_paged
from flowpersist.sealed.drafts import Draft, Updated
from flowpersist.sealed.encoding import INLINE_BYTES
from flowpersist.sealed.heads import size_of
from flowpersist.sealed.records import SealedRecords

__all__ = ["AnswerWrites", "LargeAnswers", "answer_key", "names_in"]

log = logging.getLogger("flowpersist.hub")
#: An answer of more bytes than this gets a record of its own.
LARGE: Final = 4 * 1024
#: In a head of more bytes than this, so does every answer that is larger than a reference.
FULL: Final = 96 * 1024
REFERENCE: Final = 128
_NAME_BYTES: Final = 16


@frozen
class LargeAnswers:
    """The records of large answers."""

    records: SealedRecords[LargeAnswer]

    async def store(
        self, head: Head, value: object, size: int, now: datetime
    ) -> Result[AnswerReference, PersistenceError]:
        """Store an answer that no head names yet."""
        name = self.records.runtime.entropy(_NAME_BYTES)
        key = answer_key(head.id, name)
        mark = fingerprint(value) if size <= INLINE_BYTES else await asyncio.to_thread(fingerprint, value)
        sealed = await self.records.seal_body(key, head.tenant, value, purpose="answer")
        if not isinstance(sealed, Success):
            return Failure(sealed.failure())
        draft = Draft(
            head=LargeAnswer(mark),
            attributes={"suspension": str(head.id), "tenant": head.tenant},
            due_at=later(now, GRACE),
            body=sealed.unwrap(),
        )
        written = await self.records.put(key, draft, revision=0)
        return written.map(lambda _: AnswerReference(name, mark))

    async def values(self, head: Head) -> Result[Mapping[bytes, object], PersistenceError]:
        """The values of the answers and votes that have their own records, by their names, among those of this
        pause.
        """
        values: dict[bytes, object] = {}
        for wait in given(head):
            for reference in _references(wait):
                value = await self._value(head, wait.name, reference)
                if not isinstance(value, Success):
                    return Failure(value.failure())
                values[reference.name] = value.unwrap()
        return Success(values)

    async def _value(self, head: Head, wait: str, reference: AnswerReference) -> Result[object, PersistenceError]:
        read = await self.records.read(answer_key(head.id, reference.name), body=True)
        if not isinstance(read, Success):
            return Failure(read.failure())
        found = read.unwrap().record
        what = f"the answer to {wait} of suspension {head.id}"
        if found is None:
            return Failure(IntegrityError(f"{what} is gone: its record is missing; restore it from a backup"))
        if found.head.fingerprint != reference.fingerprint:
            message = f"{what} is not the accepted one: its record was replaced; restore it from a backup"
            return Failure(TamperedEnvelope(message))
        return await self.records.open_body(found, purpose="answer")

    async def expire(self, suspension: SuspensionId, names: Collection[bytes]) -> None:
        """Let records that no head names any more be removed after the grace, since somebody may be reading them."""
        for name in names:
            read = await self.records.read(answer_key(suspension, name))
            found = read.unwrap().record if isinstance(read, Success) else None
            if found is not None:
                put = await rearmed(self.records, found, later(found.now, GRACE))
                if isinstance(put, Failure):
                    log.warning("a large answer of suspension %s stays until it is removed: %s", suspension, put)

    async def delete(self, suspension: SuspensionId, names: Collection[bytes]) -> None:
        """Remove records that no head ever named. If that fails, the sweep removes them."""
        for name in names:
            read = await self.records.read(answer_key(suspension, name))
            found = read.unwrap().record if isinstance(read, Success) else None
            if found is not None:
                await self.records.delete(found.ref.key, revision=found.revision)

    async def sweep(self, suspensions: SealedRecords[Head]) -> Result[int, PersistenceError]:
        """Remove due records that no head names, and give their number."""
        return await sweep_unnamed(self.records, suspensions.read, names_in)


@frozen
class _Written:
    reference: AnswerReference
    at: datetime


@frozen
class AnswerWrites:
    """The large answers that one call of a verb writes: each once, however many attempts the call takes."""

    answers: LargeAnswers
    _written: dict[bytes, _Written] = field(init=False, factory=dict)

    async def separated(self, head: Head, before: Head, now: datetime) -> Result[Head, PersistenceError]:
        """The head, with references in place of new answers that do not fit in it."""
        known = {wait.secret for wait in before.waits if wait.answer is not None}
        new = [w for w in head.waits if w.answer is not None and w.answer.reference is None and w.secret not in known]
        stood = {wait.secret: wait.votes for wait in before.waits}
        voted = [w for w in head.waits if w.answer is None and w.votes and w.votes != stood.get(w.secret)]
        for wait in (*new, *voted):
            answer = _newest(wait)
            own = 0 if answer is None else _weight(answer.value)
            if answer is not None and (own > LARGE or (own > REFERENCE and _size(head) > FULL)):
                made = await self._separated(head, wait.secret, answer, own, now)
                if not isinstance(made, Success):
                    return Failure(made.failure())
                fitting = _with_newest(wait, made.unwrap())
                head = replace(head, waits=tuple(fitting if one is wait else one for one in head.waits))
        return Success(head)

    async def _separated(
        self, head: Head, secret: bytes, answer: Answer, own: int, now: datetime
    ) -> Result[Answer, PersistenceError]:
        written = self._written.get(secret)
        if written is None or now > written.at + GRACE / 4:
            made = await self.answers.store(head, answer.value, own, now)
            if not isinstance(made, Success):
                return Failure(made.failure())
            written = self._written[secret] = _Written(made.unwrap(), now)
        return Success(replace(answer, value=None, reference=written.reference))

    @property
    def not_after(self) -> datetime | None:
        """The last moment at which a head that names one of them may be put; None if there is none."""
        return min((later(one.at, GRACE / 2) for one in self._written.values()), default=None)

    async def settled(self, suspension: SuspensionId, updated: Updated[Head, Any]) -> None:
        """Let large answers be removed that no head names; not those of a put whose reply was lost."""
        before, result = updated.before, updated.result
        after = None if updated.draft is None else updated.draft.head
        if before is not None and after is not None:
            await self.answers.expire(after.id, names_in(before.head) - names_in(after))
        if after is not None or not isinstance(result, Failure) or not isinstance(result.failure(), StorageError):
            named = frozenset[bytes]() if after is None else names_in(after)
            await self.answers.delete(suspension, {one.reference.name for one in self._written.values()} - named)


def _size(head: Head) -> int:
    """The bytes of a head, without the waits that will stand on pages: these are divided, however many there are."""
    if is_paged(head):
        head = replace(head, waits=(), receipts=head.receipts[-MAX_RECEIPTS:])
    return size_of(head)


def _newest(wait: WaitState) -> Answer | None:
    """The answer of a wait, else its newest vote."""
    return wait.votes[-1].answer if wait.answer is None and wait.votes else wait.answer


def _with_newest(wait: WaitState, answer: Answer) -> WaitState:
    if wait.answer is not None:
        return replace(wait, answer=answer)
    return replace(wait, votes=(*wait.votes[:-1], replace(wait.votes[-1], answer=answer)))


def _weight(value: object) -> int:
    """A measure of an answer's size, in a time that depends on the number of its values alone."""
    pending: list[object] = [value]
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
    return frozenset(
        [one.name for wait in head.waits if wait.answer is not None or wait.votes for one in _references(wait)]
    )


def _references(wait: WaitState) -> list[AnswerReference]:
    given = [wait.answer, *(vote.answer for vote in wait.votes)] if wait.votes else [wait.answer]
    return [one.reference for one in given if one is not None and one.reference is not None]


def answer_key(suspension: SuspensionId, name: bytes) -> str:
    """The key of the record of a large answer."""
    return f"{suspension}/{name.hex()}"
