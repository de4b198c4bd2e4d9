"""The plan for classes of which the declared fields are known.

A plan reads declared fields with ``attrgetter``, or from ``__dict__``, and sets them with ``object.__setattr__``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain
from keyword import iskeyword
from operator import attrgetter
from types import GetSetDescriptorType, MappingProxyType, MemberDescriptorType, WrapperDescriptorType

from attrs import Factory, field, frozen

from flowpersist.codec.leaves import ABSENT, Absent
from flowpersist.codec.packing import Cell
from flowpersist.codec.ready import ready_registry
from flowpersist.codec.refusals import Refused, malformed

__all__ = [
    "ASIDE",
    "CACHED_HASH",
    "FIELDS_SET",
    "GENERATORS",
    "HEAP_TYPE",
    "FieldsPlan",
    "hidden_value",
    "static_member",
]

#: What attrs keeps a cached hash in; a copy starts with none.
CACHED_HASH = "_attrs_cached_hash"
#: The modules whose classes' ``__setstate__`` only says what their declared fields say already.
GENERATORS = frozenset({"attr._make", "attrs", "dataclasses", "pydantic.main"})


#: What pydantic keeps the names of those fields in that were given and did not take their default.
FIELDS_SET = "__pydantic_fields_set__"


#: CPython's Py_TPFLAGS_HEAPTYPE: classes made by a class statement have it, static ones of the interpreter do not.
HEAP_TYPE = 1 << 9
#: What the interpreter's own classes have for an attribute.
PLACES = frozenset({GetSetDescriptorType, MemberDescriptorType})
#: Where an object has what the bytes hold and its class does not declare, if that is to be kept: by name, and for a
#: model under FIELDS_SET the names that were given.
ASIDE = "_flowpersist_unknown_fields"


#: What SQLAlchemy gives each row of a class that it maps.
ROW_STATE = "_sa_instance_state"


def static_member(cls: type, name: str) -> object:
    """What the class or a base has under a name, without its ``__get__``, which may say something else; else None."""
    return next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)


def _is_set_by_its_own(cls: type, name: str) -> bool:
    return hasattr(type(static_member(cls, name)), "__set__")


def _getter(plan: FieldsPlan) -> Callable[[Cell], Cell]:
    names, covered = plan.names, plan.covered
    if not covered:
        return attrgetter(*names) if names else lambda _: ()

    def get(one: Cell) -> Cell:
        lying = vars(one)
        if not covered <= lying.keys():
            raise AttributeError
        return tuple([lying[name] if name in covered else getattr(one, name) for name in names])

    return get


def _is_direct(plan: FieldsPlan) -> bool:
    cls = plan.cls
    own: object = cls.__getattribute__
    if own is not object.__getattribute__ and not issubclass(cls, BaseException):
        return False
    if getattr(getattr(cls, "__getattr__", None), "__module__", "pydantic.main") not in GENERATORS:
        return False
    members = [static_member(cls, name) for name in plan.names]
    return all(type(member) is MemberDescriptorType or not hasattr(type(member), "__get__") for member in members)


def _assigners(plan: FieldsPlan) -> dict[str, Cell]:
    own: object = plan.cls.__setattr__
    names = plan.names
    plain = own is object.__setattr__ and plan.is_direct and not plan.keeps_dict
    if not plain or not names or not all(name.isidentifier() and not iskeyword(name) for name in names):
        return {}
    # Compiled, as dataclasses and attrs do: an assignment to a name that stands in code is five times as fast as
    # setattr. The names are those that the registered class declares; bytes have no part in it.
    targets = "".join(f"one.{name}, " for name in names)
    many = (
        f"def many(objects, columns):\n    for one, {targets} in zip(objects, *columns, strict=True):\n        pass\n"
    )
    made: dict[str, Cell] = {}
    exec(f"{many}def single(one, cells):\n    {targets} = cells\n", {}, made)  # noqa: S102 - see above
    return made


def _dict_names(plan: FieldsPlan) -> tuple[str, ...]:
    if not plan.cls.__dictoffset__ or plan.keeps_dict:
        return ()
    return tuple(name for name in plan.names if name in plan.covered or not _is_set_by_its_own(plan.cls, name))


def _has_foreign_places(plan: FieldsPlan) -> bool:
    own: object = plan.cls.__getattribute__
    if plan.keeps_dict:
        places = {type(static_member(plan.cls, name)) for name in plan.names}
        return not PLACES.issuperset(places) or type(own) is not WrapperDescriptorType
    foreign = (
        type(static_member(plan.cls, name)) is not MemberDescriptorType and _is_set_by_its_own(plan.cls, name)
        for name in plan.names
        if name not in plan.covered
    )
    return own is not object.__getattribute__ or any(foreign)


def _putter(plan: FieldsPlan) -> Callable[[Cell, str, Cell], None]:
    covered = plan.covered
    if not covered:
        return object.__setattr__

    def put(one: Cell, name: str, value: Cell) -> None:
        if name in covered:
            held: Cell = vars(one)
            held[name] = value
        else:
            object.__setattr__(one, name, value)

    return put


@frozen
class FieldsPlan:
    """A class whose objects are what their declared fields hold: dataclass, attrs class, pydantic model, exception.

    ``maker`` makes a bare object. ``keeps_dict``: its whole ``__dict__`` is one of the fields, as exceptions have it;
    else an attribute beyond the declared ones is refused, since it would be lost. ``unset_is_none``: attributes of the
    interpreter's own that read as None while they are unset, which is another thing to them than None. ``parts``: the
    classes that some fields must be of. ``fault`` says of an object with all its fields what no object may have.
    ``optional``: names that an upgrade need not give, such as those of slots that are no fields. ``hidden``: places of
    slots that the class's own attributes hide, and which must be empty. ``covered``: fields that lie in ``__dict__``
    below a descriptor of their own, which warns of them and takes no value, as pydantic has it for deprecated ones.
    """

    cls: type
    names: tuple[str, ...]
    maker: Callable[[type], Cell] = object.__new__
    keeps_dict: bool = False
    parts: Mapping[str, tuple[type, ...]] = MappingProxyType({})
    fault: Callable[[Cell], str | None] | None = None
    resets_hash: bool = False
    unset_is_none: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    hidden: tuple[MemberDescriptorType, ...] = ()
    covered: frozenset[str] = frozenset()
    #: Whether each field is a place of its own in the object, and no function that may give what lies elsewhere.
    is_direct: bool = field(init=False, eq=False, default=Factory(_is_direct, takes_self=True))
    #: Whether reading or setting a field runs code of the class's own: only a trial tells whether it gives back what it
    #: was given.
    is_doubtful: bool = field(init=False, eq=False, default=Factory(_has_foreign_places, takes_self=True))
    #: The fields that lie in ``__dict__``.
    dict_names: tuple[str, ...] = field(init=False, eq=False, default=Factory(_dict_names, takes_self=True))
    #: Whether all fields lie there, where they are read two to three times as fast.
    in_dict: bool = field(
        init=False,
        eq=False,
        default=Factory(
            lambda self: bool(self.names) and self.dict_names == self.names and not self.hidden, takes_self=True
        ),
    )
    _assigners: dict[str, Cell] = field(init=False, eq=False, repr=False, default=Factory(_assigners, takes_self=True))
    #: Sets all fields of many objects, each a column, by assignment; None where assignment is not the class's default.
    assign: Callable[[list[Cell], Sequence[list[Cell]]], None] | None = field(
        init=False, eq=False, default=Factory(lambda self: self._assigners.get("many"), takes_self=True)
    )
    #: The same of one object, whose fields are given one after the other.
    assign_one: Callable[[Cell, list[Cell]], None] | None = field(
        init=False, eq=False, default=Factory(lambda self: self._assigners.get("single"), takes_self=True)
    )
    #: Sets one field.
    put: Callable[[Cell, str, Cell], None] = field(init=False, eq=False, default=Factory(_putter, takes_self=True))
    _declared: list[str] = field(
        init=False, eq=False, default=Factory(lambda self: list(self.dict_names), takes_self=True)
    )
    #: The places of the parts among the fields.
    _places: list[tuple[int, tuple[type, ...]]] = field(
        init=False,
        eq=False,
        default=Factory(
            lambda self: [(self.names.index(name), classes) for name, classes in self.parts.items()], takes_self=True
        ),
    )
    _get: Callable[[Cell], Cell] = field(init=False, eq=False, default=Factory(_getter, takes_self=True))

    def shells(self, count: int) -> list[Cell]:
        """Bare objects, whose fields are not set."""
        maker, cls = self.maker, self.cls
        made = [maker(cls) for _ in range(count)]
        if self.resets_hash:
            for one in made:
                object.__setattr__(one, CACHED_HASH, None)
        return made

    def read(self, objects: list[Cell]) -> list[Cell]:
        """The fields of each object in the order of ``names``, one object after the other.

        ``Refused`` for an object that could not be made again of these.
        """
        return self.read_in_orders(objects)[0]

    def read_in_orders(self, objects: list[Cell]) -> tuple[list[Cell], list[tuple[str, ...]] | None]:
        """The same, and the order of each object's fields, where a ``__dict__`` is not in the declared one."""
        orders = None
        if self.keeps_dict or not self.cls.__dictoffset__:
            cells = self._got(objects)
        else:
            dicts: list[dict[str, Cell]] = list(map(vars, objects))
            if list(chain.from_iterable(dicts)) != self._declared * len(dicts):
                orders = self._orders(objects, dicts)
                cells = [self._cell(one, name) for one in objects for name in self.names]
            elif self.in_dict:
                cells = list(chain.from_iterable(map(dict.values, dicts)))
            else:
                cells = self._got(objects)
        if self.parts or self.fault is not None or self.hidden:
            self._refuse_faults(objects, cells)
        return cells, orders

    def read_one(self, one: Cell) -> list[Cell]:
        """The fields of one object, without what is set up for many."""
        if self.in_dict:
            attributes = vars(one)
            if list(attributes) == self._declared:
                return list(attributes.values())
        return self.read([one])

    def plain_reader(self) -> Callable[[Cell], list[Cell] | None]:
        """What reads one object so; it gives None where the fields are in another order than the declared one, or may
        not come back.
        """
        if not self.in_dict or self.is_doubtful or self.parts or self.fault is not None:
            return self._read_plain
        declared, otherwise = self._declared, self._read_plain

        def read(one: Cell) -> list[Cell] | None:
            attributes = one.__dict__
            return list(attributes.values()) if list(attributes) == declared else otherwise(one)

        return read

    def _read_plain(self, one: Cell) -> list[Cell] | None:
        if self.parts and not (self.hidden or self.is_doubtful):
            found = self._read_model(one)
            if found is not None:
                return found
        cells, orders = self.read_in_orders([one])
        return None if orders or self.is_doubtful else cells

    def _read_model(self, one: Cell) -> list[Cell] | None:
        """The same of an object with parts, where all is as it mostly is."""
        if list(vars(one)) != self._declared:
            return None
        try:
            cells = list(self._get(one))
        except AttributeError:
            return None
        return cells if all(type(cells[place]) in classes for place, classes in self._places) else None

    def completed(self, fields: dict[str, Cell], stored: Mapping[str, Cell]) -> dict[str, Cell]:
        """Upgraded fields with what is no field of the user's, where the upgrade did not say it."""
        kept = {name: stored[name] for name in self.parts if name not in fields and name in stored}
        if FIELDS_SET in kept:
            # A field that is new, or has a new name, has the value that the upgrade gave it.
            given = {name for name in fields if name not in stored}
            kept[FIELDS_SET] = {name for name in kept[FIELDS_SET] if name in fields} | given
        return {**fields, **kept}

    @property
    def is_checked(self) -> bool:
        """Whether objects are looked at when all is filled."""
        return bool(self.parts) or self.fault is not None

    def check(self, one: Cell) -> None:
        """Refuse bytes that gave an object what none may have."""
        for name, classes in self.parts.items():
            if not isinstance(getattr(one, name, None), classes):
                raise malformed(f"the {name} of an object is of a wrong class")
        if self.fault is not None and self.fault(one) is not None:
            raise malformed("an object has an attribute or a position that none of its class may have")

    def _got(self, objects: list[Cell]) -> list[Cell]:
        try:
            rows = list(map(self._get, objects))
        except (RuntimeError, MemoryError):
            # What says that it changes meanwhile.
            raise
        except Exception:  # noqa: BLE001 - a field is not set, or code of the class's own raises
            return [self._cell(one, name) for one in objects for name in self.names]
        if self.unset_is_none:
            return [self._present(name, cell) for row in rows for name, cell in zip(self.names, row, strict=True)]
        return rows if len(self.names) == 1 else list(chain.from_iterable(rows))

    def _cell(self, one: Cell, name: str) -> Cell:
        # Not by getattr: a field that is not set would be read from the class, where its default is.
        if name in self.dict_names:
            return vars(one).get(name, ABSENT)
        try:
            return self._present(name, getattr(one, name, ABSENT))
        except Exception as error:
            reason = f"has the field {name!r}, which its class's own code did not let be read"
            raise Refused(one, f"{reason} ({type(error).__name__}); register it with encode= and decode=") from error

    def _present(self, name: str, cell: Cell) -> Cell:
        return ABSENT if cell is None and name in self.unset_is_none else cell

    def _orders(self, objects: list[Cell], dicts: list[dict[str, Cell]]) -> list[tuple[str, ...]] | None:
        known: dict[tuple[str, ...], tuple[str, ...]] = {}
        # Objects of one class mostly have few sets of attributes: each is looked at once.
        for one, attributes in zip(objects, dicts, strict=True):
            shape = tuple(attributes)
            if shape not in known:
                known[shape] = self._order(one, shape)
        orders = [known[tuple(attributes)] for attributes in dicts]
        return None if set(orders) == {self.names} else orders

    def _order(self, one: Cell, shape: tuple[str, ...]) -> tuple[str, ...]:
        declared = frozenset(self.dict_names)
        for name in shape:
            # A descriptor may keep its value under its own name; a slot hides what lies there.
            is_kept = name in declared or name == CACHED_HASH or (self.is_doubtful and name in self.names)
            if not is_kept:
                self._refuse_attribute(one, name)
        there = [name for name in shape if name in declared]
        if there == [name for name in self.dict_names if name in shape]:
            return self.names
        return (*there, *(name for name in self.names if name not in there))

    def _refuse_attribute(self, one: Cell, name: Cell) -> None:
        if type(name) is str and isinstance(getattr(self.cls, name, None), cached_property):
            return
        if name == ROW_STATE:
            reason = "is a row of a database, which holds the state of its session"
            ready = ready_registry("sqlmodel")
            raise Refused(one, f"{reason}; keep its key or the values of its columns, or for SQLModel: {ready}")
        reason = f"has the attribute {name!r}, which its class does not declare as a field, so that it would be lost"
        raise Refused(one, f"{reason}; declare it as a field, or give the class __getstate__ and __setstate__")

    def _refuse_faults(self, objects: list[Cell], cells: list[Cell]) -> None:
        width = len(self.names)
        for name, classes in self.parts.items():
            column = cells[self.names.index(name) :: width]
            wrong = [cls for cls in set(map(type, column)) if not issubclass(cls, classes)]
            if wrong:
                found = next(one for one, cell in zip(objects, column, strict=True) if type(cell) is wrong[0])
                kind = "is not set" if wrong[0] is Absent else f"is a {wrong[0].__name__}"
                expected = " or ".join(cls.__name__ for cls in classes)
                raise Refused(found, f"has a {name} that {kind}; expected {expected}")
        for one in objects if self.fault is not None or self.hidden else ():
            reason = self.fault(one) if self.fault is not None else None
            reason = reason or hidden_value(self.hidden, one)
            if reason is not None:
                raise Refused(one, reason)


def hidden_value(places: Iterable[MemberDescriptorType], one: Cell) -> str | None:
    """Why an object would lose what lies in a slot that its class hides; None where these are empty."""
    for place in places:
        try:
            value: Cell = place.__get__(one)
        except AttributeError:
            continue
        # Where the interpreter's own classes have None, nothing is set.
        if value is not None or place.__objclass__.__flags__ & HEAP_TYPE:
            where = f"{place.__objclass__.__qualname__}.{place.__name__}"
            reason = f"has a value in the slot {where}, which its class hides, so that it would be lost"
            return f"{reason}; rename one of the two"
    return None
