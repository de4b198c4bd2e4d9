"""References: ``$name``, ``$step.output.items.0.title``, ``$input``, ``$previousOutput``, ``$.field``,
``$name["any key"]``; ``$$`` is a literal ``$``.

A string that begins with ``$`` is a reference as a whole and resolves to the value itself; ``fill_text`` replaces
references inside a text. Following a path reads keys of mappings, items of sequences, and the declared
fields of objects whose names do not begin with ``_``: never any other attribute.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

from attrs import field, frozen
from returns.result import Failure, Result, Success

from flowpersist.dynamicflow.budgets import MAX_FILLED, OverBudgetError
from flowpersist.dynamicflow.declared import MISSING, field_of
from flowpersist.dynamicflow.texts import text_of
from flowpersist.errors import FlowError, PersistenceError

__all__ = [
    "Reference",
    "Resolve",
    "fill_text",
    "follow",
    "is_reference",
    "over_limits",
    "parse_reference",
    "resolve_all",
]

MAX_REFERENCE: Final = 512
MAX_DEPTH: Final = 64
#: The most values of one step's arguments in the document; the values of references are counted when they are known.
MAX_VALUES: Final = 10_000

#: A hyphen is allowed within a name, not at its end: ``$from-$to`` are two references.
_NAME = r"[A-Za-z_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
#: A key below the root may have letters of any script.
_KEY = r"[^\W\d](?:[\w-]*\w)?"
#: The same in a text, where a Latin word ends before a letter of another script: in ``$o.amountを``
#: the key is ``amount``.
_LATIN = r"A-Za-zÀ-ÖØ-öø-ɏ"
_TEXT_KEY = rf"(?:[{_LATIN}_](?:[{_LATIN}0-9_-]*[{_LATIN}0-9_])?|(?![{_LATIN}])[^\W\d]\w*)"
_INDEX = r"[0-9]{1,9}"
_QUOTED = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'"


def _pattern(key: str) -> str:
    path = rf"(?:\.(?:{key}|{_INDEX})|\[(?:{_INDEX}|{_QUOTED})\])*"
    return rf"\$(?:{_NAME}{path}|\.(?:{key}|{_INDEX}){path})"


#: The pattern of a reference as a whole, also in expressions.
REFERENCE_PATTERN: Final = _pattern(_KEY)
_REFERENCE: Final = re.compile(REFERENCE_PATTERN)
_IN_TEXT: Final = re.compile(rf"\$\$|{_pattern(_TEXT_KEY)}")
_PARTS: Final = re.compile(rf"\[(?P<quoted>{_QUOTED})\]|(?P<index>{_INDEX})(?![\w-])|(?P<key>{_KEY}|{_INDEX})")
_PLAIN_KEY: Final = re.compile(_KEY)


@frozen
class Reference:
    """A root name and the path below it. ``$.field`` is ``short`` for ``$previousOutput.field``, or for a name in scope
    where there is no such field.
    """

    root: str
    path: tuple[str | int, ...] = ()
    short: bool = field(default=False, eq=False)

    def __str__(self) -> str:
        return f"${self.root}{''.join(_written(part) for part in self.path)}"


def _written(part: str | int) -> str:
    if isinstance(part, int) or _PLAIN_KEY.fullmatch(part) or part.isdecimal():
        return f".{part}"
    return f"[{json.dumps(part, ensure_ascii=False)}]"


Resolve: TypeAlias = Callable[[Reference], Result[object, PersistenceError]]


def is_reference(value: object) -> bool:
    """Whether a value of the document stands for another one."""
    return isinstance(value, str) and value.startswith("$") and not value.startswith("$$")


def parse_reference(text: str) -> Result[Reference, PersistenceError]:
    """Parse a text that is one reference."""
    if len(text) > MAX_REFERENCE or not _REFERENCE.fullmatch(text):
        shown = text if len(text) <= 80 else text[:80] + "…"  # noqa: PLR2004
        message = f"Invalid reference {shown!r}: expected $name.path, $name['key'], or $$ for a literal $"
        return Failure(FlowError(message, reference=shown))
    return Success(_reference(text))


@lru_cache(maxsize=1024)
def _reference(text: str) -> Reference:
    parts = tuple(_part(found) for found in _PARTS.finditer(text))
    if text.startswith("$."):
        return Reference("previousOutput", parts, short=True)
    return Reference(str(parts[0]), parts[1:])


def _part(found: re.Match[str]) -> str | int:
    quoted, index = found["quoted"], found["index"]
    if quoted is not None:
        return re.sub(r"\\(.)", r"\1", quoted[1:-1], flags=re.DOTALL)
    # "007" is a key; as the number 7 it would not be found again.
    return int(index) if index is not None and str(int(index)) == index else found[0]


def follow(value: object, path: Sequence[str | int]) -> Result[object, PersistenceError]:
    """The value at a path; a ``FlowError`` names the missing part."""
    for number, part in enumerate(path):
        found = _step(value, part)
        if found is MISSING:
            reached = ".".join(str(item) for item in path[:number]) or "the value"
            return Failure(FlowError(f"there is no {part!r} in {reached}, which is of class {type(value).__name__}"))
        value = found
    return Success(value)


def _step(value: object, part: str | int) -> object:
    if isinstance(value, Mapping):
        return value.get(part, value.get(str(part), MISSING))
    if isinstance(value, list | tuple | deque) and isinstance(part, int):
        return value[part] if part < len(value) else MISSING
    return field_of(value, str(part))


def resolve_all(value: object, resolve: Resolve) -> Result[object, PersistenceError]:
    """Replace every reference in nested lists and mappings by its value."""
    try:
        return Success(_resolved(value, resolve, 0, [0]))
    except _RefusedError as refused:
        return Failure(refused.error)


def over_limits() -> FlowError:
    """The error for arguments that are too large in the document."""
    limits = f"{MAX_DEPTH} levels, {MAX_VALUES} values"
    return FlowError(f"the arguments are over the limits ({limits}): pass the data as input")


class _RefusedError(Exception):
    """Carries a failure out of the recursion, whose depth is bounded."""

    def __init__(self, error: PersistenceError) -> None:
        super().__init__(error)
        self.error = error


def _resolved(value: object, resolve: Resolve, depth: int, seen: list[int]) -> object:
    seen[0] += 1
    if depth > MAX_DEPTH or seen[0] > MAX_VALUES:
        raise _RefusedError(over_limits())
    if isinstance(value, str):
        return _resolved_text(value, resolve)
    if isinstance(value, Mapping):
        return {key: _resolved(item, resolve, depth + 1, seen) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_resolved(item, resolve, depth + 1, seen) for item in value]
    return value


def _resolved_text(text: str, resolve: Resolve) -> object:
    if text.startswith("$$"):
        return text[1:]
    if not text.startswith("$"):
        return text
    result = parse_reference(text).bind(resolve)
    if isinstance(result, Failure):
        raise _RefusedError(result.failure())
    return result.unwrap()


def fill_text(text: str, resolve: Resolve) -> Result[str, PersistenceError]:
    """Replace the references in a text by the text of their values; ``$$`` becomes ``$``. The result has at most
    ``MAX_FILLED`` characters.
    """
    left = MAX_FILLED

    def replaced(found: re.Match[str]) -> str:
        nonlocal left
        if found.group() == "$$":
            return "$"
        reference = _reference(found.group())
        result = resolve(reference)
        if isinstance(result, Failure):
            raise _RefusedError(result.failure())
        filled = _filled(reference, result.unwrap(), left)
        left -= len(filled)
        return filled

    if len(text) > MAX_FILLED:
        return Failure(FlowError(f"a text has more than {MAX_FILLED} characters: show less"))
    try:
        return Success(_IN_TEXT.sub(replaced, text))
    except _RefusedError as refused:
        return Failure(refused.error)


def _filled(reference: Reference, value: object, most: int) -> str:
    try:
        return text_of(value, most)
    except OverBudgetError as error:
        message = f"{reference} {error}, of the {MAX_FILLED} that a text may have: show less of it"
        raise _RefusedError(FlowError(message, reference=str(reference))) from error
