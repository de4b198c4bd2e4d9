"""The digest of what somebody was shown with a question. The answer keeps it as evidence of what was answered.

The digest is SHA-256 over canonical JSON (RFC 8785, the JSON Canonicalization Scheme) of the members that are shown.
Whole numbers, which that form would round to a float's 53 bits, are written out in full.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Final, overload

__all__ = ["canonical_digest", "canonical_json", "digest_text", "shown_digest"]

#: The members of an ``AwaitInput`` as data that are shown. Its times and its default are not.
SHOWN: Final = ("prompt", "title", "shown", "schema", "action", "ui", "meaning")
#: Characters of JSON whose digest is remembered.
KEPT_UP_TO: Final = 8 * 1024
#: Up to these powers of ten ECMAScript writes a number without an exponent.
_LARGE: Final = 21
_SMALL: Final = -6
_text: Final = json.JSONEncoder(ensure_ascii=False).encode


def shown_digest(awaiting: Mapping[str, object]) -> bytes:
    """The digest of the shown members of what is awaited, given as data; missing members are left out."""
    shown = {name: awaiting[name] for name in SHOWN if name in awaiting}
    # Many suspensions ask the same, and making the canonical form in Python is slow.
    text = _text(shown)
    return _digest_of(text) if len(text) <= KEPT_UP_TO else canonical_digest(shown)


def canonical_digest(data: object) -> bytes:
    """SHA-256 over JSON data in canonical form."""
    return hashlib.sha256(canonical_json(data).encode("utf-8", "surrogatepass")).digest()


@functools.lru_cache(maxsize=256)
def _digest_of(text: str) -> bytes:
    return canonical_digest(json.loads(text))


@overload
def digest_text(digest: bytes) -> str: ...


@overload
def digest_text(digest: bytes | None) -> str | None: ...


def digest_text(digest: bytes | None) -> str | None:
    """A digest as callers see it."""
    return None if digest is None else f"sha256:{digest.hex()}"


def canonical_json(value: object) -> str:
    """JSON data in canonical form: equal data give equal text. The caller has bounded its depth."""
    if isinstance(value, Mapping):
        # By UTF-16 code units, as ECMAScript sorts: beyond U+FFFF that is not the order of Unicode.
        names = sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(f"{_text(name)}:{canonical_json(value[name])}" for name in names) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(canonical_json(item) for item in value) + "]"
    return _number(value) if type(value) is float else _text(value)


def _number(value: float) -> str:
    """A float as ECMAScript writes it: the same digits as Python's, with its own rules for the exponent."""
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    if not isinstance(exponent, int) or not any(digits):
        return "0" if not value else _text(value)
    point = len(digits) + exponent
    written = "".join(str(digit) for digit in digits).rstrip("0")
    if 0 < point <= _LARGE:
        text = written.ljust(point, "0") if len(written) <= point else f"{written[:point]}.{written[point:]}"
    elif _SMALL < point <= 0:
        text = "0." + "0" * -point + written
    else:
        fraction = f".{written[1:]}" if len(written) > 1 else ""
        text = f"{written[0]}{fraction}e{point - 1:+d}"
    return f"-{text}" if sign else text
