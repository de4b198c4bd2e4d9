"""What tools return is what steps pass on, what a run keeps over pauses, and what it ends with: the same values of the
same classes, where the hub's codec takes them.
"""

from __future__ import annotations

import dataclasses
import enum
from collections import deque
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest
import pytest_asyncio
from returns.result import Failure

from flowpersist import AwaitInput, or_raise
from flowpersist.codec import TypeRegistry
from flowpersist.dynamicflow import Completed, FlowRunner, Join, Suspended, tool
from flowpersist.errors import FlowError
from flowpersist.testing.hubs import open_test_hub


@dataclasses.dataclass
class Line:
    name: str
    price: Decimal
    _cost: int = 0


@attrs.define
class Order:
    number: int
    lines: list[Line]
    due: date = date(2026, 1, 2)
    _secret: str = "none of theirs"
    reads: int = attrs.field(default=0, init=False)

    @property
    def total(self) -> int:
        self.reads += 1
        return self.reads


class Colour(enum.Enum):
    RED = "red"


class Model(pydantic.BaseModel):
    size: int
    hidden: str = pydantic.Field(default="h", exclude=True)
    _own: int = 3

    @property
    def twice(self) -> int:
        return 2 * self.size


class Struct(msgspec.Struct):
    at: datetime


@dataclasses.dataclass
class Unknown:
    number: int
    inner: object
    _private: int = 1


@dataclasses.dataclass
class Holder:
    held: object


class Opaque:
    """Nothing is known of it."""


CLASSES = [Line, Order, Colour, Model, Struct, Holder]
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
VALUES = {
    "an attrs object": Order(1, [Line("a", Decimal("1.50"))]),
    "a dataclass": Line("a", Decimal("0.1"), 7),
    "an enum": Colour.RED,
    "a model": Model(size=3),
    "a struct": Struct(NOW),
    "a time": NOW,
    "a date": date(2026, 2, 3),
    "a duration": timedelta(seconds=90),
    "a decimal": Decimal("1.10"),
    "a fraction": Fraction(1, 3),
    "a set": {"a", "b"},
    "a frozen set of tuples": frozenset({(1, "a"), (2, "b")}),
    "a tuple": (1, [2], {"a": (3,)}),
    "a deque": deque([1, 2], maxlen=5),
    "bytes": b"\x00\xff",
    "a path": PurePosixPath("/a/b"),
    "an id": UUID(int=7),
    "objects in plain data": {"orders": [Order(1, []), Order(2, [])], "on": {date(2026, 1, 1)}},
    "plain data": {"a": [1, "b", None, True, 1.5]},
}

given: list[object] = []


@tool(output_schema={})
async def make(name: str) -> object:
    return VALUES[name] if name in VALUES else MADE[name]()


@tool()
async def say(value: object = None) -> object:
    given.append(value)
    return value


@tool()
async def bill(order: Order) -> str:
    given.append(order)
    return f"bill {order.number}"


@tool()
async def bills(orders: list[Order], on: date | None = None) -> int:
    given.extend([orders, on])
    return len(orders)


@tool()
async def parts(number: int, lines: object, due: date, reads: int) -> int:
    given.extend([number, lines, due, reads])
    return number


@tool()
async def labels(words: set[str]) -> int:
    given.append(words)
    return len(words)


TOOLS = [make, say, bill, bills, parts, labels]
ASK = {"id": "q", "tool": "await_input", "args": {"prompt": "go on?"}}


def shared_pair():
    line = Line("a", Decimal(1))
    return [Order(1, [line, line]), line]


def wide(levels):
    made: object = "end"
    for _ in range(levels):
        made = Holder([made, made])
    return made


MADE = {
    "unknown": lambda: Unknown(1, Order(5, [])),
    "shared": shared_pair,
    "an opaque object": lambda: {"a": [Opaque()]},
    "a known one with an unknown part": lambda: {"a": Holder(Unknown(1, 2))},
    "a wide one": lambda: wide(40),
    "a large set": lambda: set(range(20_000)),
}


@pytest_asyncio.fixture(loop_scope="module")
async def hub():
    given.clear()
    async with open_test_hub(keyring=None, types=TypeRegistry(*CLASSES)) as opened:
        yield opened


async def run(hub, *steps, tools=TOOLS, joins=(), answer=True):
    """The end of a run; of one that asks, by another runner."""
    outcome = await FlowRunner(hub, tools, joins, backoff=lambda _: 0).start({"flow": list(steps)})
    if isinstance(outcome, Failure) or isinstance(outcome.unwrap(), Completed):
        return outcome
    return await FlowRunner(hub, tools, joins, backoff=lambda _: 0).resume(outcome.unwrap().key, answer=answer)


def made(name, id="o"):
    return {"id": id, "tool": "make", "args": {"name": name}}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("pauses", [True, False], ids=["over a pause", "in one leg"])
async def test_a_result_stays_what_the_tool_returned(hub, name, pauses):
    ended = or_raise(await run(hub, made(name), *([ASK] if pauses else [])))
    value = ended.outputs["o"]
    assert value == VALUES[name]
    assert type(value) is type(VALUES[name])
    assert pauses or value is VALUES[name]


async def test_the_end_of_a_run_is_told_again_with_the_same_values(hub):
    runner = FlowRunner(hub, TOOLS)
    for _ in range(2):
        ended = or_raise(await runner.start({"flow": [made("an attrs object")]}, run_id="r"))
        assert ended.result == VALUES["an attrs object"]


async def test_what_one_result_shares_stays_shared(hub):
    ended = or_raise(await run(hub, made("shared"), {"sequence": [{"id": "n", **made("an enum", "n")}, ASK]}))
    order, line = ended.outputs["o"]
    assert order.lines[0] is order.lines[1] is line
    ended = or_raise(await run(hub, made("shared"), {"parallel": [{"tool": "bill", "args": {"order": "$o.0"}}]}, ASK))
    assert given[0].lines[0] is given[0].lines[1]


@pytest.mark.parametrize("pauses", [True, False], ids=["over a pause", "in one leg"])
async def test_a_field_of_its_class_gets_the_object_itself(hub, pauses):
    between = [ASK] if pauses else []
    or_raise(await run(hub, made("an attrs object"), *between, {"tool": "bill", "args": {"order": "$o"}}))
    assert given == [VALUES["an attrs object"]]
    assert pauses or given[0] is VALUES["an attrs object"]
    given.clear()
    args = {"orders": "$o.orders", "on": "$d"}
    or_raise(
        await run(hub, made("objects in plain data"), made("a date", "d"), *between, {"tool": "bills", "args": args})
    )
    assert given == [VALUES["objects in plain data"]["orders"], VALUES["a date"]]
    given.clear()
    or_raise(await run(hub, made("a set"), *between, {"tool": "labels", "args": {"words": "$o"}}))
    assert given == [{"a", "b"}]


async def test_any_other_field_gets_plain_data(hub):
    for name in ("an attrs object", "a set", "a tuple", "a time", "a decimal", "bytes"):
        or_raise(await run(hub, made(name), {"tool": "say", "args": {"value": "$o"}}))
    assert given == [
        {"number": 1, "lines": [{"name": "a", "price": "1.50"}], "due": "2026-01-02", "reads": 0},
        ["a", "b"],
        [1, [2], {"a": [3]}],
        NOW.isoformat(),
        "1.10",
        "AP8=",
    ]


async def test_a_step_without_arguments_passes_the_object_or_its_fields(hub):
    or_raise(await run(hub, made("an attrs object"), {"tool": "bill"}))
    assert given == [VALUES["an attrs object"]]
    given.clear()
    or_raise(await run(hub, made("an attrs object"), {"tool": "parts"}))
    assert given == [1, [{"name": "a", "price": "1.50"}], date(2026, 1, 2), 0]
    given.clear()
    join = Join("make", "say", lambda order: {"value": order.number})
    or_raise(await run(hub, made("an attrs object"), {"tool": "say"}, joins=[join]))
    assert given == [1]


async def test_objects_of_unknown_classes_become_dicts_and_the_known_ones_in_them_stay(hub):
    ended = or_raise(await run(hub, made("unknown"), ASK))
    assert ended.outputs["o"] == {"number": 1, "inner": Order(5, [])}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("an opaque object", ["Opaque", "can't be stored", "registered classes"]),
        ("a known one with an unknown part", ["Unknown", "can't be stored", "held"]),
        ("a wide one", ["more than 1000000 values"]),
    ],
)
async def test_what_the_codec_refuses_fails_the_step_that_made_it(hub, name, words):
    told = (await run(hub, made(name), ASK)).failure()
    assert isinstance(told, FlowError)
    assert (told.step, told.tool) == ("o", "make")
    for word in words:
        assert word in told.message


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ("$o.number", 1),
        ("$o.lines.0.name", "a"),
        ("$o.lines[0].price", "1.50"),
        ("$m.size", 3),
        ("$s.at", NOW.isoformat()),
        ("$t.1.0", 2),
        ("$dq.1", 2),
    ],
)
async def test_declared_fields_and_items_are_readable(hub, reference, value):
    steps = [made("an attrs object"), made("a model", "m"), made("a struct", "s"), made("a tuple", "t")]
    ended = or_raise(await run(hub, *steps, made("a deque", "dq"), ASK, {"tool": "say", "args": {"value": reference}}))
    assert ended.result == value


HIDDEN = [
    *("$o._secret", "$o.total", "$o.__class__", "$o.__dict__", "$o.lines.0._cost", "$m._own", "$m.twice", "$m.hidden"),
    *("$m.model_fields", "$c.value", "$c.name", "$w.0", "$u._private", "$d.year", "$o.lines.append", "$t.count"),
]


@pytest.mark.parametrize("reference", HIDDEN)
async def test_nothing_else_is(hub, reference):
    names = {"o": "an attrs object", "m": "a model", "c": "an enum", "w": "a set", "u": "unknown", "d": "a date"}
    steps = [made(name, step) for step, name in {**names, "t": "a tuple"}.items()]
    outcome = await run(hub, *steps, {"id": "last", "tool": "say", "args": {"value": reference}})
    told = outcome.failure()
    assert isinstance(told, FlowError)
    assert told.step == "last"
    assert VALUES["an attrs object"].reads == 0


async def test_private_fields_are_in_no_text_and_no_plain_data(hub):
    shown = {"tool": "await_input", "args": {"prompt": "$o and $u", "shown": {"o": "$o", "on": "$d"}}}
    steps = [made("an attrs object"), made("unknown", "u"), made("a date", "d")]
    outcome = or_raise(await FlowRunner(hub, TOOLS).start({"flow": [*steps, shown]}))
    assert isinstance(outcome, Suspended)
    (wait,) = outcome.waits
    text = f"{wait.awaiting.prompt} {wait.awaiting.shown}"
    assert '{"number": 1, "lines": [{"name": "a", "price": "1.50"}], "due": "2026-01-02"' in text
    assert "'on': '2026-02-03'" in text
    assert "_" not in text
    assert "none of theirs" not in text


async def test_a_question_of_ones_own_gets_plain_data(hub):
    own = AwaitInput(id="ok", prompt="Pay $what?", parameters={"type": "object", "properties": {"what": {}}})
    asks = {"tool": "ok", "args": {"what": "$o.lines"}}
    outcome = or_raise(await FlowRunner(hub, [*TOOLS, own]).start({"flow": [made("an attrs object"), asks]}))
    assert outcome.waits[0].awaiting.prompt == 'Pay [{"name": "a", "price": "1.50"}]?'


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("$o.due == '2026-01-02' && $o.due < '2026-02-01'", True),
        ("$o.lines[0].price == '1.50'", True),
        ("$c == 'red'", True),
        ("$o == $o && $o.lines == $o.lines", True),
        ("contains($w, 'a') && 'b' in $w && !('c' in $w)", True),
        ("length($w) == 2 && length($t) == 3", True),
        ("$w == $w && $w != $t", True),
        ("exists($o._secret)", False),
        ("$w && $o && $c", True),
        ("isEmpty($w)", False),
    ],
)
async def test_conditions_see_fields_and_texts(hub, condition, holds):
    steps = [made("an attrs object"), made("an enum", "c"), made("a set", "w"), made("a tuple", "t")]
    chosen = {"condition": condition, "then": {"tool": "say", "args": {"value": "yes"}}, "else": []}
    ended = or_raise(await run(hub, *steps, ASK, chosen, answer="no"))
    assert ended.result == ("yes" if holds else "no")


async def test_a_switch_selects_by_the_text_of_an_object(hub):
    steps = [made("an enum", "c"), {"switch": "$c", "branches": {"red": {"tool": "say", "args": {"value": 1}}}}]
    assert or_raise(await run(hub, *steps)).result == 1


async def test_a_set_is_iterated_in_one_order_in_every_process(hub):
    each = {"map": "$o", "with": {"tool": "say", "args": {"value": "$item"}}}
    assert or_raise(await run(hub, made("a set"), each)).result == ["a", "b"]
    given.clear()
    asks = {"map": "$o", "with": [{"id": "i", **ASK}, {"tool": "say", "args": {"value": "$item"}}]}
    outcome = or_raise(await FlowRunner(hub, TOOLS).start({"flow": [made("a frozen set of tuples"), asks]}))
    while isinstance(outcome, Suspended):
        outcome = or_raise(await FlowRunner(hub, TOOLS).resume(outcome.key, answer=1))
    assert outcome.result == [[1, "a"], [2, "b"]]


async def test_comparing_a_large_set_is_over_the_budget(hub):
    told = (await run(hub, made("a large set"), {"id": "c", "condition": "$o == $o", "then": []})).failure()
    assert "more than 10000 values" in told.message
