"""Converting tools' results to the plain data that references can access (dicts, lists, text, numbers, booleans and
None), and measuring a value's size.

Both visit each part of a value once, however often it is shared, and let other tasks run in between.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping, Sized
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final, NamedTuple, TypeAlias, cast
from uuid import UUID

import attrs
from attrs import define, field

from flowpersist.dynamicflow.budgets import LARGEST, MAX_DEPTH, MAX_FILLED_VALUES, MAX_VALUES, OverBudgetError, Size
from flowpersist.dynamicflow.outcomes import RAISED

__all__ = [
    "WALK_ERRORS",
    "Flat",
    "Known",
    "NoPlainFormError",
    "finished",
    "finished_soon",
    "plain",
    "text_of",
    "walk",
    "walk_problem",
]

_ATOMS: Final = frozenset({str, int, float, bool, type(None)})
_TIMES: Final = (datetime, date, time)
_TEXTS: Final = (UUID, Decimal, PurePath)
#: The values visited between two pauses.
SLICE: Final = 1000
#: The size of a container with at least this many values is cached.
_REMEMBERED: Final = 32
#: A container with at most this many values is visited in one step.
_SMALL: Final = 16


class NoPlainFormError(Exception):
    """A user's class failed to give its fields. The message is the name of what it raised."""


class Flat(NamedTuple):
    """A value, in plain form if that was requested, and its size."""

    value: object
    size: Size


#: A traversal that pauses now and then, and gives its result at the end.
Walk: TypeAlias = Generator[None, None, Flat]


@define
class Known:
    """The sizes of the containers that were visited last. It keeps references to them, so their ids stay unique."""

    _sizes: dict[int, tuple[object, Size, bool]] = field(factory=dict, repr=False)
    _total: int = 0

    def get(self, value: object, *, flat: bool) -> Size | None:
        """The cached size of this very container; with ``flat``, only if it is known to be plain."""
        found = self._sizes.get(id(value))
        return found[1] if found is not None and (found[2] or not flat) else None

    def add(self, value: object, size: Size, *, flat: bool) -> None:
        """Cache a large container, and drop the oldest ones if there are too many."""
        if size.values < _REMEMBERED:
            return
        before = self._sizes.pop(id(value), None)
        self._sizes[id(value)] = (value, size, flat or (before is not None and before[2]))
        self._total += size.values - (0 if before is None else before[1].values)
        while self._total > 2 * MAX_VALUES:
            _, dropped, _ = self._sizes.pop(next(iter(self._sizes)))
            self._total -= dropped.values


@define
class _Open:
    """A container that is being visited. ``keys`` are a mapping's; ``made`` is its plain form, None if none is
    requested.
    """

    source: object
    items: Iterator[object]
    keys: tuple[object, ...] | None
    made: list[object] | None
    values: int = 1
    text: int = 0
    unchanged: bool = True

    def take_small(self, item: object) -> bool:
        """The same as ``take``, at once, for the most frequent kinds of values; False for all others."""
        kind = type(item)
        if kind in _ATOMS:
            self.values += 1
            self.text += _length(item)
        elif (kind is dict or kind is list) and len(cast("Sized", item)) <= _SMALL:
            parts = cast("dict[object, object]", item).values() if kind is dict else cast("list[object]", item)
            if not all(type(part) in _ATOMS for part in parts):
                return False
            self.values += 1 + len(parts)
            self.text += sum(map(_length, parts))
            self.text += _length_of_all(tuple(cast("dict[object, object]", item))) if kind is dict else 0
        else:
            return False
        if self.made is not None:
            self.made.append(item)
        return True

    def take(self, item: object, flat: Flat) -> None:
        self.values += flat.size.values
        self.text += flat.size.text
        if self.made is not None:
            self.made.append(flat.value)
            self.unchanged = self.unchanged and flat.value is item

    def closed(self) -> Flat:
        size = Size(self.values, self.text)
        if self.made is None or (self.unchanged and type(self.source) in {dict, list}):
            return Flat(self.source, size)
        return Flat(self.made if self.keys is None else dict(zip(self.keys, self.made, strict=True)), size)


def walk(value: object, known: Known | None = None, *, flatten: bool, most: Size = LARGEST) -> Walk:
    """Traverse a value. With ``flatten``, make it plain; else its objects count as one value each.

    ``OverBudgetError`` if it is larger than ``most``, ``RecursionError`` if it is nested too deep or contains itself,
    ``NoPlainFormError`` if an object fails to give its fields.
    """
    walker = _Walker(Known() if known is None else known, flatten, most)
    found = walker.enter(value)
    flat = found if found is not None else (yield from walker.run())
    walker.check(*flat.size)
    return flat


@define
class _Walker:
    known: Known
    flatten: bool
    most: Size
    done: dict[int, tuple[object, Flat]] = field(factory=dict, repr=False)
    stack: list[tuple[object, _Open]] = field(factory=list, repr=False)
    within: set[int] = field(factory=set)

    def enter(self, item: object) -> Flat | None:
        """The result for an item that is known at once; None for a container, which is now open."""
        if type(item) in _ATOMS:
            return Flat(item, Size(1, _length(item)))
        before = self.done.get(id(item))
        if before is not None:
            return before[1]
        size = self.known.get(item, flat=self.flatten)
        if size is not None:
            return Flat(item, size)
        if isinstance(item, Sized):
            # Checked before it is copied, so that an oversized container is not visited.
            self.check(len(item), 0)
        opened = _opened(item, flatten=self.flatten)
        if isinstance(opened, Flat):
            return opened
        if id(item) in self.within or len(self.stack) >= MAX_DEPTH:
            raise RecursionError
        self.within.add(id(item))
        self.stack.append((item, opened))
        return None

    def check(self, values: int, text: int) -> None:
        """``OverBudgetError`` if the limit is exceeded."""
        if values > self.most.values:
            msg = f"has more than {self.most.values} values, each counted as often as it is reached"
            raise OverBudgetError(msg)
        if text > self.most.text:
            msg = f"has more than {self.most.text} characters, each counted as often as it is reached"
            raise OverBudgetError(msg)

    def run(self) -> Walk:
        looked, pause = 0, SLICE
        while True:
            item, top = self.stack[-1]
            for child in top.items:
                looked += 1
                if looked >= pause:
                    pause = looked + SLICE
                    self.check(max(looked, top.values), top.text)
                    yield
                before = top.values
                if top.take_small(child):
                    looked += top.values - before - 1
                    continue
                found = self.enter(child)
                if found is None:
                    break
                top.take(child, found)
            else:
                flat = self.close(item, top)
                if not self.stack:
                    return flat
                self.stack[-1][1].take(item, flat)

    def close(self, item: object, top: _Open) -> Flat:
        self.stack.pop()
        self.within.discard(id(item))
        flat = top.closed()
        self.check(*flat.size)
        self.done[id(item)] = (item, flat)
        self.known.add(flat.value, flat.size, flat=self.flatten)
        return flat


def _length(item: object) -> int:
    if type(item) is str:
        return len(item)
    return item.bit_length() >> 3 if type(item) is int else 0


def _opened(item: object, *, flatten: bool) -> _Open | Flat:
    """A container to be visited; any other value as it is."""
    if isinstance(item, Mapping):
        return _mapping(item, cast("Mapping[object, object]", item), flatten=flatten)
    if isinstance(item, list | tuple | set | frozenset):
        # A copy, since a tool may change the container while other tasks run.
        return _Open(item, iter(tuple(item)), None, [] if flatten else None)
    if not flatten:
        return Flat(item, Size(1, 0))
    return _object(item)


def _mapping(source: object, fields: Mapping[object, object], *, flatten: bool) -> _Open:
    try:
        names, values = tuple(fields), tuple(fields.values())
    except RAISED as error:
        raise NoPlainFormError(type(error).__name__) from error
    return _Open(source, iter(values), names, [] if flatten else None, text=_length_of_all(names))


def _length_of_all(names: tuple[object, ...]) -> int:
    try:
        return len("".join(cast("tuple[str, ...]", names)))
    except TypeError:
        return sum(len(name) for name in names if isinstance(name, str))


def _object(item: object) -> _Open | Flat:
    try:
        fields = _fields(item)
        made = item.value if isinstance(item, Enum) else _text(item)
    except RAISED as error:
        raise NoPlainFormError(type(error).__name__) from error
    if fields is not None:
        return _mapping(item, cast("Mapping[object, object]", fields), flatten=True)
    if made is item or type(made) in _ATOMS:
        return Flat(made, Size(1, _length(made)))
    return _opened(made, flatten=True)


def _text(value: object) -> object:
    if isinstance(value, _TIMES):
        return value.isoformat()
    return str(value) if isinstance(value, _TEXTS) else value


def _fields(value: object) -> Mapping[str, object] | None:
    """The fields of an object that has fields; None for any other."""
    kind: type[Any] = type(value)
    if attrs.has(kind):
        return {field.name: getattr(value, field.name) for field in attrs.fields(kind)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    dump: Any = getattr(value, "model_dump", None)
    return cast("Mapping[str, object]", dump(mode="json")) if callable(dump) else None


#: The errors of a traversal whose value can't be passed on.
WALK_ERRORS: Final = (OverBudgetError, RecursionError, NoPlainFormError)


def walk_problem(error: Exception) -> str:
    """The problem of the value, to follow its name in a message."""
    match error:
        case OverBudgetError():
            return f"{error}: keep large data outside the run, and pass a reference to it"
        case RecursionError():
            return f"is nested too deep ({MAX_DEPTH} levels are allowed), or contains itself"
    return f"can't be converted to plain data: {error}"


def finished(steps: Walk) -> Flat:
    """Traverse to the end without a pause."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return cast("Flat", done.value)


async def finished_soon(steps: Walk, pause: Callable[[], Awaitable[None]]) -> Flat:
    """Traverse to the end, letting other tasks run in between."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return cast("Flat", done.value)
        await pause()


def text_of(value: object, most: int) -> str:
    """A value as text: text as it is, anything else as JSON. ``OverBudgetError`` if it takes more characters than the
    limit.
    """
    try:
        finished(walk(value, flatten=False, most=Size(MAX_FILLED_VALUES, most)))
    except RecursionError:
        msg = walk_problem(RecursionError())
        raise OverBudgetError(msg) from None
    text = value if isinstance(value, str) else _json(value)
    if len(text) > most:
        msg = f"takes more than {most} characters as text"
        raise OverBudgetError(msg)
    return text


def _json(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        pass
    try:
        return str(value)
    except RAISED as error:
        # Raised for values without a text in Python (a number of 5,000 digits), and objects that fail to give theirs.
        msg = f"has no text ({type(error).__name__})"
        raise OverBudgetError(msg) from error


def plain(value: object) -> object:
    """The value with objects as dicts, and with text in place of what JSON writes as text. Plain data stays the same
    object, and a value without a plain form stays as it is. The errors are those of ``walk``.
    """
    return finished(walk(value, flatten=True)).value
