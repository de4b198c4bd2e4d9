"""The classes that a codec knows: a closed list, by class for encoding and by name for decoding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import tzinfo
from types import MappingProxyType
from typing import TypeVar, get_origin, overload

from attrs import evolve
from typing_extensions import is_typeddict

from flowpersist.codec.annotations import is_annotation
from flowpersist.codec.discovery import annotated_classes, classes_below, package_classes
from flowpersist.codec.fields import ASIDE
from flowpersist.codec.found import FoundPlans, tolerance
from flowpersist.codec.generics import ALIAS, COVERED, EXPRESSIONS, AliasPlan, Grammar, covered_model, named_model
from flowpersist.codec.native import (
    BUILTIN_BY_NAME,
    BUILTIN_CLASSES,
    BUILTIN_CONTAINERS,
    BUILTIN_NAMES,
    BUILTIN_REGISTRATIONS,
    NATIVE,
    fixed_offset,
)
from flowpersist.codec.packing import Cell
from flowpersist.codec.planning import plan_for
from flowpersist.codec.plans import PairPlan, Upgrades
from flowpersist.codec.references import FUNCTIONS, REFERENCE, ReferencePlan, References
from flowpersist.codec.registering import check_upgrades, check_version, names_before, plan_as_said
from flowpersist.codec.registration import Registration, default_name
from flowpersist.codec.standard import STANDARD_PLANS
from flowpersist.codec.zones import is_fixed_offset
from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import (
    check_callable,
    check_class,
    check_classes,
    check_flag,
    check_optional,
    check_str,
    mistyped,
)

__all__ = ["BUILTIN_CONTAINERS", "Registration", "TypeRegistry", "default_name"]

T = TypeVar("T")

#: So many lists of classes are remembered, of states and heads of some kinds; the bytes of each are at most 64 KiB.
MOST_LISTS = 64


class TypeRegistry:
    """Which classes may be encoded and decoded, besides Python's own that the codec knows by itself.

    ``TypeRegistry(Order, Line)`` registers both as they are; ``register`` also takes a name, a version, and
    functions. Nothing that is not here is ever looked up, imported or called, whatever bytes say.
    """

    def __init__(self, *classes: type) -> None:
        self._by_class: dict[type, Registration] = {}
        self._by_name: dict[str, Registration] = {}
        self._lists: dict[bytes, Cell] = {}
        self._held: dict[type, Cell] = {}
        self._references = References()
        check_classes(classes, "classes", "classes, one after the other")
        for cls in classes:
            self.register(cls)

    @classmethod
    def tree(
        cls, *roots: object, attributes: Iterable[str] = (), fields: str = "exact", unknown_fields: str = "drop"
    ) -> TypeRegistry:
        """A registry of classes and of all that their annotations name.

        ``roots`` are classes, or other annotations such as unions of classes. Annotations are followed through unions,
        generics, aliases, typed dicts, bases and forward references. A class that can't be registered alone is left
        out, and so are subclasses that no annotation names: ``check_types`` tells which. ``attributes`` are names of
        attributes that objects may have besides the fields of their classes, and are kept too. ``fields``:
        ``"exact"``, or ``"tolerant"`` for classes of others, whose fields come and go: while decoding an absent field
        takes its default. ``unknown_fields`` says of one that the class does not declare whether to ``"drop"`` it, or
        to ``"keep"`` it aside in the object's ``__dict__``, from where it comes back once it is declared.
        ``ConfigurationError`` for an annotation whose names are not there.
        """
        for root in roots:
            if not is_annotation(root):
                mistyped("roots", "classes, or other annotations", root)
        plans = FoundPlans(attributes, fields, unknown_fields)
        given = [root for root in roots if isinstance(root, type) and not _is_open(root)]
        for root in given:
            if plans[root] is None:
                # A class that is given is not left out in silence.
                plan_for(root)
        return cls._found([*given, *annotated_classes(roots, lambda one: plans[one] is not None)], plans)

    @classmethod
    def package(
        cls,
        name: str,
        *,
        base: type,
        attributes: Iterable[str] = (),
        fields: str = "exact",
        unknown_fields: str = "drop",
    ) -> TypeRegistry:
        """A registry of the subclasses of ``base`` that a package defines.

        All modules of the package ``name`` are imported, now and by this call alone; one that needs what is not
        installed is left out. Classes that can't be registered alone are left out too. ``attributes``,
        ``fields`` and ``unknown_fields``: as for ``tree``. ``ConfigurationError`` where the package can't be imported.
        """
        check_str(name, "name")
        check_class(base, "base")
        return cls._found(package_classes(name, base), FoundPlans(attributes, fields, unknown_fields))

    @classmethod
    def subclasses(
        cls, base: type, *, attributes: Iterable[str] = (), fields: str = "exact", unknown_fields: str = "drop"
    ) -> TypeRegistry:
        """A registry of ``base`` and its subclasses, as this process has defined them by now.

        Import the modules that define them first. Classes that can't be registered alone are left out. ``attributes``,
        ``fields`` and ``unknown_fields``: as for ``tree``.
        """
        check_class(base, "base")
        return cls._found(classes_below(base), FoundPlans(attributes, fields, unknown_fields))

    @overload
    def register(
        self,
        cls: type[T],
        *,
        name: str | None = None,
        version: int = 1,
        aliases: Iterable[str] = (),
        upgrades: Upgrades = ...,
        attributes: bool = False,
        secret: bool = False,
        fields: str = "exact",
        unknown_fields: str = "drop",
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
        attributes: bool = False,
        secret: bool = False,
        fields: str = "exact",
        unknown_fields: str = "drop",
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
        attributes: bool = False,
        secret: bool = False,
        fields: str = "exact",
        unknown_fields: str = "drop",
        encode: Callable[[Cell], object] | None = None,
        decode: Callable[[Cell], object] | None = None,
    ) -> type[T] | Callable[[type[T]], type[T]]:
        """Register a class, by a call or as a decorator.

        ``name`` stands for it in the bytes, by default its qualified name with its module: give one before moving the
        class; ``aliases`` are names that it had before, under which it is still read. Raise ``version`` when its
        fields change, and put into ``upgrades`` for each older version a function from the mapping of that version's
        fields to that of the next (with ``encode``, from what it gave then; with a ``__getstate__``, from that state;
        of a subclass of a builtin class, from its attributes).
        ``attributes``: what its objects have in ``__dict__`` and slots is kept, whatever the class declares, and comes
        back without a call of its own code; an upgrade takes the mapping of the attributes.
        ``secret``: its objects are written only where the bytes are encrypted, by a keyring. ``fields`` and
        ``unknown_fields``: as for ``tree``.
        ``encode`` and ``decode`` go together: to and from any supported value. The same registration again changes
        nothing; ``ConfigurationError`` for a class or a name that is registered otherwise, or a class that can't be.
        """
        check_optional(name, "name", check_str)
        check_version(version)
        others = names_before(aliases)
        check_upgrades(upgrades)
        check_flag(attributes, "attributes")
        check_flag(secret, "secret")
        is_tolerant, keeps_unknown = tolerance(fields, unknown_fields)
        check_optional(encode, "encode", check_callable)
        check_optional(decode, "decode", check_callable)

        def add(target: type[T]) -> type[T]:
            plan = plan_as_said(target, encode, decode, (ASIDE,) if keeps_unknown else (), attributes=attributes)
            own = name or default_name(target)
            registration = Registration(target, own, version, plan, dict(upgrades), others, is_secret=secret)
            self._add(evolve(registration, is_tolerant=is_tolerant, keeps_unknown=keeps_unknown))
            return target

        return add if cls is None else add(cls)

    @classmethod
    def _found(cls, classes: Iterable[type], plans: FoundPlans) -> TypeRegistry:
        types = cls()
        for one in classes:
            plan = plans[one]
            if plan is not None:
                found = Registration(one, default_name(one), 1, plan, {}, is_found=True)
                types._add(evolve(found, is_tolerant=plans.is_tolerant, keeps_unknown=plans.keeps_unknown))
        return types

    def _add(self, new: Registration) -> None:
        if new.cls in NATIVE and not (new.cls in STANDARD_PLANS and isinstance(new.plan, PairPlan)):
            raise ConfigurationError(
                f"{new.cls.__qualname__} needs no registration: the codec knows it; leave it out", "types"
            )
        known = self._by_class.get(new.cls)
        if known is not None:
            if known.says_the_same(new) or (new.is_found and (not known.is_found or known.includes(new))):
                return
            if not known.is_found or (new.is_found and not new.includes(known)):
                message = f"{new.cls.__qualname__} is registered already, as {known.name!r} and with other arguments"
                raise ConfigurationError(f"{message}; register it once", "types")
        self._check_names(new)
        if known is not None:
            del self._by_name[known.name]
        self._by_class[new.cls] = new
        self._by_name.update(dict.fromkeys((new.name, *new.aliases), new))
        self._lists.clear()
        self._held.clear()

    def _check_names(self, new: Registration) -> None:
        names = (new.name, *new.aliases)
        for name in names:
            other = self._by_name.get(name)
            if names.count(name) > 1 or (other is not None and other.cls is not new.cls):
                message = f"the name {name!r} of {new.cls.__qualname__} is registered already"
                raise ConfigurationError(f"{message}; give it another name=", "types")

    def __or__(self, other: TypeRegistry) -> TypeRegistry:
        """A new registry with the classes of both.

        A class that both hold by equal registrations stands once, and one found in bulk gives way to one registered
        by name. ``ConfigurationError`` where two registrations of a class, or two classes of a name, differ.
        """
        if not isinstance(other, TypeRegistry):
            return NotImplemented
        both = TypeRegistry()
        both |= self
        both |= other
        return both

    def __ior__(self, other: TypeRegistry) -> TypeRegistry:  # noqa: PYI034 - a subclass has no say in it
        """The same into this registry, which stays as it was where the two don't fit together."""
        if not isinstance(other, TypeRegistry):
            return NotImplemented
        kept = dict(self._by_class), dict(self._by_name), self._references.copy()
        try:
            for one in other:
                self._add(one)
            self._references.update(other._references)
        except ConfigurationError:
            self._by_class, self._by_name, self._references = kept
            raise
        return self

    def reference(self, one: T, *, name: str | None = None) -> T:
        """Give a function or class a name, so that a value may hold it: as itself, in a ``functools.partial``, or as a
        ``default_factory``.

        ``name`` stands for it in the bytes, by default its qualified name with its module. A registered class, and one
        that the codec knows by itself, needs no call: its name refers to it. Returns what it is given, so that it is
        also a decorator. ``ConfigurationError`` where the name is taken.
        """
        check_optional(name, "name", check_str)
        self._references.add(one, name)
        return one

    def __iter__(self) -> Iterator[Registration]:
        return iter(tuple(self._by_class.values()))

    def __len__(self) -> int:
        return len(self._by_class)

    def remembered(self, encoded: bytes) -> Cell | None:
        """What ``remember`` was given for these bytes."""
        return self._lists.get(encoded)

    def remember(self, encoded: bytes, found: T) -> T:
        """Keep what is known of a list of classes under the bytes that name them, until another one is registered."""
        if len(self._lists) >= MOST_LISTS:
            self._lists.clear()
        self._lists[encoded] = found
        return found

    def remembered_class(self, cls: type) -> Cell | None:
        """What ``remember_class`` was given for this class."""
        return self._held.get(cls)

    def remember_class(self, cls: type, found: T) -> T:
        """Keep what is known of a class until another one is registered."""
        self._held[cls] = found
        return found

    def by_class(self, cls: type) -> Registration | None:
        """What is registered for this class, or known of it without."""
        return self._by_class.get(cls) or BUILTIN_REGISTRATIONS.get(cls) or self._covered(cls)

    def by_name(self, name: str) -> Registration | None:
        """What is registered under this name."""
        found = self._by_name.get(name) or BUILTIN_BY_NAME.get(name)
        if found is not None or not name.startswith("["):
            return self._covered(COVERED[name]) if found is None and name in COVERED else found
        return named_model(name, self, self._grammar())

    def name_of(self, cls: type) -> str | None:
        """The name of a class that is registered, or that the codec knows by itself."""
        found = self._by_class.get(cls)
        return BUILTIN_NAMES.get(cls) if found is None else found.name

    def named(self, name: str) -> type | None:
        """The class of this name."""
        found = self._by_name.get(name)
        return BUILTIN_CLASSES.get(name) if found is None else found.cls

    def unencrypted(self) -> TypeRegistry:
        """The same classes, as they may be in bytes that nothing encrypts: without those registered as secret."""
        return _Unencrypted(self)

    def withholds(self, cls: type) -> bool:  # noqa: ARG002 - of those without secret classes
        """Whether a class is registered, and left out because the bytes are not encrypted."""
        return False

    def _covered(self, cls: type) -> Registration | None:
        """What covers a class that is not registered: functions and classes go by names, zones by a base class."""
        if issubclass(cls, type) or cls in FUNCTIONS:
            return self._referring(cls)
        if cls in EXPRESSIONS:
            return Registration(cls, ALIAS, 1, AliasPlan(cls, grammar=self._grammar()), {})
        if not issubclass(cls, tzinfo):
            return covered_model(cls, self, self._grammar())
        bases = (self._by_class.get(base) for base in cls.__mro__)
        found = next((one for one in bases if one is not None and isinstance(one.plan, PairPlan)), None)
        return fixed_offset(cls) if found is None and is_fixed_offset(cls) else found

    def _referring(self, cls: type) -> Registration:
        return Registration(cls, REFERENCE, 1, self._references_to(cls), {})

    def _grammar(self) -> Grammar:
        return Grammar(self._references_to(type), self)

    def _references_to(self, cls: type) -> ReferencePlan:
        return ReferencePlan(cls, references=self._references, classes=self)


class _Unencrypted(TypeRegistry):
    """Another registry without its secret classes, also as it is changed later."""

    def __init__(self, whole: TypeRegistry) -> None:
        self.__dict__ = whole.__dict__

    def by_class(self, cls: type) -> Registration | None:
        """What is registered for this class, unless it is secret."""
        return None if self.withholds(cls) else super().by_class(cls)

    def withholds(self, cls: type) -> bool:
        """Whether the class is registered as secret."""
        found = self._by_class.get(cls)
        return found is not None and found.is_secret


def _is_open(root: Cell) -> bool:
    """Whether a root only leads to classes: what the codec knows, a typed dict, or a generic alias of a class."""
    return root in NATIVE or is_typeddict(root) or get_origin(root) is not None
