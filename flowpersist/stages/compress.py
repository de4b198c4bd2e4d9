"""The first stage on bytes: compress them, or store them where that gains nothing.

It makes ``compression u8 | plain length u64 | compressed bytes``, big-endian: the first three parts of a frame. A zstd
frame (RFC 8878) carries its own content size, which must equal the plain length and be within the limit before a byte
is decompressed; gzip (RFC 1952) is decompressed into a bounded buffer.
"""

from __future__ import annotations

import gzip
import struct
import threading
import zlib
from typing import Final, Literal, TypeAlias

import zstandard
from attrs import frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import CompressionError, PersistenceError, StateTooLarge

__all__ = ["DEFAULT_LIMIT", "Compress", "Compression", "compress", "decompress"]

Compression: TypeAlias = Literal["auto", "zstd", "gzip", "none"]
COMPRESSIONS: Final = ("auto", "zstd", "gzip", "none")
DEFAULT_LIMIT: Final = 100 * 1024 * 1024

_PREFIX: Final = struct.Struct(">BQ")
_NONE, _ZSTD, _GZIP = 0, 1, 2
#: Below this many bytes compressing costs more than it saves.
_SMALL: Final = 512
#: A probe of this many pieces of this many bytes tells whether it gains anything.
_PIECES: Final = 16
_PIECE: Final = 4096
#: What does not shrink by this factor is stored as it is.
_WORTH: Final = 1.06
_LEVEL: Final = 1
#: The most that a zstd frame of no content takes: header, one empty block, checksum.
_EMPTY_FRAME: Final = 18 + 3 + 4


class _Codecs(threading.local):
    """The compressor of one thread: costly to make, and not to be shared."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True, write_content_size=True)


_codecs = _Codecs()


def compress(data: bytes, *, compression: Compression = "auto") -> Result[bytes, PersistenceError]:
    """Compress data. ``auto`` stores what is small or random, and uses zstd for the rest."""
    if compression not in COMPRESSIONS:
        msg = f"compression must be one of {', '.join(COMPRESSIONS)}, not {compression!r}"
        raise ValueError(msg)
    kind, body = _compressed(data, compression)
    return Success(_PREFIX.pack(kind, len(data)) + body)


def _compressed(data: bytes, compression: Compression) -> tuple[int, bytes]:
    if compression == "gzip":
        # No time of day, so that equal data gives equal bytes.
        return _GZIP, gzip.compress(data, compresslevel=6, mtime=0)
    if compression == "none" or (compression == "auto" and not _promising(data)):
        return _NONE, data
    body = _codecs.compressor.compress(data)
    return (_ZSTD, body) if compression == "zstd" or len(data) >= _WORTH * len(body) else (_NONE, data)


def _promising(data: bytes) -> bool:
    if len(data) <= 2 * _PIECES * _PIECE:
        # A probe of these would cost what compressing them does.
        return len(data) >= _SMALL
    view, step = memoryview(data), len(data) // _PIECES
    sample = b"".join(view[start : start + _PIECE] for start in range(0, step * _PIECES, step))
    return len(sample) >= _WORTH * len(_codecs.compressor.compress(sample))


def decompress(data: bytes, *, limit: int = DEFAULT_LIMIT) -> Result[bytes, PersistenceError]:
    """What ``compress`` was given. Memory is bounded by ``limit`` (bytes), whatever the data says of itself."""
    if len(data) < _PREFIX.size:
        return Failure(CompressionError(f"a compressed frame has at least {_PREFIX.size} bytes, not {len(data)}"))
    kind, length = _PREFIX.unpack_from(data)
    if length > limit:
        message = (
            f"it declares {length} bytes, over the limit of {limit}; raise FLOWPERSIST_MAX_STATE_BYTES if that is meant"
        )
        return Failure(StateTooLarge(message))
    revert = _REVERTS.get(kind)
    if revert is None:
        return Failure(CompressionError(f"compression {kind} is unknown to this release; upgrade flowpersist"))
    plain = revert(memoryview(data)[_PREFIX.size :], length)
    if plain is None or len(plain) != length:
        return Failure(CompressionError(f"the data does not decompress to the {length} bytes that it declares"))
    return Success(plain)


def _stored(data: memoryview, length: int) -> bytes | None:
    return bytes(data) if len(data) == length else None


def _unzstd(data: memoryview, length: int) -> bytes | None:
    try:
        if zstandard.frame_content_size(data) != length:
            return None
        if not length:
            return _unzstd_empty(data)
        window = max(1 << 10, 1 << (length - 1).bit_length())
        decompressor = zstandard.ZstdDecompressor(max_window_size=window)
        return decompressor.decompress(data, allow_extra_data=False)
    except (zstandard.ZstdError, MemoryError, ValueError):
        return None


def _unzstd_empty(data: memoryview) -> bytes | None:
    # The one-shot call takes the header's word for it and looks at nothing behind it; skippable frames look empty too.
    if len(data) > _EMPTY_FRAME or data[:4] != zstandard.FRAME_HEADER:
        return None
    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 10).decompressobj()
    plain = decompressor.decompress(data)
    return plain if decompressor.eof and not decompressor.unused_data else None


def _ungzip(data: memoryview, length: int) -> bytes | None:
    decompressor = zlib.decompressobj(wbits=31)
    try:
        plain = decompressor.decompress(data, length + 1)
    except zlib.error:
        return None
    return plain if decompressor.eof and not decompressor.unused_data else None


_REVERTS: Final = {_NONE: _stored, _ZSTD: _unzstd, _GZIP: _ungzip}


@frozen
class Compress:
    """The stage of ``compress`` and ``decompress``."""

    compression: Compression = "auto"
    limit: int = DEFAULT_LIMIT

    def apply(self, data: bytes) -> Result[bytes, PersistenceError]:
        """Compress."""
        return compress(data, compression=self.compression)

    def revert(self, data: bytes) -> Result[bytes, PersistenceError]:
        """Decompress."""
        return decompress(data, limit=self.limit)
