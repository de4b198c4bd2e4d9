"""Parametrized classes: ``Box[int]`` as a value, as an object's ``__orig_class__``, and as a class of pydantic's own.

Each goes by a JSON text, which ``expressions`` writes and reads. An alias is made by ``typing`` alone, and a model's
parametrization is looked for among those that exist.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from typing import Protocol

import attrs
from attrs import frozen

from flowpersist.codec.expressions import EXPRESSIONS, METADATA, Grammar, parsed
from flowpersist.codec.members import MemberPlan
from flowpersist.codec.packing import Cell
from flowpersist.codec.planning import plan_for
from flowpersist.codec.plans import Plan
from flowpersist.codec.references import REFERENCE
from flowpersist.codec.refusals import Halted, Refused, malformed
from flowpersist.codec.registration import Registration
from flowpersist.errors import UnknownType

__all__ = ["ALIAS", "COVERED", "EXPRESSIONS", "AliasPlan", "Grammar", "covered_model", "named_model"]

#: The name in the bytes of aliases as values.
ALIAS = "typing.GenericAlias"
#: One class of those that go by each of these names.
COVERED: dict[str, type] = {REFERENCE: type, ALIAS: types.GenericAlias}


class Classes(Protocol):
    """The classes of a registry."""

    def by_class(self, cls: type) -> Registration | None:
        """What is registered for the class."""
        ...

    def by_name(self, name: str) -> Registration | None:
        """What is registered under the name."""
        ...


@frozen(eq=False)
class AliasPlan(MemberPlan):
    """Aliases of registered classes and of builtin ones, unions and literals."""

    grammar: Grammar | None = None

    def dump(self, member: Cell) -> str:
        """The text of the expression."""
        grammar: Cell = self.grammar
        text: str = grammar.text(member, member)
        return text

    def load(self, cell: Cell) -> Cell:
        """The expression of this text."""
        grammar: Cell = self.grammar
        made = grammar.made(parsed(cell))
        if type(made) not in EXPRESSIONS:
            raise malformed("an alias is of no class")
        return made


# pydantic's parametrizations are classes of their own.


def covered_model(cls: type, registry: Classes, grammar: Grammar) -> Registration | None:
    """How a parametrization of a registered model is kept: as the model is, under its name and its parameters."""
    metadata = vars(cls).get(METADATA) or {}
    origin = metadata.get("origin")
    found = registry.by_class(origin) if isinstance(origin, type) and metadata.get("args") else None
    if found is None or not isinstance(origin, type):
        return None
    try:
        tree = [found.name, *(grammar.tree(part, cls, (origin,)) for part in metadata["args"])]
        name = json.dumps(tree)
        parsed(name)
    except (Refused, Halted, ValueError):
        return None
    return attrs.evolve(found, cls=cls, name=name, plan=_plan_like(cls, found), aliases=())


def _plan_like(cls: type, model: Registration) -> Plan:
    """The plan of a parametrization, with what the model's objects may have besides their fields."""
    plan: Cell = model.plan
    return plan_for(cls, [name for name in plan.names if name in plan.optional])


def named_model(name: str, registry: Classes, grammar: Grammar) -> Registration | None:
    """The parametrization of this name, if a registered model has it in this process."""
    try:
        origin, *arguments = parsed(name)
        found = registry.by_name(origin) if type(origin) is str and not origin.startswith("[") else None
        wanted = tuple([grammar.made(part) for part in arguments])
    except (ValueError, TypeError, LookupError, AttributeError):
        return None
    except Halted as halted:
        if isinstance(halted.error, UnknownType):
            raise
        return None
    if found is None:
        return None
    for cls in _parametrizations(found.cls):
        if vars(cls)[METADATA]["args"] == wanted:
            return attrs.evolve(found, cls=cls, name=name, plan=_plan_like(cls, found), aliases=())
    message = f"the bytes hold a parametrization of {found.name} that this process has not made"
    raise Halted(UnknownType(f"{message}; name it once before you decode, as in an annotation: {name:.200}"))


def _parametrizations(cls: type) -> Iterator[type]:
    below: list[type] = cls.__subclasses__()
    return (one for one in below if (vars(one).get(METADATA) or {}).get("origin") is cls)
