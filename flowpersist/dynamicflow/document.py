"""Loading a DynamicFlow document: read, bounded and named, before it is compiled.

A document comes from a person or a language model and is not trusted: its size, its depth and its number of values are
bounded before it is visited, and it may hold JSON data only.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Final, TypeAlias

from attrs import Factory, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.dynamicflow.expressions import Room
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

#: The types of a document: an object, or its JSON text.
Source: TypeAlias = Mapping[str, object] | str | bytes


@frozen
class Document:
    """A document within the limits."""

    name: str
    version: str
    data: Mapping[str, object] = field(repr=False)
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
    return _bounded(data, name).bind(lambda text: _document(data, name, text))


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
        return Success(json.loads(text, object_pairs_hook=_object))
    except (ValueError, RecursionError) as error:
        refused = _refuse(f"the document is not JSON: {error}; pass a JSON object or its text", UNNAMED, "not-json")
        refused.failure().__cause__ = error
        return refused


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object whose keys differ: of two equal ones a parser would drop one without a word."""
    made = dict(pairs)
    if len(made) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key in made if counts[key] > 1)
        msg = f"an object has the key {twice[:100]!r} twice: remove one of them"
        raise ValueError(msg)
    return made


def _bounded(data: Mapping[str, object], name: str) -> Result[str, PersistenceError]:
    """Check every value without recursion and give the canonical text. A value that contains itself is over a limit."""
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
    return _canonical(data, name)


def _over(depth: int, seen: int, signs: int) -> str | None:
    if depth > MAX_DEPTH:
        return f"the document is nested deeper than {MAX_DEPTH} levels, or contains itself: flatten it"
    if seen > MAX_VALUES:
        return f"the document has more than {MAX_VALUES} values: pass its data as input instead"
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


def _canonical(data: Mapping[str, object], name: str) -> Result[str, PersistenceError]:
    try:
        text = json.dumps(_plain(data), sort_keys=True, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        return _refuse(f"the document can't be written as JSON: {error}", name, "not-json")
    if len(text) > MAX_BYTES:
        return _refuse(f"the document has more than {MAX_BYTES} bytes: split it, or pass its data as input", name)
    return Success(text)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _document(data: Mapping[str, object], name: str, text: str) -> Result[Document, PersistenceError]:
    version = data.get("version", VERSION)
    if version != VERSION:
        message = f"unsupported document version {version!r}: this release reads {VERSION!r}"
        return _refuse(message, name, "unsupported", pointer="/version", expected=repr(VERSION))
    # Parsed from the text, so that the caller can't change the run's copy.
    return Success(Document(name, VERSION, json.loads(text)))


def _refuse(
    message: str, name: str, code: FlowCode = "limit", *, pointer: str = "", expected: str | None = None
) -> Failure[PersistenceError]:
    return Failure(problem(message, name, pointer=pointer, code=code, expected=expected))


def _kind(value: object) -> str:
    return type(value).__name__
