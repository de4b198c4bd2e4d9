"""Attributes as canonical text, in which equal type and value is equal text, and nothing else is.

A value is one letter for its type and then the value: ``swaiting``, ``i42``, ``f0.5``, ``bTrue``. JSON alone would not
do: a database that reads ``true``, ``1`` and ``1.0`` makes them one number, and may round what has many digits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from json.encoder import encode_basestring
from typing import Final

from flowpersist.backends.base import MAX_ATTRIBUTES, MAX_TEXT_BYTES, Scalar, check_scalar, check_text

__all__ = ["MAX_ATTRIBUTES_CHARACTERS", "attributes_from_text", "attributes_to_text", "entry_text", "scalar_to_text"]

#: Each of their bytes JSON may write as six characters; names and values have some more about them.
MAX_ATTRIBUTES_CHARACTERS: Final = MAX_ATTRIBUTES * (2 * 6 * MAX_TEXT_BYTES + 8)


def scalar_to_text(value: Scalar) -> str:
    """A value's canonical text."""
    # Python's own forms are canonical: the shortest decimal that reads back as the same float.
    return type(value).__name__[0] + str(value)


def scalar_from_text(text: object) -> Scalar:
    """The value again; ``ValueError`` for what ``scalar_to_text`` does not give."""
    if not isinstance(text, str):
        raise ValueError("expected a text as an attribute")  # noqa: TRY004 - data, not an argument
    kind, rest = text[:1], text[1:]
    value: Scalar
    if kind == "s":
        return check_scalar(rest, "an attribute")
    if kind == "b":
        value = rest == "True"
    elif kind == "i":
        value = int(rest)
    elif kind == "f":
        value = float(rest)
    else:
        raise ValueError("an attribute of no known type")
    if scalar_to_text(check_scalar(value, "an attribute")) != text:
        raise ValueError("an attribute that is not in canonical form")
    return value


def _plain_from_text(text: object) -> Scalar:
    return text[1:] if type(text) is str and text[:1] == "s" else scalar_from_text(text)


def entry_text(name: str, value: Scalar) -> str:
    """How one attribute stands in the text of all: as this very substring."""
    # What json.dumps(text, ensure_ascii=False) gives, in a twentieth of its time: it makes an encoder for each text.
    return f"{encode_basestring(name)}:{encode_basestring(scalar_to_text(value))}"


def attributes_to_text(attributes: Mapping[str, Scalar]) -> str:
    """All attributes as a JSON object of canonical texts, names in order."""
    return "{" + ",".join(entry_text(name, attributes[name]) for name in sorted(attributes)) + "}"


def attributes_from_text(text: str) -> dict[str, Scalar]:
    """The attributes again; ``ValueError``, ``TypeError`` or ``RecursionError`` for any other text."""
    if type(text) is not str or len(text) > MAX_ATTRIBUTES_CHARACTERS:
        raise ValueError("expected a text of attributes, and not a longer one")
    data = json.loads(text)
    if not isinstance(data, dict):
        raise TypeError("expected a JSON object of attributes")
    if len(text) <= MAX_TEXT_BYTES and text.isascii() and "\\" not in text:
        # Each string is then a piece of this text, and so as short, and as free of what is refused.
        return {name: _plain_from_text(value) for name, value in data.items()}
    return {check_text(name, "a name"): scalar_from_text(value) for name, value in data.items()}
