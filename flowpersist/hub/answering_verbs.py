"""The verbs of whoever has a key: to answer, to take the run, to cancel, to extend."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from attrs import field, frozen

from flowpersist.backends.base import check_text
from flowpersist.errors import PersistenceError
from flowpersist.errors.arguments import (
    check_class,
    check_duration,
    check_instance,
)
from flowpersist.errors.secrecy import discreet
from flowpersist.hub.answering import Given
from flowpersist.hub.base import HubBase
from flowpersist.hub.holding_verbs import text_of
from flowpersist.hub.outcome import ANY_ANSWER, ANY_CLASS, DEFAULT_LEASE, MISSING, A, Outcome, S, as_outcome
from flowpersist.hub.paged_heads import PagesOf
from flowpersist.hub.suspending import (
    check_times,
    earliest,
)
from flowpersist.hub.taking import taken
from flowpersist.hub.transactions import KeyLike, Snapshot
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.inputs.people import By, Via, subject_of
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle import verbs
from flowpersist.lifecycle.decisions import Decision, refused
from flowpersist.lifecycle.parts import pages_to_answer, pages_to_claim
from flowpersist.lifecycle.receipts import Receipt
from flowpersist.lifecycle.views import Resumption, Suspension, suspension_of, without_waits

__all__ = ["AnsweringVerbs", "Refusal", "Reply", "claim_partly", "claim_unless"]

#: Why a suspension, which is given without its waits, is not to be claimed; None where it may be.
Refusal: TypeAlias = Callable[[Suspension], Awaitable[PersistenceError | None]]


@frozen
class Reply:
    """An answer, or none: its value, who gives it, the digest of what they were shown, and how it came."""

    value: object = field(repr=False)
    by: By | None
    shown_digest: str | None = None
    via: Via | None = None


class AnsweringVerbs(HubBase):
    """``answer``, ``resume``, ``claim``, ``cancel`` and ``extend``."""

    @discreet
    async def answer(
        self,
        key: KeyLike,
        value: object,
        *,
        by: By | None = None,
        answer_id: str | None = None,
        shown_digest: str | None = None,
        via: Via | None = None,
    ) -> Outcome[Receipt]:
        """Validate an answer and record it. A keyring for control alone is enough.

        - ``key``: the key, its text, or the suspension's id.
        - ``value``: the answer, as JSON data or an instance of the schema's class.
        - ``by``: who is acting, for the authorizer and the events.
        - ``answer_id``: the same id again succeeds, and its receipt is ``replayed``.
        - ``shown_digest``: the ``digest`` of the wait as it was shown; another one is ``QuestionChanged``.
        - ``via``: how the answer came, for the audit trail.
        """
        given = self._given(value, by, answer_id, shown_digest, via)

        async def decide(seen: Snapshot) -> Decision[Receipt]:
            offer = await given.examined(seen.head, seen.target)
            return verbs.answer(seen.head, seen.target, offer, seen.now)

        # An id means the only open wait, of all.
        pages = None if isinstance(key, SuspensionId) else pages_to_answer
        return as_outcome(await self.suspensions.transact("answer", key, decide, by=by, answers=True, pages=pages))

    @discreet
    async def resume(
        self,
        key: KeyLike,
        value: object = MISSING,
        *,
        by: By | None = None,
        answer_id: str | None = None,
        shown_digest: str | None = None,
        via: Via | None = None,
        expect: type[S] = ANY_CLASS,
        awaiting: AwaitInput[A] = ANY_ANSWER,  # type: ignore[assignment]
    ) -> Outcome[Resumption[S, A]]:
        """Answer, if a value is given, and take the run for good: at most once, by anybody.

        A crash afterwards loses the run; for work that must finish use ``running`` or ``work``. A state that cannot be
        read, or is of another class, stays as it was.

        - ``key``: the key, its text, or the suspension's id.
        - ``value``: the answer; left out: none is given.
        - ``by``: who is acting, for the authorizer and the events.
        - ``answer_id``: the winner's own id gets the same run again.
        - ``shown_digest``: the ``digest`` of the wait as it was shown; another one is ``QuestionChanged``.
        - ``via``: how the answer came, for the audit trail.
        - ``expect``: the class that the state must have.
        - ``awaiting``: the AwaitInput whose schema the answer is read by, so that it has that class.
        """
        self._check_taken(expect, awaiting)
        own = self._random_id() if answer_id is None else answer_id
        given = self._given(value, by, own, shown_digest, via)

        async def decide(seen: Snapshot) -> Decision[Resumption[S, A]]:
            offer = None if value is MISSING else await given.examined(seen.head, seen.target)
            decision = verbs.take(seen.head, seen.target, offer, seen.now, answer_id=own, by=subject_of(by))
            return await taken(self.suspensions, seen, decision, expect, awaiting)

        answers = value is not MISSING
        return as_outcome(await self.suspensions.transact("resume", key, decide, by=by, body=True, answers=answers))

    @discreet
    async def claim(
        self,
        key: KeyLike,
        value: object = MISSING,
        *,
        by: By | None = None,
        answer_id: str | None = None,
        shown_digest: str | None = None,
        via: Via | None = None,
        lease: timedelta = DEFAULT_LEASE,
        claim_id: str | None = None,
        expect: type[S] = ANY_CLASS,
        awaiting: AwaitInput[A] = ANY_ANSWER,  # type: ignore[assignment]
    ) -> Outcome[Resumption[S, A]]:
        """Answer, if a value is given, and take the run under a lease.

        The holder must ``complete``, ``release`` or ``suspend_next``, and may ``renew``. While another holds the lease
        the call fails with ``SuspensionBusy``, and no answer is recorded.

        - ``key``: the key, its text, or the suspension's id.
        - ``value``: the answer; left out: none is given.
        - ``by``: who is acting, for the authorizer and the events.
        - ``answer_id``: the id of the answer, for a repeat.
        - ``shown_digest``: the ``digest`` of the wait as it was shown; another one is ``QuestionChanged``.
        - ``via``: how the answer came, for the audit trail.
        - ``lease``: how long the run is held without a renewal.
        - ``claim_id``: the same id gets the same run again.
        - ``expect``: the class that the state must have.
        - ``awaiting``: the AwaitInput whose schema the answer is read by, so that it has that class.
        """
        check_duration(lease, "lease")
        self._check_taken(expect, awaiting)
        own = self._random_id() if claim_id is None else check_text(claim_id, "claim_id")
        given = self._given(value, by, answer_id, shown_digest, via)
        return await self._claim(None, key, value, given, lease, own, expect, awaiting, None)

    async def _claim(
        self,
        refuse: Refusal | None,
        key: KeyLike,
        value: object,
        given: Given,
        lease: timedelta,
        own: str,
        expect: type[S],
        awaiting: AwaitInput[A],
        pages: PagesOf | None,
    ) -> Outcome[Resumption[S, A]]:
        async def decide(seen: Snapshot) -> Decision[Resumption[S, A]]:
            refusal = None if refuse is None else await refuse(without_waits(seen.head))
            if refusal is not None:
                return refused(seen.head, refusal)
            offer = None if value is MISSING else await given.examined(seen.head, seen.target)
            decision = verbs.claim(seen.head, seen.target, offer, seen.now, lease=lease, claim_id=own)
            return await taken(self.suspensions, seen, decision, expect, awaiting)

        by, answers = given.offer.principal or given.offer.by, value is not MISSING
        return as_outcome(
            await self.suspensions.transact("claim", key, decide, by=by, body=True, answers=answers, pages=pages)
        )

    @discreet
    async def cancel(self, key: KeyLike, reason: str | None = None, *, by: By | None = None) -> Outcome[Suspension]:
        """Close a waiting or answered suspension; a running one is cancelled at its next renewal, pause or release.

        - ``key``: the key, its text, or the suspension's id.
        - ``reason``: why, for whoever inspects it; at most 1000 characters are kept.
        - ``by``: who is acting, for the authorizer and the events.
        """
        check_instance(reason, "reason", (str, type(None)), "a str or None")

        async def decide(seen: Snapshot) -> Decision[Suspension]:
            decision = verbs.cancel(seen.head, seen.target, seen.now, reason=text_of(reason))
            return decision.map(suspension_of)

        return as_outcome(await self.suspensions.transact("cancel", key, decide, by=by))

    @discreet
    async def extend(
        self, key: KeyLike, *, timeout: timedelta | None = None, deadline: datetime | None = None, by: By | None = None
    ) -> Outcome[Suspension]:
        """Move the deadline of the key's wait, or by id of all open ones that somebody may answer.

        - ``key``: the key, its text, or the suspension's id.
        - ``timeout``: the new deadline as a time from now.
        - ``deadline``: the new deadline.
        - ``by``: who is acting, for the authorizer and the events.
        """
        check_times(timeout, deadline)
        if timeout is None and deadline is None:
            msg = "Invalid timeout: expected a timeout or a deadline"
            raise ValueError(msg)

        async def decide(seen: Snapshot) -> Decision[Suspension]:
            moment = earliest(deadline, timeout, seen.now)
            decision = verbs.extend(seen.head, seen.target, seen.now, deadline=moment or seen.now)
            return decision.map(suspension_of)

        return as_outcome(await self.suspensions.transact("extend", key, decide, by=by))

    def _check_taken(self, expect: type, awaiting: AwaitInput[Any]) -> None:
        check_class(expect, "expect")
        if awaiting is not ANY_ANSWER:
            self.remember(awaiting)


async def claim_unless(
    hub: AnsweringVerbs, refuse: Refusal | None, key: KeyLike, reply: Reply, *, lease: timedelta, partly: bool = False
) -> Outcome[Resumption[Any]]:
    """``claim`` with a condition of the caller's, which is decided on the same read. A refusal changes nothing.

    ``partly``: where the suspension has pages of waits, those alone are read which this claim concerns, and what is
    given says which these are (``Resumption.partial``).
    """
    given = hub._given(reply.value, reply.by, None, reply.shown_digest, reply.via)  # noqa: SLF001 - the class of this module
    own = hub._random_id()  # noqa: SLF001 - as above
    pages = pages_to_claim if partly else None
    return await hub._claim(refuse, key, reply.value, given, lease, own, ANY_CLASS, ANY_ANSWER, pages)  # noqa: SLF001 - as above


async def claim_partly(hub: AnsweringVerbs, id: SuspensionId, *, lease: timedelta) -> Outcome[Resumption[Any]]:
    """``claim`` without an answer, which reads those waits alone that it concerns, as ``claim_unless`` does."""
    return await claim_unless(hub, None, id, Reply(MISSING, None), lease=lease, partly=True)
