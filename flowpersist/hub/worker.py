"""Claiming due runs and working on them: under leases, in parallel, with back-off."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Protocol, TypeVar

from attrs import field, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import ClaimsHalted, PersistenceError
from flowpersist.errors.arguments import (
    check_async,
    check_duration,
    check_instance,
    check_optional,
    check_pause,
    check_whole,
)
from flowpersist.hub.cancellation import is_cancelled, is_fault
from flowpersist.hub.claiming import claim_each, claim_expired
from flowpersist.hub.due import CLAIMABLE, Queues
from flowpersist.hub.lease import Leasing, hold
from flowpersist.hub.outcome import DEFAULT_LEASE, Outcome
from flowpersist.hub.overdue import overdue
from flowpersist.hub.telemetry import span_of_run
from flowpersist.hub.transactions import KeyLike
from flowpersist.hub.wakeup import Alarm
from flowpersist.lifecycle.criteria import Criteria, check_criteria
from flowpersist.lifecycle.indexing import EXPIRING
from flowpersist.lifecycle.model import Head, Status
from flowpersist.lifecycle.views import Resumption, Suspension
from flowpersist.sealed.drafts import Loaded

__all__ = ["Backoff", "Worker", "Working", "running"]

T = TypeVar("T")
U = TypeVar("U")
log = logging.getLogger("flowpersist.worker")
_workers = itertools.count(1)


@frozen
class Backoff:
    """How long a failed run waits before it is claimable again: doubling from ``first`` up to ``most``.

    Usage::

        await hub.work(handler, backoff=Backoff(first=timedelta(seconds=5), most=timedelta(hours=1)))

    - ``first``: the delay after the first attempt.
    - ``most``: the longest delay.
    """

    first: timedelta = timedelta(seconds=1)
    most: timedelta = timedelta(minutes=5)

    def __attrs_post_init__(self) -> None:
        check_pause(self.first, "first")
        check_pause(self.most, "most")

    def delay(self, attempt: int) -> timedelta:
        """The wait after the attempt of that number, from 1."""
        check_whole(attempt, "attempt")
        factor = 1 << min(attempt - 1, 32)
        return self.most if self.first > self.most / factor else self.first * factor


class Working(Leasing, Protocol):
    """What a worker needs of a hub."""

    queues: Queues

    async def claim(self, key: KeyLike, *, lease: timedelta = DEFAULT_LEASE) -> Outcome[Resumption[Any]]:
        """Take the run under a lease."""
        ...

    async def complete(self, run: Resumption[Any], outcome: object = None) -> Outcome[Suspension]:
        """End a claimed run."""
        ...

    async def fail(self, run: Resumption[Any], error: BaseException | str | None = None) -> Outcome[Suspension]:
        """End a claimed run as failed."""
        ...

    async def release(
        self, run: Resumption[Any], error: BaseException | str | None = None, delay: timedelta | None = None
    ) -> Outcome[Suspension]:
        """Give a claimed run back."""
        ...


@asynccontextmanager
async def running(
    hub: Working, claim: Callable[[], Awaitable[Result[Resumption[T, U], PersistenceError]]], lease: timedelta
) -> AsyncIterator[Success[Resumption[T, U]] | Failure[PersistenceError]]:
    """Hold a claimed run while the block runs: complete it at the end, release it if the block raises."""
    claimed = await claim()
    if not isinstance(claimed, Success):
        yield Failure(claimed.failure())
        return
    run = claimed.unwrap()
    holding = hold(hub, run, lease=lease)
    try:
        async with holding:
            yield Success(run)
    except BaseException as error:
        if not holding.finished and error is not holding.lost:
            await asyncio.shield(_released(hub, run, error))
        raise
    if not holding.finished:
        completed = await hub.complete(run)
        if isinstance(completed, Failure):
            raise completed.failure()


async def _released(hub: Working, run: Resumption[Any, Any], error: BaseException) -> None:
    released = await hub.release(run, error=error)
    if isinstance(released, Failure):
        # The caller gets what the block raised, so the failure of the release is only logged.
        log.warning(
            "run %s could not be released, and is claimable again once its lease has ended: %s",
            run.suspension.id,
            released.failure(),
        )


class NotAwaitable(TypeError):
    """The handler returned no awaitable; further runs would only repeat its effects."""


@frozen
class Worker:
    """Claims what is due and runs ``handler`` on it, up to ``concurrency`` at a time, until it is cancelled.

    A handler's result is stored as the run's outcome; its exception releases the run with back-off, and fails it after
    ``max_attempts``. A run whose workers died that often without a word is failed too.
    """

    hub: Working
    handler: Callable[[Resumption[Any, Any]], Awaitable[object]]
    criteria: Criteria
    concurrency: int
    lease: timedelta
    max_attempts: int
    backoff: Backoff
    poll: timedelta
    grace: timedelta
    expired: Callable[[Resumption[Any]], Awaitable[object]] | None = None
    #: Whether expiries go first, in turns, so that neither they nor the rest are left behind by the other.
    _turns: Iterator[bool] = field(init=False, factory=partial(itertools.cycle, (True, False)))
    _scope: int = field(init=False, factory=partial(next, _workers))

    def __attrs_post_init__(self) -> None:
        check_duration(self.lease, "lease")
        check_async(self.handler, "handler")
        check_optional(self.expired, "expired", check_async)
        check_criteria(self.criteria)
        check_whole(self.concurrency, "concurrency")
        check_whole(self.max_attempts, "max_attempts")
        check_instance(self.backoff, "backoff", Backoff, "a Backoff")
        check_duration(self.poll, "poll")
        check_pause(self.grace, "grace")

    async def run(self) -> None:
        """Until cancelled; then handlers have ``grace`` to end, are cancelled after it, and their runs released.

        ``TypeError`` where the handler turns out to give no awaitable.
        """
        try:
            await self._run()
        except* NotAwaitable as group:
            raise TypeError(str(group.exceptions[0])) from None

    async def _run(self) -> None:
        busy: set[asyncio.Task[None]] = set()
        alarm = Alarm(self.hub.suspensions.records, self.poll)
        with ExitStack() as stopping:
            await self._grouped(busy, alarm, stopping)

    async def _grouped(self, busy: set[asyncio.Task[None]], alarm: Alarm, stopping: ExitStack) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(alarm.listen(), name="listen for changes")
            try:
                await self._serve(tasks, busy, alarm)
            except asyncio.CancelledError:
                # A second cancellation ends the grace.
                if busy and self.grace:
                    await asyncio.wait(busy, timeout=self.grace.total_seconds())
                # One that swallows its cancellation keeps the worker, and its own run from every other one.
                stopping.enter_context(overdue("a handler that was cancelled, since its worker stops,"))
                raise

    async def _serve(self, tasks: asyncio.TaskGroup, busy: set[asyncio.Task[None]], alarm: Alarm) -> None:
        while True:
            if len(busy) >= self.concurrency:
                await asyncio.wait(busy, return_when=asyncio.FIRST_COMPLETED)
                continue
            alarm.reset()
            runs = await self._claim(self.concurrency - len(busy))
            for run in runs:
                task = tasks.create_task(self._work(run), name=f"run {run.suspension.id}")
                busy.add(task)
                task.add_done_callback(busy.discard)
            if not runs:
                await alarm.pause()

    async def claim(self, record: Loaded[Head]) -> Result[Resumption[Any], PersistenceError]:
        """Claim one run that is due; a failure passes it over."""
        return await self.hub.claim(record.head.id, lease=self.lease)

    async def claim_expired(self, record: Loaded[Head]) -> Result[Resumption[Any], PersistenceError]:
        """Claim the expiry of one suspension."""
        return await claim_expired(self.hub.suspensions, record, self.lease)

    async def _claim(self, free: int) -> tuple[Resumption[Any], ...]:
        if self.expired is None:
            return await self._some(self.claim, CLAIMABLE, free)
        first = await self._some(self.claim_expired, (EXPIRING,), free) if next(self._turns) else ()
        runs = await self._some(self.claim, CLAIMABLE, free - len(first)) if len(first) < free else ()
        taken = (*first, *runs)
        # Looking for runs has brought what has expired meanwhile up to date.
        if first or len(taken) >= free:
            return taken
        return (*taken, *await self._some(self.claim_expired, (EXPIRING,), free - len(taken)))

    async def _some(
        self,
        claim: Callable[[Loaded[Head]], Awaitable[Result[Resumption[Any], PersistenceError]]],
        statuses: tuple[str, ...],
        most: int,
    ) -> tuple[Resumption[Any], ...]:
        queue = self.hub.queues.of(self.criteria, self._scope, statuses)
        claimed = await claim_each(self.hub.suspensions, queue, self.criteria, claim, most)
        if isinstance(claimed, Failure) and isinstance(claimed.failure(), ClaimsHalted):
            # The halt may stand for days: whoever has made it knows.
            log.debug("no run is claimed: %s", claimed.failure())
            return ()
        if isinstance(claimed, Failure):
            log.error("no run could be claimed, trying again in %s: %s", self.poll, claimed.failure())
            return ()
        return claimed.unwrap()

    async def _work(self, run: Resumption[Any]) -> None:
        if run.attempt > self.max_attempts:
            # Each of the attempts before ended without a word: its process died, or lost its lease.
            await self._said("failed", self.give_up(run, f"given up after {self.max_attempts} attempts"))
            return
        holding = hold(self.hub, run, lease=self.lease)
        try:
            async with holding:
                with span_of_run("flowpersist.process", run, kind="CONSUMER"):
                    outcome = await self._handled(run)
        except NotAwaitable:
            await self._said("released", self.hub.release(run, error="the handler is not an async function"))
            raise
        except BaseException as error:
            cancelled = is_cancelled()
            if not is_fault(error, cancelled=cancelled):
                if cancelled:
                    await self._stopped(run, holding)
                raise
            # Whatever the user's handler raises, a CancelledError of its own too, is recorded with the run and never
            # ends the worker.
            self._tell(run, holding, error)
            await self._broken(run, holding, error)
        else:
            if not holding.finished:
                await self._completed(run, holding, outcome)

    async def _handled(self, run: Resumption[Any]) -> object:
        over = self.expired if run.suspension.status is Status.EXPIRED else None
        given = (over or self.handler)(run)
        if not inspect.isawaitable(given):
            msg = f"Invalid handler: expected an async function, but it returned {type(given).__name__}"
            raise NotAwaitable(msg)
        outcome = await given
        return None if over else outcome

    async def _completed(self, run: Resumption[Any], holding: hold, outcome: object) -> None:
        completed = await self.hub.complete(run, outcome)
        if isinstance(completed, Failure):
            error = completed.failure()
            log.warning("run %s, attempt %d could not be completed: %s", run.suspension.id, run.attempt, error)
            await self._broken(run, holding, error)

    async def _stopped(self, run: Resumption[Any], holding: hold) -> None:
        if not holding.finished:
            await asyncio.shield(self._said("released", self.hub.release(run, error="the worker was stopped")))

    def _tell(self, run: Resumption[Any], holding: hold, error: BaseException) -> None:
        if error is holding.lost:
            log.warning("run %s, attempt %d was stopped: %s", run.suspension.id, run.attempt, error)
            return
        self.hub.suspensions.tracebacks.log(
            log, error, "the handler raised on run %s, attempt %d", run.suspension.id, run.attempt
        )

    async def _broken(self, run: Resumption[Any], holding: hold, error: BaseException) -> None:
        if holding.finished or error is holding.lost:
            return
        if run.attempt >= self.max_attempts:
            await self._said("failed", self.give_up(run, error))
        else:
            delay = self.backoff.delay(run.attempt)
            await self._said("released", self.hub.release(run, error=error, delay=delay))

    async def give_up(self, run: Resumption[Any], error: BaseException | str) -> Outcome[Suspension]:
        """End a run that was tried too often."""
        return await self.hub.fail(run, error=error)

    async def _said(self, what: str, saying: Awaitable[Result[object, PersistenceError]]) -> None:
        said = await saying
        if isinstance(said, Failure):
            log.warning("a run could not be %s: %s", what, said.failure())
