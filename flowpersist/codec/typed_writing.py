"""Small values of registered classes as typed trees: one light pass over the objects, then one call of a library.

Each object that is not plain is replaced by what stands for it in MessagePack. References are numbers in the order in
which objects end, which is the order in which a reader has them whole; so an object that reaches itself has none, and
such a value is written as a table of objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache, partial
from itertools import count
from sys import getsizeof
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import UUID

from flowpersist.codec import kinds
from flowpersist.codec.fields import FieldsPlan
from flowpersist.codec.leaves import LEAVES
from flowpersist.codec.members import MemberPlan
from flowpersist.codec.packing import PLAIN_TYPES, Cell, extension, pack_cells, pack_document
from flowpersist.codec.plans import EnumPlan
from flowpersist.codec.typed import (
    BINARY_LEAVES,
    FIRST_CLASS,
    FIRST_LEAF,
    MARKS,
    MEMBER,
    MOST_BYTES,
    MOST_CELLS,
    MOST_CLASSES,
    MOST_LEVELS,
    OTHER_LEAVES,
    PLAIN_LEAVES,
    REFERENCE,
    TEXTS,
    TUPLE,
)

if TYPE_CHECKING:
    from flowpersist.codec.limits import Limits
    from flowpersist.codec.registry import Registration, TypeRegistry

__all__ = ["encode_typed"]

#: What is written for an object, which lies so many levels deep; None for what a library writes as it is.
Handler: TypeAlias = Callable[[Cell, int], Cell] | None

#: Cells of a value that is walked in the event loop, and bytes of its document.
MOST_BRIEF_CELLS: Final = 2**9
MOST_BRIEF_BYTES: Final = 2**17
#: Bytes in memory of the largest Decimal: to write a longer one as text takes milliseconds.
MOST_DECIMAL: Final = 2**15
#: Values that a document has at most: an object takes a map and an array.
MOST_VALUES: Final = 3 * MOST_CELLS
#: Elements of a list or dict of objects. Of more a walk would find out only when it has cost a millisecond.
MOST_OBJECTS: Final = 2**7
#: Stands for the number of an object that is not written yet.
OPEN: Final = -1
_STR: Final = frozenset({str})
_UUID_CODE: Final = FIRST_LEAF + LEAVES[UUID].code
_DECIMAL_CODE: Final = FIRST_LEAF + LEAVES[Decimal].code
_DATETIME_CODE: Final = FIRST_LEAF + LEAVES[datetime].code


class Untyped(Exception):
    """The value is not one that a typed tree holds."""


def encode_typed(root: Cell, types: TypeRegistry, limits: Limits, *, brief: bool = False) -> bytes | None:
    """The document of a typed tree; None for any other value, and for what is over a limit.

    ``brief``: None too where some tenths of a millisecond do not suffice.
    """
    if min(limits.max_depth, limits.max_nodes) < MOST_VALUES:
        return None
    most = MOST_BRIEF_BYTES if brief else MOST_BYTES
    walk = _Walk(types, MOST_BRIEF_CELLS if brief else MOST_CELLS)
    try:
        tree = walk.tree(root, most)
        data = pack_document(kinds.FORMAT_VERSION, _table(tuple(walk.classes)), tree)
    except (Untyped, RecursionError, UnicodeEncodeError):
        return None
    return None if data is None or len(data) > min(most, limits.max_bytes, limits.max_str) else data


@lru_cache(maxsize=256)
def _table(classes: tuple[Registration, ...]) -> bytes:
    """The classes, each with its name, version and fields."""
    cells: list[Cell] = []
    for one in classes:
        cells += (one.name, one.version, len(one.plan.names), *one.plan.names)
    return pack_cells(cells)


class _Handlers(dict[type, Handler]):
    """How objects of each class are written, found when the first of a class is met."""

    def __init__(self, known: dict[type, Handler], find: Callable[[type], Handler]) -> None:
        super().__init__(known)
        self._find = find

    def __missing__(self, cls: type) -> Handler:
        found = self[cls] = self._find(cls)
        return found


class _Walk:
    """One pass over a value, by recursion: no deeper than ``MOST_LEVELS``.

    What writes the objects of a class is a function of its own, which has at hand what all of them share.
    """

    def __init__(self, types: TypeRegistry, most: int) -> None:
        self.classes: list[Registration] = []
        self.cells: list[Cell] = []
        self.numbers: dict[int, int] = {}
        self.next = count().__next__
        self.of = _Handlers(_STATIC, self._handler)
        self.types = types
        self.most = most

    def tree(self, root: Cell, most: int) -> Cell:
        """What is to be packed; ``Untyped`` where the texts of the value have more characters than ``most``."""
        handler = self.of[type(root)]
        if handler is None or type(root) in LEAVES:
            raise Untyped
        tree = handler(root, 0)
        if sum([len(cell) for cell in self.cells if (cls := type(cell)) is str or cls is bytes]) > most:
            raise Untyped
        return tree

    def _handler(self, cls: type) -> Handler:
        own = _NATIVE.get(cls)
        if own is not None:
            return own(self)
        found: tuple[Registration, _Make] | None = self.types.remembered_class(cls)
        if found is None:
            found = _found(cls, self.types)
        number = len(self.classes)
        if number == MOST_CLASSES:
            raise Untyped
        self.classes.append(found[0])
        return found[1](self, number)


#: Makes what writes the objects of a class in one walk, in which it has this number.
_Make: TypeAlias = Callable[[_Walk, int], Handler]


def _found(cls: type, types: TypeRegistry) -> tuple[Registration, _Make]:
    registration = types.by_class(cls)
    make = None if registration is None else _make(registration)
    if registration is None or make is None:
        raise Untyped
    # Of a secret class it is asked each time whether the bytes are encrypted.
    return (registration, make) if registration.is_secret else types.remember_class(cls, (registration, make))


def _make(registration: Registration) -> _Make | None:
    plan = registration.plan
    if isinstance(plan, EnumPlan):
        members = lru_cache(maxsize=MOST_CLASSES)(partial(_members, plan))
        # Its members live as long as the class does: what is written of each serves all documents.
        return lambda _, number: members(number)
    if isinstance(plan, MemberPlan):
        return lambda _, number: _members(plan, number)
    if not isinstance(plan, FieldsPlan) or plan.keeps_dict or plan.is_doubtful:
        return None
    read = plan.plain_reader()
    return lambda walk, number: _marked(walk, MARKS[FIRST_CLASS + number], read)


def _lists(walk: _Walk) -> Handler:
    numbers, number, found, most, of = walk.numbers, walk.next, walk.cells, walk.most, walk.of
    add = found.extend

    def write(one: list[Cell], level: int) -> Cell:
        key = id(one)
        if key in numbers:
            return _reference(numbers[key])
        if len(found) + len(one) > most or level == MOST_LEVELS or (len(one) > MOST_OBJECTS and _holds(one[0])):
            raise Untyped
        numbers[key] = OPEN
        add(one)
        level += 1
        written = [cell if (to := of[type(cell)]) is None else to(cell, level) for cell in one]
        numbers[key] = number()
        return written

    return write


def _dicts(walk: _Walk) -> Handler:
    numbers, number, found, most, of = walk.numbers, walk.next, walk.cells, walk.most, walk.of
    add = found.extend

    def write(one: dict[Cell, Cell], level: int) -> Cell:
        key = id(one)
        if key in numbers:
            return _reference(numbers[key])
        if len(found) + len(one) > most or level == MOST_LEVELS or not _STR.issuperset(map(type, one)):
            raise Untyped
        if len(one) > MOST_OBJECTS and _holds(next(iter(one.values()))):
            raise Untyped
        numbers[key] = OPEN
        add(one.values())
        level += 1
        written = {key: cell if (to := of[type(cell)]) is None else to(cell, level) for key, cell in one.items()}
        numbers[key] = number()
        return written

    return write


def _marked(walk: _Walk, mark: bytes, read: Callable[[Cell], Sequence[Cell] | None]) -> Handler:
    """For objects that are a map of a mark to the cells that are read."""
    numbers, number, found, most, of = walk.numbers, walk.next, walk.cells, walk.most, walk.of
    add = found.extend

    def write(one: Cell, level: int) -> Cell:
        key = id(one)
        if key in numbers:
            return _reference(numbers[key])
        cells = read(one)
        if cells is None or len(found) + len(cells) > most or level == MOST_LEVELS:
            raise Untyped
        numbers[key] = OPEN
        add(cells)
        level += 1
        written = {mark: [cell if (to := of[type(cell)]) is None else to(cell, level) for cell in cells]}
        numbers[key] = number()
        return written

    return write


def _holds(first: Cell) -> bool:
    """Whether it is an object, which others like it follow: many of them have more cells than a typed tree."""
    return type(first) not in PLAIN_TYPES and type(first) not in LEAVES


def _texts(one: set[Cell]) -> list[Cell] | None:
    return sorted(one) if len(one) <= MOST_CELLS and _STR.issuperset(map(type, one)) else None


def _moments(walk: _Walk) -> Handler:
    otherwise: Cell = _leaves(walk)

    def write(one: datetime, level: int) -> Cell:
        zone = one.tzinfo
        if (zone is None or zone is UTC) and not one.fold:
            return extension(_DATETIME_CODE, one.isoformat().encode())
        return otherwise(one, level)

    return write


def _leaves(walk: _Walk) -> Handler:
    types = walk.types

    def write(one: Cell, _: int) -> Cell:
        leaf = LEAVES[type(one)]
        if leaf.code in OTHER_LEAVES:
            raise Untyped
        plain = leaf.dumped([one], types)
        if leaf.code in PLAIN_LEAVES:
            data = pack_cells(plain)
        else:
            data = plain[0] if leaf.code in BINARY_LEAVES else plain[0].encode()
        return extension(FIRST_LEAF + leaf.code, data)

    return write


def _reference(number: int) -> Cell:
    if number == OPEN:
        raise Untyped
    return extension(REFERENCE, number.to_bytes(2, "big"))


def _members(plan: MemberPlan, number: int) -> Handler:
    written: dict[int, Cell] = {}

    def write(one: Cell, _: int) -> Cell:
        known = written.get(id(one))
        if known is None:
            known = written[id(one)] = extension(MEMBER, pack_cells([number, plan.dump(one)]))
        return known

    return write


def _uuid(one: UUID, _: int) -> Cell:
    return extension(_UUID_CODE, one.bytes)


def _decimal(one: Decimal, _: int) -> Cell:
    if getsizeof(one) > MOST_DECIMAL:
        raise Untyped
    return extension(_DECIMAL_CODE, str(one).encode())


#: Classes whose objects are written as they are, or without what a walk knows.
_STATIC: Final[dict[type, Handler]] = {**dict.fromkeys(PLAIN_TYPES), UUID: _uuid, Decimal: _decimal}
#: What writes the objects of other classes that the codec knows by itself.
_NATIVE: Final[dict[type, Callable[[_Walk], Handler]]] = {
    **dict.fromkeys(LEAVES, _leaves),
    datetime: _moments,
    list: _lists,
    dict: _dicts,
    tuple: lambda walk: _marked(walk, TUPLE, lambda one: one),
    set: lambda walk: _marked(walk, TEXTS, _texts),
}
