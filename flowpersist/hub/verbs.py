"""``PersistenceHub``: suspend a state, answer what it waits for, resume it once.

Every verb is one read, one pure decision and one put under compare-and-set, on any backend, and returns an ``Outcome``:
``Success`` with a value, or ``Failure`` with a ``PersistenceError``. Nothing is raised but programmer errors
(``TypeError``, ``ValueError``) and cancellation. ``flowpersist.hub.raising`` has the same verbs for those who prefer
exceptions.

A verb that is repeated after a lost reply, with the same ``answer_id``, ``claim_id``, fence or idempotency key, finds
itself done and succeeds. A cancelled verb may have happened: repeat it, or ``inspect``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

from attrs import evolve
from returns.result import Result

from flowpersist.backends._joining import unable
from flowpersist.backends.base import Capability, Joining
from flowpersist.errors import PersistenceError
from flowpersist.errors.arguments import (
    check_class,
    check_duration,
    check_whole,
)
from flowpersist.errors.secrecy import discreet, forgetting
from flowpersist.hub.answering_verbs import AnsweringVerbs
from flowpersist.hub.claiming import claim_each
from flowpersist.hub.outcome import ANY_ANSWER, ANY_CLASS, DEFAULT_LEASE, MISSING, A, Outcome, S, as_outcome
from flowpersist.hub.parking_verbs import ParkingVerbs
from flowpersist.hub.reading_verbs import ReadingVerbs
from flowpersist.hub.suspending_verbs import SuspendingVerbs
from flowpersist.hub.transactions import KeyLike
from flowpersist.hub.worker import Backoff, Worker, running
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.inputs.people import By, Via
from flowpersist.lifecycle.criteria import Criteria, check_criteria
from flowpersist.lifecycle.model import Head
from flowpersist.lifecycle.views import Resumption
from flowpersist.sealed.drafts import Loaded

__all__ = ["PersistenceHub"]


class PersistenceHub(SuspendingVerbs, AnsweringVerbs, ParkingVerbs, ReadingVerbs):
    """The verbs on suspensions. ``open_hub`` makes one; it may be used by any number of tasks of one event loop.

    Wherever a verb takes a key it takes a ``SuspensionKey``, its token as str, or, from code of the same process, a
    ``SuspensionId``.
    """

    def within(self, connection: Any) -> PersistenceHub:  # noqa: ANN401 - of the backend's driver
        """The hub in a transaction of yours: what it writes and what you write is committed together or not at all.

        The verbs are refused with ``TransactionAborted`` where all of it must be done again. ``on_event`` is not called
        for them.

        - ``connection``: the connection of asyncpg, ``sqlite3`` or aiosqlite on which you have begun the transaction,
          or a transaction of neo4j.

        Raises ``ConfigurationError`` where no transaction is open, and for stores that can't be part of one.
        """
        if Capability.TRANSACTIONS not in self.backend.capabilities or not isinstance(self.backend, Joining):
            raise unable(self.backend.name)
        # An operation that is tried again would be part of a transaction that has failed.
        runtime = evolve(self.runtime, attempts=1)
        suspensions = self.suspensions.within(self.backend.within(connection), runtime)
        bound = PersistenceHub(suspensions, self.defaults, self.dictionaries, self.checks)
        # A run that is finished here needs no more renewals.
        bound.answer_types, bound.holds = self.answer_types, self.holds
        return bound

    @discreet
    async def claim_due(
        self,
        criteria: Criteria = Criteria(),  # noqa: B008 - frozen
        *,
        limit: int = 1,
        lease: timedelta = DEFAULT_LEASE,
        expect: type[S] = ANY_CLASS,
    ) -> Outcome[tuple[Resumption[S], ...]]:
        """Claim what is answered or whose lease has ended, longest due first; concurrent callers get disjoint ones.

        - ``criteria``: which suspensions.
        - ``limit``: how many at most.
        - ``lease``: how long the run is held without a renewal.
        - ``expect``: the class that the states must have; others are passed over.
        """
        check_criteria(criteria)
        check_whole(limit, "limit")
        check_duration(lease, "lease")
        check_class(expect, "expect")

        async def one(record: Loaded[Head]) -> Result[Resumption[S], PersistenceError]:
            # By id only: what the index says may be behind, and the transition decides again.
            found = record.head.id
            return await self.claim(found, lease=lease, expect=expect)

        return as_outcome(await claim_each(self.suspensions, self.queues.of(criteria, expect), criteria, one, limit))

    @discreet
    def running(
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
    ) -> AbstractAsyncContextManager[Outcome[Resumption[S, A]]]:
        """``async with hub.running(key) as outcome:`` claims, renews while the block runs, and completes at its end.

        An exception in the block releases the run. When the lease is lost the block is cancelled and leaves with that
        error: a cancelled block can't be left otherwise.

        - ``key``: the key, its text, or the suspension's id.
        - ``value``: the answer; left out: none is given.
        - ``by``: who is acting, for the authorizer and the events.
        - ``answer_id``: the id of the answer, for a repeat.
        - ``shown_digest``: the ``digest`` of the wait as it was shown; another one is ``QuestionChanged``.
        - ``via``: how the answer came, for the audit trail.
        - ``lease``: how long the run is held without a renewal.
        - ``expect``: the class that the state must have.
        - ``awaiting``: the AwaitInput whose schema the answer is read by, so that it has that class.
        """
        check_duration(lease, "lease")
        self._check_taken(expect, awaiting)

        async def claimed() -> Result[Resumption[S, A], PersistenceError]:
            with forgetting():
                return await self.claim(
                    key,
                    value,
                    by=by,
                    answer_id=answer_id,
                    shown_digest=shown_digest,
                    via=via,
                    lease=lease,
                    expect=expect,
                    awaiting=awaiting,
                )

        return running(self, claimed, lease)

    @discreet
    async def work(
        self,
        handler: Callable[[Resumption[Any, Any]], Awaitable[object]],
        criteria: Criteria = Criteria(),  # noqa: B008 - frozen
        *,
        concurrency: int = 8,
        lease: timedelta = DEFAULT_LEASE,
        max_attempts: int = 5,
        backoff: Backoff = Backoff(),  # noqa: B008 - frozen
        poll: timedelta = timedelta(seconds=1),
        grace: timedelta = timedelta(0),
        expired: Callable[[Resumption[Any]], Awaitable[object]] | None = None,
    ) -> None:
        """Claim what is due, renew its lease, await the handler and complete with its result, until cancelled.

        A run whose handler raises is released. Once ``work`` is cancelled it claims nothing more.

        - ``handler``: an async function that takes the run.
        - ``criteria``: which suspensions.
        - ``concurrency``: how many handlers run at a time.
        - ``lease``: how long a run is held without a renewal.
        - ``max_attempts``: after so many failed attempts the run fails.
        - ``backoff``: how long a failed run waits before it is claimable again.
        - ``poll``: how often it looks for due runs where nothing tells of them.
        - ``grace``: how long handlers may go on after the cancellation, before they are cancelled and their runs
          released.
        - ``expired``: an async function that takes each expired suspension in the same way: in one worker at a time,
          again after a failure or a crash, and no more once it has returned. Its result is not kept, and the suspension
          stays closed.
        """
        await Worker(self, handler, criteria, concurrency, lease, max_attempts, backoff, poll, grace, expired).run()
