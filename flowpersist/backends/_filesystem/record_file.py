"""A record as a file.

    "FPR2" | u32 length of header | u32 length of head | i64 revision | SHA-256 of its reference
    | u32 CRC-32 of all before, of header and of head | header (JSON) | head | body | u32 CRC-32 of the body

So the beginning alone gives a record's revision. A body of up to ``INLINE_BYTES`` is stored in the record's file. A
larger one is written once, with its record, into a file with two names: the record's, and one with a nonce for the
body. Such a file has no CRC of the body. A later change of the record writes a file that holds the nonce and the offset
of the body, so that the body is not written again.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from json.encoder import encode_basestring as _text
from typing import Any, Final

from attrs import evolve, field, frozen

from flowpersist.backends._clock import from_micros, to_micros
from flowpersist.backends._damage import WRONG, sound
from flowpersist.backends._filesystem.files import NAME
from flowpersist.backends._outcomes import unreadable
from flowpersist.backends._scalars import attributes_from_text, attributes_to_text
from flowpersist.backends.base import MAX_HEAD_BYTES, Record, RecordRef
from flowpersist.errors import IntegrityError

__all__ = [
    "INLINE_BYTES",
    "START",
    "Beginning",
    "Stored",
    "beginning",
    "damaged",
    "digest_of",
    "encode",
    "header_of",
    "reach",
    "stored_in",
    "with_inline",
]

INLINE_BYTES: Final = 4 * 1024
_MAGIC: Final = b"FPR2"
_FIXED: Final = struct.Struct(">4sIIq32s")
_U32: Final = struct.Struct(">I")
START: Final = _FIXED.size + _U32.size
#: More than 64 attributes of 1,024 bytes take, even if JSON writes each byte as seven. A longer header means damage.
_MAX_HEADER: Final = 1024 * 1024
_NONCE_LETTERS: Final = 64


@frozen
class Stored:
    """A record's file: the record without its body, and the small body or the location of a large one."""

    record: Record
    inline: bytes | None = field(default=None, repr=False)
    #: The nonce of a large body's file, and the offset of the body in it.
    nonce: str | None = None
    offset: int = 0
    #: Whether the body's file is this one.
    whole: bool = False

    @property
    def inside(self) -> int:
        """The size of the small body in a file that is not whole."""
        return 0 if self.nonce is not None else self.record.body_size or 0

    def with_body(self, body: bytes | None) -> Record:
        """The record with its body."""
        return evolve(self.record, body=body)


@frozen
class Beginning:
    """The checked beginning of a record's file."""

    revision: int
    header: bytes = field(repr=False)
    head: bytes = field(repr=False)
    #: Where the beginning ends and a body starts.
    end: int
    #: The file's name, which identifies the record.
    digest: str


def damaged() -> IntegrityError:
    """The error for a damaged record's file."""
    return unreadable(NAME, "a record's file")


def digest_of(ref: RecordRef) -> str:
    """The name of a record's file: of fixed length, and never the user's text. Namespace and key are encoded without
    ambiguity.
    """
    namespace = ref.namespace.encode()
    return hashlib.sha256(_U32.pack(len(namespace)) + namespace + ref.key.encode()).hexdigest()


def header_of(stored: Stored) -> bytes:
    """A record as JSON on one line, without its revision and head."""
    record = stored.record
    # Written by hand, since json.dumps takes four times as long.
    return (
        f'{{"namespace":{_text(record.ref.namespace)},"key":{_text(record.ref.key)},"write_id":{_text(record.write_id)},'
        f'"created":{to_micros(record.created_at)},"updated":{to_micros(record.updated_at)},'
        f'"due":{"null" if record.due_at is None else to_micros(record.due_at)},'
        f'"attributes":{_text(attributes_to_text(record.attributes))},'
        f'"body":{"null" if record.body_size is None else record.body_size},'
        f'"nonce":{"null" if stored.nonce is None else _text(stored.nonce)},'
        f'"offset":{"null" if stored.whole else stored.offset}}}'
    ).encode()


def encode(stored: Stored, digest: str, header: bytes) -> list[bytes]:
    """The bytes of a record's file. If it is whole, the body's bytes follow them."""
    record = stored.record
    fixed = _FIXED.pack(_MAGIC, len(header), len(record.head), record.revision, bytes.fromhex(digest))
    checksum = _U32.pack(zlib.crc32(record.head, zlib.crc32(header, zlib.crc32(fixed))))
    parts = [fixed, checksum, header, record.head]
    if not stored.whole:
        inline = stored.inline or b""
        parts += [inline, _U32.pack(zlib.crc32(inline))]
    return parts


def reach(data: bytes) -> int:
    """The length of a file's beginning, from its first bytes."""
    if len(data) < START or data[:4] != _MAGIC:
        raise damaged()
    _, header, head, _, _ = _FIXED.unpack_from(data)
    # Otherwise a flipped bit could request gigabytes.
    if header > _MAX_HEADER or head > MAX_HEAD_BYTES:
        raise damaged()
    return START + int(header) + int(head)


def beginning(data: bytes, digest: str) -> Beginning:
    """Parse the beginning of a record's file; ``IntegrityError`` if it is damaged or another record's."""
    end = reach(data)
    _, length, _, revision, name = _FIXED.unpack_from(data)
    header, head = data[START : START + length], data[START + length : end]
    checksum = _U32.pack(zlib.crc32(head, zlib.crc32(header, zlib.crc32(data[: _FIXED.size]))))
    if len(data) < end or checksum != data[_FIXED.size : START] or name.hex() != digest:
        raise damaged()
    return Beginning(revision, header, head, end, digest)


def stored_in(found: Beginning) -> Stored:
    """The record of a file with this beginning, without a small body, which must still be read."""
    try:
        return _parsed(found)
    except WRONG as error:
        raise damaged() from error


def _parsed(found: Beginning) -> Stored:
    header: dict[str, Any] = json.loads(found.header)
    offset = _checked_size(header["offset"])
    record = Record(
        ref=RecordRef(header["namespace"], header["key"]),
        revision=found.revision,
        write_id=header["write_id"],
        attributes=attributes_from_text(header["attributes"]),
        head=found.head,
        body=None,
        body_size=_checked_size(header["body"]),
        created_at=from_micros(header["created"]),
        updated_at=from_micros(header["updated"]),
        due_at=None if header["due"] is None else from_micros(header["due"]),
    )
    stored = Stored(
        sound(record), None, _checked_nonce(header["nonce"]), found.end if offset is None else offset, offset is None
    )
    if digest_of(record.ref) != found.digest:
        raise ValueError("the file belongs to another record")
    if stored.inside > INLINE_BYTES and not stored.whole:
        # Checked before the memory is allocated.
        raise ValueError("Invalid body size: too large for a body inside a record's file")
    return stored


def _checked_nonce(nonce: object) -> str | None:
    """Check a nonce from a header, because it becomes part of a file's name."""
    if nonce is None:
        return None
    if not (isinstance(nonce, str) and nonce.isascii() and nonce.isalnum() and len(nonce) <= _NONCE_LETTERS):
        raise ValueError("Invalid nonce: expected ASCII letters and digits")
    return nonce


def _checked_size(size: object) -> int | None:
    """Check a number of bytes from a header."""
    if size is not None and (type(size) is not int or size < 0):
        raise ValueError("Invalid size: expected a number of bytes, or null")
    return size


def with_inline(stored: Stored, rest: bytes) -> Stored:
    """Add the small body, given all bytes after a file's beginning."""
    inline = rest[: stored.inside]
    if len(rest) != stored.inside + _U32.size or _U32.pack(zlib.crc32(inline)) != rest[stored.inside :]:
        raise damaged()
    held = stored.nonce is None and stored.record.body_size is not None
    return Stored(stored.record, inline) if held else stored
