"""``Locks``: which of several agents may change what. ``lifecycle.locking`` says what may follow what."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import timedelta
from typing import Final

from returns.result import Failure, Result, Success

from flowpersist.errors import LeaseLost, PersistenceError
from flowpersist.errors.arguments import check_duration, check_instance, check_optional, check_pause
from flowpersist.errors.secrecy import discreet, forgetting
from flowpersist.hub.outcome import attempt, or_raise
from flowpersist.hub.renewing import Renewing
from flowpersist.hub.wakeup import Bell
from flowpersist.lifecycle import locking
from flowpersist.lifecycle.locking import Lease, LockType
from flowpersist.sealed.naming import check_id
from flowpersist.sealed.steps import Steps
from flowpersist.stores.values import ValueStore

__all__ = ["LOCKS", "Locks"]

log = logging.getLogger("flowpersist.stores")
LOCKS: Final = "locks"
TTL: Final = timedelta(minutes=5)
POLL: Final = timedelta(milliseconds=100)
#: Of those of a process who wait for one lock, a change wakes the first ones; more would be in each other's way.
AT_ONCE: Final = 4
GIVING_UP: Final = 2.0


class Locks:
    """The locks of a collection, one for each path. ``Stores.locks`` makes it.

    An agent is one holder, whatever task or process asks for it: what it holds, it gets again. Paths and agents are 1
    to 4096 bytes of UTF-8 without NUL. Verbs raise what those of ``ValueStore`` do; after ``UnknownOutcome`` repeat.

    - ``values``: the collection.
    - ``poll``: how often the first who waits looks; ten times as long where the backend tells of changes.
    """

    def __init__(self, values: ValueStore[list[object]], *, poll: timedelta = POLL) -> None:
        check_instance(values, "values", ValueStore, "a ValueStore of list")
        check_duration(poll, "poll")
        self._collection = values.collection
        self._steps = Steps(values.collection, locking.Lock.of)
        self._poll = poll
        self._bell = Bell(lambda: values.collection.records, AT_ONCE)

    @discreet
    async def acquire(
        self,
        path: str,
        agent_id: str,
        *,
        lock_type: LockType = "exclusive",
        ttl: timedelta = TTL,
        wait: timedelta | None = None,
    ) -> Lease:
        """Take a lock. Who comes first is served first.

        - ``path``: what is locked.
        - ``agent_id``: who takes it. If it holds the lock already, it gets the same lease with a later end.
        - ``lock_type``: ``exclusive``, or ``shared``, which goes together with other shared ones.
        - ``ttl``: the length of the lease, by the store's clock; at most 30 days.
        - ``wait``: how long to wait at most; None: not at all.

        Raises ``LockBusy``, which tells who holds the lock and until when.
        """
        wish = locking.Ask(path, agent_id, lock_type, ttl, self._collection.records.runtime.entropy(8))
        check_optional(wait, "wait", check_pause)

        async def ask(*, waits: bool = True) -> Result[Lease | locking.Waiting, PersistenceError]:
            return await self._steps.step((path,), lambda lock, now: locking.taken(lock, now, wish, waits=waits))

        try:
            result = await ask(waits=bool(wait))
            if wait and not isinstance(result.value_or(None), Lease):
                name = or_raise(await self._collection.made_naming()).name((path,))
                pause = lambda last: self._poll if last is None else last.pause(self._poll)  # noqa: E731
                async with aclosing(self._bell.looks(name, ask, pause, wait)) as looks:
                    async for asked in looks:
                        if isinstance(asked, Lease):
                            return asked
                result = await ask(waits=False)
        except asyncio.CancelledError:
            # Where this does not succeed, the place and the lease end by themselves.
            with suppress(TimeoutError):
                async with asyncio.timeout(GIVING_UP):
                    await self._steps.step((path,), lambda lock, _: Success(locking.dropped(lock, wish.claim)))
            raise
        last = or_raise(result)
        if isinstance(last, Lease):
            return last
        raise last.busy

    @discreet
    async def renew(self, lease: Lease, ttl: timedelta = TTL) -> Lease:
        """Move the end of a lease; gives it with its new end.

        - ``lease``: of ``acquire``, ``renew`` or ``holders``.
        - ``ttl``: its length from now on.

        Raises ``LeaseLost`` where it has ended, even if nobody else has the lock.
        """
        check_instance(lease, "lease", Lease, "a Lease")
        locking.check_ttl(ttl)
        return or_raise(await self._steps.step((lease.path,), lambda lock, now: locking.renewed(lock, now, lease, ttl)))

    @discreet
    async def release(self, lease: Lease) -> bool:
        """End a lease; False where it had ended already. The lock keeps its last fence.

        - ``lease``: of ``acquire``, ``renew``, or ``holders``, which takes the lock from its holder.
        """
        check_instance(lease, "lease", Lease, "a Lease")
        return or_raise(await self._steps.step((lease.path,), lambda lock, _: Success(locking.freed(lock, lease))))

    @discreet
    async def holders(self, path: str) -> tuple[Lease, ...]:
        """Who holds a lock; several where it is shared.

        - ``path``: which lock.
        """
        check_id(path, "path")
        lock = or_raise(await self._steps.look((path,)))
        return tuple(locking.leased(path, stake) for stake in lock.stakes if stake.fence)

    @asynccontextmanager
    async def held(
        self,
        path: str,
        agent_id: str,
        *,
        lock_type: LockType = "exclusive",
        ttl: timedelta = TTL,
        wait: timedelta | None = None,
    ) -> AsyncIterator[Lease]:
        """Hold a lock while a block runs: ``async with locks.held(…) as lease:``, with the arguments of ``acquire``.

        The lease is renewed after each third of ``ttl``, and released at the end. If it is lost, the block is cancelled
        and ``LeaseLost`` is raised.
        """
        with forgetting():
            lease = await self.acquire(path, agent_id, lock_type=lock_type, ttl=ttl, wait=wait)
            what, overdue, records = f"the lock of fence {lease.fence}", False, self._collection.records
            left, store = lease.expires_at - records.reckoned(), records.backend.name
            try:
                async with Renewing(lambda: attempt(self.renew(lease, ttl)), ttl, what, store, left=left) as renewing:
                    yield lease
                    overdue = renewing.overdue
            finally:
                released = await attempt(self.release(lease))
                if isinstance(released, Failure):
                    log.warning("the lease on %s was not released, and ends by itself: %s", what, released.failure())
            if overdue and released != Success(True):
                raise LeaseLost(f"the lease of fence {lease.fence} ended before its block, which was held up")
