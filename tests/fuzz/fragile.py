"""Values of what is easily lost: slots above and below fields, orders of attributes, states of slots, groups."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import attrs
import pydantic

if TYPE_CHECKING:
    from flowpersist.codec import TypeRegistry


class Places:
    __slots__ = ("extra",)


@dataclasses.dataclass(eq=False)
class Above(Places):
    first: Any = None
    second: Any = None


class Below(Above):
    __slots__ = ("more",)


@attrs.define(eq=False)
class Defined(Places):
    first: Any = None


class Model(pydantic.BaseModel):
    first: Any = None
    second: Any = None


class SlotState:
    """Python's own form of a state: of the ``__dict__``, and of slots."""

    __slots__ = ("__dict__", "first")

    def __getstate__(self) -> Any:
        return dict(vars(self)) or None, {"first": self.first} if hasattr(self, "first") else None

    def run(self) -> None:
        raise AssertionError


class Hashed:
    """It is restored and hashed by code of its own."""

    first: Any

    def __getstate__(self) -> Any:
        return dict(vars(self))

    def __setstate__(self, state: Any) -> None:
        vars(self).update(state)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hashed) and vars(self).get("name") == vars(other).get("name")

    def __hash__(self) -> int:
        return hash(vars(self).get("name"))


class Many(ExceptionGroup[Exception]):
    __slots__ = ("extra",)


class Failed(Exception):
    __slots__ = ("extra",)


CLASSES = (Above, Below, Defined, Model, SlotState, Hashed, Many, Failed)


def register(types: TypeRegistry) -> None:
    """Add what the values below need."""
    for cls in CLASSES:
        types.register(cls, name=f"fuzz.kept.{cls.__name__}")


def made(cls: type, **given: Any) -> Any:
    """An object that no ``__init__`` has seen, with attributes in the order in which they are given."""
    one = object.__new__(cls)
    for name, value in given.items():
        object.__setattr__(one, name, value)
    return one


def values() -> list[Any]:
    """One of each kind, most of them in a cycle."""
    ring: list[Any] = []
    failed = Failed("a")
    failed.extra = ring
    many = Many("several", [failed, ExceptionGroup("inner", [ValueError(1)])])
    many.extra, many.of = many, ring
    many.__cause__ = failed
    many.add_note("note")
    hashed = made(Hashed, name="a")
    hashed.links = {hashed: {hashed}}
    model = Model.model_construct(_fields_set=frozenset({"first"}), first=ring)
    vars(model)["first"] = vars(model).pop("first")
    ring += [
        made(Above, second=ring, first=1, extra=2),
        made(Below, first=ring, more=[ring]),
        made(Defined, extra=ring),
        made(SlotState, first=ring, other=1),
        made(SlotState),
        many,
        hashed,
        model,
    ]
    orders = [
        made(Above, first=n, second=ring) if n % 2 else made(Above, second=n, extra=n, first=None) for n in range(40)
    ]
    return [ring, orders, hashed.links, many, {"set": {hashed, many}}]
