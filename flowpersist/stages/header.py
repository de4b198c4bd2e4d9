"""The envelope's header, byte by byte; specs/persistence/envelope.md is its specification.

All integers are big-endian::

    "FPE1" | version u8 | flags u8 | suite u16 | kid u32 length and text | salt 32 | commitment 32 | nonce 12 | length
    u64
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Final, Literal, NamedTuple, TypeAlias

from attrs import frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import CorruptedEnvelope, PersistenceError, UnsupportedVersion

__all__ = [
    "AUTHENTICATED",
    "ENCRYPTED",
    "PIECE_BYTES",
    "PLAIN",
    "Envelope",
    "Header",
    "Suite",
    "buffer_of",
    "framed",
    "in_pieces",
    "is_plain",
    "kid_of",
    "parse_envelope",
    "parsed_envelope",
    "render_envelope",
    "rendered_end",
    "rendered_start",
]

Suite: TypeAlias = Literal[1, 2, 3]
PLAIN: Final = 1
AUTHENTICATED: Final = 2
ENCRYPTED: Final = 3

MAGIC: Final = b"FPE1"
VERSION: Final = 1
MAX_KID_BYTES: Final = 64
SALT_BYTES: Final = 32
NONCE_BYTES: Final = 12
#: The bytes that are processed at a time: they stay in the cache between steps, and other threads run in between.
PIECE_BYTES: Final = 64 * 1024
#: The most bytes that a buffer is allocated with at once.
MAX_ROOM: Final = 16 * 1024 * 1024

_START: Final = struct.Struct(">4sBBHI")
_END: Final = struct.Struct(">32s32s12sQ")
_CRC: Final = struct.Struct(">I")


@frozen
class Header:
    """The header of an envelope: the suite, the key, and what the suite needs."""

    suite: int
    kid: str = ""
    salt: bytes = bytes(SALT_BYTES)
    commitment: bytes = bytes(32)
    nonce: bytes = bytes(NONCE_BYTES)

    def render(self, length: int) -> bytes:
        """The header of a payload of ``length`` bytes."""
        return rendered_start(self.suite, self.kid) + rendered_end(self.salt, self.commitment, self.nonce, length)


def rendered_start(suite: int, kid: str) -> bytes:
    """The part of a header that all messages of a suite and a key have in common."""
    name = kid.encode("ascii")
    return _START.pack(MAGIC, VERSION, 0, suite, len(name)) + name


def rendered_end(salt: bytes, commitment: bytes, nonce: bytes, length: int) -> bytes:
    """The rest of it, for a payload of ``length`` bytes."""
    return _END.pack(salt, commitment, nonce, length)


class Envelope(NamedTuple):
    """A parsed envelope: the fields of its header, the header's own bytes (which are authenticated), and the
    payload.
    """

    suite: int
    kid: str
    salt: bytes
    commitment: bytes
    nonce: bytes
    raw: bytes
    payload: memoryview

    @property
    def is_bare(self) -> bool:
        """Whether no field has what only a sealed one has."""
        return not (self.kid or any(self.salt) or any(self.commitment) or any(self.nonce))

    def __repr__(self) -> str:
        return f"<Envelope of suite {self.suite}>"


def buffer_of(size: int) -> BytesIO:
    """An empty buffer with room for this many bytes, so that it is not moved while it grows."""
    out = BytesIO()
    # Zero-filling holds the interpreter's lock, so a very large buffer grows from here.
    out.seek(min(size, MAX_ROOM) - 1)
    out.write(b"\0")
    out.seek(0)
    return out


def framed(part: bytes) -> bytes:
    """A part behind its length, so that parts in a row can't be split otherwise."""
    return len(part).to_bytes(4, "big") + part


def in_pieces(parts: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """Split the bytes into pieces of bounded size without copying them."""
    for part in parts:
        if len(part) <= PIECE_BYTES:
            yield part
        else:
            view = memoryview(part)
            yield from (view[at : at + PIECE_BYTES] for at in range(0, len(view), PIECE_BYTES))


def render_envelope(header: bytes, payload: Iterable[bytes | memoryview], size: int) -> bytes:
    """Write the header, the pieces of the payload, which has ``size`` bytes in all, and a CRC-32 over all of them,
    which finds accidental damage without a key.
    """
    if size <= PIECE_BYTES:
        small = b"".join((header, *payload))
        return small + _CRC.pack(zlib.crc32(small))
    # Pieces that are made while they are written never exist all at once, and getvalue does not copy.
    out = buffer_of(len(header) + size + _CRC.size)
    out.write(header)
    crc = zlib.crc32(header)
    for piece in payload:
        crc = zlib.crc32(piece, crc)
        out.write(piece)
    out.write(_CRC.pack(crc))
    return out.getvalue()


def kid_of(data: bytes) -> str:
    """The id of the key that an envelope names; empty where it is plain, or no envelope. Nothing else is checked."""
    if len(data) < _START.size or data[: len(MAGIC)] != MAGIC:
        return ""
    length = int.from_bytes(data[_START.size - 4 : _START.size], "big")
    return str(data[_START.size : _START.size + length], "ascii", "replace") if length <= MAX_KID_BYTES else ""


def is_plain(data: bytes) -> bool:
    """Whether this is an envelope that no key has sealed."""
    return data[: _START.size - 4] == _START.pack(MAGIC, VERSION, 0, PLAIN, 0)[:-4]


def parse_envelope(data: bytes) -> Result[Envelope, PersistenceError]:
    """Parse an envelope; the checks are in this order: lengths, magic, version, suite, CRC. No key is needed."""
    parsed = parsed_envelope(data)
    return Success(parsed) if isinstance(parsed, Envelope) else Failure(parsed)


def parsed_envelope(data: bytes) -> Envelope | PersistenceError:
    """The same without a ``Result``, which takes as long to make as an envelope: every read parses one."""
    if len(data) < _START.size or data[: len(MAGIC)] != MAGIC:
        return _corrupted("it does not begin with the magic bytes of an envelope")
    _, version, flags, suite, kid_length = _START.unpack_from(data)
    if (version, flags) != (VERSION, 0) or suite not in {PLAIN, AUTHENTICATED, ENCRYPTED}:
        message = (
            f"an envelope of version {version}, flags {flags}, suite {suite}: this release reads version {VERSION}"
        )
        return UnsupportedVersion(f"{message}; upgrade flowpersist")
    end = _START.size + kid_length + _END.size
    if kid_length > MAX_KID_BYTES or len(data) < end + _CRC.size:
        return _corrupted("its header is cut off")
    salt, commitment, nonce, length = _END.unpack_from(data, _START.size + kid_length)
    if len(data) != end + length + _CRC.size:
        return _corrupted(f"it declares {length} bytes of payload and has {len(data) - end - _CRC.size}")
    if zlib.crc32(memoryview(data)[: -_CRC.size]) != _CRC.unpack_from(data, end + length)[0]:
        return _corrupted("its CRC-32 does not match")
    kid = str(data[_START.size : _START.size + kid_length], "ascii", "replace")
    payload = memoryview(data)[end : end + length]
    return Envelope(suite, kid, salt, commitment, nonce, bytes(data[:end]), payload)


def _corrupted(what: str) -> PersistenceError:
    return CorruptedEnvelope(f"the envelope is damaged: {what}; restore the record from a backup")
