"""The verbs that make a suspension, pause a claimed run again, or store one that goes on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from returns.result import Failure, Result, Success

from flowpersist.backends.base import Scalar
from flowpersist.errors import ConfigurationError, PersistenceError
from flowpersist.errors.arguments import (
    check_flag,
    check_optional,
    check_str,
)
from flowpersist.errors.secrecy import discreet
from flowpersist.hub.answering import delivered
from flowpersist.hub.base import HubBase
from flowpersist.hub.holding_verbs import holder_of
from flowpersist.hub.outcome import Outcome, S, as_outcome
from flowpersist.hub.paged_heads import PagesOf
from flowpersist.hub.suspending import (
    Awaiting,
    Facts,
    Plan,
    SealedState,
    check_digest,
    check_requester,
    check_superseded,
    check_times,
    requester_of,
    same_request,
    same_state,
    seal_state,
)
from flowpersist.hub.transactions import KeyLike, Snapshot
from flowpersist.inputs.people import By, subject_of
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle import holding, verbs
from flowpersist.lifecycle.changes import present
from flowpersist.lifecycle.decisions import Decision, refused
from flowpersist.lifecycle.giving import checkpoint_of
from flowpersist.lifecycle.model import Head, Status, Until, check_metadata, rest_of
from flowpersist.lifecycle.parts import pages_to_pause, prefix_of
from flowpersist.lifecycle.pausing import carried
from flowpersist.lifecycle.views import (
    Checkpoint,
    NewSuspension,
    Resumption,
    check_run,
)
from flowpersist.sealed.drafts import Decided, Found, Loaded

__all__ = ["SuspendingVerbs"]


class SuspendingVerbs(HubBase):
    """``suspend``, ``reserve``, ``suspend_next`` and ``checkpoint``."""

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
        key: KeyLike | None = None,
        by: By | None = None,
        verify: bool = False,
    ) -> Outcome[NewSuspension]:
        """Make a state durable, and give the keys that resume it.

        - ``state``: any value of the codec's types and the registered classes.
        - ``awaiting``: the AwaitInput that is asked, or several by name; None: it can be resumed without an answer.
        - ``until``: when it can be resumed: at ``all`` answers, at ``any`` (the other waits close), or at ``each`` (the
          others stay open).
        - ``timeout``: how long the waits stay open, whatever their AwaitInputs say. Without it and a ``deadline`` these
          decide, then the hub's default.
        - ``deadline``: when they end, if that is earlier.
        - ``metadata``: names and values to query by, stored in clear.
        - ``tenant``: whose it is; stored in clear, and bound by the seal.
        - ``idempotency_key``: the same key gives the same suspension again as it stands now; its ``status`` tells
          whether it has ended. With another question or another state the call fails with ``IdempotencyConflict``.
        - ``idempotency_digest``: what is compared in the state's place, where the state is another at each call.
        - ``key``: a key that ``reserve`` gave; the suspension keeps what was asked there.
        - ``by``: who is acting, for the authorizer and the events.
        - ``verify``: decode what was encoded and compare it with the state before anything is stored; where they
          differ the call fails with ``UnsupportedType``. ``open_hub(verify=True)`` does so at every call.
        """
        check_flag(verify, "verify")
        check_optional(idempotency_digest, "idempotency_digest", check_digest)
        if key is not None:
            if awaiting is not None or idempotency_key is not None:
                msg = "Invalid key: expected no awaiting and no idempotency_key beside a reserved key"
                raise ValueError(msg)
            return await self._fill(key, state, idempotency_digest, by, verify=verify)
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
            verify=verify,
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
        by: By | None = None,
    ) -> Outcome[NewSuspension]:
        """Make the keys before the state exists; ``suspend(state, key=…)`` brings it. Answers that come early are kept.

        - ``awaiting``: the AwaitInput that is asked, or several by name; None: it can be resumed without an answer.
        - ``until``: when it can be resumed: at ``all`` answers, at ``any`` (the other waits close), or at ``each`` (the
          others stay open).
        - ``timeout``: how long the waits stay open, whatever their AwaitInputs say. Without it and a ``deadline`` these
          decide, then the hub's default.
        - ``deadline``: when they end, if that is earlier.
        - ``metadata``: names and values to query by, stored in clear.
        - ``tenant``: whose it is; stored in clear, and bound by the seal.
        - ``idempotency_key``: the same key gives the same reservation again.
        - ``by``: who is acting, for the authorizer and the events.
        """
        planned = self._plan(awaiting, until, timeout, deadline)
        return await self._create("reserve", self._facts(metadata, tenant, idempotency_key), planned, None, by)

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
        verify: bool = False,
    ) -> Outcome[NewSuspension]:
        """Pause a claimed run again: same id, new state, new waits. Waits that are still open stay, with their keys.

        Answers that came while it ran belong to this pause: with them it may be answered at once.

        - ``run``: what the claim gave.
        - ``state``: what the run goes on from.
        - ``awaiting``: what is asked next; None: only what is still open, or no answer where nothing is.
        - ``until``: when it can be resumed: at ``all`` answers, at ``any`` (the other waits close), or at ``each`` (the
          others stay open).
        - ``timeout``: how long the waits stay open, whatever their AwaitInputs say. Without it and a ``deadline`` these
          decide, then the hub's default.
        - ``deadline``: when they end, if that is earlier.
        - ``superseded``: names of waits whose answers are no longer needed. They close in the same write, and their
          names are free again.
        - ``metadata``: replaces what the suspension had; None keeps that.
        - ``verify``: as for ``suspend``.
        """
        check_flag(verify, "verify")
        check_run(run)
        names = check_superseded(superseded)
        renamed = None if metadata is None else check_metadata(metadata)
        planned = self._plan(awaiting, until, timeout, deadline)
        suspension = run.suspension
        check_requester(planned, suspension.requested_by)
        records, key = self.suspensions.records, str(suspension.id)
        sealed = await seal_state(records, key, suspension.tenant, state, compared=False, verify=verify)
        if not isinstance(sealed, Success):
            return Failure(sealed.failure())
        body = sealed.unwrap().body

        async def decide(seen: Snapshot) -> Decision[NewSuspension]:
            rest = rest_of(seen.head)
            carries = rest.open or rest.undelivered or any(carried(wait, names) for wait in seen.head.waits)
            decision = holding.suspend_next(
                seen.head,
                holder_of(run),
                seen.now,
                waits=planned.opened(seen.now) if awaiting is not None or not carries else (),
                until=until,
                superseded=names,
                metadata=renamed,
                sequence=run.sequence,
            )
            return decision.map(self._new, body=body)

        freed, pages = partial(self._let_go, run), _pages(run, None if awaiting is None else planned)
        return as_outcome(
            await self.suspensions.transact("suspend_next", suspension.id, decide, done=freed, pages=pages)
        )

    @discreet
    async def checkpoint(
        self,
        run: Resumption[S],
        state: S,
        *,
        awaiting: Awaiting = None,
        timeout: timedelta | None = None,
        deadline: datetime | None = None,
        superseded: Collection[str] = (),
        unread: Collection[str] = (),
        progress: bool = True,
        metadata: Mapping[str, Scalar] | None = None,
        verify: bool = False,
    ) -> Outcome[Checkpoint[S]]:
        """Store the state of a claimed run that goes on, and open further waits. It stays claimed under its lease.

        The answers that have come meanwhile are delivered by this call, so whoever takes the run over gets this state
        with the same answers. Until the next pause, each answer counts by itself, as with ``until="each"``.

        - ``run``: what the claim gave, or the checkpoint before.
        - ``state``: what the run goes on from if it is lost.
        - ``awaiting``: what is asked from now on, beside what is open; None: nothing more.
        - ``timeout``: how long the new waits stay open, whatever their AwaitInputs say. Without it and a ``deadline``
          these decide, then the hub's default.
        - ``deadline``: when they end, if that is earlier.
        - ``superseded``: names of waits whose answers are no longer needed. They close in the same write, and their
          names are free again.
        - ``unread``: names of waits whose answers the run was given and the state does not hold yet: they are delivered
          again.
        - ``progress``: whether the run came further since it was claimed: then its attempts count from 1 again.
        - ``metadata``: replaces what the suspension had; None keeps that.
        - ``verify``: as for ``suspend``.
        """
        check_flag(verify, "verify")
        check_flag(progress, "progress")
        check_run(run)
        check_times(timeout, deadline)
        closed, again = check_superseded(superseded), check_superseded(unread, "unread")
        renamed = None if metadata is None else check_metadata(metadata)
        planned = None if awaiting is None else self._plan(awaiting, "each", timeout, deadline)
        suspension = run.suspension
        records, key = self.suspensions.records, str(suspension.id)
        sealed = await seal_state(records, key, suspension.tenant, state, compared=False, verify=verify)
        if not isinstance(sealed, Success):
            return Failure(sealed.failure())
        body = sealed.unwrap().body

        async def decide(seen: Snapshot) -> Decision[Checkpoint[S]]:
            decision = holding.checkpoint(
                seen.head,
                holder_of(run),
                seen.now,
                sequence=run.sequence,
                waits=() if planned is None else planned.opened(seen.now),
                superseded=closed,
                unread=again,
                progress=progress,
                metadata=renamed,
            )
            if not isinstance(decision.result, Success):
                return Decision(decision.head, Failure(decision.result.failure()))
            stored = await self.suspensions.side_records.answers.values(decision.head)
            if not isinstance(stored, Success):
                return refused(seen.head, stored.failure())
            answers = await delivered(decision.head, stored.unwrap(), None)
            if not isinstance(answers, Success):
                return refused(seen.head, answers.failure())
            prefix = self.suspensions.prefix
            return decision.map(
                lambda head: checkpoint_of(head, state, answers.unwrap(), stored.unwrap(), prefix), body=body
            )

        pages = _pages(run, planned)
        return as_outcome(await self.suspensions.transact("checkpoint", suspension.id, decide, pages=pages))

    def _facts(self, metadata: Mapping[str, Scalar] | None, tenant: str | None, idempotency_key: str | None) -> Facts:
        check_optional(idempotency_key, "idempotency_key", check_str)
        if idempotency_key is None:
            # The id's own time only orders it; every decision is by the store's clock.
            new = SuspensionId.new(now=self.runtime.now(), entropy=self.runtime.entropy)
        else:
            new = SuspensionId.derive(self.defaults.namespace, tenant, idempotency_key)
        return Facts(new, metadata or {}, tenant, self.defaults.retention, fresh=idempotency_key is None)

    async def _create(
        self, verb: str, facts: Facts, planned: Plan, state: SealedState | None, by: By | None
    ) -> Outcome[NewSuspension]:
        status = Status.RESERVED if state is None else Status.WAITING
        actor, requester = subject_of(by), requester_of(by)
        check_requester(planned, actor)

        async def decide(found: Found[Head]) -> Decided[Head, NewSuspension]:
            if found.record is not None:
                return await self._again(verb, found.record, planned, state, by)
            mark = None if state is None else state.fingerprint
            head = facts.head(planned, found.now, status, mark, requester)
            allowed = await self.suspensions.allowed(verb, head, by)
            if isinstance(allowed, Failure):
                return Failure(allowed.failure())
            body = None if state is None else state.body
            trail = self.suspensions.side_records.trail
            audited = await trail.extended(verb, by, None, None, head, head, found.now)
            if not isinstance(audited, Success):
                return Failure(audited.failure())
            head = audited.unwrap()
            return self.suspensions.draft(head, Success(self._new(head)), before=None, body=body)

        updated = await self.suspensions.update(verb, actor, str(facts.id), decide, new=facts.fresh)
        return as_outcome(updated.result)

    async def _again(
        self, verb: str, record: Loaded[Head], planned: Plan, state: SealedState | None, by: By | None
    ) -> Result[NewSuspension, PersistenceError]:
        """The repeat of an idempotency key. It hands out keys, so that it is asked for as the first call was."""
        head = present(record.head, record.now)
        allowed = await self.suspensions.allowed(verb, head, by)
        same = allowed.bind(lambda _: same_request(self.suspensions.records, record, planned, state))
        return same.map(lambda _: self._new(head, answered=True))

    async def _fill(
        self, key: KeyLike, state: object, instead: str | bytes | None, by: By | None, *, verify: bool
    ) -> Outcome[NewSuspension]:
        async def decide(seen: Snapshot) -> Decision[NewSuspension]:
            records = self.suspensions.records
            sealed = await seal_state(
                records, seen.record.ref.key, seen.record.tenant, state, compared=True, instead=instead, verify=verify
            )
            if not isinstance(sealed, Success):
                return Decision(seen.head, Failure(sealed.failure()))
            if seen.head.fingerprint is not None:
                same = same_state(records, seen.record, sealed.unwrap())
                return Decision(seen.head, same.map(lambda _: self._new(seen.head, answered=True)))
            decision = verbs.fill(seen.head, seen.now, sealed.unwrap().fingerprint, requester_of(by))
            return decision.map(partial(self._new, answered=True), body=sealed.unwrap().body)

        return as_outcome(await self.suspensions.transact("suspend", key, decide, by=by))


def _pages(run: Resumption[Any], planned: Plan | None) -> PagesOf | None:
    """The pages of waits that a pause of a run needs: those of what its holder was given, and of what it asks next."""
    if run.partial is None:
        return None
    opened = [] if planned is None else [prefix_of(wait.secret) for wait in planned.waits]
    return partial(pages_to_pause, prefixes=run.partial.union(opened))
