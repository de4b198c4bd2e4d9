"""The bytes of a head that must stay free, so that what comes later fits in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flowpersist.inputs.people import quorum_in
from flowpersist.lifecycle.model import CastVote, Head, PartOfHead, WaitState, WaitStatus
from flowpersist.lifecycle.scheduling import ladder
from flowpersist.sealed.heads import size_of

__all__ = ["grown", "more_answers", "room_of", "room_of_pages", "room_of_waits"]

#: Bytes that a head keeps free for claims, an error and a reason (each of at most 1000 characters).
ROOM: Final = 12 * 1024
#: Bytes that it keeps free for the reference to a large answer, its giver and its id; for at most so many waits, since
#: not all of them will be as long.
ROOM_OF_ANSWER: Final = 1536
ANSWERERS: Final = 8
ROOM_OF_WAIT: Final = 144
#: For a reminder and for each step of the ladder that are still to come, and for taking what has come.
ROOM_OF_NOTICE: Final = 72
ROOM_OF_TAKING: Final = 16
#: For the newest audit entries, as many as stay in a head and those of one more put.
ROOM_OF_TRAIL: Final = 16 * 1024
#: For the reference to a page, of which a divided one needs one more; each half has about so many waits, or so many
#: bytes.
ROOM_OF_PAGE: Final = 112
WAITS_OF_PAGE: Final = 32
BYTES_OF_PAGE: Final = 16 * 1024
#: Bytes for a vote that a quorum still needs.
ROOM_OF_VOTE: Final = 512


def grown(head: Head, before: Head) -> bool:
    """Whether a caller has added an answer or new waits. What time and holders add is bounded."""
    return head.sequence > before.sequence or more_answers(head, before)


def more_answers(head: Head, before: Head) -> bool:
    """Whether a caller has added an answer or a vote."""
    return _answered(head) > _answered(before) or _votes(head) != _votes(before)


def _answered(head: Head) -> int:
    return len([wait for wait in head.waits if wait.answer is not None])


def _votes(head: Head) -> list[tuple[CastVote, ...]]:
    return [wait.votes for wait in head.waits if wait.votes]


def room_of(head: Head) -> int:
    """The bytes of a head that must stay free, so that the run can be claimed, ended and cancelled after an answer."""
    if head.status.closed:
        return 0
    if isinstance(head, PartOfHead):
        # What the waits of its pages will take was kept free when they were opened.
        return ROOM + _of_trail(head)
    return ROOM + _of_trail(head) + room_of_waits(head.waits)


def room_of_pages(head: Head, waits: Sequence[WaitState]) -> int:
    """The same of a head whose ``waits`` stand on pages: what they will take divides some of these."""
    further = 1 + len(waits) // WAITS_OF_PAGE + room_of_waits(waits) // BYTES_OF_PAGE
    return ROOM + _of_trail(head) + ROOM_OF_PAGE * further


def room_of_waits(waits: Sequence[WaitState]) -> int:
    """The bytes that must stay free for what the open ones of these waits will take."""
    # Without a call for each wait, since every answer asks.
    still = [wait for wait in waits if wait.status is WaitStatus.OPEN]
    answers = ROOM_OF_ANSWER * min(len(still), ANSWERERS)
    own = sum(
        [_of_wait(one) for one in still if one.awaiting and ("default" in one.awaiting or "quorum" in one.awaiting)]
    )
    return ROOM_OF_WAIT * len(still) + answers + own + sum([_of_notices(one) for one in still if one.schedule])


def _of_trail(head: Head) -> int:
    return max(0, ROOM_OF_TRAIL - sum(map(len, head.trail.links)))


def _of_notices(wait: WaitState) -> int:
    if wait.schedule is None:
        return 0
    coming = 1 + len(ladder(wait)) - wait.schedule.level
    return ROOM_OF_NOTICE * coming + ROOM_OF_TAKING * len(wait.schedule.notices)


def _of_wait(wait: WaitState) -> int:
    """The bytes for a default and for the votes that are needed."""
    default = size_of(wait.awaiting["default"]) if wait.awaiting is not None and "default" in wait.awaiting else 0
    quorum = quorum_in(wait.awaiting)
    return default if quorum is None else default + ROOM_OF_VOTE * max(0, quorum.votes - len(wait.votes))
