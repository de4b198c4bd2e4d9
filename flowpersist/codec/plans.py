"""How objects of a registered class are read and made again: a plan for each kind of class, found once when it is
registered.

Objects are made by ``__new__`` of a class of Python's own: ``__init__``, converters, validators and ``__reduce__``
never run, and ``__setstate__`` only where it is what the class was registered for. What one side could not take, the
other refuses: each predicate stands here once.
"""

from __future__ import annotations

import datetime as dt
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum, Flag
from itertools import chain
from types import MemberDescriptorType, SimpleNamespace
from typing import TypeAlias, cast

from attrs import Factory, field, frozen

from flowpersist.codec.factories import factory_cell
from flowpersist.codec.fields import FieldsPlan, hidden_value, static_member
from flowpersist.codec.members import MemberPlan
from flowpersist.codec.packing import Cell
from flowpersist.codec.refusals import Refused, malformed
from flowpersist.codec.scalars import SCALARS, Scalar
from flowpersist.errors import UnsupportedType

__all__ = [
    "ORIGINAL",
    "SHELL_BASES",
    "BuiltinPlan",
    "EnumPlan",
    "FieldsPlan",
    "NamedPlan",
    "PairPlan",
    "Plan",
    "StatePlan",
    "encoded",
    "is_built",
    "obstacle",
    "set_attributes",
]

#: Exceptions that are made with what they hold.
GROUPS: tuple[type[BaseException], ...] = (BaseExceptionGroup, ExceptionGroup)
#: What a group has besides, in the order in which it is set: to set the cause suppresses the context.
GROUP_ATTRIBUTES = ("args", "__cause__", "__suppress_context__")
NOTES = "__notes__"


@frozen
class NamedPlan:
    """A namedtuple: a tuple of its class, built without its ``__new__``."""

    cls: type
    names: tuple[str, ...]

    def read(self, objects: list[Cell]) -> list[list[Cell]]:
        """The elements of each object; ``Refused`` where they are not as many as the class has fields."""
        rows = list(map(list, map(tuple.__iter__, objects)))
        for one, row in zip(objects, rows, strict=True):
            if len(row) != len(self.names):
                raise Refused(one, f"has {len(row)} elements; its class has {len(self.names)} fields")
        return rows

    def with_attributes(self, objects: list[Cell], numbers: Iterable[int]) -> Iterable[tuple[Cell, int, list[Cell]]]:
        """Those of some numbered objects that have attributes, with these."""
        if not self.cls.__dictoffset__:
            return ()
        found = [(one, number, self.attributes(one)) for one, number in zip(objects, numbers, strict=True)]
        return [each for each in found if each[2]]

    def attributes(self, one: Cell) -> list[Cell]:
        """Names and values in turn of what it has besides its fields; ``Refused`` for one that can't be set again."""
        found = _dict_of(one)
        _refuse_attributes(one, found)
        return list(chain.from_iterable(found.items()))


@frozen
class EnumPlan(MemberPlan):
    """An enumeration: a member goes by its name, a combination of flags by its value."""

    cls: type[Enum]
    names: tuple[str, ...] = ()
    _name_of: dict[int, str] = field(
        init=False,
        eq=False,
        repr=False,
        # By identity: a member's own hash and name are Python code.
        default=Factory(
            lambda self: {id(one): name for name, one in reversed(self.cls.__members__.items())}, takes_self=True
        ),
    )

    def dump(self, member: Enum) -> str | int:
        """The name of a member, or the value of an unnamed combination of flags; ``Refused`` for what is neither."""
        name = self._name_of.get(id(member))
        if name is not None:
            return name
        value: Cell = member._value_
        if not isinstance(member, Flag) or type(value) is not int or not _is_made_of(self.cls, value, member):
            reason = f"is not a member of the enumeration {self.cls.__qualname__}, but was made by its own code"
            raise Refused(member, f"{reason}; define the member, or register the class with encode= and decode=")
        return value

    def load(self, cell: Cell) -> Enum:
        """The member that ``dump`` gave this for; ``KeyError`` for another cell."""
        if type(cell) is str:
            return self.cls.__members__[cell]
        if type(cell) is not int or not issubclass(self.cls, Flag):
            raise malformed("a member of an enumeration is neither a name nor the value of flags")
        return self.cls(cell)


def _is_made_of(cls: type[Enum], value: int, member: Enum) -> bool:
    try:
        return cls(value) is member
    except ValueError:
        return False


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

    ``slots``: the names of the attributes that have a place of their own; the rest are in ``__dict__``. ``hidden``:
    places that the class's own attributes hide, and which must be empty.
    """

    cls: type
    base: type
    slots: tuple[str, ...]
    names: tuple[str, ...] = ()
    hidden: tuple[MemberDescriptorType, ...] = ()

    def content(self, one: Cell) -> list[Cell]:
        """What the base class holds, as cells: elements, keys and values in turn, or the one value."""
        return CONTENTS[self.base](one)

    def attributes(self, one: Cell) -> list[Cell]:
        """Names and values in turn."""
        found = dict(_slots_of(one, self.slots))
        found.update(_dict_of(one))
        if issubclass(self.cls, BaseException):
            found.update((name, getattr(one, name)) for name in GROUP_ATTRIBUTES)
        return list(chain.from_iterable(found.items()))

    def refuse(self, one: Cell) -> None:
        """``Refused`` where one of its attributes can't be set again."""
        own = _dict_of(one)
        _refuse_attributes(one, own)
        _refuse_hidden(one, own)
        reason = hidden_value(self.hidden, one)
        if reason is not None:
            raise Refused(one, reason)

    def set(self, one: Cell, attributes: Mapping[Cell, Cell]) -> None:
        """Set attributes from untrusted bytes on an object that has none."""
        set_attributes(one, attributes)

    def shell(self) -> Cell:
        """An empty object of a mutable class."""
        make: Cell = self.base.__new__
        return make(self.cls)

    def built(self, content: Cell) -> Cell:
        """An object of an immutable class."""
        if self.base in SCALARS:
            return SCALARS[self.base].make(self.cls, content)
        make: Cell = self.base.__new__
        return make(self.cls, content[0], content[1:]) if self.base in GROUPS else make(self.cls, content)


@frozen
class StatePlan:
    """A class with a ``__getstate__`` or ``__setstate__`` of its own, which alone knows what belongs to its state."""

    cls: type
    names: tuple[str, ...] = ()

    def shells(self, count: int) -> list[Cell]:
        """Objects without state."""
        return [object.__new__(self.cls) for _ in range(count)]

    def encode(self, one: Cell) -> Cell:
        """Its state; ``Refused`` for one that could not be handed over again."""
        state = one.__getstate__()
        if not hasattr(self.cls, "__setstate__"):
            parts = _attributes_of(state)
            if parts is None:
                reason = f"has a state of class {type(state).__qualname__} and no __setstate__ that takes it"
                raise Refused(one, f"{reason}; define one, or return a dict of attributes")
            for part in parts:
                _refuse_attributes(one, part)
            if len(parts) > 1:
                _refuse_hidden(one, parts[0])
        return state

    def restore(self, one: Cell, state: Cell) -> None:
        """Hand the state to the object, by the same rule as copy and pickle do."""
        if state is None:
            return
        if hasattr(self.cls, "__setstate__"):
            one.__setstate__(state)
            return
        parts = _attributes_of(state)
        if parts is None:
            raise malformed("the state of a class without __setstate__ holds no attributes")
        for part in parts:
            set_attributes(one, part)


def _attributes_of(state: Cell) -> list[dict[Cell, Cell]] | None:
    """Those of a state in one of Python's own forms: of the ``__dict__``, or of it and of the slots."""
    parts: list[Cell] = list(state) if type(state) is tuple and len(state) == 2 else [state]  # noqa: PLR2004
    return [part or {} for part in parts] if all(type(part) in {dict, type(None)} for part in parts) else None


def encoded(plan: PairPlan | StatePlan, one: Cell) -> Cell:
    """What a function of the user's makes of an object; ``Refused`` where it raises."""
    try:
        return plan.encode(one)
    except Refused:
        raise
    except UnsupportedType as error:
        raise Refused(one, str(error)) from error
    except Exception as error:
        function = "encode= function" if isinstance(plan, PairPlan) else "__getstate__"
        reason = f"could not be encoded: its {function} raised {type(error).__name__}"
        raise Refused(one, reason) from error


Plan: TypeAlias = FieldsPlan | NamedPlan | MemberPlan | PairPlan | BuiltinPlan | StatePlan


def is_built(plan: Plan) -> bool:
    """Whether objects of the class are made with all that they hold, as a tuple is, and so can't be made empty."""
    return isinstance(plan, NamedPlan | PairPlan) or (isinstance(plan, BuiltinPlan) and plan.base not in _MUTABLE_BASES)


def _dict_of(one: Cell) -> dict[Cell, Cell]:
    # Not where there is none: the class's __getattr__ would be asked.
    held: Cell = vars(one) if type(one).__dictoffset__ else {}
    return cast("dict[Cell, Cell]", held)


def _slots_of(one: Cell, names: Iterable[str]) -> Iterator[tuple[str, Cell]]:
    """Those that are set, with their values, as the class itself has them."""
    for name in names:
        place = static_member(type(one), name)
        try:
            value: Cell = place.__get__(one) if type(place) is MemberDescriptorType else getattr(one, name)
        except AttributeError:
            continue
        yield name, value


def set_attributes(one: Cell, attributes: Mapping[Cell, Cell]) -> None:
    """Set attributes from untrusted bytes: refuse one that would hide what the class defines."""
    cls = type(one)
    for name, value in attributes.items():
        is_part = name in GROUP_ATTRIBUTES and issubclass(cls, BaseException)
        if not is_part and obstacle(cls, name) is not None:
            raise malformed("an attribute would hide one of its class")
        object.__setattr__(one, name, value)


def _refuse_attributes(one: Cell, attributes: Iterable[Cell]) -> None:
    for name in attributes:
        reason = obstacle(type(one), name)
        if reason is not None:
            raise Refused(one, f"has the attribute {name!r}, {reason}; rename it")


def _refuse_hidden(one: Cell, in_dict: Iterable[Cell]) -> None:
    for name in in_dict:
        if type(getattr(type(one), name, None)) is MemberDescriptorType:
            raise Refused(
                one, f"has the attribute {name!r} in its __dict__, which a slot of its class hides; rename it"
            )


#: What an object of a generic class is given that is made by an alias of it.
ORIGINAL = "__orig_class__"


def obstacle(cls: type, name: Cell, *, in_dict: bool = False) -> str | None:
    """Why no attribute of this name is set on an object of the class; None where nothing is in the way.

    ``in_dict``: it is put into the ``__dict__``, where no descriptor of the class takes it.
    """
    if type(name) is not str:
        return "which is not a text"
    if name.startswith("__") and name != ORIGINAL and not (name == NOTES and issubclass(cls, BaseException)):
        return "which is named as Python's own are"
    member = static_member(cls, name)
    if type(member) is MemberDescriptorType:
        return None
    if callable(getattr(cls, name, None)) or (hasattr(type(member), "__set__") and not in_dict):
        return f"which would hide the {name} that its class defines"
    return None if in_dict or cls.__dictoffset__ else "for which its class has no place"


def _elements(base: Cell) -> Callable[[Cell], list[Cell]]:
    return lambda one: list(base.__iter__(one))


def _entries(base: Cell) -> Callable[[Cell], list[Cell]]:
    return lambda one: list(chain.from_iterable(base.items(one)))


def _ordered_entries(one: Cell) -> list[Cell]:
    reason = "is an OrderedDict that does not find one of its keys any more"
    try:
        # It looks each key up, which a dict's own iteration does not, and ends where one is not found.
        entries = list(chain.from_iterable(OrderedDict.items(one)))
    except (RuntimeError, MemoryError):
        raise
    except Exception as error:
        raise Refused(one, f"{reason}; change nothing that a key is hashed by") from error
    if len(entries) != 2 * dict.__len__(one):
        raise Refused(one, f"{reason}; change nothing that a key is hashed by")
    return entries


def _scalar(scalar: Scalar) -> Callable[[Cell], list[Cell]]:
    return lambda one: [scalar.read(one)]


#: Classes of which an object holds nothing but attributes.
SHELL_BASES: frozenset[type] = frozenset({object, SimpleNamespace, dt.tzinfo})
#: How to read what a subclass of each class holds, by that class's own methods: its own may say something else.
CONTENTS: dict[type, Callable[[Cell], list[Cell]]] = {
    **{base: _elements(base) for base in (list, tuple, set, frozenset)},
    dict: _entries(dict),
    OrderedDict: _ordered_entries,
    deque: lambda one: [deque.maxlen.__get__(one), *deque.__iter__(one)],
    bytearray: lambda one: [bytes(memoryview(one))],
    bytes: lambda one: [bytes(memoryview(one))],
    str: lambda one: [str.__str__(one)],
    int: lambda one: [int.__int__(one)],
    float: lambda one: [float.__float__(one)],
    complex: lambda one: [complex.__complex__(one)],
    **dict.fromkeys(GROUPS, lambda one: [one.message, *one.exceptions]),
    defaultdict: lambda one: [*_entries(dict)(one), factory_cell(one)],
    **{base: _scalar(one) for base, one in SCALARS.items()},
    **dict.fromkeys(SHELL_BASES, lambda _: [None]),
}
_MUTABLE_BASES = frozenset({list, set, dict, OrderedDict, defaultdict, deque, bytearray, *SHELL_BASES})

#: Functions from the fields of one version to those of the next, by the version that they begin at.
Upgrades: TypeAlias = Mapping[int, Callable[[dict[str, Cell]], dict[str, Cell]]]
