"""A wait's reminders and the steps of its ladder: when each comes, and who is still to be told of it.

Each comes by itself, as an expiry does: ``changes.present`` passes it at its moment, whoever looks and whenever. What
has come becomes a ``Notice`` in the wait. A notice is taken for a while, delivered to ``on_event``, and dropped. What
was taken and not dropped is taken again once that while is over, under the same delivery id.

A reminder counts back from the deadline. It comes at most once for a deadline: those that lie at or before the pause,
or before the moment at which the deadline was moved, are passed over. A later reminder takes the place of an earlier
one that was not delivered yet. A wait that has ended has no notices.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias, cast

from attrs import frozen

from flowpersist.lifecycle.model import Head, Notice, Schedule, WaitState, replace, whole
from flowpersist.lifecycle.moments import END, TICK, later

__all__ = [
    "Delivery",
    "acknowledged",
    "delivery_of",
    "escalated",
    "escalated_to",
    "ladder",
    "moved",
    "next_reminder",
    "next_step",
    "notice_due",
    "notices_from",
    "opened_schedule",
    "reminded",
    "take_notices",
]

MICROSECOND: Final = timedelta(microseconds=1)
#: How often a notice is taken before it is given up, and for how long at first and at most.
MAX_TRIES: Final = 10
FIRST_TRY: Final = timedelta(minutes=1)
LONGEST_TRY: Final = timedelta(hours=1)
Step: TypeAlias = Mapping[str, Any]
Taken: TypeAlias = tuple[WaitState, Notice]


@frozen
class Delivery:
    """What somebody is to be told: a reminder of a wait, or that the wait has gone to the next step of its ladder.

    - ``id``: the same at every attempt to deliver it, and of no other delivery.
    - ``wait``: the name of the wait. ``deadline`` is its deadline as it stands.
    - ``at``: when it was due.
    - ``level``: how many steps of the ladder had been reached then.
    - ``to``: to whom that last step goes; empty before the first one.
    - ``attempt``: which attempt this is, from 1.
    """

    id: str
    wait: str
    at: datetime
    deadline: datetime | None
    level: int
    to: tuple[str, ...]
    attempt: int


def opened_schedule(awaiting: Mapping[str, object] | None, now: datetime) -> Schedule | None:
    """The schedule of a wait that is opened now; None if it has nothing of the kind."""
    if awaiting is None or ("reminders" not in awaiting and "escalation" not in awaiting):
        return None
    return Schedule(opened_at=now, reminded_at=now)


def ladder(wait: WaitState) -> list[Step]:
    """The steps of its ladder."""
    return [] if wait.awaiting is None else cast("list[Step]", wait.awaiting.get("escalation", []))


def escalated_to(wait: WaitState) -> tuple[str, ...]:
    """To whom it has gone so far, each name once, the first step's first."""
    level = 0 if wait.schedule is None else wait.schedule.level
    return tuple(dict.fromkeys(name for step in ladder(wait)[:level] for name in step["to"]))


def next_reminder(wait: WaitState) -> datetime | None:
    """When its next reminder comes; None if none does."""
    if wait.schedule is None or wait.awaiting is None or wait.deadline is None:
        return None
    offsets = cast("list[int]", wait.awaiting.get("reminders", []))
    since = wait.schedule.reminded_at
    # As a span, since the calendar may begin later than the offset reaches back.
    left = (wait.deadline - since) // MICROSECOND
    offset = max((offset for offset in offsets if offset < left), default=None)
    return None if offset is None else wait.deadline - offset * MICROSECOND


def next_step(wait: WaitState) -> datetime | None:
    """When the next step of its ladder comes by itself; None if none does, or only with the deadline."""
    schedule, steps = wait.schedule, ladder(wait)
    if schedule is None or schedule.level >= len(steps) or "after" not in steps[schedule.level]:
        return None
    return later(schedule.opened_at, steps[schedule.level]["after"] * MICROSECOND)


def reminded(wait: WaitState, schedule: Schedule, moment: datetime) -> WaitState:
    """The wait once a reminder has come."""
    notice = Notice("remind", moment, schedule.level)
    notices = (*(one for one in schedule.notices if one.verb != "remind"), notice)
    return replace(wait, schedule=replace(schedule, reminded_at=moment, notices=notices))


def escalated(wait: WaitState, schedule: Schedule, moment: datetime) -> WaitState:
    """The wait once it has reached the next step. Its timeout moves a deadline that would come earlier."""
    step, level = ladder(wait)[schedule.level], schedule.level + 1
    notices = (*schedule.notices, Notice("escalate", moment, level))
    wait = replace(wait, schedule=replace(schedule, level=level, escalated_at=moment, notices=notices))
    deadline = later(moment, step["timeout"] * MICROSECOND) if "timeout" in step else wait.deadline
    if deadline is None or (wait.deadline is not None and deadline <= wait.deadline):
        return wait
    return moved(wait, deadline, moment)


def moved(wait: WaitState, deadline: datetime, now: datetime) -> WaitState:
    """The wait with another deadline. Its reminders count from that: those that would have come before now are passed
    over, and a reminder of the earlier deadline is not delivered any more if it will come again.
    """
    wait = replace(wait, deadline=deadline)
    schedule = wait.schedule
    if schedule is None:
        return wait
    wait = replace(wait, schedule=replace(schedule, reminded_at=now))
    if next_reminder(wait) is None:
        return wait
    notices = tuple(one for one in schedule.notices if one.verb != "remind")
    return replace(wait, schedule=replace(schedule, reminded_at=now, notices=notices))


def notice_due(head: Head) -> datetime | None:
    """From when on somebody may take a notice; None if there is none."""
    moments = [moment for wait in _telling(head) if (moment := notices_from(wait)) is not None]
    return min(moments, default=None)


def notices_from(wait: WaitState) -> datetime | None:
    """From when on somebody may take a notice of this wait."""
    return min((one.taken_until or one.at + TICK for one in _notices(wait)), default=None)


def _telling(head: Head) -> tuple[WaitState, ...]:
    """The waits whose notices are delivered: open ones, unless the run is closed or will be."""
    if head.status.closed or head.cancelling:
        return ()
    return tuple([wait for wait in head.waits if wait.schedule is not None and wait.open])


def _notices(wait: WaitState) -> tuple[Notice, ...]:
    return () if wait.schedule is None else wait.schedule.notices


def take_notices(head: Head, now: datetime) -> tuple[Head, tuple[Taken, ...], tuple[Taken, ...]]:
    """The head with every notice taken that may be, in the order of their times; these, and those given up."""
    if (due := notice_due(whole(head))) is None or due > now:
        return head, (), ()
    taken: list[Taken] = []
    given_up: list[Taken] = []
    waits = {wait.secret: _taken(wait, now, taken, given_up) for wait in _telling(head)}
    head = replace(head, waits=tuple(waits.get(wait.secret, wait) for wait in head.waits))
    return head, tuple(sorted(taken, key=lambda one: one[1].at)), tuple(given_up)


def _taken(wait: WaitState, now: datetime, taken: list[Taken], given_up: list[Taken]) -> WaitState:
    kept: list[Notice] = []
    mine: list[Notice] = []
    for notice in _notices(wait):
        if notice.taken_until is not None and notice.taken_until > now:
            kept.append(notice)
        elif notice.tries >= MAX_TRIES:
            given_up.append((wait, notice))
        else:
            pause = min(FIRST_TRY * 2**notice.tries, LONGEST_TRY)
            mine.append(replace(notice, tries=notice.tries + 1, taken_until=min(later(now, pause), END)))
            kept.append(mine[-1])
    wait = _with_notices(wait, kept)
    taken.extend((wait, notice) for notice in mine)
    return wait


def _with_notices(wait: WaitState, notices: Collection[Notice]) -> WaitState:
    return wait if wait.schedule is None else replace(wait, schedule=replace(wait.schedule, notices=tuple(notices)))


def acknowledged(head: Head, delivered: Collection[str]) -> Head:
    """The head without the notices that were delivered; the same object if it has none of them."""

    def without(wait: WaitState) -> WaitState:
        kept = [one for one in _notices(wait) if delivery_id(wait, one) not in delivered]
        return wait if len(kept) == len(_notices(wait)) else _with_notices(wait, kept)

    waits = tuple(without(wait) for wait in head.waits)
    return head if all(new is old for new, old in zip(waits, head.waits, strict=True)) else replace(head, waits=waits)


def delivery_id(wait: WaitState, notice: Notice) -> str:
    """The same for the same notice, and of no other; it tells nothing of the wait's secret."""
    told = f"{notice.verb} {notice.level} {notice.at.isoformat()}"
    return hmac.new(wait.secret, told.encode(), hashlib.sha256).hexdigest()[:32]


def delivery_of(wait: WaitState, notice: Notice) -> Delivery:
    """The notice as whoever delivers it sees it."""
    to = ladder(wait)[notice.level - 1]["to"] if notice.level else ()
    return Delivery(
        id=delivery_id(wait, notice),
        wait=wait.name,
        at=notice.at,
        deadline=wait.deadline,
        level=notice.level,
        to=tuple(to),
        attempt=notice.tries,
    )
