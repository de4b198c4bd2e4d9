"""The verbs of runs that have failed and are kept: to park one, to look at its state, to retry it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from attrs import evolve
from returns.result import Failure, Result, Success

from flowpersist.backends.base import KEEP, Keep, Scalar, check_text
from flowpersist.errors import PersistenceError
from flowpersist.errors.arguments import check_class, check_duration, check_instance, check_optional, check_whole
from flowpersist.errors.secrecy import discreet
from flowpersist.hub.holding_verbs import HoldingVerbs, check_error, holder_of, text_of
from flowpersist.hub.outcome import ANY_ANSWER, ANY_CLASS, DEFAULT_LEASE, MISSING, Outcome, S, as_outcome
from flowpersist.hub.suspending import check_superseded, seal_state
from flowpersist.hub.taking import expected, taken
from flowpersist.hub.transactions import Snapshot
from flowpersist.inputs.people import By
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle import holding, retrying
from flowpersist.lifecycle.decisions import Decision, refused
from flowpersist.lifecycle.model import Head, Status, check_metadata
from flowpersist.lifecycle.refusals import closed_error
from flowpersist.lifecycle.views import Peek, Resumption, Suspension, check_run, suspension_of

__all__ = ["ParkingVerbs"]


class ParkingVerbs(HoldingVerbs):
    """``park``, ``peek`` and ``retry``."""

    @discreet
    async def park(
        self,
        run: Resumption[Any],
        state: object = MISSING,
        *,
        error: BaseException | str | None = None,
        unread: Collection[str] = (),
        metadata: Mapping[str, Scalar] | None = None,
    ) -> Outcome[Suspension]:
        """End a claimed run as failed and keep its state, so that ``retry`` can go on with it. Its open waits close.

        It is deleted as a failed one is, once its retention is over.

        - ``run``: what the claim gave.
        - ``state``: what a retry goes on from; left out: the state as it was stored last.
        - ``error``: an exception, of which the class is kept since its text may hold state, or a text.
        - ``unread``: names of waits whose answers the run was given and the state does not hold: a retry is given them.
        - ``metadata``: replaces what the suspension had; None keeps that.
        """
        check_run(run)
        check_error(error)
        again = check_superseded(unread, "unread")
        renamed = None if metadata is None else check_metadata(metadata)
        body = await self._sealed(run.suspension.id, run.suspension.tenant, state)
        if not isinstance(body, Success):
            return Failure(body.failure())
        return await self._finished(
            "park",
            run,
            lambda seen: holding.park(seen.head, holder_of(run), seen.now, error=text_of(error), unread=again),
            body.unwrap(),
            renamed,
        )

    @discreet
    async def peek(self, id: SuspensionId, *, expect: type[S] = ANY_CLASS, by: By | None = None) -> Outcome[Peek[S]]:
        """The state as it was stored last, and the suspension, without taking the run. Nothing is written.

        It takes the id alone, so that the holder of a key can't read a state time and again. ``SuspensionClosed`` where
        the run has completed or failed: ``outcome`` and ``failure`` give what it left.

        - ``id``: the suspension's id.
        - ``expect``: the class that the state must have.
        - ``by``: who is acting, for the authorizer and the events.
        """
        check_instance(id, "id", SuspensionId, "a SuspensionId")
        check_class(expect, "expect")

        async def decide(seen: Snapshot) -> Decision[Peek[S]]:
            if seen.head.status in {Status.COMPLETED, Status.FAILED}:
                return refused(seen.head, closed_error(seen.head, None))
            if not seen.record.has_body:
                return Decision(seen.head, expected(None, expect).map(lambda state: _peek(state, seen.head)))
            state = await self.suspensions.records.open_body(seen.record, purpose="state")
            fitting = state.bind(lambda value: expected(value, expect))
            return Decision(seen.head, fitting.map(lambda value: _peek(value, seen.head)))

        return as_outcome(await self.suspensions.transact("peek", id, decide, by=by, body=True))

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
    ) -> Outcome[Resumption[S]]:
        """Take a parked run under a lease, as its next sequence. Of all who try, one wins.

        The run is given the answers that came before it was parked and that nobody has read. For the others the call
        fails: ``SuspensionBusy`` while the winner holds the run, ``StillWaiting`` where it waits or is to be claimed,
        ``SuspensionClosed`` where it has ended.

        - ``id``: the suspension's id.
        - ``state``: replaces the state in the same write; left out: the run goes on from the parked one.
        - ``sequence``: the ``sequence`` of the suspension as it was looked at; ``AlreadyResumed`` where it was retried
          and parked again since. None: whichever.
        - ``superseded``: names of waits whose answers are not wanted any more.
        - ``by``: who is acting, for the authorizer and the events.
        - ``lease``: how long the run is held without a renewal.
        - ``claim_id``: the same id gets the same run again.
        - ``expect``: the class that the parked state must have.
        """
        check_instance(id, "id", SuspensionId, "a SuspensionId")
        check_optional(sequence, "sequence", check_whole)
        check_duration(lease, "lease")
        check_class(expect, "expect")
        names = check_superseded(superseded)
        own = self._random_id() if claim_id is None else check_text(claim_id, "claim_id")

        async def decide(seen: Snapshot) -> Decision[Resumption[S]]:
            decision = retrying.retry(
                seen.head, seen.now, lease=lease, claim_id=own, sequence=sequence, superseded=names
            )
            held = await taken(self.suspensions, seen, decision, expect, ANY_ANSWER)
            if state is MISSING or held.head is seen.head or not isinstance(held.result, Success):
                return held
            body = await self._sealed(id, seen.head.tenant, state)
            if not isinstance(body, Success):
                return refused(seen.head, body.failure())
            run: Any = evolve(held.result.unwrap(), state=state)
            return Decision(held.head, Success(run), body.unwrap())

        return as_outcome(await self.suspensions.transact("retry", id, decide, by=by, body=True))

    async def _sealed(
        self, id: SuspensionId, tenant: str | None, state: object
    ) -> Result[bytes | Keep, PersistenceError]:
        if state is MISSING:
            return Success(KEEP)
        sealed = await seal_state(self.suspensions.records, str(id), tenant, state, compared=False)
        return sealed.map(lambda made: made.body)


def _peek(state: S, head: Head) -> Peek[S]:
    return Peek(state, suspension_of(head))
