"""Records as MongoDB's documents.

The fields have short names, since each document holds them::

    _id  namespace NUL key          v  revision                 c  created at, key
    n    namespace                  w  write id                 u  updated at, key
    a    attributes, canonical      h  head                     d  due at, key; none where it is never due
    s    size of the body           i  the body itself, where it is small
                                    x  else the name of its chunks, and m how many they are

The sort key of each order is one field, so that a page is one range of one index: a time in ISO 8601 to the
microsecond, a space, and the key. Attributes are an array of entries such as ``"status":"swaiting"``, of which one
index serves every attribute, declared or not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from bson.int64 import Int64

from flowpersist.backends._clock import to_micros
from flowpersist.backends._damage import LAST_REVISION, WRONG, named, place_in, read_as
from flowpersist.backends._matching import Position
from flowpersist.backends._mongodb.errors import NAME
from flowpersist.backends._outcomes import unreadable
from flowpersist.backends._scalars import attributes_from_text, entry_text
from flowpersist.backends.base import Order, Record, RecordRef, Scalar

__all__ = [
    "FIELDS",
    "Document",
    "attribute_entries",
    "identity",
    "key_of",
    "moment_text",
    "namespace_bounds",
    "ordered",
    "place",
    "place_of",
    "record_of",
    "standing_of",
]

Document: TypeAlias = dict[str, Any]
FIELDS: Final[Mapping[Order, str]] = {"key": "_id", "created": "c", "updated": "u", "due": "d"}
#: "2026-11-21T12:00:00.000000Z "
_MOMENT: Final = 28
_HIGH: Final = re.compile("[\ue000-\U0010ffff]")


def ordered(text: str) -> str:
    """Encode a text so that every server sorts it by its UTF-8 bytes.

    MongoDB compares UTF-8, but other servers of its protocol may compare UTF-16, in which characters beyond U+FFFF sort
    before U+E000. So each character from U+E000 on gets a mark before it, which sorts those beyond U+FFFF last in both.
    """
    return _HIGH.sub(_marked, text) if not text.isascii() else text


def _marked(match: re.Match[str]) -> str:
    return ("\ue000" if match[0] <= "\uffff" else "\ue001") + match[0]


def _unordered(text: str) -> str:
    return re.sub("[\ue000\ue001](.)", r"\1", text, flags=re.DOTALL) if not text.isascii() else text


def identity(ref: RecordRef) -> str:
    """A record's ``_id``. NUL separates the two parts; it occurs in neither and sorts before all other characters."""
    return f"{ref.namespace}\0{ordered(ref.key)}"


def key_of(document_id: object) -> str:
    """The key in a record's ``_id``."""
    return _unordered(str(document_id).partition("\0")[2])


def namespace_bounds(namespace: str) -> tuple[str, str]:
    """The bounds between which every ``_id`` of a namespace lies."""
    return f"{namespace}\0", f"{namespace}\1"


def moment_text(moment: datetime) -> str:
    """A time as text that sorts as times do; a text that continues it sorts after it."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z "


def place(moment: datetime, key: str) -> str:
    """A key's sort key in an order by time."""
    return moment_text(moment) + ordered(key)


def _moment(text: object) -> datetime:
    return datetime.fromisoformat(_typed(text, str)[: _MOMENT - 2]).replace(tzinfo=UTC)


def attribute_entries(attributes: Mapping[str, Scalar]) -> list[str]:
    """Attributes in the form in which they are stored and searched."""
    return [entry_text(name, value) for name, value in attributes.items()]


def _typed(value: Any, kind: type) -> Any:  # noqa: ANN401 - whatever a document may hold
    if type(value) is not kind:
        raise TypeError(f"Invalid field: expected {kind.__name__}")
    return value


def number(value: object) -> int:
    """A whole number; ``TypeError`` for any other type, such as a double that equals one."""
    if type(value) is not int and type(value) is not Int64:
        raise TypeError("Invalid field: expected a whole number")
    return int(value)


def _time(document: Mapping[str, Any], name: str, key: str) -> datetime:
    """A time from its field, which must hold this record's own sort key."""
    moment = _moment(document[name])
    if place(moment, key) != document[name]:
        raise ValueError("Invalid index entry: expected a position of this record")
    return moment


def place_of(document: Mapping[str, Any], order: Order) -> Position | None:
    """A document's position in an order, in the form that a cursor holds; None if it has no valid one."""
    try:
        text = _typed(document[FIELDS[order]], str)
        if order == "key":
            key = key_of(text)
            return place_in(0, key) if text == identity(RecordRef(document["n"], key)) else None
        key = _unordered(text[_MOMENT:])
        moment = _moment(text)
        return place_in(to_micros(moment), key) if place(moment, key) == text else None
    except WRONG:
        return None


def record_of(document: Mapping[str, Any], ref: RecordRef) -> Record:
    """Read a document as a record, with its body if that is stored inside. A damaged or forged document may hold
    anything.
    """
    return read_as(NAME, ref, lambda: _record(document, ref))


def _record(document: Mapping[str, Any], ref: RecordRef) -> Record:
    if document["_id"] != identity(ref) or document["n"] != ref.namespace:
        raise ValueError("the document belongs to another record")
    return Record(
        ref=ref,
        revision=number(document["v"]),
        write_id=_typed(document["w"], str),
        attributes=attributes_from_text("{" + ",".join(_typed(document["a"], list)) + "}"),
        head=_typed(document["h"], bytes),
        body=None if document.get("i") is None else _typed(document["i"], bytes),
        body_size=None if document.get("s") is None else number(document["s"]),
        created_at=_time(document, "c", ref.key),
        updated_at=_time(document, "u", ref.key),
        due_at=None if document.get("d") is None else _time(document, "d", ref.key),
    )


def standing_of(document: Mapping[str, Any] | None, ref: RecordRef) -> int:
    """A document's revision, 0 if there is none; ``IntegrityError`` for a damaged one."""
    if document is None:
        return 0
    try:
        revision = number(document["v"])
    except WRONG:
        revision = 0
    if not 1 <= revision <= LAST_REVISION:
        raise unreadable(NAME, named(ref))
    return revision
