"""What stands in the place of a record that was moved to another store.

The mark is written by one compare-and-set, which is the moment of the move: whoever comes later is refused. Until the
record is known to be in the other store, the mark holds all that the record had, so that a move that was cut is
finished by whoever repeats it::

    "FPM1" | u32 length of the JSON | JSON {"to", "done", "attributes", "due"} | the sealed head, unless done

A mark is not sealed: who can write the database could as well delete the record.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Final

from attrs import evolve, frozen

from flowpersist.backends.base import MAX_HEAD_BYTES, Page, Record, RecordChange
from flowpersist.errors import PersistenceError, RecordMoved

__all__ = ["Moved", "is_mark", "moved_in", "refusal", "unmoved"]

MAGIC: Final = b"FPM1"
_LENGTH: Final = 4


@frozen
class Moved:
    """A mark: the other store's name, whether the record is known to be there, and the record as it was, if not."""

    to: str
    done: bool
    record: Record | None

    @classmethod
    def change(cls, record: Record, to: str, write_id: str) -> RecordChange | None:
        """The put that makes a mark of a record, whose body stays; None where its head leaves no room for one."""
        due = None if record.due_at is None else record.due_at.isoformat()
        head = _head({"to": to, "done": False, "attributes": dict(record.attributes), "due": due}) + record.head
        return None if len(head) > MAX_HEAD_BYTES else RecordChange(write_id, attributes={}, head=head, due_at=None)

    def ended(self, write_id: str) -> RecordChange:
        """The put once the record is known to be in the other store."""
        head = _head({"to": self.to, "done": True, "attributes": {}, "due": None})
        return RecordChange(write_id, attributes={}, head=head, body=None, due_at=None)


def _head(data: dict[str, object]) -> bytes:
    text = json.dumps(data, separators=(",", ":")).encode()
    return MAGIC + len(text).to_bytes(_LENGTH, "big") + text


def is_mark(head: bytes) -> bool:
    """Whether a head is a mark: no sealed head begins so."""
    return head.startswith(MAGIC)


def moved_in(record: Record) -> Moved | None:
    """The mark in a record's place; None where it is no whole one."""
    try:
        start = len(MAGIC) + _LENGTH
        end = start + int.from_bytes(record.head[len(MAGIC) : start], "big")
        data = json.loads(record.head[start:end])
        if data["done"]:
            return Moved(data["to"], done=True, record=None)
        due = None if data["due"] is None else datetime.fromisoformat(data["due"])
        was = evolve(record, head=record.head[end:], attributes=dict(data["attributes"]), due_at=due)
        return Moved(data["to"], done=False, record=was)
    except (KeyError, TypeError, ValueError):
        return None


def refusal(record: Record) -> PersistenceError:
    """The error of whoever comes for a record that was moved."""
    found = moved_in(record)
    to = None if found is None else str(found.to)[:200]
    message = f"record {record.ref.key} was moved to the store {to!r}: open a hub on that store, and repeat the call"
    return RecordMoved(message, to)


def unmoved(page: Page[Record]) -> Page[Record]:
    """The same page without what was moved: that is listed by the other store."""
    if not any(is_mark(record.head) for record in page.items):
        return page
    return evolve(page, items=tuple(record for record in page.items if not is_mark(record.head)))
