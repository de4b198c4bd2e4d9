"""The order in which a decoder can make immutable objects again, and fill tables whose keys it must hash.

Mutable objects can be made empty and filled later, so cycles through them cost nothing. A tuple needs its elements
first, and a key that is hashed by its fields needs these first. So objects fall into three groups:

- flat: lists, dicts, instances and all that is mutable, and immutables without immutables in them; made in bulk;
- early: immutables that hold immutables, and hash nothing but leaves and immutables of such; made in order, before
  any filling;
- late: what hashes an object of a registered class, or is restored by a user's function; made or filled in order, at
  the end.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator
from itertools import chain
from weakref import ReferenceType

from attrs import frozen

from flowpersist.codec import kinds
from flowpersist.codec.batches import Row
from flowpersist.codec.cycles import Walk
from flowpersist.codec.packing import Cell
from flowpersist.codec.plans import BuiltinPlan, FieldsPlan, NamedPlan
from flowpersist.codec.refusals import Refused
from flowpersist.codec.vocabulary import Roles

__all__ = ["Order", "in_building_order"]

#: Rows that fill an object that is there, and so can always be written at once, or last.
FILLED_KINDS = frozenset({kinds.SET, kinds.DICT, kinds.STATE})
RESTORED_KINDS = frozenset({kinds.PAIR, kinds.STATE})
HASHING_KINDS = frozenset({kinds.SET, kinds.DICT, kinds.FROZENSET})


@frozen(eq=False)
class Order:
    """``early`` and ``late`` rows, each after what it needs; ``flat`` ones need nothing.

    ``cyclic``: objects that users' code restores or hashes, and that reach themselves, so that no order is sure to do.
    """

    flat: list[Row]
    early: list[Row]
    late: list[Row]
    cyclic: list[Cell]


class _Sorter:
    def __init__(self, candidates: list[Row], roles: Roles) -> None:
        self.roles = roles
        self.candidates = {id(row.one): row for row in candidates}
        self.built = {number: row for number, row in self.candidates.items() if row.kind not in FILLED_KINDS}
        self.is_late: dict[int, bool] = {}
        self.cyclic: list[Cell] = []
        self.restores = any(row.kind == kinds.STATE for row in candidates)
        self._pure: dict[int, bool] = {}

    def order(self, root: Cell) -> Order:
        finished = list(self._finish(self.built))
        early = [row for row in finished if not self.is_late[id(row.one)]]
        late = {id(row.one): row for row in finished if self.is_late[id(row.one)]}
        flat: list[Row] = []
        for number, row in self.candidates.items():
            if number not in self.built:
                if self._hashes_objects(row):
                    late[number] = row
                else:
                    flat.append(row)
        return Order(flat, early, self._late_order(late, root) if late else [], self.cyclic)

    def _hashes_objects(self, row: Row) -> bool:
        if row.kind in RESTORED_KINDS:
            return True
        hashed = row.cells[::2] if row.kind == kinds.DICT else row.cells
        return not all(map(self.pure, hashed))

    def pure(self, root: Cell) -> bool:
        """Whether hashing this touches leaves and Python's own immutables only."""
        known = self._pure
        stack = [root]
        while stack:
            one = stack[-1]
            if id(one) in known or not self.roles[type(one)]:
                stack.pop()
            elif not self._is_hashed_by_elements(one):
                known[id(one)] = False
            else:
                objects = [child for child in one if self.roles[type(child)]]
                missing = [child for child in objects if id(child) not in known]
                if missing:
                    stack += missing
                else:
                    known[id(one)] = all(known[id(child)] for child in objects)
        return known.get(id(root), True)

    def _is_hashed_by_elements(self, one: Cell) -> bool:
        if type(one) in {tuple, frozenset}:
            return True
        registration = self.roles.types.by_class(type(one))
        return registration is not None and isinstance(registration.plan, NamedPlan)

    def _finish(self, wanted: Iterable[int]) -> Iterator[Row]:
        """The rows so that each comes after the rows in its cells; decides which are late."""
        open_rows: set[int] = set()
        for start in list(wanted):
            stack = [start]
            while stack:
                top = stack[-1]
                if top in self.is_late:
                    stack.pop()
                    continue
                row = self.built[top]
                waiting = [id(cell) for cell in row.cells if id(cell) in self.built and id(cell) not in self.is_late]
                if waiting:
                    if top in open_rows:
                        raise Refused(
                            row.one, "reaches itself through nothing but immutable values or its own encode= function"
                        )
                    open_rows.add(top)
                    stack += waiting
                else:
                    self.is_late[top] = self._decide(row)
                    stack.pop()
                    yield row

    def _decide(self, row: Row) -> bool:
        if row.kind == kinds.PAIR:
            return True
        if row.kind == kinds.FROZENSET and not all(map(self.pure, row.cells)):
            return True
        return any(self.is_late.get(id(cell), False) for cell in row.cells)

    def _late_order(self, late: dict[int, Row], root: Cell) -> list[Row]:
        # What a key's hash may depend on should be whole before it is hashed: by the order in which a walk over
        # everything leaves the objects. What a row's own cells are goes before it in any case, and the states of
        # what it hashes wherever these don't wait for it themselves.
        placed: dict[int, Row] = {}
        entered: set[int] = set()
        for start in chain(self._leaving_order(late, root), late):
            stack = [start]
            while stack:
                top = stack[-1]
                needed = [one for one in self._needed(late[top], late) if one not in placed]
                if top not in placed and top not in entered:
                    entered.add(top)
                    wished = self._hashed_states(late[top], late)
                    stack += [one for one in (*wished, *needed) if one not in entered]
                else:
                    if not needed:
                        placed.setdefault(top, late[top])
                    entered.discard(top)
                    stack.pop()
        return list(placed.values())

    def _needed(self, row: Row, late: dict[int, Row]) -> list[int]:
        return [id(cell) for cell in row.cells if id(cell) in self.built and id(cell) in late]

    def _hashed_states(self, row: Row, late: dict[int, Row]) -> list[int]:
        """The rows that restore what the keys or elements of this one are, or hold in immutables."""
        if row.kind not in HASHING_KINDS or not self.restores:
            return []
        stack = list(row.cells[::2] if row.kind == kinds.DICT else row.cells)
        known: set[int] = set()
        found: list[int] = []
        while stack:
            one = stack.pop()
            if id(one) in known or not self.roles[type(one)]:
                continue
            known.add(id(one))
            if id(one) in late and late[id(one)].kind == kinds.STATE:
                found.append(id(one))
            elif self._is_hashed_by_elements(one):
                stack += one
            elif type(one) is ReferenceType:
                stack.append(one())
            elif isinstance(self._plan(type(one)), FieldsPlan):
                stack += self._fields(one)
        return found

    def _is_unsure(self, row: Row) -> bool:
        """Whether users' code makes, restores or hashes what this row holds."""
        if row.kind == kinds.STATE:
            # Also attributes are taken from its state as that is then: a dict in a cycle may be empty still.
            return True
        hashed = row.cells[::2] if row.kind == kinds.DICT else row.cells
        return row.kind not in HASHING_KINDS or not all(map(_is_hashed_by_identity, set(map(type, hashed))))

    def _leaving_order(self, late: dict[int, Row], root: Cell) -> Iterator[int]:
        walk = Walk(self._held)
        yield from (id(one) for one in walk.leaving(root) if id(one) in late)
        unsure = {id(one): one for one in walk.cyclic if id(one) in late and self._is_unsure(late[id(one)])}
        self.cyclic += unsure.values()

    def _held(self, one: Cell) -> Iterable[Cell]:
        return (child for child in self._children(one) if self.roles[type(child)])

    def _children(self, one: Cell) -> Iterable[Cell]:
        row = self.candidates.get(id(one))
        cls = type(one)
        if cls in DICTS and row is None:
            return chain(one.keys(), one.values())
        if cls in SEQUENCES and row is None:
            return list(one)
        if row is not None and not isinstance(self._plan(cls), BuiltinPlan):
            return row.cells
        return self._fields(one)

    def _plan(self, cls: type) -> object:
        registration = self.roles.types.by_class(cls)
        return None if registration is None else registration.plan

    def _fields(self, one: Cell) -> Iterable[Cell]:
        match self._plan(type(one)):
            case FieldsPlan() as plan:
                return plan.read_one(one)
            case NamedPlan() as plan:
                attributes = plan.attributes(one) if plan.cls.__dictoffset__ else ()
                return chain(tuple.__iter__(one), attributes)
            case BuiltinPlan() as plan:
                return chain(plan.attributes(one), plan.content(one))
        return (one.start, one.stop, one.step) if type(one) is slice else ()


DICTS = frozenset({dict, OrderedDict, Counter, defaultdict})
SEQUENCES = frozenset({list, tuple, set, frozenset, deque})


def _is_hashed_by_identity(cls: type) -> bool:
    own: tuple[object, object] = (cls.__hash__, cls.__eq__)
    return own == (object.__hash__, object.__eq__)


def in_building_order(candidates: list[Row], roles: Roles, root: Cell) -> Order:
    """Which candidates are made or filled in order, and in which."""
    return _Sorter(candidates, roles).order(root) if candidates else Order([], [], [], [])
