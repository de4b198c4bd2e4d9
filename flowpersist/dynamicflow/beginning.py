"""How a runner begins: with a document, with an answer to a run that waits, or with a run that is parked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from attrs import frozen
from returns.result import Failure, Success

from flowpersist.backends.base import Scalar
from flowpersist.dynamicflow.checking import misfit
from flowpersist.dynamicflow.compile import compile_soon
from flowpersist.dynamicflow.document import Source
from flowpersist.dynamicflow.ended import ended
from flowpersist.dynamicflow.events import Emit
from flowpersist.dynamicflow.facts import needs, no_flow, run_id_of
from flowpersist.dynamicflow.legs import Legs, suspended
from flowpersist.dynamicflow.migrations import Migrations
from flowpersist.dynamicflow.nested import Library
from flowpersist.dynamicflow.parking import parked
from flowpersist.dynamicflow.replying import answered_with
from flowpersist.dynamicflow.results import Accepted, FlowOutcome
from flowpersist.dynamicflow.retrying import Retry, RunLike
from flowpersist.dynamicflow.starting import START, Terms
from flowpersist.dynamicflow.streaming import tell
from flowpersist.dynamicflow.tools import Toolbox
from flowpersist.errors import (
    ClaimsHalted,
    FlowError,
    PersistenceError,
    StillWaiting,
    SuspensionBusy,
    SuspensionClosed,
)
from flowpersist.hub.answering_verbs import Reply, claim_unless
from flowpersist.hub.outcome import MISSING, Outcome
from flowpersist.hub.verbs import PersistenceHub
from flowpersist.lifecycle import NewSuspension, Resumption, Status, Suspension, WaitStatus

if TYPE_CHECKING:
    from flowpersist.dynamicflow.ir import Flow
    from flowpersist.hub.transactions import KeyLike

__all__ = ["Beginning"]


@frozen
class Beginning:
    """Claims runs for one runner, and lets its legs drive them. ``events`` says whether the events of new runs are
    stored.
    """

    hub: PersistenceHub
    toolbox: Toolbox
    migrations: Migrations
    library: Library
    legs: Legs
    lease: timedelta
    events: bool

    async def start(self, document: Source, value: object, terms: Terms, emit: Emit) -> Outcome[FlowOutcome]:
        """See ``FlowRunner.start``."""
        compiled = await compile_soon(document, self.library)
        if isinstance(compiled, Failure):
            return tell(emit, None, Failure(compiled.failure()))
        flow = compiled.unwrap()
        unfit = misfit(flow, self.toolbox)
        if unfit is not None:
            return tell(emit, None, Failure(unfit))
        given = {} if value is None else value
        stored = await terms.store(self.hub, flow, given, self.lease, events=self.events)
        if isinstance(stored, Failure):
            return tell(emit, None, stored)
        new = stored.unwrap()
        emit("flow-start", {"run": run_id_of(new), "flow": flow.name})
        return tell(emit, run_id_of(new), await self._begun(new, emit))

    async def _begun(self, new: NewSuspension, emit: Emit) -> Outcome[FlowOutcome]:
        """Begin a stored run, or give the state of one that had begun before."""
        begun = all(wait.name != START or wait.status is not WaitStatus.OPEN for wait in new.waits)
        match new.status:
            case Status.COMPLETED | Status.FAILED:
                how = await ended(self.hub, new)
                return how if isinstance(how, Failure) else Success(how.unwrap())
            case Status.PARKED:
                looked = await self.hub.peek(new.id)
                return looked if isinstance(looked, Failure) else Failure(parked(new, None, looked.unwrap().state))
            case Status.WAITING if begun:
                return Success(suspended(new))
        named, value = (new.id, MISSING) if begun else (new.keys[START], True)
        claimed = await self.hub.claim(named, value, lease=self.lease)
        return claimed if isinstance(claimed, Failure) else await self._driven(claimed.unwrap(), emit, None)

    async def retry(self, run: RunLike, how: Retry, document: Source | None, emit: Emit) -> Outcome[FlowOutcome]:
        """See ``FlowRunner.retry``."""
        compiled = None if document is None else await compile_soon(document, self.library)
        if isinstance(compiled, Failure):
            return tell(emit, None, Failure(compiled.failure()))
        flow = None if compiled is None else compiled.unwrap()

        async def refuse(suspension: Suspension) -> PersistenceError | None:
            return no_flow(suspension) or self._refusal(suspension.metadata, flow)

        taken = await how.take(self.hub, run, self.lease, refuse)
        if isinstance(taken, Failure):
            return tell(emit, None, Failure(taken.failure()))
        held = taken.unwrap()
        return tell(emit, run_id_of(held.suspension), await self._driven(held, emit, flow))

    async def resume(self, key: KeyLike, reply: Reply, document: Source | None, emit: Emit) -> Outcome[FlowOutcome]:
        """See ``FlowRunner.resume``."""
        run_id: str | None = None
        flow: Flow | None = None

        async def refusal(suspension: Suspension) -> PersistenceError | None:
            nonlocal run_id, flow
            run_id = run_id_of(suspension)
            if document is not None and flow is None:
                compiled = await compile_soon(document, self.library)
                if isinstance(compiled, Failure):
                    error: PersistenceError = compiled.failure()
                    return error
                flow = compiled.unwrap()
            return no_flow(suspension) or self._refusal(suspension.metadata, flow)

        # Another document may ask something else, so that all open waits are compared with it.
        claimed = await claim_unless(self.hub, refusal, key, reply, lease=self.lease, partly=document is None)
        if isinstance(claimed, Success):
            return tell(emit, run_id, await self._driven(claimed.unwrap(), emit, flow))
        if isinstance(claimed.failure(), SuspensionBusy | ClaimsHalted) and reply.value is not MISSING:
            return tell(emit, run_id, await self._accepted(key, reply, emit, flow))
        return tell(emit, run_id, Failure(claimed.failure()))

    def _refusal(self, metadata: Mapping[str, Scalar], flow: Flow | None) -> FlowError | None:
        """The error if this runner can't continue a run, checked before anything is changed."""
        if flow is not None:
            return self.migrations.refusal(metadata.get("hash"), flow) or self.toolbox.missing(flow)
        lacking = self.toolbox.lacking(needs(metadata))
        if not lacking:
            return None
        message = (
            f"this runner lacks the tool {lacking[0]!r}, which the run's document calls: register it and resume again"
        )
        return FlowError(message, str(metadata.get("flow")), None, None, lacking[0])

    async def _accepted(self, key: KeyLike, reply: Reply, emit: Emit, flow: Flow | None) -> Outcome[FlowOutcome]:
        """Record the answer to a run that another process holds, or that is not to be claimed now, and make sure that
        it is read.

        A holder that pauses after the answer finds its run answered and continues it. If it paused just before, the run
        is free and continues here.
        """
        answered = await answered_with(self.hub, key, reply)
        if isinstance(answered, Failure):
            return answered
        receipt = answered.unwrap()
        claimed = await self.legs.claim(receipt.suspension_id, flow)
        if isinstance(claimed, Success):
            return await self._driven(claimed.unwrap(), emit, flow)
        if isinstance(claimed.failure(), SuspensionBusy | StillWaiting | SuspensionClosed | ClaimsHalted):
            return Success(Accepted(receipt))
        return claimed

    async def _driven(self, run: Resumption[Any], emit: Emit, flow: Flow | None) -> Outcome[FlowOutcome]:
        driven = await self.legs.drive(run, emit, flow=flow)
        return Failure(driven.failure()) if isinstance(driven, Failure) else Success(driven.unwrap())
