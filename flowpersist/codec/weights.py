"""How much work it is to hash an object, counted before it is hashed.

Tuples and instances hash all that they hold, anew each time, and what is shared once for each place: sixty tuples of
which each holds the one before twice never end. A tuple hashes its elements by recursion in C, unchecked: a hundred
thousand tuples within each other end the process. And a table whose keys share a hash takes quadratic time. So what
bytes from anywhere ask to be hashed is looked at first; and what is encoded too, since it must be decodable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from weakref import ReferenceType

from flowpersist.codec.leaves import LEAVES
from flowpersist.codec.limits import Limits
from flowpersist.codec.packing import PLAIN_TYPES, Cell
from flowpersist.codec.plans import SHELL_BASES, BuiltinPlan, FieldsPlan, Plan
from flowpersist.codec.refusals import Halted, Refused, too_many_nodes
from flowpersist.codec.registry import TypeRegistry
from flowpersist.errors import StateTooDeep, StateTooLarge

__all__ = ["HashGuard"]

SIMPLE_TYPES: frozenset[type] = PLAIN_TYPES | LEAVES.keys()
#: Classes whose hash no sender can foresee, or of which there are few values: these can't be made to collide.
SAFE_KEYS: frozenset[type] = frozenset({str, bytes, bool, type(None)})
#: Tuples within tuples that may be hashed; each takes some hundred bytes of a stack that a thread may have little of.
DEEPEST_HASH = 1000
#: So many objects are noted of which a trial tells more.
MOST_UNSURE = 16


class HashGuard:
    """Looks at keys and elements before they are hashed; what an object weighs is remembered by its id."""

    def __init__(self, types: TypeRegistry, limits: Limits) -> None:
        self._types = types
        self._limits = limits
        self._most = limits.max_nodes + 1
        self._total = 0
        #: Steps and depth of each object's hash.
        self._known: dict[int, tuple[int, int]] = {}
        #: Some of those that keep a hash of what may have changed since: a copy of them has another one.
        self.unsure: list[Cell] = []

    def check(self, cells: Sequence[Cell], lengths: Sequence[int]) -> bool:
        """``Halted`` where rows of these lengths would take more than linear time, or too much stack, to hash.

        Whether each cell is sure to differ from the others of its row, as far as their hashes tell.
        """
        classes = set(map(type, cells))
        if classes <= SAFE_KEYS:
            return True
        if not classes <= SIMPLE_TYPES:
            self._weigh_all(cells)
        iterator = iter(cells)
        most = max((_collisions(list(islice(iterator, length))) for length in lengths), default=0)
        if most > self._limits.max_collisions:
            raise Halted(_too_many_collisions(self._limits))
        return not most

    def check_present(self, cells: Sequence[Cell]) -> None:
        """The same for the elements or keys of one object that is encoded.

        ``Refused`` for one that was changed while it was there, so that no table can be made of them again.
        """
        try:
            if self.check(cells, [len(cells)]) or len(set(cells)) == len(cells):
                return
        except (Halted, Refused, RuntimeError, MemoryError):
            raise
        except Exception as error:
            reason = f"is a key or element that can't be hashed any more ({type(error).__name__})"
            raise Refused(_first(cells, _is_unhashable), f"{reason}; change nothing that a key is hashed by") from error
        known: dict[Cell, Cell] = {}
        twin = _first(cells, lambda cell: known.setdefault(cell, cell) is not cell)
        reason = "is equal to another key or element of the same object, since one of them was changed"
        raise Refused(twin, f"{reason}; take it out before you change it")

    def _weigh_all(self, cells: Iterable[Cell]) -> None:
        for cell in cells:
            if type(cell) not in SIMPLE_TYPES:
                weight, depth = self._weigh(cell)
                self._total += weight
                if depth > DEEPEST_HASH:
                    raise Halted(StateTooDeep(f"a key is nested over {DEEPEST_HASH} deep; use one that is flatter"))
                if self._total > self._limits.max_nodes:
                    raise Halted(too_many_nodes(self._limits))

    def _weigh(self, root: Cell) -> tuple[int, int]:
        known = self._known
        entered: set[int] = set()
        stack = [root]
        while stack:
            one = stack[-1]
            parts = [] if id(one) in known else self._parts(one)
            missing = [] if id(one) in entered else [part for part in parts if id(part) not in known]
            entered.add(id(one))
            if missing:
                stack += missing
            else:
                # A part that is not known by now reaches itself: a hash of its own making, which counts as one step.
                weights = [known.get(id(part), (1, 1)) for part in parts]
                weight = min(1 + sum(steps for steps, _ in weights), self._most)
                known.setdefault(id(one), (weight, 1 + max((depth for _, depth in weights), default=0)))
                stack.pop()
        return known[id(root)]

    def _parts(self, one: Cell) -> list[Cell]:
        return [part for part in self._hashed_with(one) if type(part) not in SIMPLE_TYPES]

    def _hashed_with(self, one: Cell) -> Iterable[Cell]:
        registration = self._types.by_class(type(one))
        plan = None if registration is None else registration.plan
        if len(self.unsure) < MOST_UNSURE and _keeps_hash(one, plan):
            self.unsure.append(one)
        if isinstance(one, tuple):
            return tuple.__iter__(one)
        if type(one) is slice:
            return (one.start, one.stop, one.step)
        if type(one) is ReferenceType:
            return (_referent(one),)
        # A frozenset keeps the hashes of its elements, so it has no parts here.
        if isinstance(plan, BuiltinPlan) and plan.base in SHELL_BASES:
            return plan.attributes(one)
        return plan.read_one(one) if isinstance(plan, FieldsPlan) else ()


def _referent(reference: Cell) -> Cell:
    one = reference()
    if one is None:
        # It keeps the hash of an object that is gone, and a copy of it can't have one.
        raise Refused(reference, "is a key or element, or in one, and refers to an object that is gone; take it out")
    return one


def _keeps_hash(one: Cell, plan: Plan | None) -> bool:
    """Whether it keeps a hash of what may have changed since, so that a copy of it has another one."""
    if isinstance(one, frozenset):
        return not SIMPLE_TYPES.issuperset(map(type, frozenset.__iter__(one)))
    return type(one) is ReferenceType or (isinstance(plan, FieldsPlan) and plan.resets_hash)


def _first(cells: Sequence[Cell], applies: Callable[[Cell], bool]) -> Cell:
    return next(filter(applies, cells), cells[0])


def _is_unhashable(cell: Cell) -> bool:
    try:
        hash(cell)
    except Exception:  # noqa: BLE001 - users' code
        return True
    return False


def _collisions(hashed: Sequence[Cell]) -> int:
    """How many of these share their hash with another one: what makes a table of them quadratic."""
    return len(hashed) - len(set(map(hash, hashed)))


def _too_many_collisions(limits: Limits) -> StateTooLarge:
    return StateTooLarge(
        f"over {limits.max_collisions} keys of one dict or set share a hash; fix their __hash__, "
        "or raise the limit max_collisions"
    )
