"""The classes that a codec knows: a closed list, by class for encoding and by name for decoding."""

from __future__ import annotations

import builtins
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TypeVar, overload

from attrs import frozen

from flowpersist.codec.leaves import LEAVES
from flowpersist.codec.packing import PLAIN_TYPES, Cell
from flowpersist.codec.planning import plan_for
from flowpersist.codec.plans import PairPlan, Plan, StatePlan, Upgrades
from flowpersist.codec.refusals import Halted
from flowpersist.errors import ConfigurationError, PersistenceError, SerializationError
from flowpersist.errors.arguments import (
    check_callable,
    check_classes,
    check_instance,
    check_mapping,
    check_optional,
    check_str,
    check_whole,
)

__all__ = ["BUILTIN_CONTAINERS", "Registration", "TypeRegistry"]

T = TypeVar("T")

#: So many lists of classes are remembered, of states and heads of some kinds; the bytes of each are at most 64 KiB.
MOST_LISTS = 64
#: The package whose functions are not the user's.
OURS = "flowpersist"
#: The containers that need no registration.
BUILTIN_CONTAINERS: frozenset[type] = frozenset(
    {list, tuple, set, frozenset, dict, OrderedDict, Counter, defaultdict, deque, bytearray, slice}
)


@frozen(eq=False)
class Registration:
    """One registered class: its name and version on the wire, its plan, and how older versions become newer ones."""

    cls: type
    name: str
    version: int
    plan: Plan
    upgrades: Upgrades
    aliases: tuple[str, ...] = ()

    def missing_upgrade(self, version: int) -> int | None:
        """The first version from ``version`` on that nothing upgrades; None where the way is whole."""
        return next((step for step in range(version, self.version) if step not in self.upgrades), None)

    def upgrade(self, value: Cell, version: int) -> Cell:
        """What this version has, step by step from what ``version`` had. A step that raises is named: the bytes are
        whole, and the function is to be mended.
        """
        for step in range(version, self.version):
            try:
                value = self.upgrades[step](value)
            except Exception as error:
                raise self._faulty(step, f"raised {type(error).__name__}") from error
        return value

    def upgrade_fields(self, fields: dict[str, Cell], version: int) -> dict[str, Cell]:
        """The same of fields by name."""
        upgraded = self.upgrade(fields, version)
        if not isinstance(upgraded, dict):
            raise self._faulty(self.version - 1, f"returned a {type(upgraded).__name__} instead of a dict of fields")
        return upgraded

    def decoded(self, plan: PairPlan, value: Cell) -> Cell:
        """What ``decode=`` makes of a value. A function of the user's that raises is named, as an upgrade is."""
        try:
            return plan.decode(value)
        except PersistenceError:
            raise
        except Exception as error:
            if not _is_users(plan.decode):
                raise
            raise self._raised("decode=", error) from error

    def restored(self, plan: StatePlan, one: Cell, state: Cell) -> None:
        """Hand its state to an object, by a ``__setstate__`` of its own if it has one."""
        try:
            plan.restore(one, state)
        except (Halted, PersistenceError):
            raise
        except Exception as error:
            if not hasattr(self.cls, "__setstate__"):
                raise
            raise self._raised("__setstate__", error) from error

    def _raised(self, what: str, error: Exception) -> Halted:
        message = (
            f"the {what} of {self.name} raised {type(error).__name__}; mend it where the class is defined or "
            "registered: what is stored is whole"
        )
        return Halted(SerializationError(message))

    def _faulty(self, step: int, how: str) -> Halted:
        message = (
            f"the upgrade of {self.name} from version {step} to {step + 1} {how}; fix upgrades[{step}] where the "
            "class is registered: the stored data is intact"
        )
        return Halted(SerializationError(message))


class TypeRegistry:
    """Which classes may be encoded and decoded, besides Python's own that the codec knows by itself.

    ``TypeRegistry(Order, Line)`` registers both as they are; ``register`` also takes a name, a version, and
    functions. Nothing that is not here is ever looked up, imported or called, whatever bytes say.
    """

    def __init__(self, *classes: type) -> None:
        self._by_class: dict[type, Registration] = {}
        self._by_name: dict[str, Registration] = {}
        self._lists: dict[bytes, tuple[Registration, ...]] = {}
        check_classes(classes, "classes", "classes, one after the other")
        for cls in classes:
            self.register(cls)

    @overload
    def register(
        self,
        cls: type[T],
        *,
        name: str | None = None,
        version: int = 1,
        aliases: Iterable[str] = (),
        upgrades: Upgrades = ...,
        encode: Callable[[T], object] | None = None,
        decode: Callable[[Cell], T] | None = None,
    ) -> type[T]: ...

    @overload
    def register(
        self,
        cls: None = None,
        *,
        name: str | None = None,
        version: int = 1,
        aliases: Iterable[str] = (),
        upgrades: Upgrades = ...,
        encode: Callable[[Cell], object] | None = None,
        decode: Callable[[Cell], object] | None = None,
    ) -> Callable[[type[T]], type[T]]: ...

    def register(
        self,
        cls: type[T] | None = None,
        *,
        name: str | None = None,
        version: int = 1,
        aliases: Iterable[str] = (),
        upgrades: Upgrades = MappingProxyType({}),
        encode: Callable[[Cell], object] | None = None,
        decode: Callable[[Cell], object] | None = None,
    ) -> type[T] | Callable[[type[T]], type[T]]:
        """Register a class, by a call or as a decorator.

        ``name`` stands for it in the bytes, by default its qualified name with its module: give one before moving the
        class; ``aliases`` are names that it had before, under which it is still read. Raise ``version`` when its
        fields change, and put into ``upgrades`` for each older version a function from the mapping of that version's
        fields to that of the next (with ``encode``, from what it gave then; with a ``__getstate__``, from that state;
        of a subclass of a builtin class, from its attributes).
        ``encode`` and ``decode`` go together: to and from any supported value. ``ConfigurationError`` for what is
        registered already or can't be.
        """
        check_optional(name, "name", check_str)
        _check_version(version)
        others = _aliases(aliases)
        _check_upgrades(upgrades)
        check_optional(encode, "encode", check_callable)
        check_optional(decode, "decode", check_callable)

        def add(target: type[T]) -> type[T]:
            plan = _plan(target, encode, decode)
            own = name or default_name(target)
            self._add(Registration(target, own, version, plan, dict(upgrades), others))
            return target

        return add if cls is None else add(cls)

    def _add(self, new: Registration) -> None:
        if new.cls in NATIVE:
            raise ConfigurationError(
                f"{new.cls.__qualname__} needs no registration: the codec knows it; leave it out", "types"
            )
        names = (new.name, *new.aliases)
        taken = next((name for name in names if name in self._by_name or names.count(name) > 1), None)
        if new.cls in self._by_class or taken is not None:
            message = f"{new.cls.__qualname__} or its name {taken or new.name!r} is registered already"
            raise ConfigurationError(f"{message}; give it another name=", "types")
        self._by_class[new.cls] = new
        self._by_name.update(dict.fromkeys(names, new))
        self._lists.clear()

    def merged(self, other: TypeRegistry) -> TypeRegistry:
        """A new registry with the classes of both; one that both hold by the same registration stands once."""
        check_instance(other, "other", TypeRegistry, "a TypeRegistry")
        both = TypeRegistry()
        for one in dict.fromkeys((*self, *other)):
            both._add(one)
        return both

    def __iter__(self) -> Iterator[Registration]:
        return iter(tuple(self._by_class.values()))

    def __len__(self) -> int:
        return len(self._by_class)

    def remembered(self, encoded: bytes) -> tuple[Registration, ...] | None:
        """The list that ``remember`` was given for these bytes."""
        return self._lists.get(encoded)

    def remember(self, encoded: bytes, found: Iterable[Registration]) -> tuple[Registration, ...]:
        """Keep a list of registrations under the bytes that name them, until another class is registered."""
        if len(self._lists) >= MOST_LISTS:
            self._lists.clear()
        kept = self._lists[encoded] = tuple(found)
        return kept

    def by_class(self, cls: type) -> Registration | None:
        """What is registered for exactly this class."""
        return self._by_class.get(cls) or BUILTIN_EXCEPTIONS.get(cls)

    def by_name(self, name: str) -> Registration | None:
        """What is registered under this name."""
        return self._by_name.get(name) or _EXCEPTIONS_BY_NAME.get(name)


def _is_users(function: object) -> bool:
    """Whether it is none of ours, which take all that their ``encode=`` gives: what they refuse was never written."""
    return str(getattr(function, "__module__", "")).partition(".")[0] != OURS


def default_name(cls: type) -> str:
    """The name of a class that is given none."""
    return f"{cls.__module__}.{cls.__qualname__}"


def _check_version(version: int) -> None:
    if type(version) is not int or version < 1:
        raise ConfigurationError("Invalid version: expected a whole number from 1 on", "version")


def _check_upgrades(upgrades: Upgrades) -> None:
    check_mapping(upgrades, "upgrades")
    for version, function in upgrades.items():
        check_whole(version, "upgrades, of which each key is a version,")
        check_callable(function, f"upgrades[{version}]")


def _aliases(aliases: Iterable[str]) -> tuple[str, ...]:
    try:
        found = () if isinstance(aliases, str) else tuple(aliases)
    except TypeError:
        found = ("",)
    if isinstance(aliases, str) or not all(type(alias) is str and alias for alias in found):
        raise ConfigurationError("Invalid aliases: expected names, in a tuple", "aliases")
    return found


def _plan(cls: type, encode: Callable[[Cell], object] | None, decode: Callable[[Cell], object] | None) -> Plan:
    if not isinstance(cls, type):
        raise TypeError(f"Invalid cls: only classes can be registered, not an object of {type(cls).__qualname__}")
    if encode is None and decode is None:
        return plan_for(cls)
    if encode is None or decode is None:
        raise ConfigurationError(
            f"{cls.__qualname__} is registered with one of encode= and decode=; give both", "types"
        )
    return PairPlan(cls, encode, decode)


def _dump_group(group: BaseExceptionGroup[BaseException]) -> list[object]:
    attributes = group.__dict__ or None
    return [group.message, list(group.exceptions), group.__cause__, group.__suppress_context__, attributes]


def _load_group(cls: type[BaseExceptionGroup[BaseException]]) -> Callable[[Cell], BaseExceptionGroup[BaseException]]:
    def load(parts: Cell) -> BaseExceptionGroup[BaseException]:
        message, exceptions, cause, suppress, attributes = parts
        group = cls(message, exceptions)
        group.__cause__ = cause
        group.__suppress_context__ = suppress
        group.__dict__.update(attributes or {})
        return group

    return load


def _builtin_exceptions() -> Mapping[type, Registration]:
    classes = {one for one in vars(builtins).values() if isinstance(one, type) and issubclass(one, BaseException)}
    groups: tuple[type[BaseExceptionGroup[BaseException]], ...] = (BaseExceptionGroup, ExceptionGroup)
    plans: dict[type, Plan] = {cls: plan_for(cls) for cls in classes.difference(groups)}
    plans.update((cls, PairPlan(cls, _dump_group, _load_group(cls))) for cls in groups)
    return {cls: Registration(cls, default_name(cls), 1, plan, {}) for cls, plan in plans.items()}


BUILTIN_EXCEPTIONS: Mapping[type, Registration] = _builtin_exceptions()
_EXCEPTIONS_BY_NAME = {one.name: one for one in BUILTIN_EXCEPTIONS.values()}
NATIVE: frozenset[type] = frozenset({*LEAVES, *PLAIN_TYPES, *BUILTIN_CONTAINERS, *BUILTIN_EXCEPTIONS})
