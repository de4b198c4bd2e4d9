"""Taking runs that are due, and working on them: under leases, in parallel, with back-off."""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import evolve, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Where
from flowpersist.errors import PersistenceError
from flowpersist.leases import hold
from flowpersist.lifecycle.changes import present
from flowpersist.lifecycle.indexing import matches, where
from flowpersist.lifecycle.model import Head, Status
from flowpersist.lifecycle.views import Criteria
from flowpersist.listing import due
from flowpersist.records import Loaded
from flowpersist.waking import Alarm

if TYPE_CHECKING:
    from flowpersist.hub import PersistenceHub
    from flowpersist.lifecycle.views import Resumption

__all__ = ["Backoff", "Worker", "claim_each", "running"]

T = TypeVar("T")
log = logging.getLogger("flowpersist.worker")
#: What becomes claimable: answered ones, lapsed leases, and waits whose default is due.
CLAIMABLE = (Status.ANSWERED, Status.RUNNING, Status.WAITING)


@frozen
class Backoff:
    """How long a failed run waits before it is claimable again: doubling from ``first`` up to ``most``."""

    first: timedelta = timedelta(seconds=1)
    most: timedelta = timedelta(minutes=5)

    def delay(self, attempt: int) -> timedelta:
        """After the attempt of that number, from 1."""
        return min(self.most, self.first * (1 << min(attempt - 1, 32)))


async def due_runs(
    hub: PersistenceHub, criteria: Criteria
) -> AsyncGenerator[Result[Loaded[Head], PersistenceError], None]:
    """The runs that could be claimed now, longest due first, over all statuses."""
    equals = where(evolve(criteria, status=None, created_after=None, created_before=None, due_before=None)).equals
    streams = [due(hub.suspensions, Where({**equals, "status": str(status)})) for status in CLAIMABLE]
    heads: list[tuple[float, int, Result[Loaded[Head], PersistenceError]]] = []

    async def push(number: int) -> None:
        found = await anext(streams[number], None)
        if found is not None:
            heapq.heappush(heads, (_urgency(found), number, found))

    try:
        for number in range(len(streams)):
            await push(number)
        while heads:
            _, number, found = heapq.heappop(heads)
            if not isinstance(found, Success) or _wanted(found.unwrap(), criteria):
                yield found
            await push(number)
    finally:
        for stream in streams:
            await stream.aclose()


def _urgency(found: Result[Loaded[Head], PersistenceError]) -> float:
    if not isinstance(found, Success):
        return float("-inf")
    moment = found.unwrap().due_at
    return float("inf") if moment is None else moment.timestamp()


def _wanted(record: Loaded[Head], criteria: Criteria) -> bool:
    head = present(record.head, record.now)
    before = criteria.due_before
    on_time = before is None or (record.due_at is not None and record.due_at < before)
    return on_time and matches(evolve(criteria, status=None), head)


async def claim_each(
    hub: PersistenceHub,
    criteria: Criteria,
    claim: Callable[[Loaded[Head]], Awaitable[Result[T, PersistenceError]]],
    limit: int,
) -> Result[tuple[T, ...], PersistenceError]:
    """Claim up to ``limit`` due runs. One that somebody else took, or that this process can't read, is passed over."""
    claimed: list[T] = []
    async with aclosing(due_runs(hub, criteria)) as runs:
        async for found in runs:
            if not isinstance(found, Success):
                return Success(tuple(claimed)) if claimed else Failure(found.failure())
            record = found.unwrap()
            result = await claim(record)
            if isinstance(result, Success):
                claimed.append(result.unwrap())
            else:
                await _pass_over(hub, record, result.failure())
            if len(claimed) >= limit:
                break
    return Success(tuple(claimed))


async def _pass_over(hub: PersistenceHub, record: Loaded[Head], error: PersistenceError) -> None:
    log.debug("run %s was passed over: %s", record.ref.key, error)
    # Its index may be behind its head: what is put back where it belongs blocks the front no longer.
    if not hub.suspensions.unsettled(record, record.now):
        return
    settled = await hub.suspensions.settle(record.ref.key)
    if isinstance(settled, Failure):
        log.warning("run %s could not be settled: %s", record.ref.key, settled.failure())


@asynccontextmanager
async def running(
    hub: PersistenceHub, claim: Callable[[], Awaitable[Result[Resumption[T], PersistenceError]]], lease: timedelta
) -> AsyncIterator[Success[Resumption[T]] | Failure[PersistenceError]]:
    """The block that holds a claimed run: completes it at the end, releases it where the block raises."""
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
            await asyncio.shield(hub.release(run, error=error))
        raise
    if not holding.finished:
        completed = await hub.complete(run)
        if isinstance(completed, Failure):
            raise completed.failure()


@frozen
class Worker:
    """Claims what is due and runs ``handler`` on it, up to ``concurrency`` at a time, until it is cancelled.

    A handler's result is stored as the run's outcome; its exception releases the run with back-off, and fails it after
    ``max_attempts``. A run whose workers died that often without a word is failed too.
    """

    hub: PersistenceHub
    handler: Callable[[Resumption[Any]], Awaitable[object]]
    criteria: Criteria
    concurrency: int
    lease: timedelta
    max_attempts: int
    backoff: Backoff
    poll: timedelta

    async def run(self) -> None:
        """Until cancelled; then the handlers are cancelled, and their runs released."""
        busy: set[asyncio.Task[None]] = set()
        alarm = Alarm(self.hub.suspensions.records, self.poll)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(alarm.listen(), name="listen for changes")
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

    async def _claim(self, free: int) -> tuple[Resumption[Any], ...]:
        claimed = await claim_each(self.hub, self.criteria, self.claim, free)
        if isinstance(claimed, Failure):
            log.error("no run could be claimed, trying again in %s: %s", self.poll, claimed.failure())
            return ()
        return claimed.unwrap()

    async def _work(self, run: Resumption[Any]) -> None:
        if run.attempt > self.max_attempts:
            # Each of the attempts before ended without a word: its process died, or lost its lease.
            await self._said("failed", self.hub.fail(run, error=f"given up after {self.max_attempts} attempts"))
            return
        holding = hold(self.hub, run, lease=self.lease)
        try:
            async with holding:
                outcome = await self.handler(run)
        except asyncio.CancelledError:
            if not holding.finished:
                await asyncio.shield(self._said("released", self.hub.release(run, error="the worker was stopped")))
            raise
        except Exception as error:  # noqa: BLE001
            # Whatever the user's handler raises is recorded with the run, and never ends the worker.
            await self._broken(run, holding, error)
        else:
            if not holding.finished:
                await self._completed(run, holding, outcome)

    async def _completed(self, run: Resumption[Any], holding: hold, outcome: object) -> None:
        completed = await self.hub.complete(run, outcome)
        if isinstance(completed, Failure):
            await self._broken(run, holding, completed.failure())

    async def _broken(self, run: Resumption[Any], holding: hold, error: Exception) -> None:
        # Its class alone: the text and the frames of an exception may hold the state.
        log.warning("run %s, attempt %d: the handler raised %s", run.suspension.id, run.attempt, type(error).__name__)
        if holding.finished or error is holding.lost:
            return
        if run.attempt >= self.max_attempts:
            await self._said("failed", self.hub.fail(run, error=error))
        else:
            delay = self.backoff.delay(run.attempt)
            await self._said("released", self.hub.release(run, error=error, delay=delay))

    async def _said(self, what: str, saying: Awaitable[Result[object, PersistenceError]]) -> None:
        said = await saying
        if isinstance(said, Failure):
            log.warning("a run could not be %s: %s", what, said.failure())
