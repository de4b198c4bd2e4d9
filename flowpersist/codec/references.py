"""Functions and classes as values: each goes by the name under which the registry holds it.

The names are a closed list. Nothing is imported or looked up in a module, whatever name the bytes hold.
"""

from __future__ import annotations

import functools
from types import BuiltinFunctionType, FunctionType, MethodDescriptorType, WrapperDescriptorType
from typing import Protocol

from attrs import define, field, frozen

from flowpersist.codec.members import MemberPlan
from flowpersist.codec.packing import Cell
from flowpersist.codec.refusals import Halted, Refused
from flowpersist.errors import ConfigurationError, UnknownType
from flowpersist.errors.arguments import mistyped

__all__ = ["FUNCTIONS", "REFERENCE", "ReferencePlan", "References", "default_name"]

#: The name in the bytes of whatever goes by a registered name.
REFERENCE = "flowpersist.Reference"
#: The classes of functions.
FUNCTIONS: frozenset[type] = frozenset(
    {
        FunctionType,
        BuiltinFunctionType,
        MethodDescriptorType,
        WrapperDescriptorType,
        type(functools.lru_cache(lambda: None)),
    }
)


class NamedClasses(Protocol):
    """The classes of a registry, by class and by name."""

    def name_of(self, cls: type) -> str | None:
        """The name of a class that the registry or the codec knows."""
        ...

    def named(self, name: str) -> type | None:
        """The class of this name."""
        ...


def default_name(one: Cell) -> str:
    """The name of a class or function that is given none."""
    return f"{getattr(one, '__module__', None) or 'builtins'}.{one.__qualname__}"


@define(eq=False)
class References:
    """The functions and classes that were given a name, besides the classes that are registered."""

    _by_name: dict[str, Cell] = field(factory=dict)
    _names: dict[int, str] = field(factory=dict)

    def add(self, one: Cell, name: str | None) -> None:
        """Name a function or class; ``ConfigurationError`` where one of the two is taken."""
        if not isinstance(one, type) and type(one) not in FUNCTIONS:
            mistyped("one", "a function or a class", one)
        own = name or default_name(one)
        if name is None and "<" in own:
            raise ConfigurationError(
                f"{own} has no name that is the same in every process; give it one by name=", "types"
            )
        if own in self._by_name or id(one) in self._names:
            raise ConfigurationError(f"{own} or its object is a reference already; leave one out", "types")
        self._by_name[own] = one
        self._names[id(one)] = own

    def copy(self) -> References:
        """The same, to be changed apart."""
        return References(dict(self._by_name), dict(self._names))

    def update(self, other: References) -> None:
        """Add those of another registry."""
        for name, one in other._by_name.items():
            if self._by_name.get(name) is not one:
                self.add(one, name)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def name_of(self, one: Cell) -> str | None:
        """The name of this very object."""
        return self._names.get(id(one))

    def named(self, name: str) -> Cell | None:
        """The object of this name."""
        return self._by_name.get(name)


@frozen(eq=False)
class ReferencePlan(MemberPlan):
    """Functions, or classes of one metaclass, each by its name in a registry."""

    references: References = field(factory=References)
    classes: NamedClasses | None = None

    def dump(self, member: Cell) -> str:
        """The name of a function or class; ``Refused`` for one that has none."""
        name = self.references.name_of(member)
        if name is None and isinstance(member, type) and self.classes is not None:
            name = self.classes.name_of(member)
        if name is None:
            kind = "class" if isinstance(member, type) else "function"
            reason = f"is the {kind} {default_name(member)}, which has no name in the registry"
            raise Refused(member, f"{reason}; give it one with TypeRegistry.reference, or leave it out")
        return name

    def load(self, cell: Cell) -> Cell:
        """The function or class of a name."""
        one = self.references.named(cell) if type(cell) is str else None
        if one is None and type(cell) is str and self.classes is not None:
            one = self.classes.named(cell)
        if one is None:
            raise Halted(
                UnknownType(
                    "the bytes refer to a function or class by a name that the registry lacks; register it with "
                    "TypeRegistry.reference under the name that it was stored with"
                )
            )
        return one
