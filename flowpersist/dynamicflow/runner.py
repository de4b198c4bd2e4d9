"""``FlowRunner``: starts flows, resumes them by a key in any process, and continues those whose process has died."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from concurrent.futures import Executor
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from returns.result import Failure, Success

from flowpersist.backends.base import Scalar, check_text
from flowpersist.dynamicflow.checking import misfit
from flowpersist.dynamicflow.compile import compile_document, compile_soon
from flowpersist.dynamicflow.document import Source, check_source
from flowpersist.dynamicflow.durability import TAKES, DurabilityOption, durability_of
from flowpersist.dynamicflow.ended import ended
from flowpersist.dynamicflow.engine import RetryPause
from flowpersist.dynamicflow.engine import backoff as default_backoff
from flowpersist.dynamicflow.events import Emit, FlowEvent, StoredEvent, nothing
from flowpersist.dynamicflow.executing import Executors
from flowpersist.dynamicflow.facts import KIND, needs, no_flow, run_id_of
from flowpersist.dynamicflow.following import Bells, events_of
from flowpersist.dynamicflow.inspecting import RunInspection, inspected
from flowpersist.dynamicflow.legs import Legs, suspended
from flowpersist.dynamicflow.migrations import Migration, Migrations
from flowpersist.dynamicflow.nested import Library
from flowpersist.dynamicflow.parking import Failed, check_failed, parked
from flowpersist.dynamicflow.results import Accepted, FlowOutcome
from flowpersist.dynamicflow.retrying import Retry, RunLike, check_named_run
from flowpersist.dynamicflow.starting import START, Terms
from flowpersist.dynamicflow.streaming import follow, tell
from flowpersist.dynamicflow.tools import Join, Tool, Toolbox, check_executor
from flowpersist.dynamicflow.working import FlowWorker
from flowpersist.errors import (
    FlowError,
    PersistenceError,
    StillWaiting,
    SuspensionBusy,
    SuspensionClosed,
)
from flowpersist.errors.arguments import (
    check_callable,
    check_duration,
    check_flag,
    check_instance,
    check_optional,
    check_str,
    check_whole,
    mistyped,
)
from flowpersist.errors.secrecy import discreet
from flowpersist.hub.answering_verbs import Reply, claim_unless
from flowpersist.hub.outcome import DEFAULT_LEASE, MISSING, Outcome
from flowpersist.hub.raising import RaisingHub
from flowpersist.hub.verbs import PersistenceHub
from flowpersist.hub.worker import Backoff
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.inputs.people import By, subject_of
from flowpersist.lifecycle import Criteria, NewSuspension, Resumption, Status, Suspension, WaitStatus

if TYPE_CHECKING:
    from flowpersist.dynamicflow.ir import Flow
    from flowpersist.hub.transactions import KeyLike

__all__ = ["FlowRunner"]


class FlowRunner:
    """Runs DynamicFlow documents on a hub. It may be used by any number of tasks of one event loop.

    ``tools`` are Tools and AwaitInputs, ``joins`` say how one tool's output becomes another's input, ``migrations`` how
    a run goes on under another document. ``lease`` is how long a run stays with a process that stops renewing it;
    ``backoff`` gives the seconds before a further attempt of a step. A run that fails is closed, or with
    ``failed="park"`` kept for ``retry``; a document's own ``failed`` comes first. ``executor`` runs the tools that are
    plain functions and have none of their own: any ``concurrent.futures.Executor``, which its maker closes; None: a
    pool of threads, which the hub closes. ``chooser`` is the tool, or the id of one of ``tools``, that answers prompts
    with one of their options. ``flows`` are the flows by id that documents may run as sub-flows: a run keeps those that
    it uses. ``ConfigurationError`` for duplicate tools, joins or migrations, and for a flow that can't run.

    A run is stored before its first step, when a question is asked while other branches run, at each pause and at its
    end; ``durability`` says when its steps are stored in between, if its document does not: ``"step"`` (each one before
    the next begins), ``{"every": n}`` (after so many), ``{"seconds": s}`` (at the latest after so long). If a process
    dies, the tools that were called since the last of these points are called again, with the same ``ToolContext.key``.
    With ``events=True`` the events of the runs that it starts are stored too, whoever continues them.
    """

    def __init__(
        self,
        hub: PersistenceHub | RaisingHub,
        tools: Iterable[Tool | AwaitInput[Any]] = (),
        joins: Iterable[Join] = (),
        migrations: Iterable[Migration] = (),
        *,
        lease: timedelta = DEFAULT_LEASE,
        backoff: RetryPause = default_backoff,
        failed: Failed = "end",
        executor: Executor | None = None,
        chooser: Tool | AwaitInput[Any] | str | None = None,
        durability: DurabilityOption = "pause",
        flows: Mapping[str, Source] | None = None,
        events: bool = False,
    ) -> None:
        check_instance(hub, "hub", (PersistenceHub, RaisingHub), "a PersistenceHub or a RaisingHub")
        check_duration(lease, "lease")
        check_callable(backoff, "backoff")
        check_optional(executor, "executor", check_executor)
        check_failed(failed, "failed")
        check_flag(events, "events")
        self.hub = hub.hub if isinstance(hub, RaisingHub) else hub
        self.toolbox = Toolbox.of(tools, joins, Executors(executor, self.hub.exits), chooser)
        self.hub.remember(*(item for item in self.toolbox.tools.values() if isinstance(item, AwaitInput)))
        self.migrations = Migrations.of(migrations)
        self._library = Library() if flows is None else Library.of(flows, compile_document)
        self.lease = lease
        self.failed: Failed = failed
        often = durability_of(durability)
        if often is None:
            mistyped("durability", TAKES, durability)
        self._events = events
        self._bells = Bells(self.hub)
        self._legs = Legs(self.hub, self.toolbox, self.migrations, lease, backoff, failed, often)

    @discreet
    async def start(
        self,
        document: Source,
        *,
        input: object = None,
        run_id: str | None = None,
        by: By | None = None,
        tenant: str | None = None,
        metadata: Mapping[str, Scalar] | None = None,
        deadline: datetime | None = None,
    ) -> Outcome[FlowOutcome]:
        """Run a document until it is done or awaits answers. ``input`` is what ``$input`` refers to, {} where it is
        None.

        ``by`` is who asks for the run: ``$run.by`` in the document, and no voter on what the run asks. ``tenant`` is
        whose it is, and ``metadata`` what it is listed with, both stored in clear. A run that has not ended by its
        ``deadline`` ends then, with ``FlowDeadlinePassed``. The same ``run_id`` again, with the same document and
        input, starts no second run: it gives the state of the first one; what only describes the document may differ.
        Failure: ``FlowError`` where it can't be compiled, a tool is missing or a step fails; else the hub's errors.
        """
        check_source(document, "document")
        return await self._start(document, input, Terms(run_id, by, tenant, metadata, deadline), nothing)

    @discreet
    async def resume(
        self,
        key: KeyLike,
        *,
        answer: object = MISSING,
        document: Source | None = None,
        by: By | None = None,
        shown_digest: str | None = None,
    ) -> Outcome[FlowOutcome]:
        """Answer one wait and run on, until the run is done or awaits other answers.

        If another process is running it, the answer is recorded and ``Accepted``: that process, or the next one that
        claims the run, continues it. A document of another hash needs a registered Migration. A refusal (an answer that
        does not match its schema, a missing tool) leaves the run as it was.
        """
        _check_answer(document, by, shown_digest)
        return await self._resume(key, Reply(answer, by, shown_digest), document, nothing)

    @discreet
    async def retry(
        self,
        run: RunLike,
        *,
        from_step: str | None = None,
        edit: Mapping[str, object] | None = None,
        document: Source | None = None,
        by: By | None = None,
    ) -> Outcome[FlowOutcome]:
        """Go on with a parked run, until it is done, awaits answers or fails again. Of all who try, one wins.

        ``run`` is its run id. It goes on from the steps that have failed, or from ``from_step``, the path of a step
        that has begun, with all that follow it. ``edit`` replaces the ``input``, results of steps by their paths, and
        variables by their names; a step that has failed is finished by it. A ``document`` of another hash needs a
        registered Migration. A refusal leaves the run parked; ``SuspensionBusy`` where somebody else has retried it.
        """
        check_named_run(run)
        check_optional(document, "document", check_source)
        check_optional(subject_of(by), "by", check_text)
        return await self._retry(run, Retry(from_step, edit, by), document, nothing)

    @discreet
    async def inspect(self, run: RunLike) -> Outcome[RunInspection]:
        """How a run stands: its position, and each step's status, attempts, times, output and error, as they were
        stored last. Nothing is written, and no tool is needed.

        ``run`` is its run id. It reads the state, so a keyring for control alone gives the hub's error; ``hub.inspect``
        reads none.
        """
        check_named_run(run)
        return await inspected(self.hub, run)

    @discreet
    def stream(
        self,
        document: Source,
        *,
        input: object = None,
        run_id: str | None = None,
        by: By | None = None,
        tenant: str | None = None,
        metadata: Mapping[str, Scalar] | None = None,
        deadline: datetime | None = None,
    ) -> AsyncGenerator[FlowEvent, None]:
        """The same as ``start``, with the events while they happen. Closing the iterator cancels the run and releases
        it.
        """
        check_source(document, "document")
        terms = Terms(run_id, by, tenant, metadata, deadline)
        return follow(lambda emit: self._start(document, input, terms, emit), self.hub.suspensions.tracebacks)

    @discreet
    def stream_resume(
        self,
        key: KeyLike,
        *,
        answer: object = MISSING,
        document: Source | None = None,
        by: By | None = None,
        shown_digest: str | None = None,
    ) -> AsyncGenerator[FlowEvent, None]:
        """The same as ``resume``, with the events while they happen."""
        _check_answer(document, by, shown_digest)
        reply = Reply(answer, by, shown_digest)
        return follow(lambda emit: self._resume(key, reply, document, emit), self.hub.suspensions.tracebacks)

    @discreet
    def events(
        self, run: RunLike, *, after: int = 0, follow: bool = False, poll: timedelta = timedelta(seconds=1)
    ) -> AsyncGenerator[StoredEvent, None]:
        """The events of a run that was started with ``FlowRunner(events=True)``, in their order.

        ``run`` is its run id, ``after`` the sequence number of the last event that is known already. With ``follow`` it
        goes on over pauses until the run has ended; ``poll`` is the time between two looks where the store tells of no
        changes. Raises the hub's errors, and ``FlowError`` for a run whose events are not stored.
        """
        check_named_run(run)
        check_whole(after, "after", least=0)
        check_flag(follow, "follow")
        check_duration(poll, "poll")
        return events_of(self.hub, self._bells, run, after=after, follow=follow, poll=poll)

    @discreet
    async def work(
        self,
        *,
        concurrency: int = 8,
        poll: timedelta = timedelta(seconds=1),
        max_attempts: int = 5,
        grace: timedelta = timedelta(0),
    ) -> None:
        """Until cancelled, continue runs that are answered, and those whose process has died.

        Runs that need tools which this runner lacks are left to other workers. A run that was claimed ``max_attempts``
        times without reaching its next pause fails. After cancellation no run is claimed, and running ones have
        ``grace`` to reach their next pause before they are released.
        """

        async def handle(run: Resumption[Any]) -> object:
            held = self.hub.holds[run.suspension.id, run.fence]
            driven = await self._legs.drive(run, nothing, held=True)
            # A failed run has ended, and its error may quote the state, so only errors of unfinished runs are raised.
            if isinstance(driven, Failure) and not held.is_set():
                raise driven.failure()
            return None

        worker = FlowWorker(
            hub=self.hub,
            handler=handle,
            criteria=Criteria(metadata=KIND),
            concurrency=concurrency,
            lease=self.lease,
            max_attempts=max_attempts,
            backoff=Backoff(),
            poll=poll,
            grace=grace,
            lacking=self.toolbox.lacking,
            failed=self.failed,
            park=self.hub.park,
        )
        await worker.run()

    async def _start(self, document: Source, value: object, terms: Terms, emit: Emit) -> Outcome[FlowOutcome]:
        compiled = await compile_soon(document, self._library)
        if isinstance(compiled, Failure):
            return tell(emit, None, Failure(compiled.failure()))
        flow = compiled.unwrap()
        unfit = misfit(flow, self.toolbox)
        if unfit is not None:
            return tell(emit, None, Failure(unfit))
        given = {} if value is None else value
        stored = await terms.store(self.hub, flow, given, self.lease, events=self._events)
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

    async def _retry(self, run: RunLike, how: Retry, document: Source | None, emit: Emit) -> Outcome[FlowOutcome]:
        compiled = None if document is None else await compile_soon(document, self._library)
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

    async def _resume(self, key: KeyLike, reply: Reply, document: Source | None, emit: Emit) -> Outcome[FlowOutcome]:
        run_id: str | None = None
        flow: Flow | None = None

        async def refusal(suspension: Suspension) -> PersistenceError | None:
            nonlocal run_id, flow
            run_id = run_id_of(suspension)
            if document is not None and flow is None:
                compiled = await compile_soon(document, self._library)
                if isinstance(compiled, Failure):
                    error: PersistenceError = compiled.failure()
                    return error
                flow = compiled.unwrap()
            return no_flow(suspension) or self._refusal(suspension.metadata, flow)

        claimed = await claim_unless(self.hub, refusal, key, reply, lease=self.lease)
        if isinstance(claimed, Success):
            return tell(emit, run_id, await self._driven(claimed.unwrap(), emit, flow))
        if isinstance(claimed.failure(), SuspensionBusy) and reply.value is not MISSING:
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
        """Record the answer to a run that another process holds, and make sure that it is read.

        A holder that pauses after the answer finds its run answered and continues it. If it paused just before, the run
        is free and continues here.
        """
        answered = await self.hub.answer(key, reply.value, by=reply.by, shown_digest=reply.shown_digest)
        if isinstance(answered, Failure):
            return answered
        receipt = answered.unwrap()
        claimed = await self.hub.claim(receipt.suspension_id, lease=self.lease)
        if isinstance(claimed, Success):
            return await self._driven(claimed.unwrap(), emit, flow)
        if isinstance(claimed.failure(), SuspensionBusy | StillWaiting | SuspensionClosed):
            return Success(Accepted(receipt))
        return claimed

    async def _driven(self, run: Resumption[Any], emit: Emit, flow: Flow | None) -> Outcome[FlowOutcome]:
        driven = await self._legs.drive(run, emit, flow=flow)
        return Failure(driven.failure()) if isinstance(driven, Failure) else Success(driven.unwrap())


def _check_answer(document: object, by: By | None, shown_digest: object) -> None:
    check_optional(shown_digest, "shown_digest", check_str)
    check_optional(document, "document", check_source)
    check_optional(subject_of(by), "by", check_text)
