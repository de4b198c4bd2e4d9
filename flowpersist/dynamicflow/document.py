"""Loading a DynamicFlow document: read, bounded and named, before it is compiled.

A document comes from a person or a language model and is not trusted: its size, its depth and its number of values are
bounded before it is visited, and it may hold JSON data only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, TypeAlias, cast

from attrs import Factory, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.dynamicflow.expressions import Room
from flowpersist.dynamicflow.json_texts import TooManyValuesError, canonical, parsed
from flowpersist.dynamicflow.problems import Problems, problem
from flowpersist.errors import FlowCode, PersistenceError
from flowpersist.errors.arguments import check_instance

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_REFERENCES",
    "MAX_STEPS",
    "MAX_VALUES",
    "UNNAMED",
    "Document",
    "Source",
    "check_source",
    "load",
]

#: The most bytes of the document as canonical JSON.
MAX_BYTES: Final = 1024 * 1024
#: The most levels of nested lists and objects.
MAX_DEPTH: Final = 100
#: The most values in the document, containers included.
MAX_VALUES: Final = 100_000
#: The most steps in the document, at all depths together.
MAX_STEPS: Final = 2_000
#: The most signs ``$`` in the document, each of which may begin a reference.
MAX_REFERENCES: Final = 10_000
VERSION: Final = "1.0"
BYTE_ORDER_MARK: Final = "\ufeff"
UNNAMED: Final = "(unnamed document)"
TOO_DEEP: Final = f"the document is nested deeper than {MAX_DEPTH} levels, or contains itself: flatten it"
TOO_MANY: Final = f"the document has more than {MAX_VALUES} values: pass its data as input instead"

#: The types of a document: an object, or its JSON text.
Source: TypeAlias = Mapping[str, object] | str | bytes


@frozen
class Document:
    """A document within the limits."""

    name: str
    version: str
    data: Mapping[str, object] = field(repr=False)
    #: How many values it has, containers included.
    values: int
    #: What is left for its expressions.
    room: Room = field(repr=False, eq=False, factory=Room)
    #: What is wrong with it, as far as that has been found.
    problems: Problems = field(repr=False, eq=False, default=Factory(lambda self: Problems(self.name), takes_self=True))


def check_source(document: object, name: str) -> None:
    """Raise ``TypeError`` for anything but an object or JSON text; ``load`` reports a list as a ``FlowError``."""
    takes = "a mapping, or its JSON as a str or bytes (of a file, read it: path.read_text())"
    check_instance(document, name, (Mapping, str, bytes, list), takes)


def load(source: Source) -> Result[Document, PersistenceError]:
    """Read a document, given as an object or as JSON text. Failure: ``FlowError`` if it can't be compiled."""
    parsed = _parse(source)
    if isinstance(parsed, Failure):
        return parsed
    data = parsed.unwrap()
    if not isinstance(data, Mapping):
        message = f"Invalid document: expected a JSON object, not {_kind(data)}"
        return _refuse(message, UNNAMED, "wrong-type", expected="an object with a list of steps in 'flow'")
    name = name_of(data)
    return _bounded(data, name)


def name_of(data: Mapping[str, object]) -> str:
    """``metadata.name``, by which errors name the document."""
    metadata = data.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    return name if isinstance(name, str) and name else UNNAMED


def _parse(source: Source) -> Result[object, PersistenceError]:
    if not isinstance(source, str | bytes):
        return Success(source)
    if len(source) > MAX_BYTES:
        return _refuse(f"the document has more than {MAX_BYTES} bytes: split it, or pass its data as input", UNNAMED)
    try:
        text = source if isinstance(source, bytes) else source.removeprefix(BYTE_ORDER_MARK)
        return Success(parsed(text, MAX_VALUES))
    except TooManyValuesError:
        return _refuse(TOO_MANY, UNNAMED)
    except RecursionError:
        return _refuse(TOO_DEEP, UNNAMED)
    except ValueError as error:
        refused = _refuse(f"the document is not JSON: {error}; pass a JSON object or its text", UNNAMED, "not-json")
        refused.failure().__cause__ = error
        return refused


def _bounded(data: Mapping[str, object], name: str) -> Result[Document, PersistenceError]:
    """Check every value without recursion, and copy it. A value that contains itself is over a limit."""
    pending: list[tuple[object, int]] = [(data, 1)]
    seen = signs = 0
    while pending:
        value, depth = pending.pop()
        seen += 1
        signs += value.count("$") if isinstance(value, str) else 0
        over = _over(depth, seen, signs)
        if over is not None:
            return _refuse(over, name)
        strange = _no_json(value)
        if strange is not None:
            return _refuse(strange, name, "not-json")
        pending.extend((child, depth + 1) for child in _children(value))
    return _copied(data, seen, name).bind(lambda copy: _document(copy, seen, name))


def _over(depth: int, seen: int, signs: int) -> str | None:
    if depth > MAX_DEPTH:
        return TOO_DEEP
    if seen > MAX_VALUES:
        return TOO_MANY
    if signs > MAX_REFERENCES:
        return f"the document has more than {MAX_REFERENCES} references: refer to whole values, or split it"
    return None


def _no_json(value: object) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return "the document holds NaN or an infinity, which JSON can't represent"
    if isinstance(value, Mapping) and not all(isinstance(key, str) for key in value):
        return "an object of the document has a key that is not a string"
    if value is None or isinstance(value, str | int | float | list | tuple | Mapping):
        return None
    return f"the document holds a value of type {_kind(value)}: a document may hold JSON data only"


def _children(value: object) -> list[object]:
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else []


def _copied(data: Mapping[str, object], values: int, name: str) -> Result[Mapping[str, object], PersistenceError]:
    copy = cast("dict[str, object]", _plain(data))
    try:
        text = canonical(copy, values)
    except ValueError as error:
        return _refuse(f"the document can't be written as JSON: {error}", name, "not-json")
    if len(text) > MAX_BYTES:
        return _refuse(f"the document has more than {MAX_BYTES} bytes: split it, or pass its data as input", name)
    return Success(copy)


def _plain(value: object) -> object:
    """The same value as JSON's own classes, with sorted keys."""
    if isinstance(value, Mapping):
        return {str.__str__(key): _plain(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool) else _scalar(value)


def _scalar(value: object) -> object:
    """A text or a number, without what a subclass adds to it."""
    if isinstance(value, str):
        return str.__str__(value)
    return int.__int__(value) if isinstance(value, int) else float.__float__(cast("float", value))


def _document(data: Mapping[str, object], values: int, name: str) -> Result[Document, PersistenceError]:
    version = data.get("version", VERSION)
    if version != VERSION:
        message = f"unsupported document version {version!r}: this release reads {VERSION!r}"
        return _refuse(message, name, "unsupported", pointer="/version", expected=repr(VERSION))
    return Success(Document(name, VERSION, data, values))


def _refuse(
    message: str, name: str, code: FlowCode = "limit", *, pointer: str = "", expected: str | None = None
) -> Failure[PersistenceError]:
    return Failure(problem(message, name, pointer=pointer, code=code, expected=expected))


def _kind(value: object) -> str:
    return type(value).__name__
