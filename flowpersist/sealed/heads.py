"""Heads as bytes and back: the mark of the body that belongs to it, and MessagePack of the head's fields by name, every
one checked against its type on the way back.

A head is a small tree of a shape that is known, opened and sealed by every verb, and by the page at every listing; so
it has no need of the codec, which keeps any graph of any classes at twenty times the cost. specs/persistence/heads.md
is the format's specification.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final, Generic, TypeVar

import msgspec
from returns.result import Failure, Result, Success

from flowpersist.errors import (
    MalformedPayload,
    PersistenceError,
    SerializationError,
    StateTooDeep,
    StateTooLarge,
    UnsupportedVersion,
)

__all__ = [
    "MAX_BYTES",
    "NO_BODY",
    "HeadCodec",
    "json_size",
    "kid_in",
    "mark_in",
    "packed",
    "size_of",
    "unpacker",
    "with_mark",
]

H = TypeVar("H")
#: The most bytes of a head before compression. In memory it may take some seventy times as much.
MAX_BYTES: Final = 4 * 1024 * 1024
VERSION: Final = b"\x01"
#: The mark of a head without a body: no digest, and the length of no key id.
NO_BODY: Final = bytes(33)
#: The offset of the length of the body's key id, the last byte of a mark but that id.
_KID: Final = len(VERSION) + len(NO_BODY) - 1
#: Below this, the first byte of MessagePack is a small number.
FIRST_MAP: Final = 0x80
#: The extension type of an integer of more than 64 bits.
BIG_INTEGER: Final = 1
#: The most bytes of such an integer, more than a valid answer has.
MAX_INTEGER_BYTES: Final = 1024
_SMALL_INTEGERS: Final = range(-(2**63), 2**64)
#: The types that MessagePack or msgspec writes, beside those of JSON.
_PLAIN: Final = (bytes, datetime, timedelta)
#: Finds the names of fields in msgspec's messages, without their values.
_PLACE: Final = re.compile(r"at `\$\.?([^`]*)`")


def _plain(value: object) -> object:
    """A text or duration of a subclass, as a value of the plain class."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, timedelta):
        return timedelta(value.days, value.seconds, value.microseconds)
    msg = f"Invalid part of a head: expected plain data, not {type(value).__name__}"
    raise TypeError(msg)


_encode: Final = msgspec.msgpack.Encoder(enc_hook=_plain).encode


class HeadCodec(Generic[H]):
    """Heads of one class, a msgspec struct or attrs class whose fields are texts, numbers, bytes, times, JSON data, or
    tuples of such classes.
    """

    def __init__(self, head_type: type[H]) -> None:
        self._decode: Callable[[bytes | memoryview], H] = msgspec.msgpack.Decoder(head_type, ext_hook=_extended).decode

    def encode(self, head: object, mark: bytes = NO_BODY) -> Result[bytes, PersistenceError]:
        """The bytes of a head; ``mark`` stands for the body that belongs to it.

        Fails with ``StateTooLarge``, ``StateTooDeep``, or ``SerializationError`` where a text is not Unicode, a value
        has no JSON form, or a field is not what ``decode`` takes: what could not be opened again is not written.
        """
        fields = packed(head)
        if not isinstance(fields, Success):
            return fields
        data = VERSION + mark + fields.unwrap()
        if len(data) > MAX_BYTES:
            message = f"what is awaited and answered takes {len(data)} bytes, over the {MAX_BYTES} of a head: "
            return Failure(StateTooLarge(message + "put large data into the state"))
        return self._read_again(data)

    def _read_again(self, data: bytes) -> Result[bytes, PersistenceError]:
        # Some ten microseconds: the reader's own rules are the only ones that are sure to be the reader's.
        try:
            self._decode(memoryview(data)[_fields_at(data) :])
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            found = _PLACE.search(str(error))
            place = "a field of it" if found is None else found[1]
        else:
            return Success(data)
        message = f"the head can't be kept: {place} is of a class or size that no head has; nothing was written"
        return Failure(SerializationError(message, place))

    def decode(self, data: bytes) -> Result[H, PersistenceError]:
        """The head of these bytes; ``UnsupportedVersion`` or ``MalformedPayload`` for others than of this class."""
        head = self.decoded(data)
        return Failure(head) if isinstance(head, PersistenceError) else Success(head)

    def decoded(self, data: bytes) -> H | PersistenceError:
        """The same without a ``Result``: every read decodes a head."""
        if data[:1] != VERSION:
            return _unread(data)
        if len(data) > MAX_BYTES:
            return MalformedPayload(f"a head takes at most {MAX_BYTES} bytes, not {len(data)}")
        try:
            return self._decode(memoryview(data)[_fields_at(data) :])
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            # Not as its cause: msgspec's messages hold some values.
            reason = type(error).__name__
        return MalformedPayload(f"the head can't be read ({reason}); restore the record from a backup")


def packed(value: object) -> Result[bytes, PersistenceError]:
    """The fields of a head, or JSON data in one, as bytes, with the errors of ``HeadCodec.encode``."""
    try:
        return Success(_encoded(value))
    except RecursionError:
        return Failure(StateTooDeep("what is awaited or answered is nested too deeply to be kept; keep it flatter"))
    except (TypeError, ValueError, OverflowError) as error:
        what = "a lone surrogate" if isinstance(error, UnicodeEncodeError) else "a value that has no JSON form"
        return Failure(SerializationError(f"what is awaited or answered holds {what}; leave it out"))


def unpacker(kind: type[H]) -> Callable[[bytes], Result[H, PersistenceError]]:
    """What gives the value of such bytes; ``MalformedPayload`` for others than of this class."""
    decode = msgspec.msgpack.Decoder(kind, ext_hook=_extended).decode

    def unpacked(data: bytes) -> Result[H, PersistenceError]:
        try:
            return Success(decode(data))
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            # Not as its cause: msgspec's messages hold some values.
            reason = type(error).__name__
        return Failure(MalformedPayload(f"a part of a head can't be read ({reason}); restore the record from a backup"))

    return unpacked


def size_of(value: object) -> int:
    """The bytes of a head, or of JSON data in one, without their mark."""
    return len(_encoded(value))


def mark_in(data: bytes) -> bytes:
    """The mark in the bytes of a head that decode."""
    return data[len(VERSION) : _fields_at(data)]


def with_mark(data: bytes, mark: bytes) -> bytes:
    """The bytes of a head, with another mark in them."""
    return data[: len(VERSION)] + mark + data[_fields_at(data) :]


def kid_in(mark: bytes) -> str:
    """The id of the key that has sealed the body of that mark; empty where there is no body, or no key has."""
    return mark[len(NO_BODY) :].decode("ascii", "replace")


def _fields_at(data: bytes) -> int:
    """The offset of the head's fields, behind the version and the mark."""
    return _KID + 1 + int.from_bytes(data[_KID : _KID + 1], "big")


def _unread(data: bytes) -> PersistenceError:
    if not 0 < int.from_bytes(data[:1], "big") < FIRST_MAP:
        return MalformedPayload("the head does not begin with its version; restore the record from a backup")
    message = f"a head of version {data[0]}: this release reads version {VERSION[0]}; upgrade flowpersist"
    return UnsupportedVersion(message)


def _encoded(head: object) -> bytes:
    try:
        return _encode(head)
    except OverflowError:
        return _encode(_with_extended(msgspec.to_builtins(head, builtin_types=_PLAIN, enc_hook=_plain)))


def _with_extended(value: object) -> object:
    """The same, with integers of more than 64 bits as an extension."""
    if type(value) is int and value not in _SMALL_INTEGERS:
        size = value.bit_length() // 8 + 1
        return msgspec.msgpack.Ext(BIG_INTEGER, value.to_bytes(size, "big", signed=True))
    if isinstance(value, dict):
        return {name: _with_extended(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_extended(item) for item in value]
    return value


def _extended(code: int, data: memoryview) -> object:
    if code != BIG_INTEGER or len(data) > MAX_INTEGER_BYTES:
        msg = f"extension {code} of {len(data)} bytes"
        raise ValueError(msg)
    return int.from_bytes(data, "big", signed=True)


def json_size(value: Mapping[str, object]) -> int:
    """The bytes of JSON data as compact text."""
    return len(msgspec.json.encode(value))
