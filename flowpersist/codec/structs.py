"""Objects of classes that take attributes by no ``object.__setattr__``: msgspec's structs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import MemberDescriptorType

from attrs import field, frozen

from flowpersist.codec.packing import Cell
from flowpersist.codec.plans import BuiltinPlan, obstacle
from flowpersist.codec.refusals import Halted, Refused, malformed
from flowpersist.errors import UnknownType

__all__ = ["StructPlan", "is_struct", "struct_plan"]


def is_struct(cls: type) -> bool:
    """Whether a class is one of msgspec's structs."""
    msgspec = sys.modules.get("msgspec")
    return msgspec is not None and issubclass(cls, msgspec.Struct)


def struct_plan(cls: type) -> StructPlan:
    """The plan for a struct."""
    names: tuple[str, ...] = cls.__struct_fields__  # type: ignore[attr-defined]  # is_struct has looked
    return StructPlan(cls, object, names, template=_template(cls, names), places=_places(cls, names))


def _places(cls: type, names: tuple[str, ...]) -> dict[str, MemberDescriptorType]:
    slots = {name: member for base in reversed(cls.__mro__) for name, member in vars(base).items()}
    return {name: slots[name] for name in names}


def _template(cls: Cell, names: tuple[str, ...]) -> Cell:
    """An object whose copies are shells: no code of the class runs, and the collector tracks them."""
    bare = type(cls)(cls.__name__, (cls,), {"__post_init__": lambda _: None, "__module__": cls.__module__})
    made = bare(**{name: [] for name in names})
    # Not by an assignment: a frozen struct refuses it.
    vars(object)["__class__"].__set__(made, cls)
    return made


@frozen
class StructPlan(BuiltinPlan):
    """A struct of msgspec: its fields, and what lies in its ``__dict__`` where it has one."""

    template: Cell = field(default=None, eq=False)
    places: Mapping[str, MemberDescriptorType] = field(factory=dict, eq=False)

    def shell(self) -> Cell:
        """A struct whose fields are to be set."""
        return sys.modules["msgspec"].Struct.__copy__(self.template)

    def refuse(self, one: Cell) -> None:
        """``Refused`` where one of its attributes can't be set again, or one of its fields has been deleted."""
        super().refuse(one)
        for name, place in self.places.items():
            try:
                place.__get__(one)
            except AttributeError:
                reason = f"lacks its field {name!r}, which was deleted"
                raise Refused(one, f"{reason}; a struct is kept with all its fields: set it") from None

    def set(self, one: Cell, attributes: Mapping[Cell, Cell]) -> None:
        """Set all fields; ``Halted`` where they are not those of the class."""
        missing = self.places.keys() - attributes.keys()
        if missing:
            raise Halted(
                UnknownType(
                    f"the stored fields of {self.cls.__qualname__} lack {min(missing)!r}; raise version= when "
                    "fields change, and register upgrades=",
                    None,
                    self.cls.__qualname__,
                )
            )
        for name, place in self.places.items():
            place.__set__(one, attributes[name])
        others = {name: value for name, value in attributes.items() if name not in self.places}
        if any(obstacle(self.cls, name, in_dict=True) is not None for name in others):
            raise malformed("an attribute would hide one of its class")
        if others:
            held: Cell = vars(one)
            held.update(others)
