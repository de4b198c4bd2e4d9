"""What of a value stands in its record's head and body, in a collection."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec
from attrs import evolve
from returns.result import Failure, Result, Success

from flowpersist.backends.base import RecordRef
from flowpersist.codec import Codec
from flowpersist.errors import MalformedPayload, PersistenceError, RevisionConflict
from flowpersist.sealed.drafts import Draft, Found, Loaded
from flowpersist.sealed.naming import SURROGATE, Parts, parts_of
from flowpersist.stages.header import framed

__all__ = [
    "Card",
    "at",
    "card_key",
    "is_live",
    "joined_body",
    "key_in",
    "live",
    "packed_key",
    "split_body",
    "standing_at",
    "timely",
]

#: Of a key that rides in the head.
MOST_KEY_BYTES: Final = 4 * 1024
_INT64: Final = range(-(2**63), 2**63)
TICK: Final = timedelta(microseconds=1)
#: Of the length in front of a framed key.
_LENGTH: Final = 4
_KEYS: Final = Codec()


class Card(msgspec.Struct, frozen=True, omit_defaults=True):
    """The head of a value's record, with what is small: the key's parts, and the value as the codec encodes it.

    A ``key`` that MessagePack has no form for is bytes of the codec. A ``value`` of None is the record's body. A
    ``key`` of None stands there too, in front of the value. ``clear`` is the digest of a body that stands in clear.
    """

    key: tuple[str | int, ...] | bytes | None
    value: bytes | None
    attributes: dict[str, str | int | float | bool]
    expires_at: datetime | None
    clear: bytes | None = None

    def __repr__(self) -> str:
        return f"Card(expires_at={self.expires_at!r})"


def is_live(card: Card, now: datetime) -> bool:
    """Whether the value is there at this moment of the store's clock."""
    return card.expires_at is None or now < card.expires_at


def packed_key(parts: Parts) -> bytes:
    """A key as bytes."""
    return _KEYS.encode(parts).unwrap()


def card_key(parts: Parts) -> Parts | bytes | None:
    """What stands of a key in a head; None where it has no room for it."""
    size = sum(len(part) for part in parts if isinstance(part, str))
    if size <= MOST_KEY_BYTES // 4 and all(map(_is_plain, parts)):
        return parts
    packed = packed_key(parts)
    return packed if len(packed) <= MOST_KEY_BYTES else None


def _is_plain(part: str | int) -> bool:
    if type(part) is str:
        return part.isascii() or not SURROGATE.search(part)
    return type(part) is int and part in _INT64


def key_in(data: Parts | bytes) -> Result[Parts, PersistenceError]:
    """The key of a head, or of a body."""
    if isinstance(data, tuple):
        return Success(data)
    decoded = _KEYS.decode(data)
    if not isinstance(decoded, Success):
        return Failure(decoded.failure())
    try:
        return Success(parts_of(decoded.unwrap()))
    except (TypeError, ValueError, PersistenceError):
        return Failure(MalformedPayload("the key of a value can't be read; restore the record from a backup"))


def joined_body(key: bytes, value: bytes) -> bytes:
    """The body of a record whose head has no room for its key: the key and the value."""
    return framed(key) + value


def split_body(data: bytes) -> Result[tuple[bytes, bytes], PersistenceError]:
    """The key and the value of such a body."""
    end = _LENGTH + int.from_bytes(data[:_LENGTH], "big")
    if len(data) < end:
        return Failure(MalformedPayload("the body of a value is cut short; restore the record from a backup"))
    return Success((data[_LENGTH:end], data[end:]))


def live(found: Found[Card]) -> Loaded[Card] | None:
    """What was found, unless it has expired."""
    record = found.record
    return record if record is not None and is_live(record.head, found.now) else None


def standing_at(
    found: Found[Card], if_revision: int | None, name: str, backend: str
) -> Result[Loaded[Card] | None, PersistenceError]:
    """What a write at that revision meets: a value, or None where there is none or it has expired.

    None goes with any revision, 0 with no value, another with that revision alone; else ``RevisionConflict``.
    """
    standing = live(found)
    revision = 0 if standing is None else standing.revision
    if if_revision is None or if_revision == revision:
        return Success(standing)
    stands = f"is at revision {revision}" if revision else "does not exist"
    message = f"record {name} {stands}, not at {if_revision}: load it and decide again"
    return Failure(RevisionConflict(message, backend))


def timely(draft: Draft[Card], standing: Loaded[Card] | None) -> Draft[Card]:
    """The draft, put only while what it replaces is there."""
    expires_at = None if standing is None else standing.head.expires_at
    return draft if expires_at is None else evolve(draft, not_after=expires_at - TICK)


def at(error: PersistenceError, ref: RecordRef) -> PersistenceError:
    """The same error, which names the record that it is about."""
    told = type(error)(f"record {ref.key} of {ref.namespace}: {error.message}", *error.args[1:])
    told.__cause__ = error.__cause__
    return told
