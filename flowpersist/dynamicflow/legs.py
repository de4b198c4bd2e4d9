"""One leg of a run: from a claim to the pause, completion or failure that ends the claim."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import define, field, frozen
from returns.result import Failure, Success

from flowpersist.dynamicflow import parking
from flowpersist.dynamicflow.apart import Parts, set_apart, whole
from flowpersist.dynamicflow.carrying import UNTIL, Carried, carried_waits
from flowpersist.dynamicflow.compiled import CompiledFlows
from flowpersist.dynamicflow.context import ROOM_BYTES, givers_of
from flowpersist.dynamicflow.dormant import DORMANT, OPEN, Dormant, with_dormant
from flowpersist.dynamicflow.durability import AT_PAUSES, Durability
from flowpersist.dynamicflow.engine import Engine, RetryPause
from flowpersist.dynamicflow.event_recorder import recorder_of
from flowpersist.dynamicflow.facts import about, moved, run_id_of
from flowpersist.dynamicflow.grouping import grouped
from flowpersist.dynamicflow.inspecting import history_of
from flowpersist.dynamicflow.journal import Journal
from flowpersist.dynamicflow.limits import Bound
from flowpersist.dynamicflow.outcomes import PENDING, Done, Failed, StepOutcome
from flowpersist.dynamicflow.recovering import forget_log, is_used, recover
from flowpersist.dynamicflow.results import Completed, Suspended, due_of, open_waits
from flowpersist.dynamicflow.state import CHECKED, State, check_state, failure_of
from flowpersist.dynamicflow.storing import Keeper
from flowpersist.dynamicflow.streaming import tell
from flowpersist.errors import (
    ClaimsHalted,
    FlowDeadlinePassed,
    FlowError,
    PersistenceError,
    SerializationError,
    StateChanged,
    StillWaiting,
    SuspensionBusy,
    SuspensionClosed,
)
from flowpersist.hub.answering_verbs import claim_partly
from flowpersist.hub.lease import hold
from flowpersist.hub.telemetry import failed, span_of_run
from flowpersist.hub.wakeup import Bell
from flowpersist.lifecycle import NewSuspension, Resumption, Status, Suspension

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import timedelta

    from flowpersist.dynamicflow.events import Emit
    from flowpersist.dynamicflow.ir import Flow
    from flowpersist.dynamicflow.migrations import Migrations
    from flowpersist.dynamicflow.tools import Toolbox
    from flowpersist.hub.outcome import Outcome
    from flowpersist.hub.verbs import PersistenceHub
    from flowpersist.keys.suspension_key import SuspensionId

__all__ = ["Legs", "suspended"]

_log = logging.getLogger("flowpersist.dynamicflow")
#: Why this process does not go on with a run that others go on with, now or later.
_GOES_ON_LATER = (SuspensionBusy, StillWaiting, SuspensionClosed, ClaimsHalted)


@frozen
class _Paused:
    """The run is released and waits; or is claimable again, since answers arrived while it ran."""

    suspended: Suspended
    status: Status
    suspension: Suspension


_Ended: TypeAlias = "Success[Completed] | Success[_Paused] | Failure[PersistenceError]"


@define
class Legs:
    """Runs claimed runs on one hub with one set of tools."""

    hub: PersistenceHub
    toolbox: Toolbox
    migrations: Migrations
    lease: timedelta
    backoff: RetryPause
    failed: parking.Failed
    durability: Durability = AT_PAUSES
    flows: CompiledFlows = field(factory=CompiledFlows)
    #: Tells of answers to runs of this process.
    bell: Bell = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.bell = Bell(lambda: self.hub.suspensions.records)

    async def drive(
        self, run: Resumption[Any], emit: Emit, *, flow: Flow | None = None, held: bool = False
    ) -> Outcome[Completed | Suspended]:
        """Run until it is completed, fails, or waits for an answer that has not arrived.

        ``flow`` is the document to continue with, if not the run's own; ``held``: the caller renews its first lease.
        """
        while True:
            with span_of_run("flowpersist.run", run) as current:
                ended = await (self._leg(run, emit, flow) if held else self._held(run, emit, flow))
                if isinstance(ended, Failure):
                    failed(current, ended.failure())
                    return ended
            value = ended.unwrap()
            if isinstance(value, Completed):
                return Success(value)
            if value.status is not Status.ANSWERED:
                return Success(value.suspended)
            # Callers that answered meanwhile were told that this process takes the answer, so it must continue.
            claimed = await self.claim(value.suspension.id, flow)
            if isinstance(claimed, Failure):
                # Another process that was faster continues the run, or a worker once the halt is lifted.
                taken = isinstance(claimed.failure(), _GOES_ON_LATER)
                return Success(value.suspended) if taken else Failure(claimed.failure())
            run, held = claimed.unwrap(), False

    async def claim(self, run: SuspensionId, flow: Flow | None) -> Outcome[Resumption[Any]]:
        """Claim a run whose answers are recorded, to continue with a document or its own: another one asks for all
        waits.
        """
        if flow is None:
            return await claim_partly(self.hub, run, lease=self.lease)
        return await self.hub.claim(run, lease=self.lease)

    async def _held(self, run: Resumption[Any], emit: Emit, flow: Flow | None) -> _Ended:
        """Run one leg under a lease that is renewed, and released if the leg does not end by itself."""
        holding = hold(self.hub, run, lease=self.lease)
        try:
            async with holding:
                ended = await self._leg(run, emit, flow)
                if isinstance(ended, Failure) and not holding.finished:
                    await self._release(run, ended.failure())
                return ended
        except PersistenceError as lost:
            return Failure(lost)
        except BaseException:
            if not holding.finished:
                await asyncio.shield(self._release(run, None))
            raise

    async def _release(self, run: Resumption[Any], error: PersistenceError | None) -> None:
        released = await self.hub.release(run, error=error)
        if isinstance(released, Failure):
            _log.warning("run %s could not be released: %s", run.suspension.id, released.failure())

    async def _leg(self, run: Resumption[Any], emit: Emit, flow: Flow | None) -> _Ended:
        recovered = await recover(self.hub, run)
        if isinstance(recovered, Failure):
            return recovered
        used = recovered.unwrap()
        prepared = await self._prepared(run, flow)
        if isinstance(prepared, Failure):
            return prepared
        state, current = prepared.unwrap()
        dormant = Dormant.of(state)
        found = await carried_waits(self.hub, run, state, dormant)
        if isinstance(found, Failure):
            return found
        carried = found.unwrap()
        if run.sequence > 1:
            emit(
                "flow-resumed",
                {"run": run_id_of(run.suspension), "flow": current.name, "answered": sorted(run.answers)},
            )
        recorded = await recorder_of(self.hub.suspensions, run, emit, lambda: keeper.run)
        if isinstance(recorded, Failure):
            return recorded
        recorder = recorded.unwrap()
        own = _own(state, carried)
        told = emit if recorder is None else recorder.emit
        engine = self._engine(run, own, current, told, used or (), carried, dormant)
        keeper = Keeper(
            self.hub,
            self.bell,
            run,
            own,
            engine,
            carried,
            lambda waits: tell(emit, waits.run_id, Success(waits), running=True),
            recorder,
        )
        if recorder is not None:
            recorder.begin(current.name)
            engine.held_back = recorder.room
        durability = current.limits.durability or self.durability
        if durability.logs:
            steps = self.hub.suspensions.side_records.steps
            before = None if recorder is None else recorder.flush
            engine.journal = Journal(steps, durability, lambda: keeper.run, before)
        return await self._ended(keeper, recovered=used is not None)

    async def _ended(self, keeper: Keeper, *, recovered: bool) -> _Ended:
        """Walk, and end the leg by what has come of it."""
        engine = keeper.engine
        held = self.hub.holds.get((keeper.run.suspension.id, keeper.run.fence))
        if recovered:
            error = await keeper.fold()
            if error is not None:
                return Failure(error)
        outcome = await self._walked(keeper, engine.flow)
        if keeper.unknown is not None:
            return Failure(keeper.unknown)
        if isinstance(outcome, Done):
            ended = await self._complete(keeper, Completed(outcome.value, engine.outputs))
        elif isinstance(outcome, Failed):
            unread = engine.unread & keeper.run.answers.keys()
            ended = await self._fail(keeper, outcome.error, with_dormant(keeper.state, engine), unread)
        else:
            ended = await self._pause(keeper)
        logged = recovered or (engine.journal is not None and engine.journal.used)
        if logged and held is not None and held.is_set():
            await forget_log(self.hub, keeper.run)
        return ended

    async def _walked(self, keeper: Keeper, flow: Flow) -> StepOutcome:
        """Walk as long as something comes meanwhile, up to the run's deadline."""
        bound = Bound.of(keeper.run, flow, keeper.carried.until)
        while True:
            async with keeper:
                outcome = await bound.within(keeper.run, lambda: keeper.engine.run(keeper.state["frame"]))
            if outcome is not PENDING or keeper.unknown is not None:
                return outcome
            keeper.state[CHECKED] = True
            if not keeper.engine.news:
                return bound.late(keeper.run) or outcome

    async def _prepared(self, run: Resumption[Any], target: Flow | None) -> Outcome[tuple[State, Flow]]:
        if target is None:
            checked = check_state(run.state)
        else:
            checked = (await whole(run.state)).bind(lambda state: self.migrations.apply(state, target))
        if isinstance(checked, Failure):
            self._tell(run, checked.failure())
            return Failure(checked.failure())
        state = checked.unwrap()
        if target is None:
            compiled = await self.flows.of(state["document"], state["flow"]["hash"], state.get("flows", {}))
        else:
            compiled = Success(target)
        if isinstance(compiled, Failure):
            return Failure(compiled.failure())
        flow = compiled.unwrap()
        missing = self.toolbox.missing(flow)
        return Success((state, flow)) if missing is None else Failure(missing)

    def _tell(self, run: Resumption[Any], refused: PersistenceError) -> None:
        raised = refused.__cause__
        if raised is not None:
            message = "a migration failed on run %s"
            self.hub.suspensions.tracebacks.log(_log, raised, message, run_id_of(run.suspension))

    def _engine(
        self,
        run: Resumption[Any],
        state: State,
        flow: Flow,
        emit: Emit,
        used: Collection[str],
        carried: Carried,
        dormant: Dormant,
    ) -> Engine:
        parts = Parts(state)
        migrated = run.suspension.metadata.get("hash") != flow.hash
        return Engine(
            flow=flow,
            toolbox=self.toolbox,
            run_id=run_id_of(run.suspension),
            input=parts.input,
            parts=parts,
            answers={name: value for name, value in run.answers.items() if not is_used(name, used)},
            givers=givers_of(run),
            expired={name for name in run.expired if not is_used(name, used)},
            open=dict(carried.sizes),
            timed=set(carried.delays),
            dormant=dormant,
            root=state["frame"],
            room=ROOM_BYTES - sum(carried.sizes.values()) - dormant.size,
            asked=dict(carried.digests) if migrated else {},
            checked=not migrated and state.get(CHECKED) is True,
            codec=self.hub.suspensions.records.sealer.codec,
            emit=emit,
            backoff=self.backoff,
            clock=self.hub.suspensions.records.reckoned,
            tracebacks=self.hub.suspensions.tracebacks,
            about=about(run.suspension),
            now=run.suspension.updated_at,
            public_url=self.hub.defaults.public_url,
        )

    async def _complete(self, keeper: Keeper, completed: Completed) -> _Ended:
        unrecorded = await keeper.ending()
        if unrecorded is not None:
            return Failure(unrecorded)
        run, flow = keeper.run, keeper.engine.flow
        steps = history_of(flow, keeper.state["frame"])
        outcome = {"result": completed.result, "outputs": dict(completed.outputs), "steps": steps}
        # A wait that is open, or answered and unread, at the end belongs to a branch that was given up.
        ended = await self.hub.complete(
            run, outcome, discard=True, superseded=keeper.engine.carried, metadata=moved(run.suspension.metadata, flow)
        )
        return await self._given_up(keeper, ended.failure()) if isinstance(ended, Failure) else Success(completed)

    async def _fail(
        self,
        keeper: Keeper,
        error: FlowError,
        state: State | None = None,
        unread: Collection[str] = (),
    ) -> _Ended:
        """End or park the run. ``state`` is None where it can't be stored, ``unread`` names the answers that it was
        given and has not used.
        """
        run, flow = keeper.run, keeper.engine.flow
        parks = (flow.failed or self.failed) == "park" and not isinstance(error, FlowDeadlinePassed)
        unrecorded = await keeper.ending(error if parks else None)
        if unrecorded is not None:
            return Failure(unrecorded)
        # The message may quote a tool and so the state: it is sealed like the state, and the log has only names.
        named, metadata = parking.named(error), moved(run.suspension.metadata, flow)
        _log.warning("run %s failed: %s", run_id_of(run.suspension), named)
        if parks:
            kept = await parking.park(self.hub, run, error, state=state, unread=unread, metadata=metadata)
            if isinstance(kept, Failure) and state is not None and _never(kept.failure()):
                kept = await parking.park(self.hub, run, error, state=None, unread=(), metadata=metadata)
            return kept if isinstance(kept, Failure) else Failure(parking.parked(kept.unwrap(), error))
        seen = None if state is None else await whole(state)
        steps = history_of(flow, seen.unwrap()["frame"]) if isinstance(seen, Success) else []
        ended = await self.hub.fail(run, error=named, why={**failure_of(error), "steps": steps}, metadata=metadata)
        return Failure(ended.failure()) if isinstance(ended, Failure) else Failure(error)

    async def _pause(self, keeper: Keeper) -> _Ended:
        unrecorded = await keeper.pausing()
        if unrecorded is not None:
            return Failure(unrecorded)
        run, engine = keeper.run, keeper.engine
        most = engine.codec.limits.max_bytes
        state = await set_apart(await grouped(keeper.state, engine, most), most)
        paused = await self.hub.suspend_next(
            run,
            state,
            awaiting=engine.waits or None,
            until="each",
            superseded=keeper.superseded,
            metadata=moved(run.suspension.metadata, engine.flow),
        )
        if isinstance(paused, Failure):
            return await self._given_up(keeper, paused.failure())
        new = paused.unwrap()
        return Success(_Paused(keeper.suspended(new, new.keys, paused=True), new.status, new))

    async def _given_up(self, keeper: Keeper, error: PersistenceError) -> _Ended:
        """Give up what can never be stored. What can't be stored now, or is still being changed by a task, may be
        stored later; what can't be serialized never will.
        """
        if not _never(error):
            return Failure(error)
        message = f"a result can't be stored: {error}; let tools return JSON data or registered classes"
        failure = FlowError(message, str(keeper.run.suspension.metadata.get("flow", "")))
        failure.__cause__ = error
        return await self._fail(keeper, failure)


def _never(error: PersistenceError) -> bool:
    """Whether what failed to be stored can never be."""
    return isinstance(error, SerializationError) and not isinstance(error, StateChanged)


def _own(state: State, carried: Carried) -> State:
    """The state that a leg changes, without what it keeps elsewhere while it runs."""
    kept = {name: value for name, value in state.items() if name not in {DORMANT, OPEN, UNTIL}}
    return kept if carried.until is None else {**kept, UNTIL: carried.until.isoformat()}


def suspended(new: NewSuspension) -> Suspended:
    """A pause as the runner reports it, with all open waits."""
    return Suspended(run_id_of(new), open_waits(new, new.keys), new.id, due_of(new))
