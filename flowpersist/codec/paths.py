"""Where in a value something lies, as a programmer would write it: looked for only when encoding has failed."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import Final

from attrs import define, field

from flowpersist.codec.packing import PLAIN_TYPES, Cell
from flowpersist.codec.plans import GROUPS, BuiltinPlan, FieldsPlan, NamedPlan, PairPlan, Plan, StatePlan
from flowpersist.codec.registry import TypeRegistry

__all__ = ["ValueWalk", "path_to"]

ROOT: Final = "state"
#: A longer key is shown by its beginning alone: a key's token or a text of somebody's is none of a message's business.
LONGEST_KEY: Final = 40
SHOWN_OF_KEY: Final = 16
LONGEST_PATH: Final = 300
LARGEST_NUMBER: Final = 2**64
#: Objects that are looked at, at most: a look takes a microsecond or so.
MOST_OBJECTS: Final = 2**24

DICTS: Final = frozenset({dict, OrderedDict, defaultdict, Counter})
SEQUENCES: Final = frozenset({list, tuple, deque})
SETS: Final = frozenset({set, frozenset})


@define(eq=False)
class ValueWalk:
    """All that a value reaches, the nearest first, but for simple values; each object once.

    ``plan_of`` says how objects of a class are read, or None for one whose objects are not entered.
    """

    root: Cell
    plan_of: Callable[[type], Plan | None]
    most: int = MOST_OBJECTS
    _parents: dict[int, tuple[int, str]] = field(init=False, factory=dict)
    #: Keeps what ``encode=`` functions return, so that no two objects have one number.
    _kept: dict[int, Cell] = field(init=False, factory=dict)

    def __len__(self) -> int:
        """How many objects were looked at so far."""
        return len(self._kept)

    def __iter__(self) -> Iterator[Cell]:
        queue = deque([self.root])
        self._kept[id(self.root)] = self.root
        yield self.root
        while queue:
            one = queue.popleft()
            for label, child in self._children(one):
                if type(child) in PLAIN_TYPES or id(child) in self._kept:
                    continue
                if len(self._kept) >= self.most:
                    return
                self._kept[id(child)] = child
                self._parents[id(child)] = (id(one), label)
                queue.append(child)
                yield child

    def path(self, one: Cell) -> str:
        """Where an object that the walk has given lies."""
        labels: list[str] = []
        number = id(one)
        while number in self._parents:
            number, label = self._parents[number]
            labels.append(label)
        labels.reverse()
        path = ROOT + "".join(labels)
        return path if len(path) <= LONGEST_PATH else _shortened(labels)

    def _children(self, one: Cell) -> Iterator[tuple[str, Cell]]:
        cls = type(one)
        if cls in DICTS:
            return _entries(one.items())
        if cls in SEQUENCES:
            return _elements(one)
        if cls in SETS:
            return (("{<element>}", value) for value in one)
        if cls is slice:
            return ((f".{name}", getattr(one, name)) for name in ("start", "stop", "step"))
        plan = self.plan_of(cls)
        return iter(()) if plan is None else _parts(one, plan)


def path_to(root: Cell, is_it: Callable[[Cell], bool], types: TypeRegistry) -> str | None:
    """The shortest way from the root to a value that ``is_it`` picks, such as ``state.messages[3].tool.args['x']``."""

    def plan_of(cls: type) -> Plan | None:
        found = types.by_class(cls)
        return None if found is None else found.plan

    walk = ValueWalk(root, plan_of)
    return next((walk.path(one) for one in walk if is_it(one)), None)


def _entries(items: Iterator[tuple[Cell, Cell]]) -> Iterator[tuple[str, Cell]]:
    for key, value in items:
        if type(key) not in PLAIN_TYPES:
            yield "[<key>]", key
        if type(value) not in PLAIN_TYPES:
            yield f"[{_key(key)}]", value


def _elements(values: Cell) -> Iterator[tuple[str, Cell]]:
    return ((f"[{place}]", value) for place, value in zip(count(), values) if type(value) not in PLAIN_TYPES)


def _parts(one: Cell, plan: Plan) -> Iterator[tuple[str, Cell]]:
    match plan:
        case FieldsPlan(names=names):
            yield from _attributes(one, names)
        case NamedPlan(names=names):
            yield from ((f".{name}", value) for name, value in zip(names, tuple.__iter__(one), strict=False))
        case PairPlan() | StatePlan():
            try:
                yield "<encoded>", plan.encode(one)
            except Exception:  # noqa: BLE001 - a function of the user's, which encoding has told of
                return
        case BuiltinPlan():
            attributes = iter(plan.attributes(one))
            yield from ((f".{name}", value) for name, value in zip(attributes, attributes, strict=True))
            yield from _contents(one, plan)


def _attributes(one: Cell, names: tuple[str, ...]) -> Iterator[tuple[str, Cell]]:
    for name in names:
        with suppress(Exception):
            # Unset, or a property of the user's.
            yield f".{name}", getattr(one, name)


def _contents(one: Cell, plan: BuiltinPlan) -> Iterator[tuple[str, Cell]]:
    content = plan.content(one)
    if plan.base in DICTS:
        cells = iter(content)
        return _entries(zip(cells, cells, strict=True))
    if plan.base in SETS:
        return (("{<element>}", value) for value in content)
    if plan.base in GROUPS:
        return ((f".exceptions{label}", value) for label, value in _elements(content[1:]))
    return _elements(content[1:] if plan.base is deque else content)


def _key(key: Cell) -> str:
    if type(key) is str:
        return repr(key) if len(key) <= LONGEST_KEY else f"{key[:SHOWN_OF_KEY]!r}… ({len(key)} characters)"
    if type(key) in {bool, type(None)} or (type(key) is int and abs(key) < LARGEST_NUMBER):
        return repr(key)
    return f"<{type(key).__qualname__}>"


def _shortened(labels: list[str]) -> str:
    """The first steps and the last ones."""
    half = LONGEST_PATH // 2
    first, last = ROOT, ""
    for label in labels:
        if len(first) + len(label) > half:
            break
        first += label
    for label in reversed(labels):
        if len(last) + len(label) > half:
            break
        last = label + last
    return f"{first}…{last}"
