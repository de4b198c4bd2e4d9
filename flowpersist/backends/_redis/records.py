"""Records as hashes, and back.

Fields: ``v`` revision, ``w`` write id, ``a`` attributes (``_scalars.py``), ``h`` head, ``s`` the body's size, ``c``,
``u`` and ``d`` when it was created, updated and is due. A part without a value has no field, or an empty one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from typing import Final, TypeAlias

from attrs import evolve, frozen

from flowpersist.backends._damage import read_as
from flowpersist.backends._outcomes import body_missing
from flowpersist.backends._redis.connections import Command
from flowpersist.backends._redis.errors import NAME
from flowpersist.backends._redis.layout import Layout, Tag, time_from_text, time_to_text
from flowpersist.backends._redis.scripts import PUT, Call
from flowpersist.backends._scalars import attributes_from_text, attributes_to_text
from flowpersist.backends.base import Keep, Record, RecordChange, RecordRef

__all__ = [
    "FIELDS",
    "LAST_REVISION",
    "UPLOAD_SECONDS",
    "Fields",
    "Upload",
    "number",
    "put_call",
    "record_of",
    "upload_of",
    "with_body",
]

#: The values of ``FIELDS``, as HMGET gives them.
Fields: TypeAlias = Sequence[bytes | None]
FIELDS: Final = ("v", "w", "a", "h", "s", "c", "u", "d")
#: How long an upload lives that no record names, because its writer died before writing the record.
UPLOAD_SECONDS: Final = 3600
#: Above this a double, in which the scripts count, skips integers (common.lua).
LAST_REVISION: Final = 2**53 - 1
_KEEP: Final = b"="
_NOTHING: Final = b""
_NO_ATTRIBUTES: Final = b"{}"


def number(text: bytes) -> int:
    """Parse a number in canonical form; ``ValueError`` for any other text."""
    value = int(text)
    if b"%d" % value != text:
        raise ValueError("Invalid number: expected canonical decimal digits")
    return value


def record_of(ref: RecordRef, fields: Fields | None) -> Record:
    """A record without its body; ``IntegrityError`` for a damaged one, such as one without fields."""
    return read_as(NAME, ref, lambda: _record(ref, fields), last=LAST_REVISION)


def _record(ref: RecordRef, fields: Fields | None) -> Record:
    if fields is None:
        raise ValueError("Invalid record: expected a hash")
    revision, write_id, attributes, head, size, created, updated, due = fields
    if revision is None or write_id is None or created is None or updated is None:
        raise ValueError("a field is missing")
    return Record(
        ref=ref,
        revision=number(revision),
        write_id=write_id.decode(),
        attributes=attributes_from_text(attributes.decode()) if attributes and attributes != _NO_ATTRIBUTES else {},
        head=head or b"",
        body=None,
        body_size=number(size) if size else None,
        created_at=time_from_text(created),
        updated_at=time_from_text(updated),
        due_at=time_from_text(due) if due else None,
    )


def with_body(record: Record, body: object) -> Record:
    """A record with the body that it names and that was read with it."""
    if not isinstance(body, bytes) or len(body) != record.body_size:
        raise body_missing(NAME, record.ref)
    return evolve(record, body=body)


@frozen
class Upload:
    """A body that is being uploaded: its temporary key, and the command that writes it."""

    key: bytes
    commands: tuple[Command, ...]


def upload_of(tag: Tag, ref: RecordRef, change: RecordChange) -> Upload:
    """The command that must precede the script that names the body in its record."""
    if not isinstance(change.body, bytes):
        return Upload(tag.body(ref.key), ())
    key = tag.upload(os.urandom(16).hex())
    return Upload(key, (("SET", key, change.body, "EX", UPLOAD_SECONDS),))


def put_call(
    layout: Layout,
    ref: RecordRef,
    change: RecordChange,
    upload: Upload,
    conditions: tuple[int | None, datetime | None],
    offset: tuple[bytes, bytes],
    channel: bytes,
) -> Call:
    """The script call that changes a record; ``conditions`` are the revision (None: any) and the deadline."""
    tag = layout.tag(ref)
    if_revision, not_after = conditions
    return PUT.call(
        (tag.record(ref.key), tag.body(ref.key), upload.key),
        tag.text,
        ref.key,
        _NOTHING if if_revision is None else if_revision,
        _NOTHING if not_after is None else time_to_text(not_after),
        *offset,
        channel,
        change.write_id,
        _KEEP if isinstance(change.attributes, Keep) else attributes_to_text(change.attributes or {}),
        _KEEP if isinstance(change.head, Keep) else b"+" + (change.head or b""),
        _due(change),
        _size(change),
    )


def _due(change: RecordChange) -> bytes:
    if isinstance(change.due_at, Keep):
        return _KEEP
    return _NOTHING if change.due_at is None else time_to_text(change.due_at)


def _size(change: RecordChange) -> bytes:
    if isinstance(change.body, Keep):
        return _KEEP
    return _NOTHING if change.body is None else b"%d" % len(change.body)
