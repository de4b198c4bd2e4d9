"""Where in a value something lies, as a programmer would write it: looked for only when encoding has failed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import count

from flowpersist.codec.packing import Cell
from flowpersist.codec.plans import BuiltinPlan, FieldsPlan, NamedPlan, PairPlan, StatePlan
from flowpersist.codec.registry import TypeRegistry

__all__ = ["path_to"]

ROOT = "state"
LONGEST_KEY = 60


def path_to(root: Cell, is_it: Callable[[Cell], bool], types: TypeRegistry) -> str | None:
    """The shortest way from the root to a value that ``is_it`` picks, such as ``state.messages[3].tool.args['x']``."""
    parents: dict[int, tuple[int, str]] = {}
    kept = {id(root): root}
    queue = deque([root])
    if is_it(root):
        return ROOT
    while queue:
        one = queue.popleft()
        for label, child in _children(one, types):
            if is_it(child):
                return ROOT + _labels(id(one), parents) + label
            if id(child) not in kept:
                kept[id(child)] = child
                parents[id(child)] = (id(one), label)
                queue.append(child)
    return None


def _labels(number: int, parents: dict[int, tuple[int, str]]) -> str:
    labels: list[str] = []
    while number in parents:
        number, label = parents[number]
        labels.append(label)
    return "".join(reversed(labels))


def _children(one: Cell, types: TypeRegistry) -> Iterator[tuple[str, Cell]]:
    if isinstance(one, Mapping):
        for key, value in one.items():
            yield "[<key>]", key
            yield f"[{_key(key)}]", value
    elif isinstance(one, list | tuple | deque) and not hasattr(one, "_fields"):
        for place, value in zip(count(), one):
            yield f"[{place}]", value
    elif type(one) in {set, frozenset}:
        for value in one:
            yield "{<element>}", value
    elif type(one) is slice:
        yield from ((f".{name}", getattr(one, name)) for name in ("start", "stop", "step"))
    else:
        yield from _parts(one, types)


def _parts(one: Cell, types: TypeRegistry) -> Iterator[tuple[str, Cell]]:
    registration = types.by_class(type(one))
    match None if registration is None else registration.plan:
        case FieldsPlan(names=names) | NamedPlan(names=names):
            yield from ((f".{name}", getattr(one, name)) for name in names if hasattr(one, name))
        case PairPlan() | StatePlan() as plan:
            yield "<encoded>", plan.encode(one)
        case BuiltinPlan() as builtin:
            attributes = iter(builtin.attributes(one))
            yield from ((f".{name}", value) for name, value in zip(attributes, attributes, strict=True))


def _key(key: Cell) -> str:
    text = repr(key) if type(key) in {str, int, bool, type(None)} else f"<{type(key).__qualname__}>"
    return text if len(text) <= LONGEST_KEY else text[:LONGEST_KEY] + "…"
