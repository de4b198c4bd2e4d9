"""Keys of values, and where the record of a key stands.

A key is a text, or a tuple of texts and integers, of any length and content. A record's key is at most 512 bytes
without NUL, and what a database sees of a person's name must tell nothing of it. So there are two ways to name a
record:

- by digests, the default: one keyed digest for each part, which covers the parts before it, so that the keys that
  begin with the same parts stand together, and nobody can tell which parts these are;
- in clear (``listed``): the parts as they are, in their own order, with the few characters escaped that no store takes.

In both an integer stands in clear and in its order. What does not fit is cut and ends with a digest of the whole.
specs/persistence/stores.md is the format's specification.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from typing import Final, TypeAlias

from attrs import field, frozen

from flowpersist.backends.base import Range
from flowpersist.errors import ConfigurationError, StateTooLarge
from flowpersist.errors.arguments import check_str, mistyped, out_of_range
from flowpersist.keys.crypto import KeyedDigest

__all__ = [
    "MAX_KEY_BYTES",
    "SURROGATE",
    "Key",
    "Naming",
    "Parts",
    "Prefix",
    "Span",
    "check_id",
    "key_of",
    "number_in",
    "numbered",
    "parts_of",
    "prefix_of",
]

Key: TypeAlias = str | tuple[str | int, ...]
Parts: TypeAlias = tuple[str | int, ...]

#: All parts of a key together.
MAX_KEY_BYTES: Final = 2**20
#: Of the path of a lock, an agent's id, or the key of a signal.
MAX_ID_BYTES: Final = 4096
#: Of a record's key, which may have 512 bytes; the rest is left to the backends' own marks.
_MOST: Final = 480
#: What is kept of a key that does not fit. So a prefix of up to this length is in the record's key of all it begins.
_KEPT: Final = 400
_INTEGERS: Final = range(-(2**255), 2**255)
_TAKES: Final = "a str, or a tuple of str and int"
SURROGATE: Final = re.compile("[\ud800-\udfff]")
_REPLACED: Final = "\ufffd"
#: Ends a part, and is below all that a part holds: so a key stands before those that it begins.
_END: Final = "\x01"
_ESCAPES: Final = str.maketrans({"\x00": "\x02\x01", "\x01": "\x02\x02", "\x02": "\x02\x03"})
#: What no escaped text holds: before the digest of a key that was cut, and before an integer.
_CUT: Final = "\x02\x04"
_INTEGER: Final = "\x02\x05"
_DIGITS: Final = str.maketrans("0123456789abcdef", "fedcba9876543210")
_NUMBERED: Final = re.compile(r"(.*)=p[0-9]{2}([0-9a-f]+)/", re.DOTALL)
_DIGEST_BYTES: Final = 24
_TEXT: Final = b"s"
#: Before a first part that is a text: no digest stands before it.
_FIRST: Final = b"\0" + _TEXT


def parts_of(key: object, name: str = "key") -> Parts:
    """The parts of a key. ``TypeError`` for another object, ``StateTooLarge`` over a megabyte."""
    if isinstance(key, str):
        _check_size(len(key), name)
        return (key,)
    if not isinstance(key, tuple):
        mistyped(name, _TAKES, key)
    if not key:
        out_of_range(name, "a tuple of at least one part", "an empty one")
    for part in key:
        if type(part) is int:
            if part not in _INTEGERS:
                out_of_range(name, "integers of at most 255 bits and a sign", "a larger one")
        elif not isinstance(part, str):
            mistyped(name, _TAKES, part)
    _check_size(sum(len(part) for part in key if isinstance(part, str)), name)
    return key


def _check_size(characters: int, name: str) -> None:
    # A quick look; UTF-8 takes up to four bytes for each.
    if characters > MAX_KEY_BYTES:
        message = (
            f"Invalid {name}: expected at most {MAX_KEY_BYTES} characters, not {characters}; keep them in the value"
        )
        raise StateTooLarge(message)


def check_id(value: object, name: str) -> None:
    """A text without NUL and surrogates, of bounded length: what a shell can pass on. It is not shown."""
    check_str(value, name)
    text = str(value)
    if not text or "\0" in text or len(text.encode()) > MAX_ID_BYTES:
        size = "an empty one" if not text else "one that is longer, or holds NUL"
        out_of_range(name, f"a str of 1 to {MAX_ID_BYTES} bytes of UTF-8 without NUL", size)


def key_of(parts: Parts) -> Key:
    """The key of these parts: one text is the text itself."""
    return parts[0] if len(parts) == 1 and isinstance(parts[0], str) else parts


@frozen
class Prefix:
    """What keys begin with: whole ``parts``; or, where the first part is meant to begin with it, a ``text``."""

    parts: Parts = field(default=(), repr=False)
    text: str = field(default="", repr=False)

    def holds(self, parts: Parts) -> bool:
        """Whether a key of these parts begins with it."""
        if self.parts:
            return parts[: len(self.parts)] == self.parts
        return not self.text or (isinstance(parts[0], str) and parts[0].startswith(self.text))


def prefix_of(prefix: object, name: str = "prefix") -> Prefix:
    """What a caller gives as a prefix: a str that the key's text begins with, or a tuple of its first parts."""
    if isinstance(prefix, str):
        parts_of(prefix, name)
        return Prefix(text=prefix)
    return Prefix(parts=parts_of(prefix, name) if prefix != () else ())


@frozen
class Span:
    """The records' keys that begin with ``start``. ``exact``: all these are of keys with the prefix, and no others."""

    start: str
    exact: bool

    @property
    def range(self) -> Range | None:
        """The same for a query; None: all there are."""
        return Range("key", prefix=self.start) if self.start else None


@frozen
class Naming:
    """How one collection names its records: in clear (``listed``), or by digests under ``secret`` (empty: none)."""

    listed: bool
    secret: bytes = field(repr=False)
    _digest: Callable[[bytes], bytes] = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_digest", KeyedDigest(self.secret).of if self.secret else _unkeyed)

    def name(self, parts: Parts) -> str:
        """The record's key of a key."""
        return self._clear_name(parts) if self.listed else self._digest_name(parts)

    def span(self, prefix: Prefix) -> Span:
        """Where the keys with a prefix stand. ``ConfigurationError`` where digests can't tell."""
        if prefix.text and not self.listed:
            raise ConfigurationError(
                "Invalid prefix: this collection keeps digests of its keys; expected a tuple of whole parts, "
                "or a collection that is made with listed=True",
                "prefix",
            )
        if self.listed:
            text = "".join(_clear(part) + _END for part in prefix.parts) or prefix.text[: _KEPT + 1].translate(_ESCAPES)
            start = SURROGATE.sub(_REPLACED, text)
            kept = _cut(start)
            return Span(kept, exact=kept == start and _REPLACED not in start)
        components, _ = self._components(prefix.parts)
        whole = _whole(components, _KEPT)
        return Span("".join(whole), exact=len(whole) == len(components))

    def _clear_name(self, parts: Parts) -> str:
        text = "".join(_clear(part) + _END for part in parts)
        shown = SURROGATE.sub(_REPLACED, text)
        if shown == text and len(text) <= _MOST and len(text.encode()) <= _MOST:
            return text
        return _cut(shown) + _CUT + _readable(self._chained(parts)[-1])

    def _digest_name(self, parts: Parts) -> str:
        if len(parts) == 1 and isinstance(parts[0], str):
            return _readable(self._digest(_FIRST + _bytes(parts[0]))) + "/"
        components, digest = self._components(parts)
        if sum(map(len, components)) <= _MOST:
            return "".join(components)
        return "".join(_whole(components, _KEPT)) + "~" + digest

    def _components(self, parts: Parts) -> tuple[list[str], str]:
        digests = [_readable(digest) for digest in self._chained(parts)]
        named = zip(parts, digests, strict=True)
        components = [f"={_ordered(part)}/" if isinstance(part, int) else f"{digest}/" for part, digest in named]
        return components, digests[-1] if digests else ""

    def _chained(self, parts: Parts) -> list[bytes]:
        """The digest of each part and all before it."""
        digests: list[bytes] = []
        digest = b""
        for part in parts:
            kind, data = (b"i", str(part).encode()) if isinstance(part, int) else (_TEXT, _bytes(part))
            digest = self._digest(len(digest).to_bytes(1, "big") + digest + kind + data)
            digests.append(digest)
        return digests


def _unkeyed(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _readable(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest[:_DIGEST_BYTES]).decode("ascii")


def _clear(part: str | int) -> str:
    return _INTEGER + _ordered(part) if isinstance(part, int) else part.translate(_ESCAPES)


def _ordered(number: int) -> str:
    """An integer as text whose order is that of the integers."""
    digits = f"{abs(number):x}"
    return f"p{len(digits):02d}{digits}" if number >= 0 else f"n{99 - len(digits):02d}{digits.translate(_DIGITS)}"


def numbered(prefix: str, number: int) -> str:
    """The record's key of a number behind the parts of a prefix, among digests."""
    return f"{prefix}={_ordered(number)}/"


def number_in(name: str) -> tuple[str, int] | None:
    """The prefix and the number of such a key; None where it has another form or the number is negative."""
    found = _NUMBERED.fullmatch(name)
    return None if found is None else (found[1], int(found[2], 16))


def _cut(text: str) -> str:
    return text[:_KEPT].encode()[:_KEPT].decode(errors="ignore")


def _whole(components: list[str], most: int) -> list[str]:
    kept: list[str] = []
    size = 0
    for component in components:
        size += len(component)
        if size > most:
            break
        kept.append(component)
    return kept
