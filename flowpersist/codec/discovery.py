"""Finding every object of a value, once, in waves from the root, and gathering objects of one kind into batches.

A wave is handled by iterators written in C, a kind at a time, without recursion. Each batch keeps the cells of its
objects as they were read, so that a value which changes meanwhile can't give bytes that contradict themselves.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import chain, compress, islice
from typing import cast

from attrs import define, field

from flowpersist.codec import kinds
from flowpersist.codec.canonical import in_order
from flowpersist.codec.limits import Limits
from flowpersist.codec.packing import Cell, too_many_nodes
from flowpersist.codec.plans import FieldsPlan, NamedPlan, PairPlan
from flowpersist.codec.refusals import Halted, Refused
from flowpersist.codec.registry import Registration
from flowpersist.codec.vocabulary import Roles
from flowpersist.codec.weights import HashGuard
from flowpersist.errors import StateTooDeep

__all__ = ["Batch", "Discovery"]

#: Fewer dicts of one set of keys than this are written key by key: a block of columns would cost more than it saves.
FEWEST_RECORDS = 8
MOST_RECORD_KEYS = 256
#: Up to so many cells are looked at one by one, without setting up iterators.
FEW_CELLS = 8
DEFAULT_FLAVOUR = kinds.FLAVOURS.index(defaultdict)


class Chunk:
    """Cells that were read at once, and their classes."""

    __slots__ = ("cells", "classes")

    def __init__(self, cells: list[Cell]) -> None:
        self.cells = cells
        self.classes = set(map(type, cells))


@define(eq=False)
class Batch:
    """Objects of one kind with their cells, row after row.

    ``lengths``: cells of each object, where they differ; ``width`` where they do not. ``keys``: of dicts, one for
    each cell. ``classes``: those of the cells.
    ``shape``: the keys that all dicts of a record batch share. ``registration``: of registered classes. ``factory``:
    of defaultdicts.
    """

    kind: int
    width: int | None = None
    flavour: int = 0
    factory: Cell = None
    shape: tuple[str, ...] = ()
    registration: Registration | None = None
    objects: list[Cell] = field(factory=list)
    lengths: list[int] = field(factory=list)
    keys: list[Cell] = field(factory=list)
    cells: list[Cell] = field(factory=list)
    classes: set[type] = field(factory=set)

    def add(self, objects: Sequence[Cell], cells: list[Cell]) -> Chunk:
        """Take objects whose cells are one after the other; returns the cells."""
        chunk = Chunk(cells)
        self.objects += objects
        self.cells += cells
        self.classes |= chunk.classes
        return chunk

    def rows(self) -> Iterable[tuple[Cell, list[Cell]]]:
        """Each object with its own cells."""
        lengths = self.lengths if self.width is None else [self.width] * len(self.objects)
        cells = iter(self.cells)
        return ((one, list(islice(cells, length))) for one, length in zip(self.objects, lengths, strict=True))

    def key_rows(self) -> Iterable[tuple[Cell, list[Cell]]]:
        """Each dict with its own keys."""
        keys = iter(self.keys)
        return ((one, list(islice(keys, length))) for one, length in zip(self.objects, self.lengths, strict=True))


class Discovery:
    """All objects that a root reaches: ``seen`` by id in the order in which they were found, ``batches`` by kind."""

    def __init__(self, roles: Roles, limits: Limits) -> None:
        self.roles = roles
        self.limits = limits
        self.seen: dict[int, Cell] = {}
        self._batches: dict[Hashable, Batch] = {}
        self._cells = 0
        self._guard = HashGuard(roles.types, limits)
        self._containers: dict[type, Callable[[list[Cell]], Sequence[Chunk]]] = {
            list: self._lists,
            tuple: self._tuples,
            set: self._sets,
            frozenset: self._frozensets,
            dict: self._dicts,
            OrderedDict: self._ordered_dicts,
            Counter: self._counters,
            defaultdict: self._defaultdicts,
            deque: self._deques,
            bytearray: self._bytearrays,
            slice: self._slices,
        }

    def run(self, root: Cell) -> list[Batch]:
        """Find everything; the batches in the order in which their first objects were found."""
        depth = 0
        frontier = self._fresh(Chunk([root]))
        while frontier:
            depth += 1
            if depth > self.limits.max_depth:
                raise Halted(too_deep(self.limits))
            frontier = self._wave(frontier)
        self._demote_few()
        return [batch for batch in self._batches.values() if batch.objects]

    def _fresh(self, chunk: Chunk) -> list[Cell]:
        """The objects among these cells that were not seen before."""
        roles = self.roles
        if True not in {roles[cls] for cls in chunk.classes}:
            return []
        if len(chunk.cells) <= FEW_CELLS:
            return self._fresh_few(chunk.cells)
        children = list(compress(chunk.cells, map(roles.__getitem__, map(type, chunk.cells))))
        seen = self.seen
        before = len(seen)
        seen.update(zip(map(id, children), children, strict=True))
        # A dict keeps the order of first insertion, so the new ones are its last.
        fresh = list(islice(reversed(seen.values()), len(seen) - before))
        fresh.reverse()
        return fresh

    def _fresh_few(self, cells: list[Cell]) -> list[Cell]:
        # The same one by one: what is narrow and deep, as a linked list, comes in waves of one object.
        roles, seen = self.roles, self.seen
        fresh = []
        for cell in cells:
            if roles[type(cell)] and id(cell) not in seen:
                seen[id(cell)] = cell
                fresh.append(cell)
        return fresh

    def _wave(self, frontier: list[Cell]) -> list[Cell]:
        if len(frontier) == 1:
            return self._found(self._expand(type(frontier[0]), frontier))
        by_class: dict[type, list[Cell]] = {}
        if len(set(map(type, frontier))) == 1:
            by_class[type(frontier[0])] = frontier
        else:
            for one in frontier:
                by_class.setdefault(type(one), []).append(one)
        return list(chain.from_iterable([self._found(self._expand(cls, objects)) for cls, objects in by_class.items()]))

    def _found(self, chunks: Sequence[Chunk]) -> list[Cell]:
        self._cells += sum([len(chunk.cells) for chunk in chunks])
        if self._cells + len(self.seen) > self.limits.max_nodes:
            raise Halted(too_many_nodes(self.limits))
        if len(chunks) == 1:
            return self._fresh(chunks[0])
        return list(chain.from_iterable(map(self._fresh, chunks)))

    def _expand(self, cls: type, objects: list[Cell]) -> Sequence[Chunk]:
        container = self._containers.get(cls)
        return self._registered(cls, objects) if container is None else container(objects)

    def _batch(self, *identity: Hashable, **parts: Cell) -> Batch:
        found = self._batches.get(identity)
        if found is None:
            found = self._batches[identity] = Batch(cast("int", identity[0]), **parts)
        return found

    def _sequence(self, kind: int, objects: list[Cell]) -> Sequence[Chunk]:
        batch = self._batch(kind)
        cells = list(chain.from_iterable(objects))
        batch.lengths.extend(map(len, objects))
        return (batch.add(objects, cells),)

    def _lists(self, objects: list[Cell]) -> Sequence[Chunk]:
        return self._sequence(kinds.LIST, objects)

    def _tuples(self, objects: list[Cell]) -> Sequence[Chunk]:
        return self._sequence(kinds.TUPLE, objects)

    def _deques(self, objects: list[Cell]) -> Sequence[Chunk]:
        return self._sequence(kinds.DEQUE, objects)

    def _sorted(self, kind: int, objects: list[Cell]) -> Sequence[Chunk]:
        batch = self._batch(kind)
        ordered = [in_order(one, self.roles) for one in objects]
        lengths = list(map(len, ordered))
        elements = list(chain.from_iterable(ordered))
        self._guard.check(elements, lengths)
        batch.lengths += lengths
        return (batch.add(objects, elements),)

    def _sets(self, objects: list[Cell]) -> Sequence[Chunk]:
        return self._sorted(kinds.SET, objects)

    def _frozensets(self, objects: list[Cell]) -> Sequence[Chunk]:
        return self._sorted(kinds.FROZENSET, objects)

    def _dicts(self, objects: list[Cell]) -> Sequence[Chunk]:
        if _text_keys(objects):
            return self._records(objects)
        texts: list[Cell] = []
        others: list[Cell] = []
        for one in objects:
            (texts if _text_keys((one,)) else others).append(one)
        return [*self._records(texts), *self._entries(0, others)]

    def _records(self, objects: list[Cell]) -> Sequence[Chunk]:
        shapes = list(map(tuple, objects))
        if shapes and shapes.count(shapes[0]) == len(shapes):
            return self._record(shapes[0], objects)
        by_shape: dict[tuple[str, ...], list[Cell]] = {}
        for shape, one in zip(shapes, objects, strict=True):
            by_shape.setdefault(shape, []).append(one)
        return [chunk for shape, members in by_shape.items() for chunk in self._record(shape, members)]

    def _record(self, shape: tuple[str, ...], members: list[Cell]) -> Sequence[Chunk]:
        if not 0 < len(shape) <= MOST_RECORD_KEYS:
            return self._entries(0, members)
        batch = self._batches.get((kinds.RECORD, shape))
        if batch is None:
            batch = self._batch(kinds.RECORD, shape, width=len(shape), shape=shape)
        return (batch.add(members, list(chain.from_iterable(map(dict.values, members)))),)

    def _entries(self, flavour: int, objects: list[Cell], factory: Cell = None) -> Sequence[Chunk]:
        batch = self._batch(kinds.DICT, flavour, factory, flavour=flavour, factory=factory)
        # By the class's own iteration: an OrderedDict's order is not that of the dict beneath it.
        keys = Chunk(list(chain.from_iterable(objects)))
        lengths = list(map(len, objects))
        self._guard.check(keys.cells, lengths)
        batch.keys += keys.cells
        batch.lengths += lengths
        return keys, batch.add(objects, [value for one in objects for value in one.values()])

    def _ordered_dicts(self, objects: list[Cell]) -> Sequence[Chunk]:
        return self._entries(kinds.FLAVOURS.index(OrderedDict), objects)

    def _counters(self, objects: list[Cell]) -> Sequence[Chunk]:
        return self._entries(kinds.FLAVOURS.index(Counter), objects)

    def _defaultdicts(self, objects: list[Cell]) -> Sequence[Chunk]:
        return [chunk for one in objects for chunk in self._entries(DEFAULT_FLAVOUR, [one], self._factory(one))]

    def _factory(self, one: defaultdict[Cell, Cell]) -> Cell:
        factory = one.default_factory
        if factory is None or kinds.FACTORIES.get(getattr(factory, "__name__", "")) is factory:
            return factory
        if isinstance(factory, type) and self.roles.types.by_class(factory) is not None:
            return factory
        raise Refused(one, "has a default_factory that is no class known to the codec; use a registered class, or None")

    def _bytearrays(self, objects: list[Cell]) -> Sequence[Chunk]:
        return (self._batch(kinds.BYTEARRAY, width=1).add(objects, list(map(bytes, objects))),)

    def _slices(self, objects: list[Cell]) -> Sequence[Chunk]:
        cells = [part for one in objects for part in (one.start, one.stop, one.step)]
        return (self._batch(kinds.SLICE, width=3).add(objects, cells),)

    def _registered(self, cls: type, objects: list[Cell]) -> Sequence[Chunk]:
        registration = self.roles.registration(cls)
        match registration.plan:
            case FieldsPlan() as plan:
                batch = self._batch(kinds.INSTANCE, cls, width=len(plan.names), registration=registration)
                return (batch.add(objects, plan.read(objects)),)
            case NamedPlan() as named:
                batch = self._batch(kinds.NAMED, cls, width=len(named.names), registration=registration)
                return (batch.add(objects, list(chain.from_iterable(map(tuple.__iter__, objects)))),)
            case PairPlan() as pair:
                batch = self._batch(kinds.PAIR, cls, width=1, registration=registration)
                return (batch.add(objects, [_encoded(pair, one) for one in objects]),)
        raise AssertionError(registration)  # pragma: no cover - enumerations are leaves, so none is ever expanded

    def _demote_few(self) -> None:
        few = [batch for batch in self._batches.values() if batch.shape and len(batch.objects) < FEWEST_RECORDS]
        for batch in few:
            entries = self._batch(kinds.DICT, 0, None)
            entries.lengths.extend([len(batch.shape)] * len(batch.objects))
            entries.keys.extend(batch.shape * len(batch.objects))
            entries.add(batch.objects, batch.cells)
            batch.objects = []


def _text_keys(dicts: Iterable[dict[Cell, Cell]]) -> bool:
    return {str}.issuperset(map(type, chain.from_iterable(dicts)))


def _encoded(plan: PairPlan, one: Cell) -> Cell:
    try:
        return plan.encode(one)
    except Exception as error:
        reason = f"could not be encoded: its encode= function raised {type(error).__name__}"
        raise Refused(one, reason) from error


def too_deep(limits: Limits) -> StateTooDeep:
    """The error for a value whose objects lie more steps from its root than the limit."""
    return StateTooDeep(
        f"the value is more than {limits.max_depth} steps deep; flatten it, or raise the limit max_depth"
    )
