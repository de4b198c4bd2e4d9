"""How objects of a registered class are read and made again: a plan for each kind of class, found once when it is
registered.

A plan for fields reads declared fields with ``attrgetter`` and sets them with ``object.__setattr__`` on an object that
``__new__`` of a class of Python's own made: ``__init__``, converters, validators, ``__setstate__`` and ``__reduce__``
never run.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, Flag
from functools import cached_property
from itertools import chain
from keyword import iskeyword
from operator import attrgetter, countOf, itemgetter
from types import MemberDescriptorType
from typing import TypeAlias, cast

from attrs import Factory, field, frozen

from flowpersist.codec.leaves import ABSENT
from flowpersist.codec.packing import Cell
from flowpersist.codec.refusals import Refused, malformed

__all__ = [
    "BuiltinPlan",
    "EnumPlan",
    "FieldsPlan",
    "NamedPlan",
    "PairPlan",
    "Plan",
    "StatePlan",
    "is_built",
    "set_attributes",
]

#: What attrs keeps a cached hash in; a copy starts with none.
CACHED_HASH = "_attrs_cached_hash"
#: The modules whose classes' ``__setstate__`` only says what their declared fields say already.
GENERATORS = frozenset({"attr._make", "attrs", "dataclasses", "pydantic.main"})


def _getter(names: tuple[str, ...]) -> Callable[[Cell], Cell]:
    return attrgetter(*names) if names else lambda _: ()


def _is_direct(plan: FieldsPlan) -> bool:
    cls = plan.cls
    own: object = cls.__getattribute__
    if own is not object.__getattribute__ and not issubclass(cls, BaseException):
        return False
    if getattr(getattr(cls, "__getattr__", None), "__module__", "pydantic.main") not in GENERATORS:
        return False
    members = [getattr(cls, name, None) for name in plan.names]
    return all(type(member) is MemberDescriptorType or not hasattr(type(member), "__get__") for member in members)


def _assigner(plan: FieldsPlan) -> Callable[[list[Cell], Sequence[list[Cell]]], None] | None:
    own: object = plan.cls.__setattr__
    names = plan.names
    plain = own is object.__setattr__ and plan.is_direct and not plan.loose
    if not plain or not names or not all(name.isidentifier() and not iskeyword(name) for name in names):
        return None
    # Compiled, as dataclasses and attrs do: an assignment to a name that stands in code is five times as fast as
    # setattr. The names are those that the registered class declares; bytes have no part in it.
    targets = ", ".join(f"one.{name}" for name in names)
    code = (
        f"def assign(objects, columns):\n    for one, {targets} in zip(objects, *columns, strict=True):\n        pass\n"
    )
    made: dict[str, Cell] = {}
    exec(code, {}, made)  # noqa: S102 - see above
    return cast("Callable[[list[Cell], Sequence[list[Cell]]], None]", made["assign"])


def _is_in_dict(plan: FieldsPlan) -> bool:
    is_plain = plan.is_direct and not plan.loose and bool(plan.names) and bool(plan.cls.__dictoffset__)
    return is_plain and not any(hasattr(type(getattr(plan.cls, name, None)), "__set__") for name in plan.names)


@frozen
class FieldsPlan:
    """A class whose objects are what their declared fields hold: dataclass, attrs class, pydantic model, exception.

    ``maker`` makes a bare object. ``loose``: attributes beyond the declared ones are expected (exceptions, pydantic),
    else one is refused, since it would be lost. ``unset_is_none``: attributes of the interpreter's own that read as
    None while they are unset, which is another thing to them than None. ``check`` looks at each object when all are
    filled.
    """

    cls: type
    names: tuple[str, ...]
    maker: Callable[[type], Cell] = object.__new__
    loose: bool = False
    check: Callable[[Cell], None] | None = None
    resets_hash: bool = False
    unset_is_none: frozenset[str] = frozenset()
    #: Whether each field is a place of its own in the object, and no function that may give what lies elsewhere.
    is_direct: bool = field(init=False, eq=False, default=Factory(_is_direct, takes_self=True))
    #: Whether all fields lie in ``__dict__``, where they are read two to three times as fast.
    in_dict: bool = field(init=False, eq=False, default=Factory(_is_in_dict, takes_self=True))
    #: Sets all fields of many objects, each a column, by assignment; None where assignment is not the class's default.
    assign: Callable[[list[Cell], Sequence[list[Cell]]], None] | None = field(
        init=False, eq=False, default=Factory(_assigner, takes_self=True)
    )
    _items: Callable[[Cell], Cell] = field(
        init=False, eq=False, default=Factory(lambda self: itemgetter(*self.names or ("",)), takes_self=True)
    )
    _get: Callable[[Cell], Cell] = field(
        init=False, eq=False, default=Factory(lambda self: _getter(self.names), takes_self=True)
    )

    def shells(self, count: int) -> list[Cell]:
        """Bare objects, whose fields are not set."""
        maker, cls = self.maker, self.cls
        made = [maker(cls) for _ in range(count)]
        if self.resets_hash:
            for one in made:
                object.__setattr__(one, CACHED_HASH, None)
        return made

    def read(self, objects: list[Cell]) -> list[Cell]:
        """The fields of each object in the order of ``names``, one object after the other."""
        if self.in_dict:
            dicts = list(map(vars, objects))
            if countOf(map(len, dicts), len(self.names)) == len(dicts):
                try:
                    rows = list(map(self._items, dicts))
                    return rows if len(self.names) == 1 else list(chain.from_iterable(rows))
                except KeyError:
                    pass
        if not self.loose:
            self._refuse_undeclared(objects)
        try:
            rows = list(map(self._get, objects))
        except AttributeError:
            return [getattr(one, name, ABSENT) for one in objects for name in self.names]
        if self.unset_is_none:
            return [self._present(name, cell) for row in rows for name, cell in zip(self.names, row, strict=True)]
        return rows if len(self.names) == 1 else list(chain.from_iterable(rows))

    def read_one(self, one: Cell) -> list[Cell]:
        """The same of one object, without what is set up for many."""
        if self.in_dict and len(self.names) > 1:
            attributes = vars(one)
            if len(attributes) == len(self.names):
                try:
                    return list(self._items(attributes))
                except KeyError:
                    pass
        return self.read([one])

    def _present(self, name: str, cell: Cell) -> Cell:
        return ABSENT if cell is None and name in self.unset_is_none else cell

    def _refuse_undeclared(self, objects: list[Cell]) -> None:
        if not self.cls.__dictoffset__:
            return
        declared = {*self.names, CACHED_HASH}
        # Objects of one class mostly have one set of attributes: each is looked at once.
        for shape in set(map(tuple, map(vars, objects))):
            if not declared.issuperset(shape):
                self._refuse_attribute(next(one for one in objects if tuple(vars(one)) == shape), declared)

    def _refuse_attribute(self, one: Cell, declared: set[str]) -> None:
        for name in sorted(vars(one).keys() - declared):
            if not isinstance(getattr(self.cls, name, None), cached_property):
                reason = (
                    f"has the attribute {name!r}, which its class does not declare as a field, so that it would be lost"
                )
                raise Refused(one, f"{reason}; declare it, or register the class with encode= and decode=")


@frozen
class NamedPlan:
    """A namedtuple: a tuple of its class, built without its ``__new__``."""

    cls: type
    names: tuple[str, ...]


@frozen
class EnumPlan:
    """An enumeration: a member goes by its name, a combination of flags by its value."""

    cls: type[Enum]
    names: tuple[str, ...] = ()
    _name_of: dict[int, str] = field(
        init=False,
        eq=False,
        repr=False,
        # By identity: a member's own hash and name are Python code.
        default=Factory(
            lambda self: {id(one): str(one.name) for one in self.cls.__members__.values()}, takes_self=True
        ),
    )

    def dump(self, member: Enum) -> str | int:
        """The name of a member, or the value of an unnamed combination of flags."""
        name = self._name_of.get(id(member))
        return int(member.value) if name is None else name

    def load(self, cell: Cell) -> Enum:
        """The member that ``dump`` gave this for; ``KeyError`` where there is none."""
        if type(cell) is str:
            return self.cls.__members__[cell]
        if type(cell) is not int or not issubclass(self.cls, Flag):
            raise malformed("a member of an enumeration is neither a name nor the value of flags")
        return self.cls(cell)


@frozen
class PairPlan:
    """Any class, by a function to a value of supported types and one back."""

    cls: type
    encode: Callable[[Cell], Cell]
    decode: Callable[[Cell], Cell]
    names: tuple[str, ...] = ()


@frozen
class BuiltinPlan:
    """A subclass of one of Python's own classes: what that class holds, read by its own methods, and attributes.

    ``slots``: the names of the attributes that have a place of their own; the rest are in ``__dict__``.
    """

    cls: type
    base: type
    slots: tuple[str, ...]
    names: tuple[str, ...] = ()

    def content(self, one: Cell) -> list[Cell]:
        """What the base class holds, as cells: elements, keys and values in turn, or the one value."""
        return CONTENTS[self.base](one)

    def attributes(self, one: Cell) -> list[Cell]:
        """Names and values in turn."""
        found = {name: getattr(one, name) for name in self.slots if hasattr(one, name)}
        found.update(getattr(one, "__dict__", {}))
        return list(chain.from_iterable(found.items()))

    def shell(self) -> Cell:
        """An empty object of a mutable class."""
        make: Cell = self.base.__new__
        return make(self.cls)

    def built(self, content: Cell) -> Cell:
        """An object of an immutable class."""
        make: Cell = self.base.__new__
        return make(self.cls, content)


@frozen
class StatePlan:
    """A class with a ``__getstate__`` or ``__setstate__`` of its own, which alone knows what belongs to its state."""

    cls: type
    names: tuple[str, ...] = ()

    def shell(self) -> Cell:
        """An object without state."""
        return object.__new__(self.cls)

    def encode(self, one: Cell) -> Cell:
        """Its state."""
        return one.__getstate__()

    def restore(self, one: Cell, state: Cell) -> None:
        """Hand the state to the object, by the same rule as copy and pickle do."""
        if hasattr(self.cls, "__setstate__"):
            one.__setstate__(state)
        elif type(state) is dict:
            set_attributes(one, state)
        elif state is not None:
            raise malformed("the state of a class without __setstate__ is not a dict")


Plan: TypeAlias = FieldsPlan | NamedPlan | EnumPlan | PairPlan | BuiltinPlan | StatePlan


def is_built(plan: Plan) -> bool:
    """Whether objects of the class are made with all that they hold, as a tuple is, and so can't be made empty."""
    return isinstance(plan, NamedPlan | PairPlan) or (isinstance(plan, BuiltinPlan) and plan.base not in _MUTABLE_BASES)


def set_attributes(one: Cell, attributes: Mapping[Cell, Cell]) -> None:
    """Set attributes from untrusted bytes: refuse one that would hide what the class defines."""
    for name, value in attributes.items():
        if type(name) is not str or name.startswith("__") or _is_taken(getattr(type(one), name, None)):
            raise malformed("an attribute would hide one of its class")
        object.__setattr__(one, name, value)


def _is_taken(member: Cell) -> bool:
    if type(member) is MemberDescriptorType:
        return False
    return callable(member) or hasattr(member, "__set__")


def _elements(base: Cell) -> Callable[[Cell], list[Cell]]:
    return lambda one: list(base.__iter__(one))


def _entries(base: Cell) -> Callable[[Cell], list[Cell]]:
    return lambda one: [part for key in base.__iter__(one) for part in (key, base.__getitem__(one, key))]


#: How to read what a subclass of each class holds, by that class's own methods: its own may say something else.
CONTENTS: dict[type, Callable[[Cell], list[Cell]]] = {
    **{base: _elements(base) for base in (list, tuple, set, frozenset)},
    **{base: _entries(base) for base in (dict, OrderedDict)},
    deque: lambda one: [deque.maxlen.__get__(one), *deque.__iter__(one)],
    bytearray: lambda one: [bytes(memoryview(one))],
    bytes: lambda one: [bytes(memoryview(one))],
    str: lambda one: [str.__str__(one)],
    int: lambda one: [int.__int__(one)],
    float: lambda one: [float.__float__(one)],
    complex: lambda one: [complex.__complex__(one)],
}
_MUTABLE_BASES = frozenset({list, set, dict, OrderedDict, deque, bytearray})

#: Functions from the fields of one version to those of the next, by the version that they begin at.
Upgrades: TypeAlias = Mapping[int, Callable[[dict[str, Cell]], dict[str, Cell]]]
