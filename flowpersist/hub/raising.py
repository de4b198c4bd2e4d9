"""The same verbs for those who prefer exceptions: values come back, ``PersistenceError`` is raised."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Unpack

from flowpersist.backends.base import Page, Scalar, StorageBackend
from flowpersist.errors.secrecy import discreet
from flowpersist.hub.opening import HubOptions, open_hub
from flowpersist.hub.outcome import ANY_CLASS, DEFAULT_LEASE, S, or_raise
from flowpersist.hub.raising_parking import RaisingParking
from flowpersist.hub.suspending import Awaiting
from flowpersist.hub.transactions import KeyLike
from flowpersist.hub.worker import Backoff
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.inputs.people import By
from flowpersist.keys.keyring import KeyRing
from flowpersist.keys.suspension_key import SuspensionId, SuspensionKey
from flowpersist.lifecycle.criteria import Criteria
from flowpersist.lifecycle.history import AuditEntry
from flowpersist.lifecycle.model import Until
from flowpersist.lifecycle.views import Checkpoint, NewSuspension, Resumption, Suspension

__all__ = ["RaisingHub"]


class RaisingHub(RaisingParking):
    """The verbs of ``PersistenceHub``, where their arguments are described; ``hub`` is the one that does the work.

    All verbs raise ``StorageError``, and ``IntegrityError`` or ``EncryptionError`` where a record can't be opened.
    Those that take a key, an id or a run also raise ``KeyValidationError`` and ``SuspensionNotFound``, and where the
    authorizer refuses ``PermissionDenied``. What else a verb raises stands with it.
    """

    @staticmethod
    @asynccontextmanager
    async def open(url: str | StorageBackend | None = None, **options: Unpack[HubOptions]) -> AsyncIterator[RaisingHub]:
        """``async with RaisingHub.open("sqlite:///flows.db") as hub:``, with the arguments of ``open_hub``."""
        async with open_hub(url, **options) as hub:
            yield RaisingHub(hub)

    def within(self, connection: Any) -> RaisingHub:  # noqa: ANN401 - of the backend's driver
        """The hub in a transaction of yours: what it writes and what you write is committed together or not at all.

        Raises ``ConfigurationError`` where no transaction is open, and for stores that can't be part of one.
        """
        return RaisingHub(self.hub.within(connection))

    def use_keyring(self, keyring: KeyRing | None) -> None:
        """Seal and open with another keyring from now on."""
        self.hub.use_keyring(keyring)

    def remember(self, *awaiting: AwaitInput[Any]) -> None:
        """Have the classes of these AwaitInputs' schemas check the answers that this hub takes."""
        self.hub.remember(*awaiting)

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
    ) -> NewSuspension:
        """Make a state durable, and give the keys that resume it.

        Raises ``IdempotencyConflict``, ``SerializationError``, and ``SuspensionClosed`` where the reserved ``key`` has
        ended.
        """
        return or_raise(
            await self.hub.suspend(
                state,
                awaiting=awaiting,
                until=until,
                timeout=timeout,
                deadline=deadline,
                metadata=metadata,
                tenant=tenant,
                idempotency_key=idempotency_key,
                idempotency_digest=idempotency_digest,
                key=key,
                by=by,
                verify=verify,
            )
        )

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
    ) -> NewSuspension:
        """Make the keys before the state is there.

        Raises ``IdempotencyConflict``.
        """
        return or_raise(
            await self.hub.reserve(
                awaiting,
                until=until,
                timeout=timeout,
                deadline=deadline,
                metadata=metadata,
                tenant=tenant,
                idempotency_key=idempotency_key,
                by=by,
            )
        )

    @discreet
    async def history(self, key: KeyLike, *, by: By | None = None) -> tuple[AuditEntry, ...]:
        """The suspension's audit trail: an entry for each change, the first one first, all of them verified.

        Raises ``IntegrityError`` where entries are missing, and ``TamperedEnvelope`` where one was altered.
        """
        return or_raise(await self.hub.history(key, by=by))

    @discreet
    async def inspect(self, key: KeyLike, *, by: By | None = None) -> Suspension:
        """The suspension as of now."""
        return or_raise(await self.hub.inspect(key, by=by))

    @discreet
    async def keys(self, id: SuspensionId, *, by: By | None = None) -> Mapping[str, SuspensionKey]:
        """The keys of a suspension's open waits, by name."""
        return or_raise(await self.hub.keys(id, by=by))

    @discreet
    async def claim_due(
        self,
        criteria: Criteria = Criteria(),  # noqa: B008 - frozen
        *,
        limit: int = 1,
        lease: timedelta = DEFAULT_LEASE,
        expect: type[S] = ANY_CLASS,
    ) -> tuple[Resumption[S], ...]:
        """Claim what is answered or whose lease has ended. What another claims first is passed over."""
        return or_raise(await self.hub.claim_due(criteria, limit=limit, lease=lease, expect=expect))

    @discreet
    async def renew(self, run: Resumption[Any], *, lease: timedelta = DEFAULT_LEASE) -> datetime:
        """Move the end of the lease.

        Raises ``LeaseLost`` and ``SuspensionCancelled``.
        """
        return or_raise(await self.hub.renew(run, lease=lease))

    @discreet
    async def complete(
        self,
        run: Resumption[Any],
        outcome: object = None,
        *,
        discard: bool = False,
        superseded: Collection[str] = (),
        metadata: Mapping[str, Scalar] | None = None,
    ) -> Suspension:
        """End a claimed run.

        Raises ``LeaseLost`` and ``SuspensionCancelled``, ``UnreadAnswers`` and ``SerializationError``.
        """
        return or_raise(
            await self.hub.complete(run, outcome, discard=discard, superseded=superseded, metadata=metadata)
        )

    @discreet
    async def fail(
        self,
        run: Resumption[Any],
        error: BaseException | str | None = None,
        *,
        why: object = None,
        metadata: Mapping[str, Scalar] | None = None,
    ) -> Suspension:
        """End a claimed run as failed.

        Raises ``LeaseLost`` and ``SuspensionCancelled``, and ``SerializationError`` of ``why``.
        """
        return or_raise(await self.hub.fail(run, error, why=why, metadata=metadata))

    @discreet
    async def release(
        self, run: Resumption[Any], error: BaseException | str | None = None, delay: timedelta | None = None
    ) -> Suspension:
        """Give a claimed run back.

        Raises ``LeaseLost`` and ``SuspensionCancelled``.
        """
        return or_raise(await self.hub.release(run, error, delay))

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
    ) -> Checkpoint[S]:
        """Store the state of a claimed run that goes on, and open further waits.

        Raises ``LeaseLost`` and ``SuspensionCancelled``, ``SuspensionExpired`` and ``SerializationError``.
        """
        return or_raise(
            await self.hub.checkpoint(
                run,
                state,
                awaiting=awaiting,
                timeout=timeout,
                deadline=deadline,
                superseded=superseded,
                unread=unread,
                progress=progress,
                metadata=metadata,
                verify=verify,
            )
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
        verify: bool = False,
    ) -> NewSuspension:
        """Pause a claimed run again.

        Raises ``LeaseLost`` and ``SuspensionCancelled``, ``SuspensionExpired`` and ``SerializationError``.
        """
        return or_raise(
            await self.hub.suspend_next(
                run,
                state,
                awaiting=awaiting,
                until=until,
                timeout=timeout,
                deadline=deadline,
                superseded=superseded,
                metadata=metadata,
                verify=verify,
            )
        )

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
        """Claim what is due, and run the handler on it, until the task is cancelled.

        Raises ``TypeError`` where the handler is not an async function. Other errors are logged, and it goes on.
        """
        await self.hub.work(
            handler,
            criteria,
            concurrency=concurrency,
            lease=lease,
            max_attempts=max_attempts,
            backoff=backoff,
            poll=poll,
            grace=grace,
            expired=expired,
        )

    @discreet
    async def outcome(self, key: KeyLike, *, by: By | None = None) -> object:
        """What ``complete`` stored.

        Raises ``StillWaiting``, ``SuspensionClosed`` and ``SerializationError``.
        """
        return or_raise(await self.hub.outcome(key, by=by))

    @discreet
    async def failure(self, key: KeyLike, *, by: By | None = None) -> object:
        """Why a run has failed: the ``why`` of ``fail``.

        Raises ``StillWaiting``, ``SuspensionClosed`` and ``SerializationError``.
        """
        return or_raise(await self.hub.failure(key, by=by))

    @discreet
    async def query(
        self,
        criteria: Criteria = Criteria(),  # noqa: B008 - frozen
        *,
        limit: int = 100,
        after: str | None = None,
        by: By | None = None,
    ) -> Page[Suspension]:
        """A page of suspensions.

        Raises ``InputValidationError`` where ``after`` is not the ``next`` of a page.
        """
        return or_raise(await self.hub.query(criteria, limit=limit, after=after, by=by))

    async def iterate(self, criteria: Criteria = Criteria()) -> AsyncIterator[Suspension]:  # noqa: B008 - frozen
        """All suspensions that match, page by page."""
        after: str | None = None
        while True:
            page = await self.query(criteria, after=after)
            for suspension in page.items:
                yield suspension
            if page.next is None:
                return
            after = page.next
