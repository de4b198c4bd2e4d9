"""What a state of a type may hold that a registry lacks is told from annotations, for a test that needs no state."""

from __future__ import annotations

import abc
import dataclasses
import gc
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from enum import Enum
from typing import Any, Protocol, TypedDict

import attrs
import pytest

from flowpersist.codec import TypeRegistry, check_types
from flowpersist.errors import StateProblem

HERE = __name__


class Colour(Enum):
    RED = 1


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self) -> float: ...


@attrs.define
class Circle(Shape):
    colour: Colour

    def area(self) -> float:
        return 1.0


@attrs.define
class Ring(Circle):
    pass


class Named(Protocol):
    name: str


class Options(TypedDict):
    colours: list[Colour]


class Client:
    def close(self) -> None: ...


@dataclasses.dataclass
class State:
    shapes: list[Shape]
    circle: Circle | None
    options: Options
    client: Client
    event: threading.Event
    on_done: Callable[[int], None]
    named: Named
    names: Sequence[str]
    more: dict[str, Any]


def told(*args: Any, **options: Any) -> dict[str, list[StateProblem]]:
    found: dict[str, list[StateProblem]] = {}
    for one in check_types(*args, **options):
        found.setdefault(str(one.path), []).append(one)
    return found


def test_all_that_the_registry_lacks_is_told():
    problems = told(State, TypeRegistry())
    assert {path: [one.type for one in some] for path, some in problems.items()} == {
        "State": [f"{HERE}.State"],
        "State.shapes[]": [f"{HERE}.Shape"],
        "State.circle": [f"{HERE}.Circle", f"{HERE}.Circle"],
        "State.client": [f"{HERE}.Client"],
        "State.event": ["threading.Event"],
        "State.circle.colour": [f"{HERE}.Colour"],
    } | {path: [f"{HERE}.Colour"] for path in problems if path.endswith("colours[]")}
    (shape,) = problems["State.shapes[]"]
    assert "2 subclasses" in shape.reason
    assert shape.remedy.endswith("types |= TypeRegistry.subclasses(Shape)")
    assert "a subclass that is not registered" in problems["State.circle"][1].reason
    assert problems["State"][0].remedy == f"register it: from {HERE} import State; types.register(State)"
    assert "open it again" in problems["State.client"][0].remedy


def test_a_registry_of_all_lacks_but_what_can_never_be_kept():
    types = TypeRegistry.tree(State) | TypeRegistry.subclasses(Shape)
    assert set(told(State, types)) == {"State.client", "State.event"}
    assert check_types(Circle, types) == ()
    assert check_types(Circle | list[Colour] | None, types) == ()


def test_fields_that_may_hold_anything_are_told_where_that_is_asked():
    types = TypeRegistry.tree(State) | TypeRegistry.subclasses(Shape)
    assert "State.more[]" not in told(State, types)
    (problem,) = told(State, types, strict=True)["State.more[]"]
    assert problem.reason == "anything may stand there"


def test_fields_of_classes_with_functions_of_their_own_are_not_looked_at():
    types = TypeRegistry.subclasses(Shape)
    types.register(State, encode=vars, decode=lambda _: None)
    assert check_types(State, types) == ()


@pytest.mark.parametrize("annotation", [Iterator[int], Generator[int, None, None], Awaitable[int]])
def test_computations_can_not_be_kept(annotation):
    (problem,) = check_types(annotation, TypeRegistry())
    assert "can't be kept" in problem.reason


def test_a_name_that_is_not_there_is_told():
    @dataclasses.dataclass
    class Order:
        line: Missing  # noqa: F821 - it is missing

    (problem,) = check_types(Order, TypeRegistry(Order))
    assert problem == StateProblem(problem.path, "Missing", *problem[2:])
    assert problem.path.endswith("Order.line")
    assert "import it there" in problem.remedy


def test_a_class_that_slots_have_replaced_is_not_found():
    class Base:
        pass

    gc.collect()
    gc.disable()
    try:

        @attrs.define
        class First(Base):
            x: int = 0

        @attrs.define
        class Second(First):
            y: int = 0

        assert len(First.__subclasses__()) > 1, "the class before it had slots is there, or this test shows nothing"
        assert {one.cls for one in TypeRegistry.subclasses(Base)} == {First, Second}
        assert check_types(Base | int, TypeRegistry.subclasses(Base))[0].type.endswith("Base")
    finally:
        gc.enable()
