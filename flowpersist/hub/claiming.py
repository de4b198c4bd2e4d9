"""Claiming what is due: one after another of a queue, past what somebody else took and what can't be read here."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Any, TypeVar

from attrs import evolve
from returns.result import Failure, Result, Success

from flowpersist.errors import ClaimsHalted, FlowError, PermissionDenied, PersistenceError, StorageError, UnexpectedType
from flowpersist.hub.due import Due, Queue
from flowpersist.hub.refreshing import refresh, refreshed
from flowpersist.hub.taking import taken
from flowpersist.hub.transactions import Snapshot, Suspensions
from flowpersist.lifecycle.changes import present
from flowpersist.lifecycle.criteria import Criteria
from flowpersist.lifecycle.decisions import Decision
from flowpersist.lifecycle.expiring import expire
from flowpersist.lifecycle.indexing import matches
from flowpersist.lifecycle.model import Head
from flowpersist.lifecycle.views import Resumption
from flowpersist.sealed.drafts import Loaded
from flowpersist.sealed.unreadable import LASTING

__all__ = ["claim_each", "claim_expired"]

T = TypeVar("T")
log = logging.getLogger("flowpersist.worker")
#: Errors that depend on the caller: another caller may be able to claim the run.
OF_THE_CALLER = (UnexpectedType, FlowError, PermissionDenied)


def _wanted(record: Loaded[Head], criteria: Criteria) -> bool:
    head = present(record.head, record.now)
    before = criteria.due_before
    on_time = before is None or (record.due_at is not None and record.due_at < before)
    return on_time and matches(evolve(criteria, status=None), head)


async def claim_each(
    suspensions: Suspensions,
    queue: Queue,
    criteria: Criteria,
    claim: Callable[[Loaded[Head]], Awaitable[Result[T, PersistenceError]]],
    limit: int,
) -> Result[tuple[T, ...], PersistenceError]:
    """Claim up to ``limit`` due runs, and skip those that somebody else took or that this process can't read."""
    claimed: list[T] = []
    tools = () if criteria.tool is None else (criteria.tool,)
    allowed = await suspensions.halts.until(tools, criteria.tenant, suspensions.records.reckoned())
    if isinstance(allowed, Failure):
        return Failure(allowed.failure())
    async with aclosing(queue.due(limit)) as runs:
        async for found in runs:
            if not isinstance(found, Success):
                return Success(tuple(claimed)) if claimed else Failure(found.failure())
            due = found.unwrap()
            if suspensions.halts.stops(due.record.head):
                due.keep()
                continue
            if not _wanted(due.record, criteria):
                await _pass_over(suspensions, due)
                continue
            result = await claim(due.record)
            if isinstance(result, Success):
                claimed.append(result.unwrap())
                queue.records.unreadable.clear(due.record.ref.key, scope=queue.scope)
            else:
                await _refused(suspensions, queue, due, result.failure())
            if len(claimed) >= limit:
                break
    return Success(tuple(claimed))


async def _refused(suspensions: Suspensions, queue: Queue, due: Due, error: PersistenceError) -> None:
    key, revision = due.record.ref.key, due.record.revision
    if isinstance(error, ClaimsHalted):
        due.keep()
        return
    if isinstance(error, LASTING):
        scope = queue.scope if isinstance(error, OF_THE_CALLER) else None
        queue.records.unreadable.meet(key, revision, error, scope=scope)
    else:
        log.debug("run %s was passed over: %s", key, error)
        if isinstance(error, StorageError):
            due.keep()
    await _pass_over(suspensions, due)


async def _pass_over(suspensions: Suspensions, due: Due) -> None:
    # The index may be behind the head: once it is corrected, the record no longer blocks the start of the queue.
    if not refreshed(suspensions, due.record, due.record.now):
        return
    settled = await refresh(suspensions, due.record.ref.key)
    if isinstance(settled, Failure):
        due.keep()
        log.warning("run %s could not be brought up to date: %s", due.record.ref.key, settled.failure())


async def claim_expired(
    suspensions: Suspensions, record: Loaded[Head], lease: timedelta
) -> Result[Resumption[Any], PersistenceError]:
    """Take an expired suspension with its state, to handle the expiry."""
    claim_id = suspensions.records.runtime.entropy(16).hex()

    async def decide(seen: Snapshot) -> Decision[Resumption[Any]]:
        decision = expire(seen.head, seen.now, lease=lease, claim_id=claim_id)
        return await taken(suspensions, seen, decision, object, None)

    return await suspensions.transact("claim", record.head.id, decide, body=True)
