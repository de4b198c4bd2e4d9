"""Classes are registered in bulk from annotations, packages and base classes: a closed list once it is made."""

from __future__ import annotations

import dataclasses
import enum
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    TypedDict,
    TypeVar,
    Union,
)

import attrs
import pydantic
import pytest
import typing_extensions

from flowpersist.codec import Codec, TypeRegistry
from flowpersist.errors import ConfigurationError, UnknownType

T = TypeVar("T")


@attrs.define
class Leaf:
    x: int = 0


class Colour(enum.Enum):
    RED = 1


class Pair(NamedTuple):
    left: Leaf
    right: Optional[Pair]  # noqa: UP045 - the older form is written too


class Named(TypedDict):
    leaf: NotRequired[Leaf]
    again: Named


@dataclasses.dataclass
class Box(Generic[T]):
    content: T


@dataclasses.dataclass
class LeafBox(Box[Leaf]):
    pass


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    leaf: Leaf
    _private: Colour = pydantic.PrivateAttr(Colour.RED)


Content = TypeVar("Content")


class GenericModel(pydantic.BaseModel, Generic[Content]):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    content: list[Content]


class Tags(list[Leaf]):
    pass


class Failed(Exception):
    leaf: Leaf


class Plain:
    leaf: Leaf


LeafId = NewType("LeafId", Leaf)
Bound = TypeVar("Bound", bound="Leaf")
Alias = typing_extensions.TypeAliasType("Alias", "list[Leaf | Alias]")
AliasOf = typing_extensions.TypeAliasType("AliasOf", dict[str, T], type_params=(T,))
JSON = Union[dict[str, "JSON"], list["JSON"], str, Leaf]  # noqa: UP007 - as above

#: An annotation, and the classes that it leads to.
ANNOTATIONS: list[tuple[Any, set[type]]] = [
    (Leaf, {Leaf}),
    (int | None, set()),
    (Leaf | str | None, {Leaf}),
    (Union[Leaf, Colour], {Leaf, Colour}),  # noqa: UP007 - as above
    (list[Leaf], {Leaf}),
    (dict[str, tuple[Leaf, ...]], {Leaf}),
    (Sequence[Mapping[str, Leaf]], {Leaf}),
    ("Leaf", {Leaf}),
    ("list[Missing] if False else list[Leaf]", {Leaf}),
    (Annotated[Leaf, {"not": "hashable"}], {Leaf}),
    (Final[Leaf], {Leaf}),
    (ClassVar[Leaf], set()),
    ("ClassVar[Missing]", set()),
    ("typing.ClassVar[Missing]", set()),
    (Literal[Colour.RED, "red", 1], {Colour}),
    (Pair, {Pair, Leaf}),
    (Named, {Leaf}),
    (Box[Leaf], {Box, Leaf}),
    (LeafBox, {LeafBox, Leaf}),
    (Model, {Model, Leaf, Colour}),
    (GenericModel[Leaf], {GenericModel[Leaf], Leaf}),
    (Tags, {Tags, Leaf}),
    (Failed, {Failed, Leaf}),
    (Plain, set()),
    (LeafId, {Leaf}),
    (Bound, {Leaf}),
    (Alias, {Leaf}),
    (AliasOf[Leaf], {Leaf}),
    (JSON, {Leaf}),
    (Callable[[Leaf], Colour], set()),
    (Any, set()),
    (T, set()),
    (typing.Self, set()),
    (dataclasses.InitVar[Leaf], set()),
    (type[Leaf], {Leaf}),
]


@pytest.mark.parametrize("number", range(len(ANNOTATIONS)))
def test_a_tree_follows(number):
    annotation, classes = ANNOTATIONS[number]
    state = type("State", (), {"__annotations__": {"field": annotation}, "__module__": __name__})
    types = TypeRegistry.tree(dataclasses.dataclass(state))
    assert {one.cls for one in types} == {state, *classes}


#: A class that can't be registered, what may be anything, and names of which only a class's body knows the module.
NO_ROOTS = (Plain, Any, JSON)
ROOTS = [
    n
    for n, (one, _) in enumerate(ANNOTATIONS)
    if one not in NO_ROOTS and not isinstance(one, str | dataclasses.InitVar)
]


@pytest.mark.parametrize("number", ROOTS)
def test_a_tree_may_begin_at_any_annotation(number):
    annotation, classes = ANNOTATIONS[number]
    assert {one.cls for one in TypeRegistry.tree(annotation)} == classes


NAMED = [typing.List["Leaf"], list["Leaf"], "Leaf", "list[Leaf]", dict[str, "Leaf | None"]]  # noqa: UP006 - as above


@pytest.mark.parametrize("number", range(len(NAMED)))
def test_names_in_annotations_are_those_of_the_module_or_of_other_roots(number):
    state = dataclasses.dataclass(type("State", (), {"__annotations__": {"field": NAMED[number]}}))
    state.__module__ = "somewhere"
    with pytest.raises(ConfigurationError, match=r"State\.field can't be evaluated: Leaf is not defined"):
        TypeRegistry.tree(state)
    assert {one.cls for one in TypeRegistry.tree(state, Leaf)} == {state, Leaf}


def test_names_in_a_root_are_those_of_other_roots():
    with pytest.raises(ConfigurationError, match="Leaf is not defined"):
        TypeRegistry.tree(list["Leaf"])
    assert {one.cls for one in TypeRegistry.tree(list["Leaf"], Leaf)} == {Leaf}


@pytest.mark.parametrize("root", [Plain, object])
def test_a_root_that_can_not_be_registered_is_refused(root):
    with pytest.raises(ConfigurationError, match=f"{root.__name__} can't be registered alone"):
        TypeRegistry.tree(root)


def test_what_a_tree_has_found_comes_back():
    state = LeafBox(Leaf(1))
    pair = Pair(Leaf(2), Pair(state.content, None))
    codec = Codec(TypeRegistry.tree(LeafBox, Pair))
    copy = codec.decode(codec.encode([state, pair]).unwrap()).unwrap()
    assert copy == [state, pair]
    assert copy[1].right.left is copy[0].content


def test_attrs_fields_without_annotations_are_followed():
    made = attrs.make_class("Made", {"leaf": attrs.field(type=Leaf), "more": attrs.field(type="list[Colour]")})
    made.__module__ = __name__
    assert {one.cls for one in TypeRegistry.tree(made)} == {made, Leaf, Colour}


def test_classes_of_a_function_are_found_among_the_roots():
    @dataclasses.dataclass
    class Node:
        next: Node | None
        leaf: Local | None

    with pytest.raises(ConfigurationError, match=r"Node\.leaf can't be evaluated: Local is not defined.*to tree too"):
        TypeRegistry.tree(Node)

    @dataclasses.dataclass
    class Local:
        colour: Colour

    assert {one.cls for one in TypeRegistry.tree(Node, Local)} == {Node, Local, Colour}


def test_a_field_may_have_the_name_of_its_class():
    @dataclasses.dataclass
    class State:
        Leaf: Leaf = None  # type: ignore[valid-type]

    assert {one.cls for one in TypeRegistry.tree(State)} == {State, Leaf}


class Base:
    pass


@attrs.define
class Child(Base):
    x: int = 0


@attrs.define
class Grandchild(Child):
    y: int = 0


def test_subclasses_are_those_that_are_there_by_now():
    types = TypeRegistry.subclasses(Base)
    assert [one.cls for one in types] == [Child, Grandchild]

    @attrs.define
    class Late(Base):
        pass

    assert types.by_class(Late) is None
    late = TypeRegistry(Late)
    error = Codec(types).decode(Codec(late).encode(Late()).unwrap()).failure()
    assert isinstance(error, UnknownType)
    assert Late in {one.cls for one in TypeRegistry.subclasses(Base)}


PACKAGE = {
    "__init__.py": "",
    "__main__.py": "raise SystemExit('a program was run')",
    "models.py": "import attrs\n@attrs.define\nclass Root: ...\n@attrs.define\nclass Order(Root):\n"
    "    id: int\n    @attrs.define\n    class Line(Root):\n        n: int\n"
    "@attrs.define\nclass Other: ...\n",
    "deep/__init__.py": "",
    "deep/more.py": "import attrs\nfrom shop_of_tests.models import Order, Root\n"
    "@attrs.define\nclass Refund(Root): ...\n",
    "absent.py": "import attrs\nimport a_module_that_is_nowhere\n@attrs.define\nclass Unseen: ...\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    for name, text in PACKAGE.items():
        place = tmp_path / "shop_of_tests" / name
        place.parent.mkdir(exist_ok=True)
        place.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "shop_of_tests"
    for name in [name for name in sys.modules if name.startswith("shop_of_tests")]:
        del sys.modules[name]


def test_a_package_gives_the_classes_that_its_modules_define(package):
    from shop_of_tests.models import Root  # noqa: PLC0415

    types = TypeRegistry.package("shop_of_tests", base=Root)
    assert sorted(one.name for one in types) == [
        "shop_of_tests.deep.more.Refund",
        "shop_of_tests.models.Order",
        "shop_of_tests.models.Order.Line",
        "shop_of_tests.models.Root",
    ]


def test_a_package_that_is_missing_or_broken_is_told(package):
    with pytest.raises(ConfigurationError, match="not installed"):
        TypeRegistry.package("a_package_that_is_nowhere", base=object)
    (package / "broken.py").write_text("1 / 0")
    with pytest.raises(ConfigurationError, match=r"shop_of_tests\.broken can't be imported \(ZeroDivisionError\)"):
        TypeRegistry.package("shop_of_tests", base=Base)


def upgraded(fields: dict[str, Any]) -> dict[str, Any]:
    return fields


class Reply(pydantic.BaseModel):
    text: str


@dataclasses.dataclass
class Call:
    name: str

    def __post_init__(self) -> None:
        self.hint = None


def test_attributes_besides_the_fields_are_kept_where_they_are_named():
    replies = [Reply(text="a"), Reply(text="b")]
    object.__setattr__(replies[1], "_request_id", "r1")
    calls = [Call("c"), Call("d")]
    del calls[1].hint
    types = TypeRegistry.tree(Reply, Call, attributes=["_request_id", "hint", "text"])
    copy = Codec(types).decode(Codec(types).encode([replies, calls]).unwrap()).unwrap()
    assert [list(vars(one).items()) for some in copy for one in some] == [
        [("text", "a")],
        [("text", "b"), ("_request_id", "r1")],
        [("name", "c"), ("hint", None)],
        [("name", "d")],
    ]
    assert copy == [replies, calls]
    assert len(Codec(TypeRegistry.tree(Reply, Call)).check([replies, calls])) == 2


def test_of_two_classes_found_the_one_with_further_attributes_stays():
    plain, more = TypeRegistry.tree(Reply), TypeRegistry.tree(Reply, attributes=["_request_id"])
    for types in (plain | more, more | plain):
        assert "_request_id" in types.by_class(Reply).plan.names
    with pytest.raises(ConfigurationError, match="Reply is registered already"):
        _ = more | TypeRegistry.tree(Reply, attributes=["_other"])


@pytest.mark.parametrize("first", ["found", "named"])
def test_a_class_registered_by_name_has_its_say_over_one_that_was_found(first):
    found, named = TypeRegistry.tree(Pair), TypeRegistry()
    named.register(Leaf, name="shop.Leaf", version=2, upgrades={1: upgraded})
    types = found | named if first == "found" else named | found
    assert types.by_class(Leaf).name == "shop.Leaf"
    assert types.by_class(Leaf).version == 2
    assert types.by_name("shop.Leaf").cls is Leaf
    assert types.by_name(f"{__name__}.Leaf") is None
    assert types.by_class(Pair) is not None


def test_two_classes_of_one_name_are_a_conflict_in_bulk_too():
    twice = [attrs.make_class("Twice", [], bases=(Base,)) for _ in range(2)]
    with pytest.raises(ConfigurationError, match=r"the name .* of Twice is registered already"):
        TypeRegistry.subclasses(Base)
    assert twice
