"""How much work it is to hash an object: tuples and instances hash all that they hold, anew each time, shared parts
too.

Twenty tuples, each of which holds the one before twice, take a million steps to hash, and sixty never end. So what
bytes from anywhere ask to be hashed is weighed first, each object once.
"""

from __future__ import annotations

from collections.abc import Iterable

from flowpersist.codec.leaves import LEAVES
from flowpersist.codec.packing import PLAIN_TYPES, Cell
from flowpersist.codec.plans import FieldsPlan
from flowpersist.codec.registry import TypeRegistry

__all__ = ["Weights"]

SIMPLE_TYPES = PLAIN_TYPES | LEAVES.keys()


class Weights:
    """Steps to hash each object, remembered by id; ``most`` is where counting stops."""

    def __init__(self, types: TypeRegistry, most: int) -> None:
        self._types = types
        self._most = most
        self._known: dict[int, int] = {}

    def weigh(self, root: Cell) -> int:
        """Steps to hash this, at most ``most``."""
        known = self._known
        entered: set[int] = set()
        stack = [root]
        while stack:
            one = stack[-1]
            parts = () if id(one) in known else self._parts(one)
            missing = [] if id(one) in entered else [part for part in parts if id(part) not in known]
            entered.add(id(one))
            if missing:
                stack += missing
            else:
                # A part that is not known by now reaches itself: a hash of its own making, which counts as one step.
                known.setdefault(id(one), min(1 + sum([known.get(id(part), 1) for part in parts]), self._most))
                stack.pop()
        return known[id(root)]

    def _parts(self, one: Cell) -> Iterable[Cell]:
        if isinstance(one, tuple):
            parts: Iterable[Cell] = tuple.__iter__(one)
        elif type(one) is frozenset:
            parts = one
        else:
            registration = self._types.by_class(type(one))
            plan = None if registration is None else registration.plan
            parts = plan.read([one]) if isinstance(plan, FieldsPlan) else ()
        return [part for part in parts if type(part) not in SIMPLE_TYPES]
