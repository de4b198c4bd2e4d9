"""The transitions: pure functions from a head at its present to a ``Step``.

Each takes a head that ``changes.present`` has brought up to ``now``. A step holds the head to put (the same object
where nothing changes) and what the caller is told; a refusal may still change the head, as when an answer is recorded
while others are missing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from attrs import evolve, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Scalar, check_text
from flowpersist.errors import (
    AlreadyResumed,
    PersistenceError,
    StillWaiting,
    UnreadAnswers,
)
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.inputs.json_schema import JsonSchema
from flowpersist.lifecycle.changes import close, later, settle
from flowpersist.lifecycle.model import (
    MAX_DONE,
    Answer,
    Done,
    Head,
    Slip,
    Status,
    Taken,
    Until,
    WaitState,
    WaitStatus,
    fingerprint,
)
from flowpersist.lifecycle.pausing import carried, check_names, slip_of, supersede
from flowpersist.lifecycle.refusals import Target, ambiguous, busy, closed_error, ended_error, lost
from flowpersist.lifecycle.views import Receipt, receipt_of, suspension_of

__all__ = [
    "Holder",
    "Offer",
    "Step",
    "answer",
    "cancel",
    "checked",
    "claim",
    "complete",
    "extend",
    "fail",
    "fill",
    "release",
    "renew",
    "suspend_next",
    "take",
    "wanted",
]

T = TypeVar("T")
ANY_VALUE = JsonSchema.of({})


@frozen
class Step(Generic[T]):
    """What a transition decides: the head to put, and what the caller is told."""

    head: Head
    result: Result[T, PersistenceError]


@frozen
class Offer:
    """An answer as it comes in. Who gives it and its id are texts of at most 512 bytes.

    ``checked`` is what was found of its value for the wait that ``wanted`` names; None: it is not yet checked.
    ``digest`` is that of the value, where it is known.
    """

    value: object = field(repr=False)
    by: str | None
    answer_id: str | None
    checked: Result[object, PersistenceError] | None = field(default=None, repr=False)
    digest: bytes | None = field(default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        for what, text in (("by", self.by), ("answer_id", self.answer_id)):
            if text is not None:
                check_text(text, what)


@frozen
class Holder:
    """Who says that they hold the run."""

    fence: int
    claim_id: str | None


def refused(head: Head, error: PersistenceError) -> Step[T]:
    """Nothing changes, and the caller is told why."""
    return Step(head, Failure(error))


def fill(head: Head, waits_at: datetime, fingerprint: bytes | None) -> Step[Head]:
    """A reserved suspension gets its state: it waits, or is answered at once by what came early."""
    if head.status.closed:
        return refused(head, closed_error(head, None))
    if head.status is not Status.RESERVED:
        return refused(
            head, AlreadyResumed(f"suspension {head.id} has its state already; reserve another", head.status)
        )
    waiting = settle(evolve(head, status=Status.WAITING, fingerprint=fingerprint, updated_at=waits_at), waits_at)
    return Step(waiting, Success(waiting))


def answer(head: Head, target: Target, offer: Offer, now: datetime) -> Step[Receipt]:
    """Record an answer to an open wait; tell the truth about one that has ended."""
    if isinstance(target, Slip):
        return _answer_late(head, target, same=_same(target, offer))
    wait = _only_open(head) if target is None else target
    if wait is None:
        return refused(head, ambiguous(head))
    if not wait.open:
        return _answer_late(head, wait, same=_same(slip_of(wait, now), offer))
    return _accept(head, wait, offer, now)


def _accept(head: Head, wait: WaitState, offer: Offer, now: datetime) -> Step[Receipt]:
    found = checked(wait, offer.value) if offer.checked is None else offer.checked
    if isinstance(found, Failure):
        return refused(head, found.failure())
    given = Answer(found.unwrap(), offer.by, now, offer.answer_id, wait.shown)
    answered = evolve(wait, status=WaitStatus.ANSWERED, answer=given, closed_at=now)
    waits = tuple(answered if other is wait else other for other in head.waits)
    after = settle(evolve(head, waits=waits, updated_at=now), now)
    pending = head.until == "all" and any(other.needed for other in after.waits)
    return Step(after, Success(receipt_of(after, answered, "pending" if pending else "accepted")))


def wanted(head: Head, target: Target) -> WaitState | None:
    """The wait that an answer would be recorded for; None where none would be."""
    wait = _only_open(head) if target is None else target
    return wait if isinstance(wait, WaitState) and wait.open else None


def checked(wait: WaitState, value: object, *, max_text: int | None = None) -> Result[object, PersistenceError]:
    """What a wait's schema says of a value, whose texts have that many characters at most."""
    if wait.awaiting is None:
        return ANY_VALUE.check(value, max_text=max_text)
    asked = AwaitInput.from_data(wait.awaiting)
    return asked.bind(lambda awaiting: JsonSchema.of(awaiting.json_schema).check(value, max_text=max_text))


def _same(slip: Slip, offer: Offer) -> bool:
    """Whether the offer is what was accepted, again: by its id, or by its value."""
    if slip.answer is None:
        return False
    if offer.answer_id is not None and offer.answer_id == slip.answer_id:
        return True
    return (digest_of(offer.value) if offer.digest is None else offer.digest) == slip.answer


def digest_of(value: object) -> bytes | None:
    """The fingerprint of a JSON value; None for what is none, which can't be what was accepted."""
    return fingerprint(value) if isinstance(ANY_VALUE.check(value, max_text=None), Success) else None


def _answer_late(head: Head, ended: WaitState | Slip, *, same: bool) -> Step[Receipt]:
    if same:
        return Step(head, Success(receipt_of(head, ended, "replayed")))
    return refused(head, ended_error(head, ended))


def _only_open(head: Head) -> WaitState | None:
    """Which wait an id without a key means: the only open one, else the only one that there is."""
    if len(head.open_waits) == 1:
        return head.open_waits[0]
    return head.waits[0] if len(head.waits) == 1 else None


def claim(
    head: Head, target: Target, offer: Offer | None, now: datetime, *, lease: timedelta, claim_id: str
) -> Step[Head]:
    """Take the run under a lease; with an offer, answer first. The same claim id again gets the same run again."""
    if head.status is Status.RUNNING and head.claim_id == claim_id and not _passed(target):
        return Step(head, Success(head))
    ready = _made_ready(head, target, offer, now)
    if not isinstance(ready.result, Success):
        return ready
    lease_until = later(now, lease)
    running = _hold(
        ready.head, now, status=Status.RUNNING, claim_id=claim_id, lease_until=lease_until, claimable_at=None
    )
    return Step(running, Success(running))


def take(
    head: Head, target: Target, offer: Offer | None, now: datetime, *, answer_id: str, by: str | None
) -> Step[Head]:
    """Take the run for good. The winner's own answer id again gets the same run again."""
    if head.taken is not None and head.taken.answer_id == answer_id and not _passed(target):
        return Step(head, Success(head))
    ready = _made_ready(head, target, offer, now)
    if not isinstance(ready.result, Success):
        return ready
    held = _hold(ready.head, now, taken=Taken(answer_id, by, now))
    taken = close(held, Status.COMPLETED, now)
    return Step(taken, Success(taken))


def _made_ready(head: Head, target: Target, offer: Offer | None, now: datetime) -> Step[Head]:
    """The head, answered if an offer came, in a state that can be claimed now."""
    if _passed(target):
        return refused(head, ended_error(head, target))
    if head.status.closed:
        return refused(head, closed_error(head, target))
    # Before the offer is looked at: who is told to come back later finds nothing recorded.
    busy_until = head.lease_until if head.status is Status.RUNNING else head.claimable_at
    if busy_until is not None and (head.status is Status.RUNNING or busy_until > now):
        return refused(head, busy(head, busy_until))
    receipt: Receipt | None = None
    if offer is not None:
        answered = answer(head, target, offer, now)
        if not isinstance(answered.result, Success):
            return Step(head, Failure(answered.result.failure()))
        head, receipt = answered.head, answered.result.unwrap()
    return _claimable(head, receipt)


def _passed(target: Target) -> bool:
    """A key of an earlier pause, or one that another's answer closed, takes nothing: not by a repeated id either."""
    return isinstance(target, Slip) or (target is not None and target.status is WaitStatus.SUPERSEDED)


def _claimable(head: Head, receipt: Receipt | None) -> Step[Head]:
    missing = [wait.name for wait in head.waits if wait.needed]
    unready = head.status is Status.WAITING and (bool(missing) or (head.until == "each" and not _optional(head)))
    if head.status is Status.RESERVED or unready:
        what = "its state" if head.status is Status.RESERVED else f"answers to {', '.join(sorted(missing))}"
        message = f"suspension {head.id} still waits for {what}"
        return Step(head, Failure(StillWaiting(message, suspension_of(head), receipt)))
    return Step(head, Success(head))


def _optional(head: Head) -> bool:
    return any(wait.open and wait.awaiting is None for wait in head.waits)


def _hold(head: Head, now: datetime, **holder: Any) -> Head:  # noqa: ANN401 - some of the head's fields
    """A new fence, and who holds the run.

    The first claim of a pause freezes what it delivers, so that whoever takes over gets the same.
    """
    waits = head.waits if head.attempt else tuple(_deliver(wait, head.sequence, now) for wait in head.waits)
    return evolve(head, waits=waits, fence=head.fence + 1, attempt=head.attempt + 1, updated_at=now, **holder)


def _deliver(wait: WaitState, sequence: int, now: datetime) -> WaitState:
    if wait.undelivered:
        return evolve(wait, delivery=sequence)
    if wait.open and wait.awaiting is None:
        return evolve(wait, status=WaitStatus.CLOSED, closed_at=now)
    return wait


def _handled(head: Head, holder: Holder, verb: str, now: datetime, **ends: Any) -> Step[Head]:  # noqa: ANN401 - as _hold
    """The holder of an expired one is done with it, for now or for good: it stays expired."""
    handled = evolve(_finish(head, holder, verb), claim_id=None, lease_until=None, updated_at=now, **ends)
    return Step(handled, Success(handled))


def renew(head: Head, holder: Holder, now: datetime, *, lease: timedelta) -> Step[datetime]:
    """Move the end of the lease to ``now + lease``."""
    return _held(head, holder, now, lambda: _renewed(head, later(now, lease)))


def _renewed(head: Head, until: datetime) -> Step[datetime]:
    return Step(evolve(head, lease_until=until), Success(until))


def complete(
    head: Head, holder: Holder, now: datetime, *, discard: bool, superseded: Collection[str] = ()
) -> Step[Head]:
    """End the run as completed. A cancellation that came while it ran loses."""
    repeated = _repeated(head, holder, "complete")
    if repeated is not None:
        return repeated
    if not _holds(head, holder):
        return refused(head, lost(head))
    if head.status is Status.EXPIRED:
        return _handled(head, holder, "complete", now, error=None)
    given, head = head, evolve(head, waits=supersede(head.waits, superseded, now))
    unread = [wait.name for wait in head.waits if wait.undelivered and wait.answer is not None]
    if unread and not discard:
        message = f"run {head.id} has unread answers to {', '.join(unread)}: pause again to read them, or discard them"
        return refused(given, UnreadAnswers(message, head.status))
    completed = close(_finish(head, holder, "complete"), Status.COMPLETED, now)
    return Step(completed, Success(completed))


def fail(head: Head, holder: Holder, now: datetime, *, error: str | None, explained: bool = False) -> Step[Head]:
    """End the run as failed; ``explained``: its body says why."""
    repeated = _repeated(head, holder, "fail")
    if repeated is not None:
        return repeated

    def failed() -> Step[Head]:
        if head.status is Status.EXPIRED:
            return _handled(head, holder, "fail", now, error=error)
        ended = close(evolve(_finish(head, holder, "fail"), error=error, explained=explained), Status.FAILED, now)
        return Step(ended, Success(ended))

    return _held(head, holder, now, failed)


def release(head: Head, holder: Holder, now: datetime, *, error: str | None, delay: timedelta) -> Step[Head]:
    """Give the run back: the same answers are claimable after ``delay``."""
    repeated = _repeated(head, holder, "release")
    if repeated is not None:
        return repeated

    def released() -> Step[Head]:
        if head.status is Status.EXPIRED:
            return _handled(head, holder, "release", now, error=error, claimable_at=later(now, delay))
        free = evolve(
            _finish(head, holder, "release"),
            status=Status.ANSWERED,
            error=error,
            claim_id=None,
            lease_until=None,
            claimable_at=later(now, delay),
            updated_at=now,
        )
        return Step(free, Success(free))

    return _held(head, holder, now, released)


def suspend_next(
    head: Head,
    holder: Holder,
    now: datetime,
    *,
    waits: Sequence[WaitState],
    until: Until,
    superseded: Collection[str] = (),
    metadata: Mapping[str, Scalar] | None = None,
) -> Step[Head]:
    """Pause again: what was delivered or superseded becomes receipts, what is open or unread stays, and the new waits
    join them.
    """
    repeated = _repeated(head, holder, "suspend_next")
    if repeated is not None:
        return repeated

    def paused() -> Step[Head]:
        if head.status is Status.EXPIRED:
            return refused(head, closed_error(head, None))
        standing = supersede(head.waits, superseded, now)
        kept = [wait for wait in standing if carried(wait, superseded)]
        over = [wait for wait in standing if not carried(wait, superseded)]
        check_names([*kept, *waits])
        waiting = evolve(
            _finish(head, holder, "suspend_next"),
            status=Status.WAITING,
            until=until,
            metadata=head.metadata if metadata is None else metadata,
            waits=(*kept, *(evolve(wait, sequence=head.sequence + 1) for wait in waits)),
            slips=(*head.slips, *(slip_of(wait, now) for wait in over)),
            sequence=head.sequence + 1,
            attempt=0,
            claim_id=None,
            lease_until=None,
            error=None,
            updated_at=now,
        )
        settled = settle(waiting, now)
        return Step(settled, Success(settled))

    return _held(head, holder, now, paused)


def cancel(head: Head, target: Target, now: datetime, *, reason: str | None) -> Step[Head]:
    """Close a run that nobody holds; note the wish for one that somebody does. Twice: a success."""
    if head.status is Status.CANCELLED:
        return Step(head, Success(head))
    if head.status.closed:
        return refused(head, closed_error(head, target))
    if isinstance(target, Slip):
        return refused(head, ended_error(head, target))
    if head.status is Status.RUNNING and head.cancelling:
        return Step(head, Success(head))
    if head.status is Status.RUNNING:
        noted = evolve(head, cancelling=True, reason=reason, updated_at=now)
        return Step(noted, Success(noted))
    cancelled = close(head, Status.CANCELLED, now, reason=reason)
    return Step(cancelled, Success(cancelled))


def extend(head: Head, target: Target, now: datetime, *, deadline: datetime) -> Step[Head]:
    """Move the deadline of one open wait, or of all of them where the suspension is named by its id."""
    if head.status.closed:
        return refused(head, closed_error(head, target))
    if target is not None and (isinstance(target, Slip) or not target.open):
        return refused(head, ended_error(head, target))
    waits = (evolve(w, deadline=deadline) if w.open and (target is None or w is target) else w for w in head.waits)
    extended = evolve(head, waits=tuple(waits), updated_at=now)
    return Step(extended, Success(extended))


def _held(head: Head, holder: Holder, now: datetime, go_on: Callable[[], Step[T]]) -> Step[T]:
    """Only the holder, and not after a cancellation, which is carried out here."""
    if not _holds(head, holder):
        return refused(head, lost(head))
    if not head.cancelling:
        return go_on()
    cancelled = close(head, Status.CANCELLED, now)
    return Step(cancelled, Failure(closed_error(cancelled, None)))


def _holds(head: Head, holder: Holder) -> bool:
    held = head.status is Status.RUNNING or (head.status is Status.EXPIRED and head.lease_until is not None)
    return held and (head.fence, head.claim_id) == (holder.fence, holder.claim_id)


def _finish(head: Head, holder: Holder, verb: str) -> Head:
    return evolve(head, done=(*head.done, Done(holder.fence, verb))[-MAX_DONE:])


def _repeated(head: Head, holder: Holder, verb: str) -> Step[Head] | None:
    """A lost reply: the verb was committed under this fence, and its repeat is a success."""
    return Step(head, Success(head)) if Done(holder.fence, verb) in head.done else None
