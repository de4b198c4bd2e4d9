"""What a defaultdict makes its values with: a builtin class by its name, or a function or class of the registry."""

from __future__ import annotations

from collections import defaultdict
from typing import Protocol

from flowpersist.codec.kinds import FACTORIES
from flowpersist.codec.packing import Cell
from flowpersist.codec.references import FUNCTIONS
from flowpersist.codec.refusals import Refused, malformed

__all__ = ["check_factory", "factory_cell", "factory_of", "set_factory"]


class Classes(Protocol):
    """The classes of a registry."""

    def by_class(self, cls: type) -> Cell:
        """What is registered for the class."""
        ...


#: A subclass may have an attribute of this name.
_member: Cell = vars(defaultdict)["default_factory"]


def factory_cell(one: defaultdict[Cell, Cell]) -> Cell:
    """The factory of a defaultdict as a cell: the name of a builtin one, or the function or class itself."""
    factory = _member.__get__(one)
    name = getattr(factory, "__name__", "")
    return name if factory is not None and FACTORIES.get(name) is factory else factory


def factory_of(cell: Cell) -> Cell:
    """The factory of a cell."""
    factory = FACTORIES.get(cell) if type(cell) is str else cell
    if cell is not None and not (isinstance(factory, type) or type(factory) in FUNCTIONS):
        raise malformed("a defaultdict has an unknown factory")
    return factory


def set_factory(one: defaultdict[Cell, Cell], cell: Cell) -> None:
    """Give a defaultdict the factory of a cell."""
    _member.__set__(one, factory_of(cell))


def check_factory(one: defaultdict[Cell, Cell], types: Classes) -> Cell:
    """The factory of a defaultdict; ``Refused`` for one that has no name in the registry."""
    factory = _member.__get__(one)
    if factory is None or type(factory_cell(one)) is str:
        return factory
    if isinstance(factory, type) or type(factory) in FUNCTIONS:
        try:
            types.by_class(type(factory)).plan.dump(factory)
        except Refused as refused:
            raise Refused(one, f"has a default_factory that {refused.reason}") from refused
        return factory
    raise Refused(one, "has a default_factory that is neither a function nor a class; use one that is registered")
