"""Classes are registered once, by a name and a version, and older versions become newer ones step by step."""

from __future__ import annotations

import dataclasses
import enum
from functools import cached_property
from typing import Any, NamedTuple

import attrs
import pytest

from flowpersist.codec import Codec, TypeRegistry
from flowpersist.codec.registry import MOST_LISTS
from flowpersist.errors import ConfigurationError, UnknownType


def registry(cls: type, **arguments: Any) -> TypeRegistry:
    types = TypeRegistry()
    types.register(cls, name="thing", **arguments)
    return types


def carried(old: TypeRegistry, new: TypeRegistry, value: Any) -> Any:
    return Codec(types=new).decode(Codec(types=old).encode(value).unwrap())


@attrs.define
class First:
    name: str
    link: Any = None


@attrs.define
class Second:
    first: str
    last: str
    link: Any = None


@attrs.define
class Third:
    full: str
    link: Any = None


def split(fields: dict[str, Any]) -> dict[str, Any]:
    first, last = fields.pop("name").split()
    return {"first": first, "last": last, **fields}


def join(fields: dict[str, Any]) -> dict[str, Any]:
    return {"full": fields["last"] + ", " + fields["first"], "link": fields["link"]}


def test_fields_of_an_older_version_go_through_each_upgrade():
    old = registry(First)
    new = registry(Third, version=3, upgrades={1: split, 2: join})
    one = First("Ada Lovelace")
    one.link = [one, (one, (1,))]
    copy = carried(old, new, [one]).unwrap()[0]
    assert copy.full == "Lovelace, Ada"
    assert copy.link[0] is copy


def test_a_missing_upgrade_names_both_versions():
    error = carried(registry(First), registry(Third, version=3, upgrades={1: split}), First("a b")).failure()
    assert isinstance(error, UnknownType)
    assert "version 1 of thing" in error.message
    assert "version 3" in error.message
    assert "from version 2" in error.message


def test_a_later_version_is_not_guessed_at():
    error = carried(registry(First, version=2), registry(First), First("a")).failure()
    assert isinstance(error, UnknownType)
    assert "version 2 of thing" in error.message


@pytest.mark.parametrize("new", [Second, Third])
def test_other_fields_under_the_same_version_are_told(new):
    assert isinstance(carried(registry(First), registry(new), First("a")).failure(), UnknownType)


def test_an_upgrade_that_gives_other_fields_is_told():
    new = registry(Third, version=2, upgrades={1: lambda _: {"nonsense": 1}})
    error = carried(registry(First), new, First("a")).failure()
    assert "the upgrade of thing from version 1 to 2 returned fields with no 'full'" in str(error)


class OldPoint(NamedTuple):
    x: int


class NewPoint(NamedTuple):
    x: int
    y: int


class Swapped(NamedTuple):
    y: int
    x: int


def test_namedtuples_and_members_and_pairs_are_upgraded_too():
    new = registry(NewPoint, version=2, upgrades={1: lambda fields: {**fields, "y": 0}})
    assert carried(registry(OldPoint), new, [OldPoint(1)]).unwrap() == [NewPoint(1, 0)]
    assert isinstance(carried(registry(NewPoint), registry(Swapped), NewPoint(1, 2)).failure(), UnknownType)
    pair = registry(Third, version=2, upgrades={1: str.upper}, encode=lambda one: one.full, decode=Third)
    old = registry(Third, encode=lambda one: one.full, decode=Third)
    assert carried(old, pair, Third("a")).unwrap() == Third("A")


class OldColour(enum.Enum):
    RED = 1
    GREEN = 2


class NewColour(enum.Enum):
    CRIMSON = 1


def test_members_that_are_gone_are_told_and_may_be_renamed():
    assert isinstance(carried(registry(OldColour), registry(NewColour), OldColour.RED).failure(), UnknownType)
    new = registry(NewColour, version=2, upgrades={1: lambda _: {"name": "CRIMSON"}})
    assert carried(registry(OldColour), new, OldColour.RED).unwrap() is NewColour.CRIMSON


def test_the_decorator_registers_and_returns_the_class():
    types = TypeRegistry()

    @types.register(name="decorated")
    @dataclasses.dataclass
    class Decorated:
        x: int

    @types.register
    @dataclasses.dataclass
    class Plain:
        x: int

    assert carried(types, types, [Decorated(1), Plain(2)]).unwrap() == [Decorated(1), Plain(2)]
    assert len(types) == 2


def test_what_is_registered_twice_is_refused():
    types = TypeRegistry(First)
    for cls, name in ((First, "other"), (Second, f"{__name__}.First")):
        with pytest.raises(ConfigurationError, match="already"):
            types.register(cls, name=name)


class Plain:
    pass


@pytest.mark.parametrize("cls", [Plain, int, list, ValueError, ...])
def test_what_can_not_be_registered_is_refused(cls):
    with pytest.raises((ConfigurationError, TypeError)):
        TypeRegistry().register(cls)


@pytest.mark.parametrize("arguments", [{"version": 0}, {"version": "1"}, {"encode": str}, {"decode": str}])
def test_arguments_that_make_no_sense_are_refused(arguments):
    with pytest.raises(ConfigurationError):
        TypeRegistry().register(First, **arguments)


def test_the_same_registration_again_changes_nothing():
    types = TypeRegistry(First)
    types.register(First)
    upgrades = {1: split}
    for _ in range(2):
        types.register(Third, name="third", version=2, upgrades=upgrades, aliases=["one", "other"])
        types.register(Second, encode=lambda_free_encode, decode=Second)
    assert len(types) == 3


def lambda_free_encode(one: Second) -> str:
    return one.first


OTHERWISE = [
    {"name": "third"},
    {"version": 2},
    {"aliases": ["Third"]},
    {"upgrades": {1: join}},
    {"encode": lambda one: one.full, "decode": Third},
]


@pytest.mark.parametrize("arguments", OTHERWISE, ids=lambda one: next(iter(one)))
def test_a_class_registered_with_other_arguments_is_refused(arguments):
    types = TypeRegistry(Third)
    with pytest.raises(ConfigurationError, match=r"Third is registered already.*register it once"):
        types.register(Third, **arguments)
    other = TypeRegistry()
    other.register(Third, **arguments)
    with pytest.raises(ConfigurationError, match="Third is registered already"):
        _ = types | other


def test_registries_merge():
    one, other = TypeRegistry(First), TypeRegistry(Second)
    both = one | other | one | TypeRegistry(First)
    assert [registration.cls for registration in both] == [First, Second]
    assert len(one) == len(other) == 1
    one |= other
    assert [registration.cls for registration in one] == [First, Second]
    assert carried(both, one, [First("a"), Second("b", "c")]).unwrap() == [First("a"), Second("b", "c")]
    with pytest.raises(TypeError):
        _ = one | {}


def test_a_registry_that_does_not_fit_leaves_the_other_as_it_was():
    one, other = TypeRegistry(First), TypeRegistry(Third)
    other.register(Second, name=f"{__name__}.First")
    with pytest.raises(ConfigurationError, match="give it another name="):
        one |= other
    assert [registration.cls for registration in one] == [First]
    assert one.by_name(f"{__name__}.Third") is None


@dataclasses.dataclass
class Lazy:
    x: int

    @cached_property
    def double(self) -> int:
        return 2 * self.x


def test_a_cached_property_is_no_field():
    one = Lazy(2)
    assert one.double == 4
    copy = carried(TypeRegistry(Lazy), TypeRegistry(Lazy), one).unwrap()
    assert vars(copy) == {"x": 2}


def test_a_factory_may_be_a_registered_class():
    from collections import defaultdict  # noqa: PLC0415

    copy = carried(TypeRegistry(First), TypeRegistry(First), defaultdict(First, a=First("x"))).unwrap()
    assert copy.default_factory is First
    assert copy == {"a": First("x")}


def test_a_list_of_classes_is_remembered_until_another_is_registered():
    types = TypeRegistry(First)
    known = tuple(types)
    assert types.remember(b"one", known) is types.remembered(b"one") is known
    assert types.remember_class(First, known) is types.remembered_class(First) is known
    types.register(Second)
    assert types.remembered(b"one") is None
    assert types.remembered_class(First) is None


def test_few_lists_of_classes_are_remembered():
    types = TypeRegistry(First)
    for number in range(1000):
        types.remember(b"%d" % number, types)
    assert types.remembered(b"999") is not None
    assert sum(types.remembered(b"%d" % number) is not None for number in range(1000)) <= MOST_LISTS
