"""Walking values: their sizes, their form as plain data, and what of them a run keeps.

Plain data is what JSON has: dicts, lists, text, numbers, booleans and None. A walk visits each part of a value once,
however often it is shared, and lets other tasks run in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping, Sized
from enum import Enum
from typing import Any, Final, NamedTuple, TypeAlias, cast

from attrs import define, field, frozen

from flowpersist.dynamicflow.budgets import LARGEST, MAX_DEPTH, MAX_VALUES, OverBudgetError, Size
from flowpersist.dynamicflow.declared import fields_of, is_model
from flowpersist.dynamicflow.leaves import ATOMS, length, ordered, text_form
from flowpersist.dynamicflow.outcomes import RAISED

__all__ = [
    "PLAIN",
    "SIZE",
    "WALK_ERRORS",
    "WHOLE",
    "Flat",
    "Form",
    "Known",
    "NoPlainFormError",
    "finished",
    "finished_soon",
    "plain",
    "walk",
    "walk_problem",
]

#: The containers whose items are looked into even where the run keeps them.
_CONTAINERS: Final = frozenset({dict, list, tuple, set, frozenset})
#: The values visited between two pauses.
SLICE: Final = 1000
#: The size of a container with at least this many values is cached.
_REMEMBERED: Final = 32
#: A container with at most this many values is visited in one step.
_SMALL: Final = 16


class NoPlainFormError(Exception):
    """A user's class failed to give its fields. The message is the name of what it raised."""


@frozen
class Form:
    """What a walk makes of a value: nothing, plain data (with the private fields of objects if asked), or the same
    value with plain data only in place of the classes that are not kept.
    """

    makes: bool = True
    private: bool = False
    keeps: Callable[[type], bool] | None = None

    def kept(self, kind: type) -> bool:
        """Whether objects of a class stay as they are."""
        return self.keeps is not None and self.keeps(kind)


SIZE: Final = Form(makes=False)
PLAIN: Final = Form()
WHOLE: Final = Form(private=True)


class Flat(NamedTuple):
    """A value in the form that was requested, its size, and whether it was plain data already.

    Of a value that was not, the size is that of the value itself.
    """

    value: object
    size: Size
    is_plain: bool = True


#: A traversal that pauses now and then, and gives its result at the end.
Walk: TypeAlias = Generator[None, None, Flat]


@define
class Known:
    """The sizes of the containers that were visited last. It keeps references to them, so their ids stay unique."""

    _sizes: dict[int, Flat] = field(factory=dict, repr=False)
    _total: int = 0

    def get(self, value: object) -> Flat | None:
        """What is known of this very container."""
        return self._sizes.get(id(value))

    def add(self, flat: Flat) -> None:
        """Cache a large container, and drop the oldest ones if there are too many."""
        if flat.size.values < _REMEMBERED:
            return
        before = self._sizes.pop(id(flat.value), None)
        self._sizes[id(flat.value)] = flat
        self._total += flat.size.values - (0 if before is None else before.size.values)
        while self._total > 2 * MAX_VALUES:
            self._total -= self._sizes.pop(next(iter(self._sizes))).size.values


@define
class _Open:
    """A container that is being visited. ``keys`` are a mapping's; ``made`` is its new form, None if none is
    requested.
    """

    source: object
    items: Iterator[object]
    keys: tuple[object, ...] | None
    made: list[object] | None
    values: int = 1
    text: int = 0
    unchanged: bool = True
    is_plain: bool = True

    def take_small(self, item: object) -> bool:
        """The same as ``take``, at once, for the most frequent kinds of values; False for all others."""
        kind = type(item)
        if kind in ATOMS:
            self.values += 1
            self.text += length(item)
        elif (kind is dict or kind is list) and len(cast("Sized", item)) <= _SMALL:
            parts = cast("dict[object, object]", item).values() if kind is dict else cast("list[object]", item)
            if not all(type(part) in ATOMS for part in parts):
                return False
            self.values += 1 + len(parts)
            self.text += sum(map(length, parts))
            self.text += _length_of_all(tuple(cast("dict[object, object]", item))) if kind is dict else 0
        else:
            return False
        if self.made is not None:
            self.made.append(item)
        return True

    def take(self, item: object, flat: Flat) -> None:
        self.values += flat.size.values
        self.text += flat.size.text
        self.is_plain = self.is_plain and flat.is_plain
        if self.made is not None:
            self.made.append(flat.value)
            self.unchanged = self.unchanged and flat.value is item

    def closed(self, form: Form) -> Flat:
        kind, size = type(self.source), Size(self.values, self.text)
        is_plain = self.is_plain and kind in {dict, list}
        if self.made is None or (self.unchanged and (kind in {dict, list} or form.kept(kind))):
            return Flat(self.source, size, is_plain)
        if self.keys is not None:
            return Flat(dict(zip(self.keys, self.made, strict=True)), size, is_plain)
        return Flat(tuple(self.made) if kind is tuple and form.kept(kind) else self.made, size, is_plain)


def walk(value: object, known: Known | None = None, *, form: Form = SIZE, most: Size = LARGEST) -> Walk:
    """Traverse a value, and make the requested form of it if it is not plain data.

    ``OverBudgetError`` if it is larger than ``most``, ``RecursionError`` if it is nested too deep or contains itself,
    ``NoPlainFormError`` if an object fails to give its fields.
    """
    known = Known() if known is None else known
    measured = yield from _Walker(known, SIZE, most).whole(value)
    if measured.is_plain or not form.makes:
        return measured
    made = yield from _Walker(known, form, most).whole(value)
    return Flat(made.value, measured.size, is_plain=False)


@define
class _Walker:
    known: Known
    form: Form
    most: Size
    done: dict[int, tuple[object, Flat]] = field(factory=dict, repr=False)
    stack: list[tuple[object, _Open]] = field(factory=list, repr=False)
    within: set[int] = field(factory=set)

    def whole(self, value: object) -> Walk:
        found = self.enter(value)
        flat = found if found is not None else (yield from self.run())
        self.check(*flat.size)
        return flat

    def enter(self, item: object) -> Flat | None:
        """The result for an item that is known at once; None for a container, which is now open."""
        kind = type(item)
        if kind in ATOMS:
            return Flat(item, Size(1, length(item)))
        before = self.done.get(id(item))
        if before is not None:
            return before[1]
        known = self.known.get(item)
        if known is not None and (known.is_plain or not self.form.makes):
            return known
        if kind not in _CONTAINERS and self.form.kept(kind):
            return Flat(item, Size(1, 0), is_plain=False)
        if isinstance(item, Sized) and not isinstance(item, bytes | bytearray):
            # Checked before it is copied, so that an oversized container is not visited.
            self.check(len(item), 0)
        opened = _opened(item, self.form)
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
        flat = top.closed(self.form)
        self.check(*flat.size)
        self.done[id(item)] = (item, flat)
        if not self.form.makes:
            self.known.add(flat)
        return flat


def _opened(item: object, form: Form) -> _Open | Flat:
    """A container to be visited; any other value as it is."""
    made: list[object] | None = [] if form.makes else None
    if isinstance(item, Mapping):
        return _mapping(item, cast("Mapping[object, object]", item), made)
    if isinstance(item, list | tuple | deque):
        # A copy, since a tool may change the container while other tasks run.
        return _Open(item, iter(tuple(cast("list[object]", item))), None, made)
    if isinstance(item, set | frozenset):
        items = cast("set[object]", item)
        return _Open(item, iter(tuple(items) if made is None else ordered(items, plain)), None, made)
    return _sized(item) if made is None else _object(item, form)


def _mapping(source: object, fields: Mapping[object, object], made: list[object] | None) -> _Open:
    try:
        names, values = tuple(fields), tuple(fields.values())
    except RAISED as error:
        raise NoPlainFormError(type(error).__name__) from error
    return _Open(source, iter(values), names, made, text=_length_of_all(names))


def _length_of_all(names: tuple[object, ...]) -> int:
    try:
        return len("".join(cast("tuple[str, ...]", names)))
    except TypeError:
        return sum(len(name) for name in names if isinstance(name, str))


def _sized(item: object) -> _Open | Flat:
    """An object for its size: with all its fields, so that no form of it is larger."""
    try:
        fields = fields_of(item, private=True)
    except RAISED as error:
        raise NoPlainFormError(type(error).__name__) from error
    if fields is not None:
        return _mapping(item, cast("Mapping[object, object]", fields), None)
    return Flat(item, Size(1, length(item)), is_plain=False)


def _object(item: object, form: Form) -> _Open | Flat:
    try:
        made = _data_of(item, form)
    except RAISED as error:
        raise NoPlainFormError(type(error).__name__) from error
    if made is item or type(made) in ATOMS:
        return Flat(made, Size(1, length(made)), is_plain=False)
    if isinstance(made, Mapping):
        return _mapping(item, cast("Mapping[object, object]", made), [])
    return _opened(made, form)


def _data_of(item: object, form: Form) -> object:
    """What stands for an object in plain data: a dict of its fields, a text, or itself where it has none of these."""
    if isinstance(item, Enum):
        return item.value
    dump: Any = getattr(type(item), "model_dump", None)
    if callable(dump) and (is_model(type(item)) or fields_of(item, private=False) is None):
        return dump(item, mode="json")
    fields = fields_of(item, private=form.private)
    return text_form(item) if fields is None else fields


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


def plain(value: object) -> object:
    """The value as plain data: objects as dicts of their fields, and text in place of what JSON writes as text. Plain
    data stays the same object, and a value without a plain form stays as it is. The errors are those of ``walk``.
    """
    return finished(walk(value, form=PLAIN)).value
