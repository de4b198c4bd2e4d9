"""Parametrized classes: ``Box[int]`` as a value, as an object's ``__orig_class__``, and as a class of pydantic's own.

Each goes by a JSON text of names of the registry, such as ``["shop.Box", "builtins.int"]``. Reading one runs no code of
a class: an alias is made by ``typing`` alone, and a model's parametrization is looked for among those that exist.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator
from typing import Protocol

import attrs
from attrs import frozen

from flowpersist.codec.members import MemberPlan
from flowpersist.codec.packing import Cell
from flowpersist.codec.planning import plan_for
from flowpersist.codec.references import REFERENCE, ReferencePlan
from flowpersist.codec.refusals import Halted, Refused, malformed
from flowpersist.codec.registration import Registration
from flowpersist.errors import UnknownType

__all__ = ["ALIAS", "ALIASES", "COVERED", "AliasPlan", "covered_model", "named_model"]

#: The name in the bytes of aliases as values.
ALIAS = "typing.GenericAlias"
#: The classes of aliases of classes.
ALIASES: frozenset[type] = frozenset({types.GenericAlias, type(typing.Generic[typing.TypeVar("T")])})  # type: ignore[index]
#: One class of those that go by each of these names.
COVERED: dict[str, type] = {REFERENCE: type, ALIAS: types.GenericAlias}
#: Names and brackets of one alias, and their depth.
MOST_NAMES = 64
MOST_DEPTH = 8
METADATA = "__pydantic_generic_metadata__"


class Classes(Protocol):
    """The classes of a registry."""

    def by_class(self, cls: type) -> Registration | None:
        """What is registered for the class."""
        ...

    def by_name(self, name: str) -> Registration | None:
        """What is registered under the name."""
        ...


def _tree(one: Cell, owner: Cell, names: ReferencePlan, depth: int = 0) -> Cell:
    if type(one) in ALIASES and depth < MOST_DEPTH:
        return [_tree(part, owner, names, depth + 1) for part in (one.__origin__, *one.__args__)]
    if not isinstance(one, type):
        raise Refused(owner, f"has a parameter {one!r:.60} that is not a class; use classes as parameters")
    return names.dump(one)


def _made(tree: Cell, names: ReferencePlan) -> Cell:
    if type(tree) is not list:
        return names.load(tree)
    origin, *arguments = [_made(part, names) for part in tree] or [None]
    if not isinstance(origin, type):
        raise malformed("an alias is of no class")
    owner = next((cls for cls in origin.__mro__ if "__class_getitem__" in vars(cls)), None)
    if owner is not typing.Generic:
        # That of a builtin class, or of a subclass that has it from there.
        if owner is None or type(vars(owner)["__class_getitem__"]) is not types.ClassMethodDescriptorType:
            raise malformed("an alias is of a class that takes no parameters")
        return types.GenericAlias(origin, tuple(arguments))
    return origin[tuple(arguments)]  # type: ignore[index]  # Generic's own


def _parsed(text: Cell) -> Cell:
    if type(text) is not str or text.count("[") > MOST_DEPTH * MOST_DEPTH or text.count('"') > 2 * MOST_NAMES:
        raise malformed("an alias has too many parameters")
    return json.loads(text)


@frozen(eq=False)
class AliasPlan(MemberPlan):
    """Aliases of registered classes, and of builtin ones."""

    reference: ReferencePlan | None = None

    def dump(self, member: Cell) -> str:
        """The names of the class and its parameters."""
        names: Cell = self.reference
        text = json.dumps(_tree(member, member, names))
        if _made(_parsed(text), names) != member:
            raise Refused(member, "is an alias that its class and parameters do not give again; use the class itself")
        return text

    def load(self, cell: Cell) -> Cell:
        """The alias of these names."""
        names: Cell = self.reference
        return _made(_parsed(cell), names)


# pydantic's parametrizations are classes of their own.


def covered_model(cls: type, registry: Classes, names: ReferencePlan) -> Registration | None:
    """How a parametrization of a registered model is kept: as the model is, under its name and its parameters."""
    metadata = vars(cls).get(METADATA) or {}
    origin = metadata.get("origin")
    found = registry.by_class(origin) if isinstance(origin, type) and metadata.get("args") else None
    if found is None or not isinstance(origin, type):
        return None
    try:
        tree = [found.name, *(_tree(part, cls, names) for part in metadata["args"])]
    except Refused:
        return None
    return attrs.evolve(found, cls=cls, name=json.dumps(tree), plan=plan_for(cls), aliases=())


def named_model(name: str, registry: Classes, names: ReferencePlan) -> Registration | None:
    """The parametrization of this name, if a registered model has it in this process."""
    try:
        origin, *arguments = _parsed(name)
        found = registry.by_name(origin) if type(origin) is str and not origin.startswith("[") else None
        wanted = tuple([_made(part, names) for part in arguments])
    except (ValueError, TypeError, Halted):
        return None
    if found is None:
        return None
    for cls in _parametrizations(found.cls):
        if vars(cls)[METADATA]["args"] == wanted:
            return attrs.evolve(found, cls=cls, name=name, plan=plan_for(cls), aliases=())
    message = f"the bytes hold a parametrization of {found.name} that this process has not made"
    raise Halted(UnknownType(f"{message}; name it once before you decode, as in an annotation: {name:.200}"))


def _parametrizations(cls: type) -> Iterator[type]:
    below: list[type] = cls.__subclasses__()
    return (one for one in below if (vars(one).get(METADATA) or {}).get("origin") is cls)
