"""A record's file as format 1 wrote it, for reading.

    "FPR1" | u32 length of header | header (JSON) | head | small body | u32 CRC-32 of all before

A large body is the whole of a file of its own.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any, Final

from flowpersist.backends._clock import from_micros
from flowpersist.backends._damage import WRONG, sound
from flowpersist.backends._filesystem.record_file import (
    Stored,
    checked_nonce,
    checked_size,
    damaged,
    digest_of,
)
from flowpersist.backends._scalars import attributes_from_text
from flowpersist.backends.base import Record, RecordRef

__all__ = ["MAX_OLD_BYTES", "OLD_MAGIC", "decode_old"]

OLD_MAGIC: Final = b"FPR1"
#: More than its header, its head and a small body can take. A longer file is damaged.
MAX_OLD_BYTES: Final = 4 * 1024 * 1024
_LENGTH: Final = struct.Struct(">I")
_START: Final = len(OLD_MAGIC) + _LENGTH.size


def decode_old(data: bytes, digest: str) -> Stored:
    """The record of a file's bytes; ``IntegrityError`` where they are not as they were written."""
    if not _START + _LENGTH.size <= len(data) <= MAX_OLD_BYTES or _LENGTH.pack(zlib.crc32(data[:-4])) != data[-4:]:
        raise damaged()
    try:
        stored = _parsed(data)
    except WRONG as error:
        raise damaged() from error
    if digest_of(stored.record.ref) != digest:
        raise damaged()
    return stored


def _parsed(data: bytes) -> Stored:
    (length,) = _LENGTH.unpack(data[len(OLD_MAGIC) : _START])
    header: dict[str, Any] = json.loads(data[_START : _START + length])
    rest = data[_START + length : -_LENGTH.size]
    size, nonce = checked_size(header["body"]), checked_nonce(header["nonce"])
    record = Record(
        ref=RecordRef(header["namespace"], header["key"]),
        revision=header["revision"],
        write_id=header["write_id"],
        attributes=attributes_from_text(header["attributes"]),
        head=rest[: header["head"]],
        body=None,
        body_size=size,
        created_at=from_micros(header["created"]),
        updated_at=from_micros(header["updated"]),
        due_at=None if header["due"] is None else from_micros(header["due"]),
    )
    inside = size if size is not None and nonce is None else 0
    if len(rest) != header["head"] + inside:
        raise ValueError("lengths do not match")
    sound(record)
    return Stored(record, rest[header["head"] :] if size is not None and nonce is None else None, nonce)
