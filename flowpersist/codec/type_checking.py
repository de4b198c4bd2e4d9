"""What a state of a type may hold that a registry lacks, by annotations alone: for a test, before there is a state."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Final

from flowpersist.codec.annotations import AnnotationWalk, is_annotation
from flowpersist.codec.discovery import classes_below
from flowpersist.codec.native import NATIVE
from flowpersist.codec.plans import PairPlan, StatePlan
from flowpersist.codec.registry import TypeRegistry
from flowpersist.codec.remedies import can_be_kept, class_name, packages_of, plan_if_any, reason_and_remedy
from flowpersist.errors import StateProblem
from flowpersist.errors.arguments import check_flag, check_instance, mistyped

__all__ = ["check_types"]

#: Classes of annotations that say what can be done with a value, and not of which class it is.
ABSTRACT_MODULES: Final = frozenset({"abc", "collections.abc", "numbers", "typing", "typing_extensions"})
#: Subclasses that a problem names.
MOST_NAMED: Final = 5


def check_types(state: object, types: TypeRegistry, *, strict: bool = False) -> tuple[StateProblem, ...]:
    """What a state of a type may hold that the registry lacks; nothing where it lacks nothing.

    ``state`` is the class of states, or another annotation. Its fields and those of what they hold are followed by
    their annotations. ``types`` is the registry that the hub has. ``strict``: tell of fields that may hold anything,
    too. Each class is told once, with the first field that leads to it and what to do; so are subclasses of annotated
    classes, as far as the process has defined them.
    """
    if not is_annotation(state):
        mistyped("state", "a class, or another annotation", state)
    check_instance(types, "types", TypeRegistry, "a TypeRegistry")
    check_flag(strict, "strict")
    walk = AnnotationWalk((state,), lambda cls: _is_entered(cls, types))
    packages = packages_of(one.cls for one in types)
    problems = [one for cls, path in walk.found.items() for one in _of_class(cls, path, types, packages)]
    problems += [_unresolved(place, name) for place, name in walk.unresolved.items()]
    return (*problems, *(map(_anything, walk.open) if strict else ()))


def _is_entered(cls: type, types: TypeRegistry) -> bool:
    known = types.by_class(cls)
    if known is not None:
        return not isinstance(known.plan, PairPlan | StatePlan)
    return cls not in NATIVE and plan_if_any(cls) is not None


def _of_class(cls: type, path: str, types: TypeRegistry, packages: frozenset[str]) -> Iterator[StateProblem]:
    if cls in NATIVE:
        return
    is_missing = types.by_class(cls) is None
    if is_missing and not can_be_kept(cls):
        yield StateProblem(path, class_name(cls), *reason_and_remedy(cls, packages))
        return
    if cls.__module__ in ABSTRACT_MODULES:
        return
    if is_missing and not inspect.isabstract(cls) and not _is_protocol(cls):
        yield StateProblem(path, class_name(cls), *reason_and_remedy(cls, packages))
    lacking = [one for one in _subclasses(cls) if types.by_class(one) is None and not inspect.isabstract(one)]
    if lacking:
        names = ", ".join(map(class_name, lacking[:MOST_NAMED])) + (", …" if len(lacking) > MOST_NAMED else "")
        which = "a subclass that is" if len(lacking) == 1 else f"{len(lacking)} subclasses that are"
        reason = f"{class_name(cls)} has {which} not registered: {names}"
        yield StateProblem(path, class_name(cls), reason, f"register what a state may hold, or all: {_all_of(cls)}")


def _subclasses(cls: type) -> list[type]:
    return classes_below(cls)[1:]


def _is_protocol(cls: type) -> bool:
    return bool(vars(cls).get("_is_protocol"))


def _all_of(cls: type) -> str:
    return f"types |= TypeRegistry.subclasses({cls.__qualname__})"


def _unresolved(place: str, name: str) -> StateProblem:
    reason = f"the annotation can't be evaluated: {name} is not defined in its module"
    return StateProblem(place, name, reason, "import it there, so that it is there at run time too")


def _anything(path: str) -> StateProblem:
    return StateProblem(path, "object", "anything may stand there", "annotate it, or test states with Codec.check")
