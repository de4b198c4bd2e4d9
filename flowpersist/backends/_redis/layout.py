"""Names of keys, shards, and times as Redis holds them.

All keys of one record, its indexes included, have one hash tag, so that one script may use all of them, also on a
cluster::

    {flowpersist}:schema                       hash: version, and shards, the number of tags of each namespace
    {flowpersist:orders:07}r:<key>             hash: a record (records.py names its fields)
    {flowpersist:orders:07}b:<key>             string: its body
    {flowpersist:orders:07}u:<nonce>           string: a body that no record has yet; vanishes by itself
    {flowpersist:orders:07}floor               string: the highest revision of any record that was deleted
    {flowpersist:orders:07}declared            hash: the indexed attributes, each "building" or "ready"
    {flowpersist:orders:07}key                 sorted set: the keys
    {flowpersist:orders:07}due                 sorted set: time and key; so created and updated
    {flowpersist:orders:07}key:status=swaiting     sorted set: the keys of one value of an indexed attribute
    {flowpersist:orders:07}due:status=swaiting     sorted set: the same by time

All members of a sorted set have the score 0, so that Redis sorts them by bytes: a score is a double, which can't hold
the microseconds of distant years. A time has 18 digits: the microseconds since the year 1.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final
from urllib.parse import quote
from zlib import crc32

from attrs import frozen

from flowpersist.backends._clock import from_micros, to_micros
from flowpersist.backends.base import RecordRef

__all__ = [
    "TIME_DIGITS",
    "Layout",
    "Tag",
    "micros_from_text",
    "micros_to_text",
    "offset_arguments",
    "server_time",
    "time_from_text",
    "time_to_text",
]

TIME_DIGITS: Final = 18
_SHIFT: Final = 62_135_596_800_000_000
_SECOND: Final = timedelta(seconds=1)
_MICROSECOND: Final = timedelta(microseconds=1)


def micros_to_text(micros: int) -> bytes:
    """Microseconds since 1970 as 18 digits that sort as the times do; a cursor may hold a number that is not a valid
    time.
    """
    return b"%018d" % min(max(micros + _SHIFT, 0), 10**TIME_DIGITS - 1)


def micros_from_text(text: bytes) -> int:
    """Parse ``micros_to_text``'s result; ``ValueError`` for any other text."""
    if len(text) != TIME_DIGITS or not text.isdigit():
        raise ValueError("Invalid time: expected 18 digits")
    return int(text) - _SHIFT


def time_to_text(moment: datetime) -> bytes:
    """A time as 18 digits."""
    return micros_to_text(to_micros(moment))


def time_from_text(text: bytes) -> datetime:
    """Parse ``time_to_text``'s result."""
    return from_micros(micros_from_text(text))


def server_time(reply: tuple[bytes, bytes], offset: timedelta) -> datetime:
    """The reply to TIME as a datetime."""
    seconds, micros = reply
    return from_micros(int(seconds) * 1_000_000 + int(micros)) + offset


@lru_cache(maxsize=16)
def offset_arguments(offset: timedelta) -> tuple[bytes, bytes]:
    """A clock's offset as whole seconds and non-negative microseconds; a double holds either exactly."""
    seconds, rest = divmod(offset, _SECOND)
    return b"%d" % seconds, b"%d" % (rest // _MICROSECOND)


@frozen
class Tag:
    """The keys of one shard of a namespace."""

    text: bytes

    def record(self, key: str) -> bytes:
        """The hash of a record."""
        return self.text + b"r:" + key.encode()

    def body(self, key: str) -> bytes:
        """A record's body."""
        return self.text + b"b:" + key.encode()

    def upload(self, nonce: str) -> bytes:
        """A body that is being uploaded."""
        return self.text + b"u:" + nonce.encode()

    @property
    def keys(self) -> bytes:
        """The index of all keys; it also names the slot for scripts that need no other key."""
        return self.text + b"key"

    @property
    def declared(self) -> bytes:
        """The indexed attributes."""
        return self.text + b"declared"


@frozen
class Layout:
    """The names of all keys, given a prefix and a number of shards."""

    prefix: str
    shards: int

    @staticmethod
    def schema_key(prefix: str) -> bytes:
        """The key of the schema."""
        return b"{%s}:schema" % prefix.encode()

    def channel(self, namespace: str) -> bytes:
        """The channel on which the keys of changed records are published."""
        return _channel(self.prefix, namespace)

    def tag(self, ref: RecordRef) -> Tag:
        """The shard of a record."""
        return self._tag(ref.namespace, crc32(ref.key.encode()) % self.shards)

    def tags(self, namespace: str) -> tuple[Tag, ...]:
        """All shards of a namespace."""
        return tuple(self._tag(namespace, number) for number in range(self.shards))

    def _tag(self, namespace: str, number: int) -> Tag:
        return _tag(self.prefix, namespace, number)


@lru_cache(maxsize=4096)
def _tag(prefix: str, namespace: str, number: int) -> Tag:
    return Tag(f"{{{prefix}:{_escaped(namespace)}:{number:02}}}".encode())


@lru_cache(maxsize=1024)
def _channel(prefix: str, namespace: str) -> bytes:
    return f"{prefix}:{_escaped(namespace)}".encode()


@lru_cache(maxsize=1024)
def _escaped(namespace: str) -> str:
    """A namespace without the characters that would end the tag, or a part of it."""
    return quote(namespace)
