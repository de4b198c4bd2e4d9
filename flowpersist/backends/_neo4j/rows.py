"""Records as nodes: the parameters of a put, and the record that is read from a node."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

from attrs import evolve, field, frozen

from flowpersist.backends._clock import from_micros, to_micros
from flowpersist.backends._damage import read_as
from flowpersist.backends._neo4j.naming import ATTRIBUTE, moment_text, ordered, plain
from flowpersist.backends._scalars import attributes_from_text, attributes_to_text
from flowpersist.backends.base import KEEP, Keep, Record, RecordChange, RecordRef, Scalar

__all__ = [
    "NAME",
    "PART_BYTES",
    "Parameters",
    "Torn",
    "body_of",
    "changed",
    "inserted",
    "record_of",
    "snapshot_of",
    "upserted",
]

NAME: Final = "neo4j"
#: Bodies above this size are split: a single property of ten megabytes takes twice as long to read.
PART_BYTES: Final = 1024 * 1024
_TAG_BYTES: Final = 8
_LINES: Final = 8
#: The deadline of a put that has none.
_NEVER: Final = 2**62
Parameters: TypeAlias = dict[str, Any]


class Torn(Exception):
    """The parts that were read belong to different revisions: Neo4j reads without locks, and a put came in between."""


def _tag() -> str:
    return base64.urlsafe_b64encode(os.urandom(_TAG_BYTES * 3 // 4)).decode()


def _parts(body: bytes) -> list[bytes]:
    # An empty body is still a body.
    return [body[start : start + PART_BYTES] for start in range(0, max(len(body), 1), PART_BYTES)]


def _attributes(attributes: Mapping[str, Scalar]) -> Parameters:
    return {f"{ATTRIBUTE}{name}": value for name, value in attributes.items() if plain(name)}


def conditions(ref: RecordRef, not_after: datetime | None, offset: int, *, alone: bool) -> Parameters:
    """The parameters of every put. ``alone``: it is a transaction of its own."""
    latest = _NEVER if not_after is None else to_micros(not_after)
    # A statement that waited past its deadline raises an error, which would end the transaction that it is part of.
    return {"namespace": ref.namespace, "offset": offset, "not_after": latest, "last": latest if alone else _NEVER}


def inserted(ref: RecordRef, change: RecordChange) -> Parameters:
    """The parameters of ``insert_record``."""
    tag, key = _tag(), ordered(ref.key)
    attributes = {} if isinstance(change.attributes, Keep) else change.attributes or {}
    head = change.head if isinstance(change.head, bytes) else b""
    due = None if isinstance(change.due_at, Keep) else change.due_at
    lines = (_due_line(due), json.dumps(change.write_id), attributes_to_text(attributes), tag, _body_line(tag, change))
    properties = _attributes(attributes)
    properties.update(_due(due, key), head=tag.encode() + head)
    return {
        "key": key,
        "tag": tag,
        "lines": "\n".join(lines),
        "properties": properties,
        "parts": _parts(change.body) if isinstance(change.body, bytes) else [],
    }


def changed(ref: RecordRef, change: RecordChange) -> Parameters:
    """The parameters of ``change_record``: None for what is kept."""
    return _changed(ref, change, _tag())


def upserted(ref: RecordRef, change: RecordChange) -> Parameters:
    """The parameters of ``upsert_record``: the same, and those of a new record."""
    tag = _tag()
    return {**_changed(ref, change, tag), "tag": tag, "empty": tag.encode()}


def _changed(ref: RecordRef, change: RecordChange, tag: str) -> Parameters:
    key = ordered(ref.key)
    properties: Parameters = {}
    due = attributes = head_tag = body = None
    if not isinstance(change.due_at, Keep):
        due = _due_line(change.due_at)
        properties.update(_due(change.due_at, key))
    if not isinstance(change.attributes, Keep):
        attributes = attributes_to_text(change.attributes or {})
        properties.update(_attributes(change.attributes or {}))
    if not isinstance(change.head, Keep):
        head_tag = tag
        properties["head"] = tag.encode() + (change.head or b"")
    if change.body is not KEEP:
        body = _body_line(tag, change)
    lines = [due, json.dumps(change.write_id), attributes, head_tag, body]
    # Packing a value takes the driver some microseconds, so only the values that are needed are sent.
    written = {"tag": tag, "parts": _parts(change.body)} if isinstance(change.body, bytes) else {}
    return {"key": key, "lines": lines, "properties": properties, **written}


def _due_line(due: datetime | None) -> str:
    return "" if due is None else str(to_micros(due))


def _due(due: datetime | None, key: str) -> Parameters:
    # Setting None removes the property, and with it the record from the indexes by due.
    return {"by_due": None if due is None else moment_text(due) + key}


def _body_line(tag: str, change: RecordChange) -> str:
    return f"{tag} {len(change.body)}" if isinstance(change.body, bytes) else ""


@frozen
class Snapshot:
    """What a node's snapshot holds, with the tags that its head and body must have."""

    record: Record
    head_tag: str
    body_tag: str = field(default="")


def _number(text: str) -> int:
    value = int(text)
    if str(value) != text:
        raise ValueError("Invalid number: expected canonical decimal digits")
    return value


def snapshot_of(ref: RecordRef, text: str) -> Snapshot:
    """Parse a snapshot; an invalid one raises one of ``WRONG``."""
    revision, created, updated, due, write_id, attributes, head_tag, body = text.split("\n")
    body_tag, _, size = body.partition(" ")
    record = Record(
        ref=ref,
        revision=_number(revision),
        write_id=json.loads(write_id),
        attributes=attributes_from_text(attributes),
        head=b"",
        body=None,
        body_size=_number(size) if body_tag else None,
        created_at=from_micros(_number(created)),
        updated_at=from_micros(_number(updated)),
        due_at=from_micros(_number(due)) if due else None,
    )
    return Snapshot(record, head_tag, body_tag)


def record_of(ref: RecordRef, text: object, head: object) -> tuple[Record, str]:
    """A record without its body, and the tag that its body must have. ``IntegrityError`` for data that no release has
    written, ``Torn`` for parts of two revisions.
    """
    if text is None or head is None:
        # It is being created or deleted.
        raise Torn
    tags: list[str] = []

    def made() -> Record:
        if not isinstance(text, str) or text.count("\n") != _LINES - 1:
            raise TypeError("Invalid node: expected a snapshot")
        found = snapshot_of(ref, text)
        if not isinstance(head, bytes):
            raise TypeError("Invalid head: expected bytes")
        if head[:_TAG_BYTES] != found.head_tag.encode():
            raise Torn
        tags.append(found.body_tag)
        return evolve(found.record, head=head[_TAG_BYTES:])

    return read_as(NAME, ref, made), tags[0]


def body_of(record: Record, body_tag: str, parts: Sequence[tuple[object, object, object]]) -> bytes | None:
    """Join a body from parts in any order, each with tag and number. ``Torn`` if they are not the record's."""
    if record.body_size is None:
        return None
    data = [part for tag, _, part in sorted(parts, key=_part_number) if tag == body_tag]
    body = data[0] if len(data) == 1 else b"".join(part for part in data if isinstance(part, bytes))
    if not isinstance(body, bytes) or len(data) != len(parts) or len(body) != record.body_size:
        raise Torn
    return body


def _part_number(part: tuple[object, object, object]) -> int:
    return part[1] if isinstance(part[1], int) else -1
