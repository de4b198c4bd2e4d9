"""Answering, taking, cancelling and extending for those who prefer exceptions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from flowpersist.errors.arguments import check_instance
from flowpersist.errors.secrecy import discreet, forgetting
from flowpersist.hub.outcome import ANY_ANSWER, ANY_CLASS, DEFAULT_LEASE, MISSING, A, S, or_raise
from flowpersist.hub.transactions import KeyLike
from flowpersist.hub.verbs import PersistenceHub
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.inputs.people import By, Via
from flowpersist.lifecycle.receipts import Receipt
from flowpersist.lifecycle.views import Resumption, Suspension

__all__ = ["RaisingAnswers"]


class RaisingAnswers:
    """The verbs of whoever has a key. ``RaisingHub`` has them too, and says what all of them raise."""

    def __init__(self, hub: PersistenceHub) -> None:
        check_instance(hub, "hub", PersistenceHub, "a PersistenceHub; RaisingHub.open makes both")
        self.hub = hub

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
    ) -> Receipt:
        """Validate an answer and record it.

        Raises ``InputValidationError``, ``QuestionChanged``, ``StateTooLarge`` and ``SuspensionClosed``.
        """
        return or_raise(
            await self.hub.answer(key, value, by=by, answer_id=answer_id, shown_digest=shown_digest, via=via)
        )

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
    ) -> Resumption[S, A]:
        """Answer, if a value is given, and take the run for good.

        Raises ``StillWaiting``, ``SuspensionBusy``, ``SuspensionClosed``, ``InputValidationError``,
        ``QuestionChanged`` and ``SerializationError``.
        """
        return or_raise(
            await self.hub.resume(
                key,
                value,
                by=by,
                answer_id=answer_id,
                shown_digest=shown_digest,
                via=via,
                expect=expect,
                awaiting=awaiting,
            )
        )

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
    ) -> Resumption[S, A]:
        """Answer, if a value is given, and take the run under a lease.

        Raises ``StillWaiting``, ``SuspensionBusy``, ``SuspensionClosed``, ``InputValidationError``,
        ``QuestionChanged`` and ``SerializationError``.
        """
        return or_raise(
            await self.hub.claim(
                key,
                value,
                by=by,
                answer_id=answer_id,
                shown_digest=shown_digest,
                via=via,
                lease=lease,
                claim_id=claim_id,
                expect=expect,
                awaiting=awaiting,
            )
        )

    @asynccontextmanager
    async def running(
        self,
        key: KeyLike,
        value: object = MISSING,
        *,
        by: By | None = None,
        answer_id: str | None = None,
        shown_digest: str | None = None,
        via: Via | None = None,
        lease: timedelta = DEFAULT_LEASE,
        expect: type[S] = ANY_CLASS,
        awaiting: AwaitInput[A] = ANY_ANSWER,  # type: ignore[assignment]
    ) -> AsyncIterator[Resumption[S, A]]:
        """``async with hub.running(key) as run:`` claims, renews while the block runs, and completes at its end.

        Raises what ``claim``, ``renew`` and ``complete`` raise.
        """
        with forgetting():
            async with self.hub.running(
                key,
                value,
                by=by,
                answer_id=answer_id,
                shown_digest=shown_digest,
                via=via,
                lease=lease,
                expect=expect,
                awaiting=awaiting,
            ) as outcome:
                yield or_raise(outcome)

    @discreet
    async def cancel(self, key: KeyLike, reason: str | None = None, *, by: By | None = None) -> Suspension:
        """Close a suspension, or have a running one close at its next step.

        Raises ``SuspensionClosed``.
        """
        return or_raise(await self.hub.cancel(key, reason, by=by))

    @discreet
    async def extend(
        self, key: KeyLike, *, timeout: timedelta | None = None, deadline: datetime | None = None, by: By | None = None
    ) -> Suspension:
        """Move a deadline.

        Raises ``SuspensionClosed``.
        """
        return or_raise(await self.hub.extend(key, timeout=timeout, deadline=deadline, by=by))
