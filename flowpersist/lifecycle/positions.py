"""Positions: how far a suspension had come when its head was written, for the replay ledger.

A position is a number that rises with each write, and a random part, so that two heads that were written on the same
one differ. The number of a first head is its time in milliseconds: a later suspension of the same id, which is derived
from an idempotency key, begins after all that the earlier one had. The position is sealed in the head, so nobody who
writes the store can raise it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypeAlias

from attrs import field, frozen

from flowpersist.lifecycle.model import Head, HeadPart, replace

__all__ = ["LEARNING", "LedgerCard", "LedgerEntry", "Standing", "advanced", "first_number", "floor_of", "standing"]

#: The bits of a position that are random. Those of a floor are zero.
CHANCE_BITS: Final = 20
_CHANCES: Final = 2**CHANCE_BITS - 1
_START: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
#: For so long a new ledger takes in suspensions that it does not know, in milliseconds: processes get it one by one.
LEARNING: Final = 24 * 60 * 60 * 1000

#: What a head is by its entry: as far as the ledger knows, further, or put back (or deleted).
Standing: TypeAlias = Literal["level", "ahead", "back"]


class LedgerEntry(HeadPart, frozen=True):
    """What the ledger knows of the suspension of a record's ``key``: the highest position that was durable, and the
    number that its life began with. A position without a random part is a floor: the suspension may not be there yet.
    ``gone``: it is being removed, or was.
    """

    key: str
    position: int
    began: int
    gone: bool = False


@frozen
class LedgerCard:
    """What a ledger is made with: the ``secret`` under which it names its entries, and the first number of which it
    knows all suspensions.
    """

    secret: bytes = field(repr=False)
    since: int


def first_number(created_at: datetime) -> int:
    """The number that the positions of a suspension begin with."""
    return (created_at - _START) // _MILLISECOND


def floor_of(number: int) -> int:
    """The lowest position of a number."""
    return number << CHANCE_BITS


def after(entry: LedgerEntry) -> int:
    """The least number of a new suspension in the place of what an entry tells of."""
    return (entry.position >> CHANCE_BITS) + (not is_floor(entry))


def is_floor(entry: LedgerEntry) -> bool:
    """Whether an entry tells of no head yet."""
    return not entry.position & _CHANCES


def advanced(head: Head, chance: bytes, least: int = 0) -> Head:
    """A head at its next position; ``chance`` are random bytes, ``least`` is its least number."""
    number = max((head.position >> CHANCE_BITS) + 1, first_number(head.created_at), least)
    # Never zero, which a floor has.
    return replace(head, position=floor_of(number) | (int.from_bytes(chance, "big") % _CHANCES + 1))


def standing(head: Head | None, entry: LedgerEntry | None, since: int) -> Standing:
    """What a head (None: there is none) is by its entry."""
    if head is None:
        return "level" if entry is None or entry.gone or is_floor(entry) else "back"
    if entry is None:
        # An entry is made before its suspension, and removed after it.
        return "ahead" if first_number(head.created_at) < since else "back"
    number, known = head.position >> CHANCE_BITS, entry.position >> CHANCE_BITS
    if number != known:
        return "ahead" if number > known else "back"
    return "level" if is_floor(entry) or head.position == entry.position else "back"
