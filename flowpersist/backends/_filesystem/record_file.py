"""A record as a file: ``"FPR1" | u32 length of header | header (JSON) | head | small body | u32 CRC-32 of all before``.

A body of up to ``INLINE_BYTES`` lies in the record's file, a larger one in a file of its own that the header names by
its nonce, so that changing the record does not write it again.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from typing import Any, Final

from attrs import evolve, field, frozen

from flowpersist.backends._clock import from_micros, to_micros
from flowpersist.backends._filesystem.files import NAME
from flowpersist.backends._outcomes import unreadable
from flowpersist.backends._scalars import attributes_from_text, attributes_to_text
from flowpersist.backends.base import Record, RecordRef

__all__ = ["INLINE_BYTES", "Stored", "decode", "digest_of", "encode"]

INLINE_BYTES: Final = 32 * 1024
_MAGIC: Final = b"FPR1"
_LENGTH: Final = struct.Struct(">I")
_START: Final = len(_MAGIC) + _LENGTH.size


@frozen
class Stored:
    """A record's file: the record without its body, the small body inside, or the nonce of the body's own file."""

    record: Record
    inline: bytes | None = field(default=None, repr=False)
    nonce: str | None = None

    def with_body(self, body: bytes | None) -> Record:
        """The record with its body."""
        return evolve(self.record, body=body)


def digest_of(ref: RecordRef) -> str:
    """The name of a record's file: never the user's text, and of one length. Namespace and key can't flow together."""
    namespace = ref.namespace.encode()
    return hashlib.sha256(_LENGTH.pack(len(namespace)) + namespace + ref.key.encode()).hexdigest()


def encode(stored: Stored) -> bytes:
    """The bytes of a record's file."""
    record = stored.record
    header = {
        "namespace": record.ref.namespace,
        "key": record.ref.key,
        "revision": record.revision,
        "write_id": record.write_id,
        "created": to_micros(record.created_at),
        "updated": to_micros(record.updated_at),
        "due": None if record.due_at is None else to_micros(record.due_at),
        "attributes": attributes_to_text(record.attributes),
        "head": len(record.head),
        "body": record.body_size,
        "nonce": stored.nonce,
    }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    data = b"".join((_MAGIC, _LENGTH.pack(len(text)), text, record.head, stored.inline or b""))
    return data + _LENGTH.pack(zlib.crc32(data))


def decode(data: bytes) -> Stored:
    """The record of a file's bytes; ``IntegrityError`` where they are not as they were written."""
    if len(data) < _START + _LENGTH.size or data[:4] != _MAGIC or _LENGTH.pack(zlib.crc32(data[:-4])) != data[-4:]:
        raise unreadable(NAME, "a record's file")
    try:
        return _parsed(data)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise unreadable(NAME, "a record's file") from error


def _parsed(data: bytes) -> Stored:
    (length,) = _LENGTH.unpack(data[len(_MAGIC) : _START])
    header: dict[str, Any] = json.loads(data[_START : _START + length])
    rest = data[_START + length : -_LENGTH.size]
    size, nonce = header["body"], header["nonce"]
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
    # A nonce becomes part of a file's name.
    if nonce is not None and not (isinstance(nonce, str) and nonce.isalnum()):
        raise ValueError("a nonce that is none")
    return Stored(record, rest[header["head"] :] if size is not None and nonce is None else None, nonce)
