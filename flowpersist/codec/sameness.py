"""Whether two values are the same graph: equal class by class and part by part, with the same structure of identity.

Parts are what the codec keeps of an object. All is iterative, so that depth is no limit.
"""

from __future__ import annotations

import datetime as dt
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from itertools import chain
from math import copysign, isnan
from typing import TypeAlias

from attrs import define, field, frozen

from flowpersist.codec.canonical import key_of
from flowpersist.codec.packing import Cell
from flowpersist.codec.plans import BuiltinPlan, FieldsPlan, NamedPlan, PairPlan, StatePlan, encoded
from flowpersist.codec.refusals import Refused, RefusedClass
from flowpersist.codec.registry import TypeRegistry
from flowpersist.codec.vocabulary import Roles
from flowpersist.codec.zones import as_kept

__all__ = ["Difference", "difference"]

#: Rounds by which objects of equal values are told apart.
MOST_ROUNDS = 64
#: Elements that are looked at one at a time; beyond them, those that nothing tells apart are matched as they come.
MOST_LOOKED = 2**17
#: Objects that are looked at within an element.
MOST_TOLD = 64
#: How often that is done anew in one comparison, with what is known by then; it takes a walk over everything.
MOST_COLOURINGS = 16
SETS = (set, frozenset)
DICTS = frozenset({dict, OrderedDict, defaultdict})


@frozen
class Difference:
    """The object of the first value of which a part differs, and how.

    Where an object of a registered class holds it by containers alone, it is that one: its function may have made them.
    """

    one: Cell
    how: str


#: Two parts that must be the same, and the object that is named where they are not.
Pair: TypeAlias = tuple[Cell, Cell, Cell]


def difference(a: Cell, b: Cell, types: TypeRegistry, copies: Iterable[tuple[Cell, Cell]] = ()) -> Difference | None:
    """Where two values are not the same graph; None where they are.

    ``copies``: which object of the second value is likely to be the copy of which of the first. It is asked where
    nothing else tells the elements of a set apart.

    Floats are compared by their bits but for NaN's payload, datetimes also by fold and zone, dicts and the
    attributes of objects also by order.
    """
    likely = {id(one): (one, copy) for one, copy in copies}
    return _Comparison(_Parts(Roles(types)), likely).run(a, b)


@define(eq=False)
class _Parts:
    """What objects hold, read once: what a function makes of an object is new each time."""

    roles: Roles
    _read: dict[int, tuple[Cell, list[Cell]]] = field(factory=dict)

    def is_leaf(self, one: Cell) -> bool:
        try:
            return not self.roles[type(one)]
        except RefusedClass:
            return True

    def of(self, one: Cell) -> list[Cell]:
        found = self._read.get(id(one))
        if found is None:
            # The object is kept, so that no other has its identity meanwhile.
            found = self._read[id(one)] = one, list(self._parts(one))
        return found[1]

    def key(self, one: Cell) -> bytes:
        try:
            return key_of(one, self.roles)
        except (Refused, RefusedClass):
            return b""

    def plan(self, one: Cell) -> object:
        registration = self.roles.types.by_class(type(one))
        return None if registration is None else registration.plan

    def _parts(self, one: Cell) -> Iterable[Cell]:
        plan = self.plan(one)
        if plan is not None:
            return _kept_parts(plan, one)
        if isinstance(one, dict):
            return chain.from_iterable(one.items())
        if type(one) is slice:
            return (one.start, one.stop, one.step)
        return () if isinstance(one, bytearray) else iter(one)

    def beside(self, one: Cell) -> list[Cell]:
        """The attributes of a set of a registered class."""
        plan = self.plan(one)
        return plan.attributes(one) if isinstance(plan, BuiltinPlan) else []

    def traits(self, one: Cell) -> object:
        """What is no part and must be the same."""
        plan = self.plan(one)
        if isinstance(plan, FieldsPlan) and plan.dict_names:
            return [name for name in vars(one) if name in plan.dict_names]
        if plan is None:
            content = bytes(one) if isinstance(one, bytearray) else None
            return content, getattr(one, "maxlen", None), getattr(one, "default_factory", None)
        return None

    def is_set(self, one: Cell) -> bool:
        plan = self.plan(one)
        return type(one) in SETS or (isinstance(plan, BuiltinPlan) and plan.base in SETS)


def _kept_parts(plan: object, one: Cell) -> Iterable[Cell]:
    match plan:
        case FieldsPlan():
            return plan.read_one(one)
        case NamedPlan():
            return chain(plan.attributes(one), tuple.__iter__(one))
        case PairPlan() | StatePlan():
            return (encoded(plan, one),)
        case BuiltinPlan():
            # A set's elements have no order, and its attributes have one.
            return plan.content(one) if plan.base in SETS else chain(plan.attributes(one), plan.content(one))
    return ()


@define(eq=False)
class _Comparison:
    _parts: _Parts
    #: Objects with their copies, by identity.
    _likely: Mapping[int, tuple[Cell, Cell]] = field(factory=dict)
    _forth: dict[int, Cell] = field(factory=dict)
    _back: dict[int, Cell] = field(factory=dict)
    _sets: deque[Pair] = field(factory=deque)
    _colours: dict[int, int] = field(factory=dict)
    _colourings: int = 0
    _looked: int = 0
    _keys_of: dict[int, bytes] = field(factory=dict)

    def run(self, a: Cell, b: Cell) -> Difference | None:
        stack: list[Pair] = [(a, b, a)]
        while stack or self._sets:
            if not stack:
                # Last, when most of their elements are known by another way.
                stack += self._matched(*self._sets.popleft(), (a, b))
                continue
            one, other, owner = stack.pop()
            found = self._compare(one, other, owner, stack)
            if found is not None:
                return found
        return None

    def _compare(self, one: Cell, other: Cell, owner: Cell, stack: list[Pair]) -> Difference | None:
        one, other = as_kept(one), as_kept(other)
        if type(one) is not type(other):
            return Difference(owner, f"a {type(one).__qualname__} became a {type(other).__qualname__}")
        if self._parts.is_leaf(one):
            return None if _same_leaf(one, other) else Difference(owner, f"a {type(one).__qualname__} in it differs")
        if id(one) in self._forth or id(other) in self._back:
            met = self._forth.get(id(one)) is other and self._back.get(id(other)) is one
            return None if met else Difference(owner, f"a {type(one).__qualname__} in it is another one than elsewhere")
        self._forth[id(one)], self._back[id(other)] = other, one
        if self._parts.plan(one) is not None or self._parts.plan(owner) is None:
            owner = one
        try:
            how = self._hold(one, other, owner, stack)
        except Refused as refused:
            how = refused.reason
        return None if how is None else Difference(owner, how)

    def _hold(self, one: Cell, other: Cell, owner: Cell, stack: list[Pair]) -> str | None:
        """Why two objects of a class do not hold the same; the pairs of what they hold go on the stack."""
        mine, theirs = self._parts.of(one), self._parts.of(other)
        if len(mine) != len(theirs):
            return f"{len(mine)} parts of a {type(one).__qualname__} became {len(theirs)}"
        if self._parts.traits(one) != self._parts.traits(other):
            return f"the order or a bound of a {type(one).__qualname__} differs"
        if self._parts.is_set(one):
            self._sets.append((one, other, owner))
            mine, theirs = self._parts.beside(one), self._parts.beside(other)
        if len(mine) != len(theirs):
            return f"the attributes of a {type(one).__qualname__} differ"
        stack += [(part, its, owner) for part, its in zip(mine, theirs, strict=True)]
        return None

    def _matched(self, one: Cell, other: Cell, owner: Cell, roots: tuple[Cell, Cell]) -> Iterator[Pair]:
        """Each element with that which must be its copy: a set has no order."""
        mine, theirs = self._parts.of(one), self._parts.of(other)
        known = [part for part in mine if id(part) in self._forth]
        yield from ((part, self._forth[id(part)], owner) for part in known)
        mine = [part for part in mine if id(part) not in self._forth]
        theirs = [part for part in theirs if id(part) not in self._back]
        likely = [self._likely[id(part)] for part in mine if id(part) in self._likely]
        if len(likely) == len(mine) and {id(copy) for _, copy in likely} == set(map(id, theirs)):
            yield from ((part, copy, owner) for part, copy in likely)
            return
        keys = self._keys([*mine, *theirs], roots)
        groups: dict[object, tuple[list[Cell], list[Cell]]] = {}
        for side, parts in enumerate((mine, theirs)):
            for part in parts:
                groups.setdefault(keys[id(part)], ([], []))[side].append(part)
        self._looked += len(mine)
        waits = False
        for own, its in groups.values():
            if len(own) != len(its):
                yield one, None, owner
            at_once = len(own) == 1 or self._looked > MOST_LOOKED or not any(map(self._holds_objects, own))
            # Of all that nothing tells apart one is matched, and what it holds tells others apart.
            chosen = own if at_once else [] if waits else own[:1]
            waits = waits or not at_once
            yield from ((part, copy, owner) for part, copy in zip(chosen, its, strict=False))
        if waits:
            self._sets.append((one, other, owner))

    def _holds_objects(self, one: Cell) -> bool:
        return not self._parts.is_leaf(one) and not all(map(self._parts.is_leaf, self._parts.of(one)))

    def _keys(self, elements: list[Cell], roots: tuple[Cell, Cell]) -> dict[int, object]:
        for one in elements:
            if id(one) not in self._keys_of:
                self._keys_of[id(one)] = self._parts.key(one)
        keys: dict[int, object] = {id(one): self._keys_of[id(one)] for one in elements}
        if len(set(keys.values())) * 2 == len(keys):
            return keys
        if self._colourings < MOST_COLOURINGS:
            self._colourings += 1
            self._colours = _colours(roots, self._parts, self._known)
        return {id(one): (keys[id(one)], self._colours.get(id(one)), self._told(one)) for one in elements}

    def _known(self, one: Cell) -> int | None:
        """A number for an object that has a counterpart, which that has too."""
        back = self._back.get(id(one), self)
        return id(back) if back is not self else id(one) if id(one) in self._forth else None

    def _told(self, one: Cell) -> tuple[int | None, ...]:
        """What an element holds that is matched already, as far as a short look shows it."""
        queue = deque([] if self._parts.is_leaf(one) else [one])
        found: list[int | None] = []
        while queue and len(found) < MOST_TOLD:
            known = self._known(part := queue.popleft())
            found.append(known)
            if known is None and not self._parts.is_set(part):
                queue.extend(inner for inner in self._parts.of(part) if not self._parts.is_leaf(inner))
        return tuple(found)


def _colours(roots: Iterable[Cell], parts: _Parts, known: Callable[[Cell], int | None]) -> dict[int, int]:
    """A number for each object that depends on all that it reaches, by rounds: equal where nothing tells apart.

    ``known`` gives the numbers of those that are matched already.
    """
    held: dict[int, list[Cell]] = {}
    stack = list(roots)
    ordered: dict[int, bool] = {}
    colours: dict[int, int] = {}
    while stack:
        one = stack.pop()
        if parts.is_leaf(one) or id(one) in held:
            continue
        own = held[id(one)] = parts.of(one)
        ordered[id(one)] = not parts.is_set(one)
        leaves = [parts.key(part) for part in own if parts.is_leaf(part)]
        colours[id(one)] = hash(
            (
                known(one),
                type(one).__qualname__,
                len(own),
                tuple(leaves if ordered[id(one)] else sorted(leaves)),
            )
        )
        stack += own
    objects = {number: [id(part) for part in own if id(part) in held] for number, own in held.items()}
    holders: dict[int, list[int]] = {number: [] for number in objects}
    for number, own in objects.items():
        for part in own:
            holders[part].append(number)
    count = 0
    for _ in range(MOST_ROUNDS):
        if len(set(colours.values())) == count:
            break
        count = len(set(colours.values()))
        colours = {
            number: hash((colours[number], _mixed(own, colours, ordered[number]), _mixed(holders[number], colours)))
            for number, own in objects.items()
        }
    return colours


def _mixed(others: list[int], colours: dict[int, int], ordered: bool = False) -> tuple[int, ...]:  # noqa: FBT001, FBT002
    theirs = [colours[one] for one in others]
    return tuple(theirs if ordered else sorted(theirs))


def _same_leaf(one: Cell, other: Cell) -> bool:
    match one:
        case Enum():
            return one is other
        case float():
            return (isnan(one) and isnan(other)) or (one == other and copysign(1, one) == copysign(1, other))
        case complex():
            return _same_leaf(one.real, other.real) and _same_leaf(one.imag, other.imag)
        case dt.datetime() | dt.time():
            naive = one.replace(tzinfo=None) == other.replace(tzinfo=None)
            return bool(naive and one.fold == other.fold and repr(as_kept(one.tzinfo)) == repr(as_kept(other.tzinfo)))
    return _exactly(one) == _exactly(other)


def _exactly(leaf: Cell) -> object:
    """What tells a leaf from others that may be equal to it."""
    if isinstance(leaf, Decimal):
        return leaf.as_tuple()
    if isinstance(leaf, int | Fraction):
        # The interpreter writes no number of more digits than its limit.
        return leaf
    return (leaf.start, leaf.stop, leaf.step) if isinstance(leaf, range) else (leaf, repr(leaf))
