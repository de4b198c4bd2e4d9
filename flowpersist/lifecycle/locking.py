"""Who holds a lock, and who may have it next: pure functions of a lock, an agent's wish and the store's clock.

A lock has the stakes of those who hold it and of those who wait, in the order in which they came. A stake is granted
when it goes together with all that stand before it; only shared ones go together. So nobody overtakes whom they would
keep waiting, and a stake that was not renewed is passed over.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final, Literal, Self, TypeAlias, get_args

from attrs import astuple, evolve, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import LeaseLost, LockBusy, MalformedPayload, PersistenceError, UnsupportedVersion
from flowpersist.errors.arguments import check_choice, check_duration
from flowpersist.sealed.cards import TICK
from flowpersist.sealed.naming import check_id
from flowpersist.sealed.steps import Step

__all__ = [
    "Ask",
    "Content",
    "Lease",
    "Lock",
    "LockType",
    "Waiting",
    "check_ttl",
    "dropped",
    "freed",
    "renewed",
    "taken",
]

LockType: TypeAlias = Literal["exclusive", "shared"]
#: A lock as it is stored: the version, the last fence, and the stakes.
Content: TypeAlias = list[Any]
VERSION: Final = 1
#: How long a place is kept for one that waits and does not renew it: the first one's, and for each that waits in front
#: as much longer. So a dead one holds up hardly anybody, and a long line does not spend its time on renewals.
PLACE: Final = timedelta(seconds=6)
PLACE_BEHIND: Final = timedelta(milliseconds=250)
#: Between two looks of one who waits far behind.
LONGEST: Final = timedelta(seconds=1)
MOST_STAKES: Final = 1000
MOST_TTL: Final = timedelta(days=30)


@frozen
class Lease:
    """A lock that an agent holds until ``expires_at`` by the store's clock, unless it is renewed. ``fence`` is larger
    than that of every earlier lease of the path: what the lock protects refuses what comes with a lower one.
    """

    path: str = field(repr=False)
    agent_id: str = field(repr=False)
    fence: int
    expires_at: datetime
    lock_type: LockType = "exclusive"

    def __attrs_post_init__(self) -> None:
        check_id(self.path, "path")
        check_id(self.agent_id, "agent_id")


@frozen
class Stake:
    """One who holds the lock, or, where ``fence`` is 0, waits for it. ``claim`` is the call's own."""

    agent: str = field(repr=False)
    shared: bool
    claim: bytes = field(repr=False)
    until: datetime
    fence: int = 0


@frozen
class Ask:
    """An agent's wish, by a call that ``claim`` names."""

    path: str = field(repr=False)
    agent: str = field(repr=False)
    lock_type: LockType
    ttl: timedelta
    claim: bytes = field(repr=False)

    def __attrs_post_init__(self) -> None:
        check_id(self.path, "path")
        check_id(self.agent, "agent_id")
        check_choice(self.lock_type, "lock_type", get_args(LockType))
        check_ttl(self.ttl)

    @property
    def shared(self) -> bool:
        """Whether it goes together with other shared ones."""
        return self.lock_type == "shared"


@frozen
class Waiting:
    """Not granted: how many wait in front, and whom it waits for."""

    position: int
    busy: LockBusy = field(repr=False)

    def pause(self, poll: timedelta) -> timedelta:
        """How long to wait for the next look: longer, the more wait in front."""
        return min(poll * (1 + self.position), max(poll, LONGEST))


@frozen
class Lock:
    """The last fence that was given, and the stakes that are live, in the order in which they came."""

    fence: int = 0
    stakes: tuple[Stake, ...] = ()

    @classmethod
    def of(
        cls,
        content: Any,  # noqa: ANN401 - whatever stands there
        now: datetime,
    ) -> Result[Lock, PersistenceError]:
        """The lock of a record's content, as of now. A stake is live until its end."""
        if content is None:
            return Success(cls())
        try:
            version, fence, stakes = content
            if version != VERSION:
                return Failure(UnsupportedVersion("the lock was written by a later release; upgrade flowpersist"))
            live = tuple(stake for stake in (Stake(*one) for one in stakes) if now < stake.until)
            return Success(cls(int(fence), live))
        except (TypeError, ValueError):
            return Failure(MalformedPayload("the lock can't be read; restore the record from a backup"))

    @property
    def content(self) -> Content:
        """As it is stored."""
        # Lists, since the codec writes these in the event loop.
        return [VERSION, self.fence, [list(astuple(stake)) for stake in self.stakes]]

    def changed(self, before: Stake | None, after: Stake | None) -> Self:
        """The same with another stake in the place of one, at the end where there was none, or without it."""
        stakes: Iterable[Stake | None] = (after if stake is before else stake for stake in self.stakes)
        stakes = (*stakes, after) if before is None else stakes
        fence = max(self.fence, 0 if after is None else after.fence)
        return evolve(self, fence=fence, stakes=tuple(stake for stake in stakes if stake is not None))

    def held(self, lease: Lease) -> Stake | None:
        """The stake of a lease; None where it has ended."""
        return next((s for s in self.stakes if s.fence and (s.fence, s.agent) == (lease.fence, lease.agent_id)), None)


def check_ttl(ttl: timedelta) -> None:
    """The length of a lease."""
    check_duration(ttl, "ttl", most=MOST_TTL)


def leased(path: str, stake: Stake) -> Lease:
    """The lease of a stake that holds."""
    return Lease(path, stake.agent, stake.fence, stake.until, "shared" if stake.shared else "exclusive")


def taken(lock: Lock, now: datetime, ask: Ask, *, waits: bool) -> Result[Step[Lease | Waiting], PersistenceError]:
    """What follows when an agent asks: its lease, the one that it has already, or, if it ``waits``, a place."""
    own = [stake for stake in lock.stakes if stake.agent == ask.agent]
    until = now + ask.ttl
    for stake in own:
        if stake.fence and stake.shared == ask.shared:
            again = evolve(stake, until=max(stake.until, until))
            return Success(Step(leased(ask.path, again), lock.changed(stake, again).content))
        if stake.fence:
            message = f"the agent itself holds the lock in the other lock_type until {stake.until}; release it first"
            return Failure(LockBusy(message, stake.until, stake.agent))
    place = next((stake for stake in own if stake.shared == ask.shared), None)
    before = lock.stakes if place is None else lock.stakes[: lock.stakes.index(place)]
    blocking = [stake for stake in before if not (stake.shared and ask.shared)]
    if not blocking:
        granted = Stake(ask.agent, ask.shared, ask.claim, until, lock.fence + 1)
        return Success(Step(leased(ask.path, granted), lock.changed(place, granted).content))
    waiting = Waiting(sum(not stake.fence for stake in before), _busy(blocking))
    if not waits:
        return Success(Step(waiting, None if place is None else lock.changed(place, None).content))
    return _placed(lock, now, ask, place, waiting)


def _placed(
    lock: Lock, now: datetime, ask: Ask, place: Stake | None, waiting: Waiting
) -> Result[Step[Lease | Waiting], PersistenceError]:
    length = PLACE + waiting.position * PLACE_BEHIND
    # Renewed after a third, so that two renewals may fail.
    if place is not None and place.until - now > length * 2 / 3:
        return Success(Step(waiting))
    if place is None and len(lock.stakes) >= MOST_STAKES:
        message = f"{MOST_STAKES} agents hold the lock or wait for it, and more can't; try again later"
        return Failure(LockBusy(message, waiting.busy.retry_at, waiting.busy.holder))
    kept = Stake(ask.agent, ask.shared, ask.claim, now + length) if place is None else evolve(place, until=now + length)
    return Success(Step(waiting, lock.changed(place, kept).content))


def _busy(blocking: list[Stake]) -> LockBusy:
    holding = [stake for stake in blocking if stake.fence]
    until = max(stake.until for stake in holding or blocking)
    what = "holds the lock" if holding else "waits for the lock in front"
    message = f"another agent {what} until {until} unless it renews it; pass a wait, or try again then"
    return LockBusy(message, until, (holding or blocking)[0].agent)


def renewed(lock: Lock, now: datetime, lease: Lease, ttl: timedelta) -> Result[Step[Lease], PersistenceError]:
    """What follows when a holder renews: its lease with a new end. After its end there is none."""
    stake = lock.held(lease)
    if stake is None:
        return Failure(LeaseLost(f"the lease of fence {lease.fence} has ended: stop what it protects"))
    again = evolve(stake, until=now + ttl)
    return Success(Step(leased(lease.path, again), lock.changed(stake, again).content, not_after=stake.until - TICK))


def freed(lock: Lock, lease: Lease) -> Step[bool]:
    """What follows when a holder releases: whether it was held. The fence stays."""
    stake = lock.held(lease)
    return Step(False) if stake is None else Step(True, lock.changed(stake, None).content)


def dropped(lock: Lock, claim: bytes) -> Step[None]:
    """What follows when a call is given up: nothing of it is left."""
    kept = tuple(stake for stake in lock.stakes if stake.claim != claim)
    return Step(None) if kept == lock.stakes else Step(None, evolve(lock, stakes=kept).content)
