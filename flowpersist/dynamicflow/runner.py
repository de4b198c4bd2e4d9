"""``FlowRunner``: starts flows, resumes them by a key in any process, and continues those whose process has died."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from concurrent.futures import Executor
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from returns.result import Failure

from flowpersist.backends.base import Scalar, check_text
from flowpersist.dynamicflow.beginning import Beginning
from flowpersist.dynamicflow.compile import compile_document
from flowpersist.dynamicflow.document import Source, check_source
from flowpersist.dynamicflow.durability import TAKES, DurabilityOption, durability_of
from flowpersist.dynamicflow.engine import RetryPause
from flowpersist.dynamicflow.engine import backoff as default_backoff
from flowpersist.dynamicflow.events import Emit, FlowEvent, StoredEvent, nothing
from flowpersist.dynamicflow.executing import Executors
from flowpersist.dynamicflow.facts import KIND
from flowpersist.dynamicflow.following import Bells, events_of
from flowpersist.dynamicflow.inspecting import RunInspection, inspected
from flowpersist.dynamicflow.legs import Legs
from flowpersist.dynamicflow.migrations import Migration, Migrations
from flowpersist.dynamicflow.nested import Library
from flowpersist.dynamicflow.parking import Failed, check_failed
from flowpersist.dynamicflow.replying import checked_reply
from flowpersist.dynamicflow.results import FlowOutcome
from flowpersist.dynamicflow.retrying import Retry, RunLike, check_named_run
from flowpersist.dynamicflow.starting import Terms
from flowpersist.dynamicflow.streaming import follow
from flowpersist.dynamicflow.tools import Join, Tool, Toolbox, check_executor
from flowpersist.dynamicflow.upgrade_check import ChecksRuns
from flowpersist.dynamicflow.working import FlowWorker
from flowpersist.errors.arguments import (
    check_callable,
    check_duration,
    check_flag,
    check_instance,
    check_optional,
    check_whole,
    mistyped,
)
from flowpersist.errors.secrecy import discreet
from flowpersist.hub.outcome import DEFAULT_LEASE, MISSING, Outcome
from flowpersist.hub.raising import RaisingHub
from flowpersist.hub.verbs import PersistenceHub
from flowpersist.hub.worker import Backoff
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.inputs.people import By, Via, subject_of
from flowpersist.lifecycle import Criteria, Resumption

if TYPE_CHECKING:
    from flowpersist.hub.transactions import KeyLike

__all__ = ["FlowRunner"]


class FlowRunner(ChecksRuns):
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
        self._bells = Bells(self.hub)
        self._legs = Legs(self.hub, self.toolbox, self.migrations, lease, backoff, failed, often)
        self._beginning = Beginning(
            self.hub, self.toolbox, self.migrations, self._library, self._legs, lease, events=events
        )

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
        via: Via | None = None,
    ) -> Outcome[FlowOutcome]:
        """Answer one wait and run on, until the run is done or awaits other answers. ``via`` is how the answer came.

        If another process is running it, the answer is recorded and ``Accepted``: that process, or the next one that
        claims the run, continues it. A document of another hash needs a registered Migration. A refusal (an answer that
        does not match its schema, a missing tool) leaves the run as it was.
        """
        return await self._beginning.resume(
            key, checked_reply(document, answer, by, shown_digest, via), document, nothing
        )

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
        return await self._beginning.retry(run, Retry(from_step, edit, by), document, nothing)

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
        via: Via | None = None,
    ) -> AsyncGenerator[FlowEvent, None]:
        """The same as ``resume``, with the events while they happen."""
        reply = checked_reply(document, answer, by, shown_digest, via)
        return follow(lambda emit: self._beginning.resume(key, reply, document, emit), self.hub.suspensions.tracebacks)

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
            claim_run=partial(self._legs.claim, flow=None),
        )
        await worker.run()

    async def _start(self, document: Source, value: object, terms: Terms, emit: Emit) -> Outcome[FlowOutcome]:
        return await self._beginning.start(document, value, terms, emit)
