"""The rules of a schema's class are asked before an answer is recorded, and instances of it are answers too."""

from __future__ import annotations

import dataclasses
import enum
import sys
import threading
from asyncio import CancelledError
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest
from returns.result import Failure, Success
from typing_extensions import TypedDict

from flowpersist import AwaitInput, ConfigurationError, InputValidationError, RaisingHub, TypeRegistry, or_raise
from flowpersist.dynamicflow import FlowRunner
from flowpersist.inputs.json_types import json_form
from flowpersist.testing.hubs import open_test_hub

SECRET = 12345


def odd(n: int) -> int:
    if n % 2:
        msg = f"{n} is odd"
        raise ValueError(msg)
    return n


class Model(pydantic.BaseModel):
    n: int
    check = pydantic.field_validator("n")(odd)


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    n: int
    due: date = date(2026, 1, 1)
    check = pydantic.field_validator("n")(odd)


@pydantic.dataclasses.dataclass
class PydanticData:
    n: int
    check = pydantic.field_validator("n")(odd)


@attrs.frozen
class Attrs:
    n: int = attrs.field(validator=lambda _, __, n: odd(n))


@dataclasses.dataclass
class Data:
    n: int

    def __post_init__(self) -> None:
        odd(self.n)


class Struct(msgspec.Struct):
    n: int

    def __post_init__(self) -> None:
        odd(self.n)


class Fields(TypedDict):
    part: Data


@dataclasses.dataclass
class Annotations:
    n: Annotated[int, pydantic.AfterValidator(odd)]


CLASSES = [Model, Strict, PydanticData, Attrs, Data, Annotations]
GOOD, BAD = {"n": 4}, {"n": SECRET}
#: A type, an answer that it takes, one that its schema takes and its class refuses, and the place of the fault.
KINDS: list[tuple[Any, object, object, str]] = [
    *((one, GOOD, BAD, "/n") for one in (Model, Strict, PydanticData, Annotations)),
    *((one, GOOD, BAD, "") for one in (Attrs, Data, Struct)),
    (Model | None, GOOD, BAD, "/n"),
    (list[Data], [GOOD], [GOOD, BAD], "/1"),
    (list[Model], [GOOD], [GOOD, BAD], "/1/n"),
    (dict[str, Attrs], {"a": GOOD}, {"a": BAD}, ""),
    (Fields, {"part": GOOD}, {"part": BAD}, "/part"),
    (Annotated[int, pydantic.AfterValidator(odd)], 4, SECRET, ""),
    (Model | Literal["none"], "none", BAD, "/n"),
]


def refused(result: Any, place: str | None = None) -> InputValidationError:
    error = result.failure()
    assert isinstance(error, InputValidationError)
    assert str(SECRET) not in f"{error} {error.problems} {error.to_problem()}"
    assert error.__cause__ is None
    assert place is None or error.problems[0].pointer == place
    return error


@asynccontextmanager
async def two_hubs(first: list[type], second: list[type] | TypeRegistry):
    """Two processes' hubs on one store, each with its own classes."""
    async with open_test_hub(types=first) as asking:
        ring = asking.suspensions.records.sealer.keyring
        async with open_test_hub(asking.backend, keyring=ring, types=second) as answering:
            yield asking, answering


@pytest.mark.parametrize(("kind", "good", "bad", "place"), KINDS, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("verb", ["answer", "resume", "claim"])
async def test_what_the_class_refuses_is_refused_before_it_is_recorded(verb, kind, good, bad, place):
    async with open_test_hub(audit=False) as hub:
        new = or_raise(await hub.suspend("s", awaiting=AwaitInput(id="x", prompt="?", schema=kind)))
        ref = hub.suspensions.records.ref(str(new.id))
        before = (await hub.backend.get(ref)).record
        refused(await getattr(hub, verb)(new.key, bad), place)
        assert (await hub.backend.get(ref)).record == before
        with pytest.raises(InputValidationError):
            await getattr(RaisingHub(hub), verb)(new.key, bad)
        assert isinstance(await getattr(hub, verb)(new.key, good), Success)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("registered", [True, False], ids=["asker has it", "asker made no registration"])
async def test_another_process_refuses_by_the_classes_that_it_registered(kind, registered):
    async with two_hubs([kind] if registered else [], [kind]) as (asking, answering):
        for schema, good, bad in ((kind, GOOD, BAD), (list[kind], [GOOD], [BAD]), (kind | None, None, BAD)):
            new = or_raise(await asking.suspend("s", awaiting=AwaitInput(id="x", prompt="?", schema=schema)))
            refused(await answering.answer(new.key, bad))
            assert isinstance(await answering.answer(new.key, good), Success)


async def test_a_class_goes_by_the_name_that_it_is_registered_under():
    asker, answerer = TypeRegistry(), TypeRegistry()
    asker.register(Data, name="even")
    answerer.register(Attrs, name="even")
    async with two_hubs(asker, answerer) as (asking, answering):
        new = or_raise(await asking.suspend("s", awaiting=AwaitInput(id="x", prompt="?", schema=Data)))
        assert "Attrs" in str(refused(await answering.answer(new.key, BAD)))


async def test_a_process_without_the_class_goes_by_the_schema_alone():
    async with two_hubs([], []) as (asking, answering):
        ask = AwaitInput(id="x", prompt="?", schema=Struct)
        first = or_raise(await asking.suspend("s", awaiting=ask))
        assert isinstance(await answering.answer(first.key, BAD), Success)
        answering.remember(ask)
        second = or_raise(await asking.suspend("s", awaiting=ask))
        refused(await answering.answer(second.key, BAD))


async def test_a_runners_tools_are_remembered():
    async with two_hubs([], []) as (asking, answering):
        ask = AwaitInput(id="ask", prompt="?", schema=Struct)
        document = {"flow": [{"id": "a", "tool": "ask"}]}
        paused = or_raise(await FlowRunner(asking, [ask]).start(document))
        runner = FlowRunner(answering, [ask])
        refused(await runner.resume(paused.waits[0].key, answer=BAD))
        assert isinstance(await runner.resume(paused.waits[0].key, answer=Struct(4)), Success)


async def test_no_name_in_a_store_leads_to_an_import():
    names = ["os.system", ["list", "subprocess.Popen"], ["union", ["union"] * 40], ["nonsense"], [], 7, {"a": 1}]
    async with open_test_hub() as hub:
        imported = set(sys.modules)
        assert [hub.answer_types.of({"id": "x", "schema": {}, "class": name}) for name in names] == [None] * 7
        assert set(sys.modules) == imported


@pytest.mark.parametrize(
    "raised",
    [KeyError(SECRET), RecursionError(), AttributeError("x"), SystemExit(SECRET), CancelledError(), MemoryError()],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_a_validator_raises_refuses_the_answer_and_breaks_nothing(raised):
    class Odd(pydantic.BaseModel):
        n: int

        @pydantic.field_validator("n")
        @classmethod
        def check(cls, n: int) -> int:
            if n == SECRET:
                raise raised
            return n

    @dataclasses.dataclass
    class Post:
        n: int

        def __post_init__(self) -> None:
            Odd(n=self.n)

    async with open_test_hub() as hub:
        for kind in (Odd, Post):
            new = or_raise(await hub.suspend("s", awaiting=AwaitInput(id="x", prompt="?", schema=kind)))
            refused(await hub.answer(new.key, BAD))
            assert isinstance(await hub.answer(new.key, GOOD), Success)


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    YES = "yes"


class Pair(NamedTuple):
    a: int
    b: date


@attrs.frozen
class Order:
    id: UUID
    colour: Colour
    lines: tuple[Data, ...]
    due: datetime


class Wrapped(pydantic.BaseModel):
    order_id: UUID = pydantic.Field(alias="orderId")
    price: Decimal
    colours: list[Colour]


NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
NUMBER = UUID(int=7)
INSTANCES: list[tuple[Any, object, object]] = [
    (Colour, Colour.RED, "red"),
    (Level, Level.LOW, 1),
    (Word, Word.YES, "yes"),
    (Literal["a"] | None, None, None),
    (date, NOON.date(), "2026-01-02"),
    (datetime, NOON, "2026-01-02T12:00:00Z"),
    (time, time(12, 30, tzinfo=UTC), "12:30:00Z"),
    (timedelta, timedelta(days=1), "P1D"),
    (UUID, NUMBER, str(NUMBER)),
    (Decimal, Decimal("1.50"), "1.50"),
    (bytes, b"ab", "YWI="),
    (set[int], {3, 1, 2}, [1, 2, 3]),
    (tuple[int, Colour], (1, Colour.RED), [1, "red"]),
    (Pair, Pair(1, NOON.date()), [1, "2026-01-02"]),
    (Model, Model(n=4), GOOD),
    (PydanticData, PydanticData(n=4), GOOD),
    (Attrs, Attrs(4), GOOD),
    (Data, Data(4), GOOD),
    (Struct, Struct(4), GOOD),
    (Annotations, Annotations(4), GOOD),
    (list[Model], [Model(n=4), {"n": 6}], [GOOD, {"n": 6}]),
    (dict[str, Colour], {"a": Colour.RED}, {"a": "red"}),
    (dict[Word, list[date]], {Word.YES: [NOON.date()]}, {"yes": ["2026-01-02"]}),
    (dict[int, str], {1: "a"}, {"1": "a"}),
    (
        Order,
        Order(NUMBER, Colour.RED, (Data(2),), NOON),
        {"id": str(NUMBER), "colour": "red", "lines": [{"n": 2}], "due": "2026-01-02T12:00:00Z"},
    ),
    (
        Wrapped,
        Wrapped(orderId=NUMBER, price=Decimal("1.5"), colours=[Colour.RED]),
        {"orderId": str(NUMBER), "price": "1.5", "colours": ["red"]},
    ),
    ({"type": "string", "format": "date"}, NOON.date(), "2026-01-02"),
    ({"type": "object", "properties": {"at": {"type": "string"}}}, {"at": PurePosixPath("a/b")}, {"at": "a/b"}),
]


@pytest.mark.parametrize(("kind", "given", "stored"), INSTANCES, ids=lambda value: str(value)[:40])
async def test_instances_are_answers_in_the_form_of_their_encoder_and_come_back(kind, given, stored):
    ask = AwaitInput(id="x", prompt="?", schema=kind)
    async with open_test_hub() as hub:
        for verb in (hub.answer, hub.resume, hub.claim):
            new = or_raise(await hub.suspend("s", awaiting=ask))
            assert isinstance(await verb(new.key, given), Success)
            if verb == hub.answer:
                assert or_raise(await hub.answer(new.key, given)).outcome == "replayed"
                assert or_raise(await hub.answer(new.key, stored)).outcome == "replayed"
            if verb != hub.claim:
                run = or_raise(await hub.claim(new.key)) if verb == hub.answer else None
        assert run is None or run.answer == stored
        if not isinstance(kind, dict):
            back = or_raise(ask.parse(stored))
            assert back == (given if kind != list[Model] else [Model(n=4), Model(n=6)])


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (None, NOON),
        (None, {1: 2}),
        (None, (1, 2)),
        (int, Colour.RED),
        (date, NOON),
        (list[int], range(3)),
        (dict[str, int], {1: 1, "1": 2}),
        (list[float], [float("nan")]),
        (Data, Model),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_has_no_form_or_does_not_fit_is_refused(kind, given):
    async with open_test_hub() as hub:
        new = or_raise(await hub.suspend("s", awaiting=AwaitInput(id="x", prompt="?", schema=kind)))
        for verb in (hub.answer, hub.resume, hub.claim):
            refused(await verb(new.key, given))


async def test_the_rules_of_a_class_run_in_no_event_loop():
    threads = []

    class Slow(pydantic.BaseModel):
        n: int

        @pydantic.field_validator("n")
        @classmethod
        def seen(cls, n):
            threads.append(threading.current_thread() is threading.main_thread())
            return n

    ask = AwaitInput(id="x", prompt="?", schema=Slow)
    async with open_test_hub() as hub:
        for verb in (hub.claim, hub.resume):
            new = or_raise(await hub.suspend(1, awaiting=ask))
            or_raise(await hub.answer(new.key, {"n": 1}))
            assert or_raise(await verb(new.key, awaiting=ask)).answer.n == 1
    assert set(threads) == {False}


async def test_an_instance_that_does_not_fit_its_class_shows_no_value_in_warnings(recwarn):
    async with open_test_hub() as hub:
        for kind in (Model, PydanticData):
            new = or_raise(await hub.suspend(1, awaiting=AwaitInput(id="x", prompt="?", schema=kind)))
            wrong = object.__new__(kind) if kind is PydanticData else Model.model_construct(n="canary")
            if kind is PydanticData:
                wrong.n = "canary"
            refused(await hub.answer(new.key, wrong))
    assert [str(warning.message) for warning in recwarn if "canary" in str(warning.message)] == []


def test_json_data_stays_the_same_object_and_what_is_too_much_is_left():
    data = {"a": [1, {"b": None}], "c": "x"}
    assert json_form(data) is data
    loop: list[object] = []
    loop.append(loop)
    assert json_form(loop) is loop
    much = [[NOON]] * 20_000
    assert json_form(much) is much


def test_a_default_may_be_an_instance_and_is_asked_for_the_classes_rules():
    ask = AwaitInput(id="x", prompt="?", schema=Order, default=INSTANCES[-4][1])
    assert ask.to_data()["default"] == INSTANCES[-4][2]
    assert AwaitInput.from_data(ask.to_data()).unwrap().to_data().keys() == ask.to_data().keys() - {"class"}
    for kind in (Model, Data, Attrs, PydanticData):
        with pytest.raises(ConfigurationError, match="default"):
            AwaitInput(id="x", prompt="?", schema=kind, default=BAD)


@pytest.mark.parametrize(
    ("kind", "data", "value"),
    [
        (Literal["a", 1] | None, 1, 1),
        (Literal["a"] | None, None, None),
        (int | str, "x", "x"),
        (Model | None, GOOD, Model(n=4)),
        (Data | None, GOOD, Data(4)),
        (list[Model], [GOOD], [Model(n=4)]),
        (dict[str, Model], {"a": GOOD}, {"a": Model(n=4)}),
        (Annotated[Model, "note"], GOOD, Model(n=4)),
        (Annotated[int, msgspec.Meta(ge=3)], 4, 4),
        (Annotated[int, pydantic.Field(ge=3)], 4, 4),
        (tuple[int, ...], [1], (1,)),
        (dict[int, str], {"1": "a"}, {1: "a"}),
        (Strict, {"n": 4, "due": "2026-01-02"}, Strict(n=4, due=NOON.date())),
        (type(None), None, None),
        (Any, [1], [1]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_forms_of_typing_are_schemas_and_parse_makes_their_values(kind, data, value):
    assert AwaitInput(id="x", prompt="?", schema=kind).parse(data) == Success(value)


def test_what_pydantic_says_in_annotated_is_part_of_the_schema():
    ask = AwaitInput(id="x", prompt="?", schema=Annotated[int, pydantic.Field(ge=3)])
    assert ask.json_schema["minimum"] == 3
    assert isinstance(ask.parse(2), Failure)


async def test_what_a_hub_remembers_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr("flowpersist.inputs.answer_types.MAX_REMEMBERED", 20)
    async with open_test_hub() as hub:
        for n in range(50):
            hub.remember(AwaitInput(id=f"a{n}", prompt="?", schema=Struct))
        assert len(hub.answer_types._by_digest) == 20
        assert len(hub.answer_types._seen) <= 20
