"""Parking, looking at and retrying runs for those who prefer exceptions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from flowpersist.backends.base import Scalar
from flowpersist.errors.secrecy import discreet
from flowpersist.hub.outcome import ANY_CLASS, DEFAULT_LEASE, MISSING, S, or_raise
from flowpersist.hub.raising_answers import RaisingAnswers
from flowpersist.inputs.people import By
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle.views import Peek, Resumption, Suspension

__all__ = ["RaisingParking"]


class RaisingParking(RaisingAnswers):
    """``park``, ``peek`` and ``retry``. ``RaisingHub`` has them too, and says what all of them raise."""

    @discreet
    async def park(
        self,
        run: Resumption[Any],
        state: object = MISSING,
        *,
        error: BaseException | str | None = None,
        unread: Collection[str] = (),
        metadata: Mapping[str, Scalar] | None = None,
    ) -> Suspension:
        """End a claimed run as failed and keep its state for ``retry``.

        Raises ``LeaseLost`` and ``SuspensionCancelled``, and ``SerializationError`` of the state.
        """
        return or_raise(await self.hub.park(run, state, error=error, unread=unread, metadata=metadata))

    @discreet
    async def peek(self, id: SuspensionId, *, expect: type[S] = ANY_CLASS, by: By | None = None) -> Peek[S]:
        """The state as it was stored last, and the suspension, without taking the run.

        Raises ``SuspensionClosed``, ``UnexpectedType`` and ``SerializationError``.
        """
        return or_raise(await self.hub.peek(id, expect=expect, by=by))

    @discreet
    async def retry(
        self,
        id: SuspensionId,
        state: object = MISSING,
        *,
        sequence: int | None = None,
        superseded: Collection[str] = (),
        by: By | None = None,
        lease: timedelta = DEFAULT_LEASE,
        claim_id: str | None = None,
        expect: type[S] = ANY_CLASS,
    ) -> Resumption[S]:
        """Take a parked run under a lease, as its next sequence.

        Raises ``SuspensionBusy``, ``StillWaiting``, ``SuspensionClosed`` and ``SerializationError``.
        """
        return or_raise(
            await self.hub.retry(
                id,
                state,
                sequence=sequence,
                superseded=superseded,
                by=by,
                lease=lease,
                claim_id=claim_id,
                expect=expect,
            )
        )
