"""Ids and keys of suspensions.

An id is a UUIDv7 (RFC 9562): ordered by time, so that pages by id are pages by creation; or, derived from an
idempotency key, a UUIDv8. A key is what resumes: its token is ``prefix + base62(id, secret) + base62(CRC-32 of all
before)``, URL-safe, and checked before any store is asked.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, NoReturn
from uuid import UUID

from attrs import Attribute, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import ConfigurationError, KeyValidationError, PersistenceError
from flowpersist.errors.arguments import check_aware, check_callable, check_instance, out_of_range
from flowpersist.errors.secrecy import forgetting

__all__ = ["DEFAULT_PREFIX", "SuspensionId", "SuspensionKey", "generate_key"]

DEFAULT_PREFIX: Final = "df_susp_"
ID_BYTES: Final = 16
SECRET_BYTES: Final = 32

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_DIGITS: Final = {letter: number for number, letter in enumerate(_ALPHABET)}
#: The digits that 48 bytes and four bytes take in base 62.
_BODY_DIGITS: Final = 65
_CHECK_DIGITS: Final = 6
_PREFIX: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")


def _an_id(_instance: object, attribute: Attribute[bytes], value: bytes) -> None:
    _check_length(value, attribute.name, ID_BYTES)


def _check_length(value: object, name: str, size: int) -> None:
    if not isinstance(value, bytes) or len(value) != size:
        # Not shown: it may be a secret.
        raise ConfigurationError(f"Invalid {name}: expected {size} bytes", name)


def check_prefix(value: object, name: str) -> None:
    """What tokens may begin with."""
    if not isinstance(value, str) or not _PREFIX.fullmatch(value):
        out_of_range(name, "1 to 32 characters of A-Z a-z 0-9 _ -", repr(value))


@frozen(order=True, repr=False)
class SuspensionId:
    """Which suspension: 128 bits, safe to show, to log and to query by; it resumes nothing."""

    value: bytes = field(validator=_an_id)

    @classmethod
    def new(cls, *, now: datetime, entropy: Callable[[int], bytes] = os.urandom) -> SuspensionId:
        """A UUIDv7 of that moment, which must be aware of its time zone."""
        check_aware(now, "now")
        check_callable(entropy, "entropy")
        milliseconds = int(now.timestamp() * 1000)
        return cls(_versioned(milliseconds.to_bytes(6, "big") + entropy(10), 7))

    @classmethod
    def derive(cls, namespace: str, tenant: str | None, idempotency_key: str) -> SuspensionId:
        """A UUIDv8 that is the same for the same three parts, and for no others."""
        for name, part in (("namespace", namespace), ("tenant", tenant or ""), ("idempotency_key", idempotency_key)):
            check_instance(part, name, str, "a str")
        parts = (namespace, "" if tenant is None else "=" + tenant, idempotency_key)
        encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
        framed = b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
        return cls(_versioned(hashlib.sha256(b"flowpersist/v1/id" + framed).digest()[:ID_BYTES], 8))

    @classmethod
    def parse(cls, text: str) -> Result[SuspensionId, PersistenceError]:
        """An id from its canonical text."""
        try:
            parsed = UUID(text)
        except (ValueError, AttributeError, TypeError):
            return Failure(KeyValidationError("Invalid suspension id: expected a UUID in its canonical form"))
        if str(parsed) != text:
            return Failure(KeyValidationError("Invalid suspension id: expected a UUID in its canonical form"))
        return Success(cls(parsed.bytes))

    def __str__(self) -> str:
        # Not by the class UUID, which takes five times as long: every verb writes its id several times.
        text = self.value.hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def __repr__(self) -> str:
        return f"SuspensionId('{self}')"


def _versioned(value: bytes, version: int) -> bytes:
    number = int.from_bytes(value, "big")
    number = number & ~(0xF << 76) | version << 76
    number = number & ~(0b11 << 62) | 0b10 << 62
    return number.to_bytes(ID_BYTES, "big")


class SuspensionKey:
    """What resumes one wait of a suspension. ``str()`` gives the token; everything else shows the id alone."""

    # No attrs class: what takes objects apart by their declared fields, as asdict does, must not find the secret.
    __slots__ = ("_id", "_prefix", "_secret")
    _id: SuspensionId
    _prefix: str
    _secret: bytes

    def __init__(self, id: SuspensionId, secret: bytes, prefix: str = DEFAULT_PREFIX) -> None:
        with forgetting():
            check_instance(id, "id", SuspensionId, "a SuspensionId")
            _check_length(secret, "secret", SECRET_BYTES)
            check_prefix(prefix, "prefix")
        object.__setattr__(self, "_id", id)
        object.__setattr__(self, "_secret", secret)
        object.__setattr__(self, "_prefix", prefix)

    @property
    def id(self) -> SuspensionId:
        """Which suspension."""
        return self._id

    @property
    def secret(self) -> bytes:
        """What proves it, 32 bytes."""
        return self._secret

    @property
    def prefix(self) -> str:
        """What its token begins with."""
        return self._prefix

    def __setattr__(self, name: str, value: object) -> NoReturn:
        msg = f"a key does not change: {name} can't be set"
        raise AttributeError(msg)

    def __delattr__(self, name: str) -> NoReturn:
        msg = f"a key does not change: {name} can't be deleted"
        raise AttributeError(msg)

    @classmethod
    def parse(cls, text: str, *, prefix: str = DEFAULT_PREFIX) -> Result[SuspensionKey, PersistenceError]:
        """A key from its token; ``KeyValidationError`` says what is wrong with it, and never repeats it."""
        check_prefix(prefix, "prefix")
        problem = _problem(text, prefix)
        if problem is not None:
            return Failure(KeyValidationError(_refusal(text, problem)))
        body = _number(text[len(prefix) : -_CHECK_DIGITS])
        if body >= 1 << 8 * (ID_BYTES + SECRET_BYTES):
            return Failure(KeyValidationError("Invalid key: expected a suspension's key, but it is out of range"))
        packed = body.to_bytes(ID_BYTES + SECRET_BYTES, "big")
        return Success(cls(SuspensionId(packed[:ID_BYTES]), packed[ID_BYTES:], prefix))

    def __str__(self) -> str:
        body = self.prefix + _digits(int.from_bytes(self.id.value + self.secret, "big"), _BODY_DIGITS)
        return body + _check(body)

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __repr__(self) -> str:
        return f"<SuspensionKey of {self.id}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SuspensionKey):
            return NotImplemented
        return self.id == other.id and hmac.compare_digest(self.secret, other.secret)

    def __hash__(self) -> int:
        return hash((self.id, self.secret))

    def __copy__(self) -> SuspensionKey:
        return self

    def __deepcopy__(self, _memo: object) -> SuspensionKey:
        # A state that holds a key can be copied within the process, where nothing leaves.
        return self

    def __getstate__(self) -> NoReturn:
        self.__reduce__()

    def __reduce__(self) -> NoReturn:
        msg = "a key does not pickle: its secret would leave in clear; keep str(key) where it is safe"
        raise TypeError(msg)


def generate_key(
    *,
    entropy: Callable[[int], bytes] = os.urandom,
    now: datetime | None = None,
    id: SuspensionId | None = None,
    prefix: str = DEFAULT_PREFIX,
) -> SuspensionKey:
    """A fresh key: of a given suspension, or of a new id."""
    check_callable(entropy, "entropy")
    moment = datetime.now(UTC) if now is None else now
    own = SuspensionId.new(now=moment, entropy=entropy) if id is None else id
    return SuspensionKey(own, entropy(SECRET_BYTES), prefix)


def keys_of(id: SuspensionId, secrets: Mapping[str, bytes], prefix: str) -> dict[str, SuspensionKey]:
    """The key of each secret of one suspension, by the same names. What they have in common is checked once."""
    keys: dict[str, SuspensionKey] = {}
    with forgetting():
        for name, secret in secrets.items():
            if not keys or type(secret) is not bytes or len(secret) != SECRET_BYTES:
                # Which says what is wrong.
                keys[name] = SuspensionKey(id, secret, prefix)
                continue
            key = keys[name] = object.__new__(SuspensionKey)
            object.__setattr__(key, "_id", id)
            object.__setattr__(key, "_secret", secret)
            object.__setattr__(key, "_prefix", prefix)
    return keys


def _refusal(text: str, problem: str) -> str:
    if isinstance(SuspensionId.parse(text), Success):
        return (
            "this is a suspension's id as text, which resumes nothing; pass its key, or from code of the same process "
            "SuspensionId.parse(text).unwrap()"
        )
    return f"Invalid key: expected a suspension's key, but {problem}; copy the whole key again"


def _problem(text: object, prefix: str) -> str | None:
    if not isinstance(text, str):
        return "it is not a text"
    if not text.startswith(prefix):
        return f"it does not begin with {prefix!r}"
    body = text[len(prefix) :]
    if len(body) != _BODY_DIGITS + _CHECK_DIGITS:
        return f"it has {len(body)} characters after the prefix, not {_BODY_DIGITS + _CHECK_DIGITS}"
    if not all(letter in _DIGITS for letter in body):
        return "it has a character that no key has"
    if _check(text[:-_CHECK_DIGITS]) != text[-_CHECK_DIGITS:]:
        return "its check characters do not match"
    return None


def _check(text: str) -> str:
    return _digits(zlib.crc32(text.encode("utf-8", "surrogatepass")), _CHECK_DIGITS)


def _digits(number: int, width: int) -> str:
    letters = []
    for _ in range(width):
        number, digit = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[digit])
    return "".join(reversed(letters))


def _number(text: str) -> int:
    number = 0
    for letter in text:
        number = number * len(_ALPHABET) + _DIGITS[letter]
    return number
