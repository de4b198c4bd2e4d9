"""Events: what became durable, given to ``on_event``, and the deliveries of reminders and escalations."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from datetime import datetime

from attrs import frozen

from flowpersist.errors.tracebacks import Tracebacks
from flowpersist.hub.cancellation import is_cancelled, is_fault
from flowpersist.hub.overdue import overdue
from flowpersist.lifecycle.changes import SYSTEM, present
from flowpersist.lifecycle.model import Head, Notice, Status, WaitState, WaitStatus
from flowpersist.lifecycle.scheduling import Delivery, delivery_of
from flowpersist.lifecycle.views import Suspension, Wait, suspension_of, wait_of
from flowpersist.sealed.drafts import Found

__all__ = ["Delivery", "Event", "Observer", "event_of", "notice_event"]

log = logging.getLogger("flowpersist.hub")


@frozen
class Event:
    """Something that became durable: which verb, on which suspension, as it stands after it.

    ``opened`` are the waits that it opened, whose keys ``hub.keys(event.suspension.id)`` gives by their names,
    ``expired`` those that turned out to have ended without an answer, and ``defaulted`` those that ended with their
    default. Time's own changes are the verbs ``tick`` and, where it ended the suspension, ``expire``, by ``system``.

    ``remind`` and ``escalate``, by ``system`` too, have a ``delivery``: what somebody is to be told. It is repeated
    under the same ``delivery.id`` until ``on_event`` has returned without an exception.
    """

    verb: str
    suspension: Suspension
    by: str | None
    at: datetime
    opened: tuple[Wait, ...] = ()
    expired: tuple[Wait, ...] = ()
    defaulted: tuple[Wait, ...] = ()
    delivery: Delivery | None = None


def event_of(verb: str, by: str | None, head: Head, found: Found[Head]) -> Event:
    """The event of a head that became durable, compared with the head before."""
    before = None if found.record is None else found.record.head
    stood = {} if before is None else {wait.secret: wait.status for wait in before.waits}
    opened = (wait for wait in head.waits if wait.open and wait.secret not in stood)
    ended = (w for w in head.waits if w.status is WaitStatus.EXPIRED and stood.get(w.secret) is not WaitStatus.EXPIRED)
    by_now = () if before is None else present(before, found.now).waits
    defaulted = (w for w in by_now if w.status is WaitStatus.ANSWERED and stood[w.secret] is WaitStatus.OPEN)
    over = verb == "tick" and head.status is Status.EXPIRED and (before is None or not before.status.closed)
    return Event(
        "expire" if over else verb,
        suspension_of(head, masked=True),
        by,
        found.now,
        tuple(wait_of(wait, masked=True) for wait in opened),
        tuple(wait_of(wait, masked=True) for wait in ended),
        tuple(wait_of(wait, masked=True) for wait in defaulted),
    )


def notice_event(head: Head, wait: WaitState, notice: Notice, now: datetime) -> Event:
    """The event of a reminder or an escalation that was taken to be delivered."""
    return Event(notice.verb, suspension_of(head, masked=True), SYSTEM, now, delivery=delivery_of(wait, notice))


@frozen
class Observer:
    """Whoever is told of events. Without ``on_event`` nobody is."""

    on_event: Callable[[Event], object] | None
    tracebacks: Tracebacks

    async def told(self, event: Event) -> bool:
        """Call ``on_event``; False where there is none, or where it raised, which is logged."""
        if self.on_event is None:
            return False
        try:
            returned = self.on_event(event)
            if inspect.isawaitable(returned):
                with overdue("on_event for %s on suspension %s", event.verb, event.suspension.id):
                    await returned
        except BaseException as error:
            if not is_fault(error, cancelled=is_cancelled()):
                raise
            # The write is durable, so an error of the observer must not turn it into a failure.
            self.tracebacks.log(log, error, "on_event raised for %s on suspension %s", event.verb, event.suspension.id)
            return False
        return True
