"""The transitions: pure functions from a head at its present to a ``Decision``.

Each takes a head that ``changes.present`` has brought up to ``now``. A decision holds the head to put (the same object
where nothing changes) and its result; a refusal may still change the head, as when an answer is recorded
while others are missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from returns.result import Failure, Result, Success

from flowpersist.errors import (
    AlreadyResumed,
    PersistenceError,
    StillWaiting,
)
from flowpersist.inputs.await_input import edit_checked, schema_in
from flowpersist.inputs.json_schema import JsonSchema
from flowpersist.inputs.people import Quorum, principal_data, quorum_in
from flowpersist.lifecycle.changes import close, update_status
from flowpersist.lifecycle.decisions import Decision, Offer, refused
from flowpersist.lifecycle.model import (
    Answer,
    CastVote,
    Head,
    Status,
    Taken,
    WaitReceipt,
    WaitState,
    WaitStatus,
    complete_for,
    fingerprint,
    replace,
    rest_of,
    whole,
)
from flowpersist.lifecycle.moments import later
from flowpersist.lifecycle.pausing import wait_receipt
from flowpersist.lifecycle.permitting import may_answer, may_vote
from flowpersist.lifecycle.receipts import Receipt, receipt_of
from flowpersist.lifecycle.refusals import Target, ambiguous, busy, closed_error, ended_error, question_changed
from flowpersist.lifecycle.scheduling import moved
from flowpersist.lifecycle.shown import digest_text
from flowpersist.lifecycle.views import suspension_of
from flowpersist.lifecycle.voting import answer_of, ballot_of, decides

__all__ = ["answer", "cancel", "checked", "claim", "digest_of", "extend", "fill", "take", "wanted"]

ANY_VALUE = JsonSchema.of({})


def fill(
    head: Head, waits_at: datetime, fingerprint: bytes | None, requester: Mapping[str, object] | None = None
) -> Decision[Head]:
    """A reserved suspension gets its state: it waits, or is answered at once by what came early."""
    if head.status.closed:
        return refused(head, closed_error(head, None))
    if head.status is not Status.RESERVED:
        return refused(
            head, AlreadyResumed(f"suspension {head.id} has its state already; reserve another", head.status)
        )
    waiting = update_status(
        replace(
            head,
            status=Status.WAITING,
            fingerprint=fingerprint,
            updated_at=waits_at,
            requester=head.requester or requester,
        ),
        waits_at,
    )
    return Decision(waiting, Success(waiting))


def answer(head: Head, target: Target, offer: Offer, now: datetime) -> Decision[Receipt]:
    """Record an answer to an open wait; of one that has ended, report how it ended."""
    if isinstance(target, WaitReceipt):
        return _answer_late(head, target, same=_same(target, offer))
    wait = _only_open(head) if target is None else target
    if wait is None:
        return refused(head, ambiguous(head))
    denied = may_answer(head, wait, offer)
    if denied is not None:
        return refused(head, denied)
    if not wait.open:
        return _answer_late(head, wait, same=_said(wait, offer, now))
    return _accept(head, wait, offer, now)


def _accept(head: Head, wait: WaitState, offer: Offer, now: datetime) -> Decision[Receipt]:
    if _shown_otherwise(wait.shown, offer):
        return refused(head, question_changed(head, wait))
    found = checked(wait, offer.value) if offer.checked is None else offer.checked
    if isinstance(found, Failure):
        return refused(head, found.failure())
    who = None if offer.principal is None else principal_data(offer.principal)
    given = Answer(found.unwrap(), offer.by, now, offer.answer_id, wait.shown, who=who, via=_via(offer))
    quorum = quorum_in(wait.awaiting)
    if quorum is not None:
        return _vote(head, wait, quorum, offer, given)
    return _answered(head, wait, given, ())


def _via(offer: Offer) -> tuple[str, str | None] | None:
    return None if offer.via is None else (offer.via.channel, offer.via.delivery)


def _vote(head: Head, wait: WaitState, quorum: Quorum, offer: Offer, given: Answer) -> Decision[Receipt]:
    """Record a vote. The same again is a repeat; another one of the same subject replaces it."""
    own = next((one for one in wait.votes if one.answer is not None and one.answer.by == given.by), None)
    if own is not None and own.answer is not None and _repeats(own.answer, offer, given.fingerprint):
        return Decision(head, Success(receipt_of(head, wait, "replayed", given=own.answer)))
    others = tuple(one for one in wait.votes if one is not own)
    denied = may_vote(head, wait, offer, others)
    if denied is not None:
        return refused(head, denied)
    decision, ballot = ballot_of(wait.awaiting, given.value)
    votes = (*others, CastVote(given, decision, ballot))
    if decides(head, wait, quorum, votes):
        return _answered(head, wait, given, (*others, CastVote(None, decision, ballot)))
    voted = replace(wait, votes=votes)
    waits = tuple(voted if other is wait else other for other in head.waits)
    after = replace(head, waits=waits, updated_at=given.at)
    return Decision(after, Success(receipt_of(after, voted, "pending", given=given)))


def _answered(head: Head, wait: WaitState, given: Answer, votes: tuple[CastVote, ...]) -> Decision[Receipt]:
    now = given.at
    answered = replace(wait, status=WaitStatus.ANSWERED, answer=given, closed_at=now, votes=votes)
    waits = tuple([answered if other is wait else other for other in head.waits])
    after = update_status(replace(head, waits=waits, updated_at=now), now)
    more = rest_of(after).needed > 0 or any(other.needed for other in after.waits)
    pending = head.until == "all" and more
    return Decision(after, Success(receipt_of(after, answered, "pending" if pending else "accepted")))


def wanted(head: Head, target: Target) -> WaitState | None:
    """The wait that an answer would be recorded for; None if there is none."""
    wait = _only_open(head) if target is None else target
    return wait if isinstance(wait, WaitState) and wait.open else None


def checked(wait: WaitState, value: object, *, max_text: int | None = None) -> Result[object, PersistenceError]:
    """Check a value against a wait's schema; its texts may have ``max_text`` characters in all."""
    if wait.awaiting is None:
        return ANY_VALUE.check(value, max_text=max_text)
    awaiting = wait.awaiting
    checked = schema_in(awaiting).bind(lambda schema: schema.check(value, max_text=max_text))
    return checked.bind(lambda answer: edit_checked(awaiting, answer))


def _same(receipt: WaitReceipt, offer: Offer) -> bool:
    """Whether the offer repeats the accepted answer: by its id, or by its value."""
    if receipt.answer is None:
        return False
    if offer.answer_id is not None and offer.answer_id == receipt.answer_id:
        return True
    if _shown_otherwise(receipt.shown, offer) or (receipt.voted and offer.by != receipt.by):
        return False
    return _digest(offer) == receipt.answer


def _said(wait: WaitState, offer: Offer, now: datetime) -> bool:
    """Whether the offer repeats the answer of a wait that has ended, or one of its votes."""
    if quorum_in(wait.awaiting) is None:
        return _same(wait_receipt(wait, now), offer)
    given = (answer_of(wait, vote) for vote in wait.votes)
    digest = _digest(offer)
    return any(one is not None and one.by == offer.by and _repeats(one, offer, digest) for one in given)


def _repeats(given: Answer, offer: Offer, digest: bytes | None) -> bool:
    """Whether the offer repeats the own vote that was recorded: by its id, or by its value."""
    return (offer.answer_id is not None and offer.answer_id == given.answer_id) or digest == given.fingerprint


def _digest(offer: Offer) -> bytes | None:
    return digest_of(offer.value) if offer.digest is None else offer.digest


def _shown_otherwise(shown: bytes | None, offer: Offer) -> bool:
    """Whether the offer says that it was given to a question with another digest."""
    return offer.shown is not None and offer.shown != digest_text(shown)


def digest_of(value: object) -> bytes | None:
    """The fingerprint of a JSON value; None for any other value, which can't have been accepted."""
    return fingerprint(value) if isinstance(ANY_VALUE.check(value, max_text=None), Success) else None


def _answer_late(head: Head, ended: WaitState | WaitReceipt, *, same: bool) -> Decision[Receipt]:
    if same:
        return Decision(head, Success(receipt_of(head, ended, "replayed")))
    return refused(head, ended_error(head, ended))


def _only_open(head: Head) -> WaitState | None:
    """The wait that an id without a key means: the only open one, else the only one."""
    if len(whole(head).answerable_waits) == 1:
        return head.answerable_waits[0]
    return head.waits[0] if len(head.waits) == 1 else None


def claim(
    head: Head, target: Target, offer: Offer | None, now: datetime, *, lease: timedelta, claim_id: str
) -> Decision[Head]:
    """Take the run under a lease; with an offer, answer first. The same claim id again gets the same run again."""
    if head.status is Status.RUNNING and head.claim_id == claim_id and not _passed(target):
        return Decision(head, Success(whole(head)))
    ready = _made_ready(head, target, offer, now)
    if not isinstance(ready.result, Success):
        return ready
    lease_until = later(now, lease)
    running = _hold(
        ready.head, now, status=Status.RUNNING, claim_id=claim_id, lease_until=lease_until, claimable_at=None
    )
    return Decision(running, Success(running))


def take(
    head: Head, target: Target, offer: Offer | None, now: datetime, *, answer_id: str, by: str | None
) -> Decision[Head]:
    """Take the run for good. The winner's own answer id again gets the same run again."""
    if head.taken is not None and head.taken.answer_id == answer_id and not _passed(target):
        return Decision(head, Success(head))
    ready = _made_ready(head, target, offer, now)
    if not isinstance(ready.result, Success):
        return ready
    held = _hold(ready.head, now, taken=Taken(answer_id, by, now))
    taken = close(held, Status.COMPLETED, now)
    return Decision(taken, Success(taken))


def _made_ready(head: Head, target: Target, offer: Offer | None, now: datetime) -> Decision[Head]:
    """The head with the offered answer, if it can be claimed now."""
    if _passed(target):
        return refused(head, ended_error(head, target))
    if head.status.closed:
        return refused(head, closed_error(head, target))
    # Before the offer is checked: nothing is recorded for a caller that is refused as busy.
    busy_until = head.lease_until if head.status is Status.RUNNING else head.claimable_at
    if busy_until is not None and (head.status is Status.RUNNING or busy_until > now):
        return refused(head, busy(head, busy_until))
    receipt: Receipt | None = None
    if offer is not None:
        answered = answer(head, target, offer, now)
        if not isinstance(answered.result, Success):
            return Decision(head, Failure(answered.result.failure()))
        head, receipt = answered.head, answered.result.unwrap()
    return _claimable(head, receipt)


def _passed(target: Target) -> bool:
    """Whether the key is of an earlier pause or of a superseded wait: it can't claim, not even with a repeated id."""
    return isinstance(target, WaitReceipt) or (target is not None and target.status is WaitStatus.SUPERSEDED)


def _claimable(head: Head, receipt: Receipt | None) -> Decision[Head]:
    if head.status is Status.ANSWERED:
        return Decision(head, Success(head))
    missing = [wait.name for wait in whole(head).waits if wait.needed]
    unready = head.status is Status.WAITING and (bool(missing) or (head.until == "each" and not _optional(head)))
    if head.status is Status.RESERVED or unready:
        what = "its state" if head.status is Status.RESERVED else f"answers to {', '.join(sorted(missing))}"
        message = f"suspension {head.id} still waits for {what}"
        return Decision(head, Failure(StillWaiting(message, suspension_of(head), receipt)))
    return Decision(head, Success(head))


def _optional(head: Head) -> bool:
    return any(wait.open and wait.awaiting is None for wait in head.waits)


def _hold(head: Head, now: datetime, **holder: Any) -> Head:  # noqa: ANN401 - some of the head's fields
    """A new fence, and who holds the run.

    The first claim of a pause freezes what it delivers, so that whoever takes over gets the same. A part is enough for
    it where nothing is delivered or closed that stands on other pages.
    """
    rest = rest_of(head)
    if head.attempt or rest.undelivered or rest.open != rest.needed:
        whole(head)
    waits = head.waits if head.attempt else _delivered(head.waits, head.sequence, now)
    held = replace(head, waits=waits, fence=head.fence + 1, attempt=head.attempt + 1, updated_at=now, **holder)
    return complete_for(held, held.sequence)


def _delivered(waits: Sequence[WaitState], sequence: int, now: datetime) -> tuple[WaitState, ...]:
    """The waits with what has ended delivered to this pause, and those closed that need no answer."""
    still = WaitStatus.OPEN
    # Without a call for each wait, since every claim asks.
    return tuple(
        [
            (one if one.awaiting is not None else replace(one, status=WaitStatus.CLOSED, closed_at=now))
            if one.status is still
            else (replace(one, delivery=sequence) if one.undelivered else one)
            for one in waits
        ]
    )


def cancel(head: Head, target: Target, now: datetime, *, reason: str | None) -> Decision[Head]:
    """Close a run that nobody holds; record the request for one that somebody holds. Cancelling twice succeeds."""
    if head.status is Status.CANCELLED:
        return Decision(head, Success(head))
    if head.status.closed and head.status is not Status.PARKED:
        return refused(head, closed_error(head, target))
    if isinstance(target, WaitReceipt):
        return refused(head, ended_error(head, target))
    if head.status is Status.RUNNING and head.cancelling:
        return Decision(head, Success(head))
    if head.status is Status.RUNNING:
        noted = replace(head, cancelling=True, reason=reason, updated_at=now)
        return Decision(noted, Success(noted))
    cancelled = close(head, Status.CANCELLED, now, reason=reason)
    return Decision(cancelled, Success(cancelled))


def extend(head: Head, target: Target, now: datetime, *, deadline: datetime) -> Decision[Head]:
    """Move the deadline of one open wait; of a suspension named by its id, those of all that somebody may answer."""
    if head.status.closed:
        return refused(head, closed_error(head, target))
    if target is not None and (isinstance(target, WaitReceipt) or not target.open):
        return refused(head, ended_error(head, target))
    waits = (
        moved(w, deadline, now) if w.open and (w is target or (target is None and not w.timed)) else w
        for w in whole(head).waits
    )
    extended = replace(head, waits=tuple(waits), updated_at=now)
    return Decision(extended, Success(extended))
