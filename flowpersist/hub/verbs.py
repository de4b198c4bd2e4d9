"""``PersistenceHub``: suspend a state, answer what it waits for, resume it once.

Every verb is one read, one pure decision and one put under compare-and-set, on any backend, and returns an ``Outcome``:
``Success`` with a value, or ``Failure`` with a ``PersistenceError``. Nothing is raised but programmer errors
(``TypeError``, ``ValueError``) and cancellation. ``flowpersist.hub.raising`` has the same verbs for those who prefer
exceptions.

A verb that is repeated after a lost reply, with the same ``answer_id``, ``claim_id``, fence or idempotency key, finds
itself done and succeeds. A cancelled verb may have happened: repeat it, or ``inspect``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from attrs import evolve, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import KEEP, Keep, Page, Scalar, StorageBackend, check_text
from flowpersist.errors import ConfigurationError, PersistenceError, StillWaiting, UnexpectedType
from flowpersist.errors.arguments import (
    check_class,
    check_duration,
    check_flag,
    check_instance,
    check_optional,
    check_pause,
    check_str,
    check_whole,
)
from flowpersist.errors.secrecy import discreet, forgetting
from flowpersist.hub.answering import Given, own_copy
from flowpersist.hub.due import Queues
from flowpersist.hub.listing import query
from flowpersist.hub.outcome import ANY_ANSWER, ANY_CLASS, DEFAULT_LEASE, MISSING, A, Outcome, S, as_outcome
from flowpersist.hub.suspending import (
    Awaiting,
    Facts,
    Plan,
    SealedState,
    check_digest,
    check_superseded,
    check_times,
    earliest,
    plan,
    same_request,
    same_state,
    seal_state,
)
from flowpersist.hub.transactions import Named, Present, Suspensions, Turn
from flowpersist.hub.worker import Backoff, Worker, claim_each, running
from flowpersist.inputs.answer_types import AnswerTypes
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.inputs.json_schema import MAX_TEXT
from flowpersist.keys.keyring import KeyRing
from flowpersist.keys.suspension_key import SuspensionId, SuspensionKey
from flowpersist.lifecycle import verbs
from flowpersist.lifecycle.changes import present
from flowpersist.lifecycle.model import Head, Status, Until, check_metadata
from flowpersist.lifecycle.pausing import carried
from flowpersist.lifecycle.refusals import closed_error
from flowpersist.lifecycle.views import (
    Criteria,
    NewSuspension,
    Receipt,
    Resumption,
    Suspension,
    answers_of,
    check_criteria,
    check_run,
    new_suspension_of,
    resumption_of,
    suspension_of,
)
from flowpersist.sealed.dictionaries import DictionaryStore
from flowpersist.sealed.drafts import Found, Loaded, Move
from flowpersist.sealed.retrying import Pace

__all__ = ["HubDefaults", "PersistenceHub"]

T = TypeVar("T")


@frozen
class HubDefaults:
    """What a hub's verbs use where a call says nothing."""

    namespace: str
    timeout: timedelta | None
    retention: timedelta
    public_url: str | None


class PersistenceHub:
    """The verbs on suspensions. ``open_hub`` makes one; it may be used by any number of tasks of one event loop.

    Wherever a verb takes a key it takes a ``SuspensionKey``, its token as str, or, from code of the same process, a
    ``SuspensionId``.
    """

    def __init__(self, suspensions: Suspensions, defaults: HubDefaults, dictionaries: DictionaryStore) -> None:
        self.suspensions = suspensions
        self.defaults = defaults
        self.dictionaries = dictionaries
        #: What answers have to pass beside their schema, where this process has the schema's class.
        self.answer_types = AnswerTypes(suspensions.records.sealer.codec.types)
        #: The runs that are held by this process, so that whoever finishes one stops its renewals.
        self.holds: dict[tuple[SuspensionId, int], asyncio.Event] = {}
        #: What its callers claim from.
        self.queues = Queues(suspensions.records)

    @property
    def backend(self) -> StorageBackend:
        """Where the records are."""
        return self.suspensions.records.backend

    @property
    def pace(self) -> Pace:
        """The hub's clock, randomness and patience."""
        return self.suspensions.records.pace

    def use_keyring(self, keyring: KeyRing | None) -> None:
        """Seal and open with another keyring from now on."""
        check_instance(keyring, "keyring", (KeyRing, type(None)), "a KeyRing or None")
        sealer = self.suspensions.records.sealer.with_keyring(keyring)
        for records in (self.suspensions.records, *self.suspensions.beside.records):
            records.sealer = sealer
            records.unread.forget()
        self.queues.forget()

    @discreet
    async def suspend(
        self,
        state: object,
        *,
        awaiting: Awaiting = None,
        until: Until = "all",
        timeout: timedelta | None = None,
        deadline: datetime | None = None,
        metadata: Mapping[str, Scalar] | None = None,
        tenant: str | None = None,
        idempotency_key: str | None = None,
        idempotency_digest: str | bytes | None = None,
        key: Named | None = None,
        by: str | None = None,
    ) -> Outcome[NewSuspension]:
        """Make a state durable, and give the keys that resume it.

        ``until`` says when it can be resumed: at ``all`` answers, at ``any`` (the other waits close), or at ``each``
        (the others stay open). It never expires unless ``timeout``, ``deadline``, the AwaitInput or the hub's default
        says so. ``metadata`` and ``tenant`` are stored in clear and can be queried.

        The same ``idempotency_key`` gives the same suspension again as it stands now: its ``status`` tells whether it
        has ended. With another question or another state it is ``IdempotencyConflict``. Where the state is another at
        each time, ``idempotency_digest`` is compared in its place. ``key`` is one that ``reserve`` gave: the suspension
        keeps what was said there.
        """
        check_optional(idempotency_digest, "idempotency_digest", check_digest)
        if key is not None:
            if awaiting is not None or idempotency_key is not None:
                msg = "a reserved key brings what it awaits: leave awaiting and idempotency_key out"
                raise ValueError(msg)
            return await self._fill(key, state, idempotency_digest, by)
        if idempotency_digest is not None and idempotency_key is None:
            message = "Invalid idempotency_digest: expected an idempotency_key or a reserved key beside it"
            raise ConfigurationError(message, "idempotency_digest")
        planned = self._plan(awaiting, until, timeout, deadline)
        facts = self._facts(metadata, tenant, idempotency_key)
        sealed = await seal_state(
            self.suspensions.records,
            str(facts.id),
            tenant,
            state,
            compared=idempotency_key is not None,
            instead=idempotency_digest,
        )
        if not isinstance(sealed, Success):
            return Failure(sealed.failure())
        return await self._create("suspend", facts, planned, sealed.unwrap(), by)

    @discreet
    async def reserve(
        self,
        awaiting: Awaiting = None,
        *,
        until: Until = "all",
        timeout: timedelta | None = None,
        deadline: datetime | None = None,
        metadata: Mapping[str, Scalar] | None = None,
        tenant: str | None = None,
        idempotency_key: str | None = None,
        by: str | None = None,
    ) -> Outcome[NewSuspension]:
        """Make the keys before the state is there: ``suspend(state, key=…)`` brings it. Answers that come early are
        kept.
        """
        planned = self._plan(awaiting, until, timeout, deadline)
        return await self._create("reserve", self._facts(metadata, tenant, idempotency_key), planned, None, by)

    @discreet
    async def inspect(self, key: Named, *, by: str | None = None) -> Outcome[Suspension]:
        """The suspension as of now. Nothing is written, and the state is not read."""
        return as_outcome(
            (await self.suspensions.look("inspect", key, by=by)).map(lambda seen: suspension_of(seen.head))
        )

    @discreet
    async def keys(self, id: SuspensionId, *, by: str | None = None) -> Outcome[Mapping[str, SuspensionKey]]:
        """The keys of a suspension's open waits, by name, for whoever sends them again or has them from a worker.

        By id alone, so that the holder of one key does not get the others: code of this process can open the sealed
        head, for which the control subkey is enough.
        """
        check_instance(id, "id", SuspensionId, "a SuspensionId")
        seen = await self.suspensions.look("keys", id, by=by)
        return as_outcome(seen.map(lambda found: self._new(found.head).keys))

    @discreet
    async def answer(
        self, key: Named, value: object, *, by: str | None = None, answer_id: str | None = None
    ) -> Outcome[Receipt]:
        """Validate an answer and record it. The same again is ``replayed``; a keyring for control alone is enough."""
        given = self._given(value, by, answer_id)

        async def decide(seen: Present) -> Turn[Receipt]:
            offer = await given.examined(seen.head, seen.target)
            return Turn.of(verbs.answer(seen.head, seen.target, offer, seen.now))

        return as_outcome(await self.suspensions.transact("answer", key, decide, by=by))

    @discreet
    async def resume(
        self,
        key: Named,
        value: object = MISSING,
        *,
        by: str | None = None,
        answer_id: str | None = None,
        expect: type[S] = ANY_CLASS,
        awaiting: AwaitInput[A] = ANY_ANSWER,  # type: ignore[assignment]
    ) -> Outcome[Resumption[S, A]]:
        """Answer, if a value is given, and take the run for good: at most once, by anybody.

        A crash afterwards loses the run; for work that must finish use ``running`` or ``work``. The winner's own
        ``answer_id`` gets the same run again. ``expect`` checks the state's class, and ``awaiting`` makes the answer
        one of its schema's; what can't be read or is of another class stays as it was.
        """
        self._check_taken(expect, awaiting)
        own = self._random_id() if answer_id is None else answer_id
        given = self._given(value, by, own)

        async def decide(seen: Present) -> Turn[Resumption[S, A]]:
            offer = None if value is MISSING else await given.examined(seen.head, seen.target)
            step = verbs.take(seen.head, seen.target, offer, seen.now, answer_id=own, by=by)
            return await self._taken(seen, step, expect, awaiting)

        return as_outcome(await self.suspensions.transact("resume", key, decide, by=by, body=True))

    @discreet
    async def claim(
        self,
        key: Named,
        value: object = MISSING,
        *,
        by: str | None = None,
        answer_id: str | None = None,
        lease: timedelta = DEFAULT_LEASE,
        claim_id: str | None = None,
        expect: type[S] = ANY_CLASS,
        awaiting: AwaitInput[A] = ANY_ANSWER,  # type: ignore[assignment]
    ) -> Outcome[Resumption[S, A]]:
        """The same under a lease: whoever holds it must ``complete``, ``release`` or ``suspend_next``, and may
        ``renew``.

        Under somebody's lease ``SuspensionBusy``, and nothing is recorded. The same ``claim_id`` gets the same run
        again.
        """
        check_duration(lease, "lease")
        self._check_taken(expect, awaiting)
        own = self._random_id() if claim_id is None else check_text(claim_id, "claim_id")
        given = self._given(value, by, answer_id)

        async def decide(seen: Present) -> Turn[Resumption[S, A]]:
            offer = None if value is MISSING else await given.examined(seen.head, seen.target)
            step = verbs.claim(seen.head, seen.target, offer, seen.now, lease=lease, claim_id=own)
            return await self._taken(seen, step, expect, awaiting)

        return as_outcome(await self.suspensions.transact("claim", key, decide, by=by, body=True))

    @discreet
    async def claim_due(
        self,
        criteria: Criteria = Criteria(),  # noqa: B008 - frozen
        *,
        limit: int = 1,
        lease: timedelta = DEFAULT_LEASE,
        expect: type[S] = ANY_CLASS,
    ) -> Outcome[tuple[Resumption[S], ...]]:
        """Claim what is answered or whose lease has lapsed, longest due first; concurrent callers get disjoint ones."""
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
    async def renew(self, run: Resumption[Any], *, lease: timedelta = DEFAULT_LEASE) -> Outcome[datetime]:
        """Move the end of the lease to ``lease`` from now; gives that moment."""
        check_run(run)
        check_duration(lease, "lease")

        async def decide(seen: Present) -> Turn[datetime]:
            return Turn.of(verbs.renew(seen.head, _holder(run), seen.now, lease=lease))

        return as_outcome(await self.suspensions.transact("renew", run.suspension.id, decide))

    @discreet
    async def complete(
        self,
        run: Resumption[Any],
        outcome: object = None,
        *,
        discard: bool = False,
        superseded: Collection[str] = (),
        metadata: Mapping[str, Scalar] | None = None,
    ) -> Outcome[Suspension]:
        """End a claimed run. Its state is dropped and its outcome kept for the retention.

        Answers that came while it ran are refused with ``UnreadAnswers``, unless they are to be discarded, or their
        waits are among the ``superseded``: names of waits that the run went on without. ``metadata`` replaces what the
        suspension had; None keeps that.
        """
        check_run(run)
        check_flag(discard, "discard")
        names = check_superseded(superseded)
        renamed = None if metadata is None else check_metadata(metadata)
        sealed = await self._sealed_outcome(run, outcome)
        if not isinstance(sealed, Success):
            return Failure(sealed.failure())
        return await self._finished(
            "complete",
            run,
            lambda seen: verbs.complete(seen.head, _holder(run), seen.now, discard=discard, superseded=names),
            sealed.unwrap(),
            renamed,
        )

    @discreet
    async def fail(
        self,
        run: Resumption[Any],
        error: BaseException | str | None = None,
        *,
        why: object = None,
        metadata: Mapping[str, Scalar] | None = None,
    ) -> Outcome[Suspension]:
        """End a claimed run as failed. Of an exception its class is kept, since its text may hold state.

        ``why`` is sealed as a state is, in the place of the run's, and ``failure`` gives it. ``metadata`` replaces what
        the suspension had; None keeps that.
        """
        check_run(run)
        _check_error(error)
        renamed = None if metadata is None else check_metadata(metadata)
        sealed = await self._sealed_outcome(run, why)
        if not isinstance(sealed, Success):
            return Failure(sealed.failure())
        explained = why is not None
        return await self._finished(
            "fail",
            run,
            lambda seen: verbs.fail(seen.head, _holder(run), seen.now, error=_said(error), explained=explained),
            sealed.unwrap() if explained else KEEP,
            renamed,
        )

    async def _sealed_outcome(self, run: Resumption[Any], outcome: object) -> Result[bytes | None, PersistenceError]:
        if outcome is None:
            return Success(None)
        key, tenant = str(run.suspension.id), run.suspension.tenant
        return await self.suspensions.records.seal_body(key, tenant, outcome, purpose="outcome")

    @discreet
    async def release(
        self, run: Resumption[Any], error: BaseException | str | None = None, delay: timedelta | None = None
    ) -> Outcome[Suspension]:
        """Give a claimed run back: it is claimable again, with the same answers, after the delay."""
        check_run(run)
        _check_error(error)
        check_optional(delay, "delay", check_pause)
        after = timedelta(0) if delay is None else delay
        return await self._finished(
            "release",
            run,
            lambda seen: verbs.release(seen.head, _holder(run), seen.now, error=_said(error), delay=after),
            KEEP,
        )

    @discreet
    async def suspend_next(
        self,
        run: Resumption[Any],
        state: object,
        *,
        awaiting: Awaiting = None,
        until: Until = "all",
        timeout: timedelta | None = None,
        deadline: datetime | None = None,
        superseded: Collection[str] = (),
        metadata: Mapping[str, Scalar] | None = None,
    ) -> Outcome[NewSuspension]:
        """Pause a claimed run again: same id, new state, new waits. Waits that are still open stay, with their keys.

        Answers that came while it ran belong to this pause: with them it may be answered at once. ``superseded`` names
        the waits whose answers are needed no more: they close in the same put, their keys say so, and their names are
        free. ``metadata`` replaces what the suspension had; None keeps that.
        """
        check_run(run)
        names = check_superseded(superseded)
        renamed = None if metadata is None else check_metadata(metadata)
        planned = self._plan(awaiting, until, timeout, deadline)
        suspension = run.suspension
        records, key = self.suspensions.records, str(suspension.id)
        sealed = await seal_state(records, key, suspension.tenant, state, compared=False)
        if not isinstance(sealed, Success):
            return Failure(sealed.failure())
        body = sealed.unwrap().body

        async def decide(seen: Present) -> Turn[NewSuspension]:
            carries = any(carried(wait, names) for wait in seen.head.waits)
            step = verbs.suspend_next(
                seen.head,
                _holder(run),
                seen.now,
                waits=planned.opened(seen.now) if awaiting is not None or not carries else (),
                until=until,
                superseded=names,
                metadata=renamed,
            )
            return Turn(step.head, step.result.map(self._new), body if isinstance(step.result, Success) else KEEP)

        freed = partial(self._let_go, run)
        return as_outcome(await self.suspensions.transact("suspend_next", suspension.id, decide, settled=freed))

    @discreet
    def running(
        self,
        key: Named,
        value: object = MISSING,
        *,
        by: str | None = None,
        answer_id: str | None = None,
        lease: timedelta = DEFAULT_LEASE,
        expect: type[S] = ANY_CLASS,
        awaiting: AwaitInput[A] = ANY_ANSWER,  # type: ignore[assignment]
    ) -> AbstractAsyncContextManager[Outcome[Resumption[S, A]]]:
        """``async with hub.running(key) as outcome:`` claims, renews while the block runs, and completes at its end.

        An exception in the block releases the run. When the lease is lost the block is cancelled and leaves with that
        error: a cancelled block can't be left otherwise.
        """
        check_duration(lease, "lease")
        self._check_taken(expect, awaiting)

        async def claimed() -> Result[Resumption[S, A], PersistenceError]:
            with forgetting():
                return await self.claim(
                    key, value, by=by, answer_id=answer_id, lease=lease, expect=expect, awaiting=awaiting
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
        """Until cancelled: claim what is due, renew, ``await handler(run)``, complete with its result; release what
        fails. Once it is cancelled nothing more is claimed; handlers have ``grace`` to end before they are cancelled
        and their runs released.

        ``expired`` is awaited with each suspension that has expired, in the same way: by one worker at a time, again
        after a failure or a crash, and no more once it has returned. What it returns is not kept, and the suspension
        stays closed.
        """
        await Worker(self, handler, criteria, concurrency, lease, max_attempts, backoff, poll, grace, expired).run()

    @discreet
    async def outcome(self, key: Named, *, by: str | None = None) -> Outcome[object]:
        """What ``complete`` stored, None where that was nothing; ``StillWaiting`` before it."""

        async def decide(seen: Present) -> Turn[object]:
            if seen.head.status is not Status.COMPLETED or seen.head.taken is not None:
                return Turn(seen.head, Failure(_no_outcome(seen.head)))
            if not seen.record.has_body:
                return Turn(seen.head, Success(None))
            return Turn(seen.head, await self.suspensions.records.open_body(seen.record, purpose="outcome"))

        return as_outcome(await self.suspensions.transact("outcome", key, decide, by=by, body=True))

    @discreet
    async def failure(self, key: Named, *, by: str | None = None) -> Outcome[object]:
        """Why a run has failed, as ``fail`` was told; None where it was not. Of one that has not failed, what
        ``outcome`` says.
        """

        async def decide(seen: Present) -> Turn[object]:
            if seen.head.status is not Status.FAILED:
                return Turn(seen.head, Failure(_no_outcome(seen.head)))
            if not seen.head.explained:
                return Turn(seen.head, Success(None))
            return Turn(seen.head, await self.suspensions.records.open_body(seen.record, purpose="outcome"))

        return as_outcome(await self.suspensions.transact("failure", key, decide, by=by, body=True))

    @discreet
    async def cancel(self, key: Named, reason: str | None = None, *, by: str | None = None) -> Outcome[Suspension]:
        """Close a waiting or answered suspension; a running one is cancelled at its next renewal, pause or release."""
        check_instance(reason, "reason", (str, type(None)), "a str or None")

        async def decide(seen: Present) -> Turn[Suspension]:
            step = verbs.cancel(seen.head, seen.target, seen.now, reason=_said(reason))
            return Turn(step.head, step.result.map(suspension_of))

        return as_outcome(await self.suspensions.transact("cancel", key, decide, by=by))

    @discreet
    async def extend(
        self, key: Named, *, timeout: timedelta | None = None, deadline: datetime | None = None, by: str | None = None
    ) -> Outcome[Suspension]:
        """Move the deadline of the key's wait, or by id of all open ones, to ``timeout`` from now or to
        ``deadline``.
        """
        check_times(timeout, deadline)
        if timeout is None and deadline is None:
            msg = "extend needs a timeout or a deadline"
            raise ValueError(msg)

        async def decide(seen: Present) -> Turn[Suspension]:
            moment = earliest(deadline, timeout, seen.now)
            step = verbs.extend(seen.head, seen.target, seen.now, deadline=moment or seen.now)
            return Turn(step.head, step.result.map(suspension_of))

        return as_outcome(await self.suspensions.transact("extend", key, decide, by=by))

    @discreet
    async def query(
        self,
        criteria: Criteria = Criteria(),  # noqa: B008 - frozen
        *,
        limit: int = 100,
        after: str | None = None,
        by: str | None = None,
    ) -> Outcome[Page[Suspension]]:
        """A page of suspensions, the oldest first; ``after`` is the ``next`` of the page before.

        It may come short of the limit with a ``next``. What the authorizer refuses is left out. ``unreadable`` names
        what can't be read, where no authorizer says who may know of it.
        """
        check_criteria(criteria)
        check_whole(limit, "limit")
        check_optional(after, "after", check_str)
        check_optional(by, "by", check_text)
        return as_outcome(await query(self.suspensions, criteria, limit=limit, after=after, by=by))

    def remember(self, *awaiting: AwaitInput[Any]) -> None:
        """Have the classes of these AwaitInputs' schemas check the answers that this hub takes, as those of ``types``
        and of its own suspensions do: an answer that a class's validators refuse is refused before it is recorded.
        """
        for item in awaiting:
            check_instance(item, "awaiting", AwaitInput, "AwaitInputs")
            self.answer_types.remember(item.id, item.schema, item.json_schema)

    def _plan(self, awaiting: Awaiting, until: Until, timeout: timedelta | None, deadline: datetime | None) -> Plan:
        planned = plan(
            awaiting,
            until=until,
            timeout=timeout,
            deadline=deadline,
            default_timeout=self.defaults.timeout,
            entropy=self.pace.entropy,
            types=self.answer_types.registry,
        )
        self.remember(*(wait.awaiting for wait in planned.waits if wait.awaiting is not None))
        return planned

    def _given(self, value: object, by: str | None, answer_id: str | None) -> Given:
        # One answer may be as large as a state.
        most = max(MAX_TEXT, self.suspensions.records.sealer.codec.limits.max_bytes)
        return Given(verbs.Offer(own_copy(value), by, answer_id), self.answer_types, most)

    def _facts(self, metadata: Mapping[str, Scalar] | None, tenant: str | None, idempotency_key: str | None) -> Facts:
        check_optional(idempotency_key, "idempotency_key", check_str)
        if idempotency_key is None:
            # The id's own time only orders it; every decision is by the store's clock.
            new = SuspensionId.new(now=self.pace.now(), entropy=self.pace.entropy)
        else:
            new = SuspensionId.derive(self.defaults.namespace, tenant, idempotency_key)
        return Facts(new, metadata or {}, tenant, self.defaults.retention, fresh=idempotency_key is None)

    async def _create(
        self, verb: str, facts: Facts, planned: Plan, state: SealedState | None, by: str | None
    ) -> Outcome[NewSuspension]:
        status = Status.RESERVED if state is None else Status.WAITING

        async def decide(found: Found[Head]) -> Move[NewSuspension]:
            if found.record is not None:
                return Move(None, await self._again(verb, found.record, planned, state, by))
            head = facts.head(planned, found.now, status, None if state is None else state.fingerprint)
            allowed = await self.suspensions.allowed(verb, head, by)
            if isinstance(allowed, Failure):
                return Move(None, Failure(allowed.failure()))
            draft = self.suspensions.draft(head, before=None, body=None if state is None else state.body)
            return Move(draft, Success(self._new(head)))

        return as_outcome(await self.suspensions.told(verb, by, str(facts.id), decide, new=facts.fresh))

    async def _again(
        self, verb: str, record: Loaded[Head], planned: Plan, state: SealedState | None, by: str | None
    ) -> Result[NewSuspension, PersistenceError]:
        """The repeat of an idempotency key. It hands out keys, so that it is asked for as the first call was."""
        head = present(record.head, record.now)
        allowed = await self.suspensions.allowed(verb, head, by)
        same = allowed.bind(lambda _: same_request(self.suspensions.records, record, planned, state))
        return same.map(lambda _: self._new(head, answered=True))

    async def _fill(
        self, key: Named, state: object, instead: str | bytes | None, by: str | None
    ) -> Outcome[NewSuspension]:
        async def decide(seen: Present) -> Turn[NewSuspension]:
            records = self.suspensions.records
            sealed = await seal_state(
                records, seen.record.ref.key, seen.record.tenant, state, compared=True, instead=instead
            )
            if not isinstance(sealed, Success):
                return Turn(seen.head, Failure(sealed.failure()))
            if seen.head.fingerprint is not None:
                same = same_state(records, seen.record, sealed.unwrap())
                return Turn(seen.head, same.map(lambda _: self._new(seen.head, answered=True)))
            step = verbs.fill(seen.head, seen.now, sealed.unwrap().fingerprint)
            filled = step.result.map(lambda head: self._new(head, answered=True))
            return Turn(step.head, filled, sealed.unwrap().body)

        return as_outcome(await self.suspensions.transact("suspend", key, decide, by=by))

    def _check_taken(self, expect: type, awaiting: AwaitInput[Any]) -> None:
        check_class(expect, "expect")
        if awaiting is not ANY_ANSWER:
            self.remember(awaiting)

    async def _taken(
        self, seen: Present, step: verbs.Step[Head], expect: type[S], awaiting: AwaitInput[A]
    ) -> Turn[Resumption[S, A]]:
        """Read the state before the put that takes the run: what this process can't read stays as it was."""
        if not isinstance(step.result, Success):
            return Turn(step.head, Failure(step.result.failure()))
        state = await self.suspensions.records.open_body(seen.record, purpose="state")
        fitting = state.bind(lambda value: _expected(value, expect))
        if not isinstance(fitting, Success):
            return Turn(seen.head, Failure(fitting.failure()))
        apart = await self.suspensions.beside.answers.values(step.head)
        answers = apart.bind(lambda values: answers_of(step.head, values, awaiting))
        if not isinstance(answers, Success):
            return Turn(seen.head, Failure(answers.failure()))
        return Turn(step.head, Success(resumption_of(step.head, fitting.unwrap(), answers.unwrap())))

    async def _finished(
        self,
        verb: str,
        run: Resumption[Any],
        step: Callable[[Present], verbs.Step[Head]],
        body: bytes | Keep | None,
        metadata: Mapping[str, Scalar] | None = None,
    ) -> Outcome[Suspension]:
        async def decide(seen: Present) -> Turn[Suspension]:
            decided = step(seen)
            # A cancellation that is carried out here keeps the state: only the verb's own success replaces it.
            if not isinstance(decided.result, Success):
                return Turn(decided.head, Failure(decided.result.failure()), KEEP)
            head = decided.head
            if metadata is not None and head is not seen.head:
                head = evolve(head, metadata=metadata)
            # What has expired stays as it was, state included.
            return Turn(head, Success(suspension_of(head)), KEEP if head.status is Status.EXPIRED else body)

        freed = partial(self._let_go, run)
        return as_outcome(await self.suspensions.transact(verb, run.suspension.id, decide, settled=freed))

    def _let_go(self, run: Resumption[Any], result: Result[T, PersistenceError]) -> None:
        held = self.holds.get((run.suspension.id, run.fence))
        if held is not None and isinstance(result, Success):
            held.set()

    def _new(self, head: Head, *, answered: bool = False) -> NewSuspension:
        prefix, public_url = self.suspensions.prefix, self.defaults.public_url
        return new_suspension_of(head, prefix=prefix, public_url=public_url, answered=answered)

    def _random_id(self) -> str:
        return self.pace.entropy(16).hex()


def _holder(run: Resumption[Any]) -> verbs.Holder:
    return verbs.Holder(run.fence, run.claim_id)


def _check_error(error: object) -> None:
    check_instance(error, "error", (BaseException, str, type(None)), "an exception, a str or None")


def _said(error: BaseException | str | None) -> str | None:
    if isinstance(error, BaseException):
        return type(error).__name__
    # What a program quotes may hold half a character, which no text of a store can.
    return None if error is None else error[:1000].encode("utf-8", "backslashreplace").decode()


def _expected(state: object, expect: type[S]) -> Result[S, PersistenceError]:
    if isinstance(state, expect):
        return Success(state)
    message = f"the state is of class {type(state).__name__}, not {expect.__name__}; it stays as it was"
    return Failure(UnexpectedType(message, "state"))


def _no_outcome(head: Head) -> PersistenceError:
    if head.status.closed:
        return closed_error(head, None)
    return StillWaiting(f"run {head.id} is {head.status}: it has no outcome yet", suspension_of(head))
