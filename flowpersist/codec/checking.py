"""All that keeps a value from being encoded: each class once, with where it is and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final

from flowpersist.codec.gathering import Gathering
from flowpersist.codec.leaves import LEAVES
from flowpersist.codec.limits import Limits
from flowpersist.codec.members import MemberPlan
from flowpersist.codec.packing import Cell
from flowpersist.codec.paths import ValueWalk, path_to
from flowpersist.codec.plans import PairPlan, Plan, StatePlan
from flowpersist.codec.refusals import Refused, RefusedClass
from flowpersist.codec.registry import TypeRegistry
from flowpersist.codec.remedies import class_name, packages_of, plan_once_registered, reason_and_remedy
from flowpersist.codec.vocabulary import Roles
from flowpersist.errors import StateProblem, UnsupportedType

__all__ = ["missing_classes", "problems_in", "unsupported_class", "unsupported_value"]

#: A message names so many problems, and counts the others.
MOST_NAMED: Final = 20
#: So many are looked for: whoever has more has given a wrong registry.
MOST_PROBLEMS: Final = 100
#: Once a first problem is found, so many more objects are looked at for others.
MOST_FURTHER: Final = 2**20
#: What is done about a secret.
ENCRYPT: Final = (
    "give the hub a keyring, or set encrypted=True on a Codec of your own whose bytes you encrypt, or leave it out"
)
#: What is done about an object whose refusal says nothing of it.
REMEDY: Final = "leave it out, or register its class with encode= and decode="


def unsupported_class(root: Cell, cls: type, types: TypeRegistry) -> UnsupportedType:
    """The error for a value that holds objects of a class that is not registered: it names all such classes."""
    problems = list(_unless_changed(root, types, missing_classes))
    if len(problems) < MOST_PROBLEMS and class_name(cls) not in {one.type for one in problems}:
        problems.append(StateProblem(None, class_name(cls), *_told(cls, types, _packages(types))))
    return _unsupported(problems)


def unsupported_value(root: Cell, refused: Refused, types: TypeRegistry) -> UnsupportedType:
    """The error for a value that holds an object which can't be kept; it also names the classes that are missing."""
    problems = _unless_changed(root, types, lambda root, types: _one(path_of(root, refused, types), refused))
    return _unsupported([*(problems or _one(None, refused)), *_unless_changed(root, types, missing_classes)])


def path_of(root: Cell, refused: Refused, types: TypeRegistry) -> str | None:
    """Where the object lies."""
    return path_to(root, lambda one: one is refused.value, types)


def missing_classes(root: Cell, types: TypeRegistry) -> Iterator[StateProblem]:
    """A problem for each class in a value that is not registered, where it is found first.

    What objects of such a class would hold is looked at too.
    """
    walk = ValueWalk(root, _Plans(types).__getitem__)
    roles = Roles(types)
    refused: set[type] = set()
    packages = _packages(types)
    most = 0
    for one in walk:
        cls = type(one)
        if refused and len(walk) > most:
            return
        if cls in refused or not _is_refused(roles, cls):
            continue
        most = most or len(walk) + MOST_FURTHER
        refused.add(cls)
        yield StateProblem(walk.path(one), class_name(cls), *_told(cls, types, packages))


def problems_in(root: Cell, types: TypeRegistry, limits: Limits) -> tuple[StateProblem, ...]:
    """The same, and a problem for what the objects of registered classes hold that can't be kept."""
    refused_objects = _refused_objects(root, types, limits)
    return tuple(
        islice((one for some in (missing_classes(root, types), refused_objects) for one in some), MOST_PROBLEMS)
    )


def _refused_objects(root: Cell, types: TypeRegistry, limits: Limits) -> Iterator[StateProblem]:
    walk = ValueWalk(root, _Plans(types).__getitem__)
    refusals = _Refusals(types, limits)
    seen: set[tuple[type, str]] = set()
    for one in walk:
        refused = refusals.of(one)
        if refused is not None and (type(refused.value), refused.reason) not in seen:
            seen.add((type(refused.value), refused.reason))
            yield from _one(walk.path(one), refused)


class _Plans(dict[type, Plan | None]):
    """How objects of each class are entered: as registered, or as they would be if they were."""

    def __init__(self, types: TypeRegistry) -> None:
        super().__init__()
        self._types = types

    def __missing__(self, cls: type) -> Plan | None:
        known = self._types.by_class(cls)
        plan = plan_once_registered(cls) if known is None else known.plan
        # A function of a class that nobody has registered is not called.
        found = self[cls] = None if known is None and isinstance(plan, PairPlan | StatePlan) else plan
        return found


class _Refusals:
    """Asks the encoder's own functions what they say to one object."""

    def __init__(self, types: TypeRegistry, limits: Limits) -> None:
        def ignore(*_: object) -> None:
            pass

        self._roles = Roles(types)
        self._gathering = Gathering(self._roles, limits, ignore, ignore, ignore, lambda: None)

    def of(self, one: Cell) -> Refused | None:
        cls = type(one)
        try:
            if cls in LEAVES:
                LEAVES[cls].dumped([one], self._roles.types)
            elif not _is_refused(self._roles, cls) and self._roles[cls]:
                self._gathering.gather([one], [0])
            elif isinstance(member := self._roles.registration(cls).plan, MemberPlan):
                member.dump(one)
        except Refused as refused:
            return refused
        except Exception:  # noqa: BLE001 - what else there is to say of a value is said when it is encoded
            return None
        finally:
            for kept in (self._gathering.candidates, self._gathering.recursing, self._gathering.encoded):
                kept.clear()
        return None


def _told(cls: type, types: TypeRegistry, packages: frozenset[str]) -> tuple[str, str]:
    if types.withholds(cls):
        return f"an object of class {class_name(cls)}, which is kept only where the state is encrypted", ENCRYPT
    return reason_and_remedy(cls, packages)


def _packages(types: TypeRegistry) -> frozenset[str]:
    return packages_of(one.cls for one in types)


def _is_refused(roles: Roles, cls: type) -> bool:
    try:
        roles[cls]
    except RefusedClass:
        return True
    return False


def _unless_changed(
    root: Cell, types: TypeRegistry, find: Callable[[Cell, TypeRegistry], Iterator[StateProblem]]
) -> list[StateProblem]:
    """What is found, as far as that goes in a value that changes meanwhile or runs code of users' classes."""
    found: list[StateProblem] = []
    try:
        found.extend(islice(find(root, types), MOST_PROBLEMS))
    except Exception:  # noqa: BLE001 - see above: the error is about what the encoder has met
        return found
    return found


def _one(path: str | None, refused: Refused) -> Iterator[StateProblem]:
    reason, _, remedy = refused.reason.partition("; ")
    yield StateProblem(path, class_name(type(refused.value)), reason, remedy or REMEDY)


def _unsupported(problems: Sequence[StateProblem]) -> UnsupportedType:
    first = problems[0]
    if len(problems) == 1:
        return UnsupportedType(str(first), first.path, problems)
    lines = [f"- {one}" for one in problems[:MOST_NAMED]]
    if len(problems) > MOST_NAMED:
        lines.append(f"- and {len(problems) - MOST_NAMED} more")
    head = f"the value holds objects of {len(problems)} classes that are not registered or can't be kept:"
    return UnsupportedType("\n".join([head, *lines]), first.path, problems)
