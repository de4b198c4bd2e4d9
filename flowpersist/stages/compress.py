"""The first stage on bytes: compress them, or store them if that saves nothing.

It makes ``compression u8 | plain length u64 | compressed bytes``, big-endian: the first three parts of a frame. A zstd
frame (RFC 8878) carries its own content size, which must equal the plain length and be within the limit before a byte
is decompressed; gzip (RFC 1952) is decompressed into a bounded buffer.

If half of a state is random, zstd detects that for each block of 128 KiB and stores those blocks, at several GB/s. So
the probe only serves data that is large and random throughout.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from attrs import field, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import CompressionError, PersistenceError, StateTooLarge, UnknownDictionary
from flowpersist.errors.arguments import check_bytes, check_choice, check_instance, check_mapping, check_size
from flowpersist.stages.zstd import DICTIONARY_REACH, Dictionaries, Dictionary, dictionary_id, packed, unpacked

__all__ = [
    "DEFAULT_LIMIT",
    "Compress",
    "Compression",
    "compress",
    "compressed",
    "decompress",
    "decompressed",
    "plain_size",
]

Compression: TypeAlias = Literal["auto", "zstd", "gzip", "none"]
COMPRESSIONS: Final = ("auto", "zstd", "gzip", "none")
DEFAULT_LIMIT: Final = 100 * 1024 * 1024

_PREFIX: Final = struct.Struct(">BQ")
_NONE, _ZSTD, _GZIP, _ZSTD_DICTIONARY = 0, 1, 2, 3
#: Below this many bytes compressing takes more time than it saves, most of all when other work has filled the caches;
#: with a dictionary the limit is lower.
_SMALL: Final = 2048
_DICTIONARY_FROM: Final = 64
#: Below this many bytes a probe costs as much as it can save: zstd takes a quarter of a millisecond for a random MiB.
_PROBED_FROM: Final = 1024 * 1024
#: A probe of this many pieces of this many bytes shows whether compressing saves anything.
_PIECES: Final = 16
_PIECE: Final = 4096
#: Data that does not shrink by this factor is stored as it is.
_WORTH: Final = 1.06
_NO_DICTIONARIES: Final[Mapping[int, Dictionary]] = MappingProxyType({})


def compress(
    data: bytes, *, compression: Compression = "auto", dictionary: Dictionary | None = None
) -> Result[bytes, PersistenceError]:
    """Compress data. ``auto`` stores what is small or random, and uses zstd for the rest.

    A ``dictionary`` is used for data of 64 bytes to 64 KiB under ``auto`` and ``zstd``; decompressing needs the same
    one.
    """
    check_bytes(data, "data")
    check_choice(compression, "compression", COMPRESSIONS)
    check_instance(dictionary, "dictionary", (Dictionary, type(None)), "a Dictionary or None")
    return Success(b"".join(compressed(data, compression, dictionary)))


def compressed(data: bytes, compression: Compression, dictionary: Dictionary | None = None) -> tuple[bytes, bytes]:
    """The same in two parts, which saves a copy that a later stage would make again. Its caller has checked the
    arguments.
    """
    fitting = _DICTIONARY_FROM <= len(data) <= DICTIONARY_REACH
    kind, body = _body(data, compression, dictionary if fitting else None)
    return _PREFIX.pack(kind, len(data)), body


def _body(data: bytes, compression: Compression, dictionary: Dictionary | None) -> tuple[int, bytes]:
    if compression == "gzip":
        # Without the time of day, so that equal data gives equal bytes.
        return _GZIP, gzip.compress(data, compresslevel=6, mtime=0)
    if compression == "none" or (compression == "auto" and not _promising(data, dictionary)):
        return _NONE, data
    body = packed(data, dictionary)
    if compression == "auto" and len(data) < _WORTH * len(body):
        return _NONE, data
    return (_ZSTD if dictionary is None else _ZSTD_DICTIONARY), body


def _promising(data: bytes, dictionary: Dictionary | None) -> bool:
    if len(data) < _PROBED_FROM:
        return dictionary is not None or len(data) >= _SMALL
    view, step = memoryview(data), len(data) // _PIECES
    sample = b"".join(view[start : start + _PIECE] for start in range(0, step * _PIECES, step))
    return len(sample) >= _WORTH * len(packed(sample))


def plain_size(data: bytes) -> int:
    """The length in bytes that compressed data declares for what it decompresses to."""
    length: int = _PREFIX.unpack_from(data)[1]
    return length


def decompress(
    data: bytes | memoryview,
    *,
    limit: int = DEFAULT_LIMIT,
    dictionaries: Mapping[int, Dictionary] = _NO_DICTIONARIES,
) -> Result[bytes, PersistenceError]:
    """Restore what ``compress`` was given. Memory is bounded by ``limit`` (bytes), whatever length the data declares.

    ``UnknownDictionary`` if it was compressed with a dictionary whose id is not among the given ones.
    """
    check_bytes(data, "data")
    check_size(limit, "limit")
    check_mapping(dictionaries, "dictionaries")
    plain = decompressed(data, limit, dictionaries)
    return Success(plain) if isinstance(plain, bytes) else Failure(plain)


def decompressed(
    data: bytes | memoryview, limit: int, dictionaries: Mapping[int, Dictionary]
) -> bytes | PersistenceError:
    """The same for a caller that has checked the arguments: the bytes, or the error."""
    if len(data) < _PREFIX.size:
        return CompressionError(f"a compressed frame has at least {_PREFIX.size} bytes, not {len(data)}")
    kind, length = _PREFIX.unpack_from(data)
    if length > limit:
        return StateTooLarge(
            f"it declares {length} bytes, over the limit of {limit}; to allow it, raise FLOWPERSIST_MAX_STATE_BYTES"
        )
    body = memoryview(data)[_PREFIX.size :]
    if kind == _ZSTD_DICTIONARY:
        return _with_dictionary(body, length, dictionaries)
    revert = _REVERTS.get(kind)
    if revert is None:
        return CompressionError(f"compression {kind} is unknown to this release; upgrade flowpersist")
    return _whole(revert(body, length), length)


def _with_dictionary(body: memoryview, length: int, dictionaries: Mapping[int, Dictionary]) -> bytes | PersistenceError:
    named = dictionary_id(body)
    if not named:
        return CompressionError("the frame needs a dictionary but names none")
    dictionary = dictionaries.get(named)
    if dictionary is None:
        message = (
            f"it was compressed with dictionary {named}, which was not found; open it in the namespace where it was "
            "written, or restore the records of that namespace's dictionaries from a backup"
        )
        return UnknownDictionary(message, named)
    return _whole(unpacked(body, length, dictionary), length)


def _whole(plain: bytes | None, length: int) -> bytes | PersistenceError:
    if plain is None or len(plain) != length:
        return CompressionError(f"the data does not decompress to the {length} bytes that it declares")
    return plain


def _stored(data: memoryview, length: int) -> bytes | None:
    return bytes(data) if len(data) == length else None


def _ungzip(data: memoryview, length: int) -> bytes | None:
    decompressor = zlib.decompressobj(wbits=31)
    try:
        plain = decompressor.decompress(data, length + 1)
    except zlib.error:
        return None
    return plain if decompressor.eof and not decompressor.unused_data else None


_REVERTS: Final = {_NONE: _stored, _ZSTD: unpacked, _GZIP: _ungzip}


@frozen
class Compress:
    """The stage of ``compress`` and ``decompress``."""

    compression: Compression = "auto"
    limit: int = DEFAULT_LIMIT
    dictionaries: Dictionaries = field(factory=Dictionaries)

    def __attrs_post_init__(self) -> None:
        check_choice(self.compression, "compression", COMPRESSIONS)
        check_size(self.limit, "limit")
        check_instance(self.dictionaries, "dictionaries", Dictionaries, "a Dictionaries")

    def apply(self, data: bytes) -> Result[bytes, PersistenceError]:
        """Compress."""
        return compress(data, compression=self.compression, dictionary=self.dictionaries.current)

    def revert(self, data: bytes) -> Result[bytes, PersistenceError]:
        """Decompress."""
        return decompress(data, limit=self.limit, dictionaries=self.dictionaries.known)
