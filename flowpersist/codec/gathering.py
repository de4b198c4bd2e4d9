"""How the cells of objects of each class are read: many objects of one class at once, by iterators written in C."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import chain
from operator import countOf
from typing import TypeAlias
from weakref import ReferenceType

from flowpersist.codec import kinds
from flowpersist.codec.bases import ROW_OF_BASE
from flowpersist.codec.batches import Batch, Cells, Row
from flowpersist.codec.canonical import in_order
from flowpersist.codec.factories import check_factory
from flowpersist.codec.limits import Limits
from flowpersist.codec.native import refuse_attributes
from flowpersist.codec.nesting import steps_to_free
from flowpersist.codec.numbering import are_owners
from flowpersist.codec.packing import Cell
from flowpersist.codec.plans import BuiltinPlan, FieldsPlan, NamedPlan, PairPlan, StatePlan, encoded
from flowpersist.codec.registry import Registration
from flowpersist.codec.vocabulary import IMMUTABLE, Roles
from flowpersist.codec.watching import Watch
from flowpersist.codec.weak import hashed_dead, held_rows, weak_rows
from flowpersist.codec.weights import HashGuard

__all__ = ["Gathering"]

MOST_RECORD_KEYS = 256
#: Lists with more cells together are read in portions.
MOST_CELLS = 2**16
DEFAULT_FLAVOUR = kinds.FLAVOURS.index(defaultdict)

Gatherer: TypeAlias = Callable[[list[Cell], Sequence[int]], None]


class Gathering:
    """Hands the cells of objects to ``add``, with the batch that they belong to, or as a row of their own to ``row``.

    What can be placed only when all is known stands in ``candidates``, its cells told to ``note``: immutable objects
    that hold immutable ones, and what hashes objects. ``recursing`` are the objects that are freed by recursion,
    ``encoded`` those of extensions with what each was encoded as; ``doubtful`` some of which only a trial tells more.
    """

    def __init__(
        self,
        roles: Roles,
        limits: Limits,
        add: Callable[[Batch, Cells], None],
        row: Callable[[Row], None],
        note: Callable[[list[Cell]], None],
        needs_identity: Callable[[], None],
        watch: Watch | None = None,
    ) -> None:
        self.candidates: list[Row] = []
        self.recursing: list[Cell] = []
        self.doubtful: list[Cell] = []
        self.encoded: list[tuple[Cell, Cell]] = []
        self._roles = roles
        self._add = add
        self._row = row
        self._note = note
        self._needs_identity = needs_identity
        self._watch = watch
        self.guard = HashGuard(roles.types, limits)
        self._weak_rows: list[Row] = []
        self._batches: dict[Hashable, Batch] = {}
        self._gatherers: dict[type, Gatherer] = {
            list: self._lists,
            tuple: self._tuples,
            set: self._sets,
            frozenset: self._frozensets,
            dict: self._dicts,
            OrderedDict: self._flavoured,
            Counter: self._flavoured,
            defaultdict: self._defaultdicts,
            deque: self._deques,
            bytearray: self._bytearrays,
            slice: self._slices,
        }

    def gather(self, objects: list[Cell], numbers: Sequence[int]) -> None:
        """Read objects of one class, which have these numbers."""
        cls = type(objects[0])
        gatherer = self._gatherers.get(cls)
        if gatherer is None:
            gatherer = self._gatherers[cls] = self._registered(self._roles.registration(cls))
        gatherer(objects, numbers)

    def settle(self, candidate: Row, *, is_late: bool) -> None:
        """Place what a set or dict holds at once, or, where that is done late, the empty object."""
        if candidate.kind not in {kinds.SET, kinds.DICT}:
            return
        cells = [] if is_late else candidate.cells
        if candidate.batch is None:
            self._row(Row(candidate.kind, candidate.number, cells, candidate.registration))
        elif candidate.kind == kinds.SET:
            self._add(candidate.batch, Cells([candidate.number], cells, [len(cells)]))
        else:
            entries = Cells([candidate.number], cells[1::2], [len(cells) // 2], cells[::2])
            self._add(candidate.batch, entries)

    def _candidate(self, row: Row) -> None:
        self._note(row.cells)
        self.candidates.append(row)

    def _batch(self, kind: int, *identity: Hashable, **parts: Cell) -> Batch:
        whole = (kind, *identity)
        found = self._batches.get(whole)
        if found is None:
            found = self._batches[whole] = Batch(whole, kind, **parts)
        return found

    def _holds(self, cells: Iterable[Cell], role: int) -> bool:
        return role in map(self._roles.__getitem__, set(map(type, cells)))

    def _holds_objects(self, cells: Iterable[Cell]) -> bool:
        return any(map(self._roles.__getitem__, set(map(type, cells))))

    # Sequences.

    def _lists(self, objects: list[Cell], numbers: Sequence[int]) -> None:
        self._in_portions(self._batch(kinds.LIST), objects, numbers)

    def _in_portions(self, batch: Batch, objects: list[Cell], numbers: Sequence[int]) -> None:
        lengths = list(map(len, objects))
        if sum(lengths) > MOST_CELLS and len(objects) > 1:
            half = len(objects) // 2
            self._in_portions(batch, objects[:half], numbers[:half])
            self._in_portions(batch, objects[half:], numbers[half:])
            return
        cells = list(objects[0]) if len(objects) == 1 else list(chain.from_iterable(objects))
        if self._watch is not None:
            self._watch.elements(objects, cells, lengths)
        self._add(batch, Cells(numbers, cells, lengths))

    def _deques(self, objects: list[Cell], numbers: Sequence[int]) -> None:
        self.recursing += objects
        cells = list(chain.from_iterable(objects))
        lengths = list(map(len, objects))
        maxlens = [one.maxlen for one in objects]
        if self._watch is not None:
            self._watch.elements(objects, cells, lengths)
        self._add(self._batch(kinds.DEQUE), Cells(numbers, cells, lengths, maxlens))

    def _tuples(self, objects: list[Cell], numbers: Sequence[int]) -> None:
        cells = list(chain.from_iterable(objects))
        if not self._holds(cells, IMMUTABLE):
            self._add(self._batch(kinds.TUPLE), Cells(numbers, cells, list(map(len, objects))))
            return
        self._each_built(self._batch(kinds.TUPLE), None, zip(objects, numbers, map(list, objects), strict=True))

    def _each_built(
        self, batch: Batch, registration: Registration | None, rows: Iterable[tuple[Cell, int, list[Cell]]]
    ) -> None:
        """Immutable objects of which some hold immutable ones."""
        for one, number, cells in rows:
            if self._holds(cells, IMMUTABLE):
                self._candidate(Row(batch.kind, number, cells, registration, one))
            else:
                self._add(batch, Cells([number], cells, [len(cells)] if batch.width is None else ()))

    def _slices(self, objects: list[Cell], numbers: Sequence[int]) -> None:
        self.recursing += objects
        rows = [[one.start, one.stop, one.step] for one in objects]
        self._each_built(self._batch(kinds.SLICE, width=3), None, zip(objects, numbers, rows, strict=True))

    def _bytearrays(self, objects: list[Cell], numbers: Sequence[int]) -> None:
        contents = list(map(bytes, objects))
        if self._watch is not None:
            self._watch.buffers(objects, contents)
        self._add(self._batch(kinds.BYTEARRAY, width=1), Cells(numbers, contents))

    # Sets.

    def _sets(self, objects: list[Cell], numbers: Sequence[int]) -> None:
        self._sorted(self._batch(kinds.SET), None, objects, numbers, objects)

    def _frozensets(self, objects: list[Cell], numbers: Sequence[int]) -> None:
        self._sorted(self._batch(kinds.FROZENSET), None, objects, numbers, objects)

    def _sorted(
        self,
        batch: Batch | None,
        registration: Registration | None,
        objects: list[Cell],
        numbers: Sequence[int],
        contents: Iterable[Iterable[Cell]],
    ) -> None:
        kind = kinds.SET if batch is None else batch.kind
        for one, number, content in zip(objects, numbers, contents, strict=True):
            cells = in_order(content, self._roles)
            if self._watch is not None and kind == kinds.SET:
                self._watch.sets(one, cells)
            self.guard.check_present(cells)
            if self._holds_objects(cells):
                self._candidate(Row(kind, number, cells, registration, one, batch))
            elif batch is None:
                self._row(Row(kind, number, cells, registration))
            else:
                self._add(batch, Cells([number], cells, [len(cells)]))

    # Dicts.

    def _dicts(self, objects: list[Cell], numbers: Sequence[int]) -> None:
        shape = tuple(objects[0])
        keys = list(chain.from_iterable(objects))
        # Only texts are compared: keys of other classes have an __eq__ of their own.
        if countOf(map(type, keys), str) == len(keys) and keys == list(shape) * len(objects):
            self._record(shape, objects, numbers)
            return
        by_shape: dict[tuple[str, ...] | None, tuple[list[Cell], list[int]]] = {}
        for one, number in zip(objects, numbers, strict=True):
            own = tuple(one)
            texts = {str}.issuperset(map(type, own))
            alike, their_numbers = by_shape.setdefault(own if texts else None, ([], []))
            alike.append(one)
            their_numbers.append(number)
        for own_shape, (members, own_numbers) in by_shape.items():
            if own_shape is None:
                self._entries(0, members, own_numbers)
            else:
                self._record(own_shape, members, own_numbers)

    def _record(self, shape: tuple[str, ...], objects: list[Cell], numbers: Sequence[int]) -> None:
        if not 0 < len(shape) <= MOST_RECORD_KEYS:
            self._entries(0, objects, numbers)
            return
        batch = self._batch(kinds.RECORD, shape, width=len(shape), shape=shape)
        cells = list(chain.from_iterable(map(dict.values, objects)))
        if self._watch is not None:
            self._watch.record(objects, cells, shape)
        self._add(batch, Cells(numbers, cells))

    def _entries(self, flavour: int, objects: list[Cell], numbers: Sequence[int], factory: Cell = None) -> None:
        batch = self._batch(kinds.DICT, flavour, factory, flavour=flavour, factory=factory)
        # By the class's own iteration: an OrderedDict's order is not that of the dict beneath it.
        keys = list(chain.from_iterable(objects))
        lengths = list(map(len, objects))
        if not self._holds_objects(keys):
            self.guard.check(keys, lengths)
            values = [value for one in objects for value in one.values()]
            if self._watch is not None:
                self._watch.entries(objects, keys, lengths, values)
            self._add(batch, Cells(numbers, values, lengths, keys))
            return
        for one, number in zip(objects, numbers, strict=True):
            cells = list(chain.from_iterable(one.items()))
            self.guard.check_present(cells[::2])
            if self._watch is not None:
                self._watch.entries([one], cells[::2], [len(cells) // 2], cells[1::2])
            self._candidate(Row(kinds.DICT, number, cells, None, one, batch))

    def _flavoured(self, objects: list[Cell], numbers: Sequence[int]) -> None:
        refuse_attributes(objects)
        self._entries(kinds.FLAVOURS.index(type(objects[0])), objects, numbers)

    def _defaultdicts(self, objects: list[Cell], numbers: Sequence[int]) -> None:
        self.recursing += objects
        for one, number in zip(objects, numbers, strict=True):
            self._entries(DEFAULT_FLAVOUR, [one], [number], check_factory(one, self._roles.types))

    # Registered classes.

    def _registered(self, registration: Registration) -> Gatherer:
        match registration.plan:
            case FieldsPlan() as plan:
                return self._instances(registration, plan)
            case NamedPlan() as named:
                return self._named(registration, named)
            case PairPlan() as pair if registration.cls is ReferenceType:
                return self._weak(registration, pair)
            case PairPlan() | StatePlan() as encoding:
                return self._encoded(registration, encoding)
            case BuiltinPlan() as builtin:
                return self._subclass(registration, builtin)
        raise AssertionError(registration)  # pragma: no cover - enumerations are leaves, so none is ever gathered

    def _instances(self, registration: Registration, plan: FieldsPlan) -> Gatherer:
        if not plan.is_direct:
            self._needs_identity()
        recurses = steps_to_free(registration.cls)
        batch = self._instance_batch(registration)

        def gather(objects: list[Cell], numbers: Sequence[int]) -> None:
            if plan.is_doubtful:
                self.doubtful.append(objects[0])
            if recurses:
                self.recursing += objects
            if not are_owners(objects, plan.names):
                self._needs_identity()
            cells, orders = plan.read_in_orders(objects)
            if self._watch is not None:
                self._watch.fields(plan, objects, cells)
            if orders is None:
                self._add(batch, Cells(numbers, cells))
            else:
                self._in_orders(registration, numbers, orders, cells)

        return gather

    def _instance_batch(self, registration: Registration, shape: tuple[str, ...] = ()) -> Batch:
        width = len(registration.plan.names)
        return self._batch(kinds.INSTANCE, registration.cls, shape, width=width, registration=registration, shape=shape)

    def _in_orders(
        self, registration: Registration, numbers: Sequence[int], orders: Sequence[tuple[str, ...]], cells: list[Cell]
    ) -> None:
        names = registration.plan.names
        for place, (number, order) in enumerate(zip(numbers, orders, strict=True)):
            own = dict(zip(names, cells[place * len(names) : (place + 1) * len(names)], strict=True))
            batch = self._instance_batch(registration, () if order == names else order)
            self._add(batch, Cells([number], [own[name] for name in order]))

    def _named(self, registration: Registration, plan: NamedPlan) -> Gatherer:
        batch = self._batch(kinds.NAMED, registration.cls, width=len(plan.names), registration=registration)
        if registration.cls.__dictoffset__:
            self._needs_identity()

        def gather(objects: list[Cell], numbers: Sequence[int]) -> None:
            cells = list(chain.from_iterable(rows := plan.read(objects)))
            for one, number, attributes in plan.with_attributes(objects, numbers):
                self._row(Row(kinds.ATTRIBUTES, number, attributes, registration))
                if self._watch is not None:
                    self._watch.attributes(plan, one, attributes)
            if self._holds(cells, IMMUTABLE):
                self._each_built(batch, registration, zip(objects, numbers, rows, strict=True))
            else:
                self._add(batch, Cells(numbers, cells))

        return gather

    def _encoded(self, registration: Registration, plan: PairPlan | StatePlan) -> Gatherer:
        self._needs_identity()
        recurses = steps_to_free(registration.cls)

        def gather(objects: list[Cell], numbers: Sequence[int]) -> None:
            for one, number in zip(objects, numbers, strict=True):
                cells = [encoded(plan, one)]
                if self._watch is not None:
                    self._watch.encoded(plan, one, cells[0])
                if recurses:
                    self.encoded.append((one, cells[0]))
                if isinstance(plan, StatePlan):
                    self._row(Row(kinds.SHELL, number, [None], registration))
                kind = kinds.STATE if isinstance(plan, StatePlan) else kinds.PAIR
                self._candidate(Row(kind, number, cells, registration, one))

        return gather

    def _weak(self, registration: Registration, plan: PairPlan) -> Gatherer:
        self._needs_identity()

        def gather(objects: list[Cell], numbers: Sequence[int]) -> None:
            self._weak_rows += weak_rows(registration, plan, zip(objects, numbers, strict=True), self._watch)

        return gather

    def settle_weak(self, is_found: Callable[[Cell], bool]) -> None:
        """Take weak references, once it is known which objects are held otherwise."""
        self.doubtful += hashed_dead(self._weak_rows, self.candidates)
        self.candidates += held_rows(self._weak_rows, is_found)

    def _subclass(self, registration: Registration, plan: BuiltinPlan) -> Gatherer:
        self._needs_identity()
        kind = ROW_OF_BASE[plan.base]
        recurses = steps_to_free(registration.cls)

        def gather(objects: list[Cell], numbers: Sequence[int]) -> None:
            if recurses:
                self.recursing += objects
            for one, number in zip(objects, numbers, strict=True):
                attributes, content = plan.attributes(one), plan.content(one)
                plan.refuse(one)
                if self._watch is not None:
                    self._watch.content(plan, one, attributes, content)
                self._row(Row(kinds.ATTRIBUTES, number, attributes, registration))
                self._content(kind, one, number, content, registration)

        return gather

    def _content(self, kind: int, one: Cell, number: int, cells: list[Cell], registration: Registration) -> None:
        row = Row(kind, number, cells, registration, one)
        if kind in {kinds.SET, kinds.FROZENSET}:
            cells = in_order(cells, self._roles)
            self.guard.check_present(cells)
            row = Row(kind, number, cells, registration, one)
            waits = self._holds_objects(cells)
        elif kind == kinds.DICT:
            self.guard.check_present(cells[::2])
            waits = self._holds_objects(cells[::2])
        else:
            waits = kind == kinds.TUPLE and self._holds(cells, IMMUTABLE)
        if waits:
            self._candidate(row)
        else:
            self._row(row)
