"""Tools: schemas from annotations, the checks of what goes in and comes out, and what a tool is told."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, Literal, TypedDict

import attrs
import pydantic
import pytest
from returns.result import Failure

from flowpersist.dynamicflow import Cancellation, ToolContext, tool
from flowpersist.dynamicflow.facts import metadata_of, needs
from flowpersist.dynamicflow.ir import Flow
from flowpersist.dynamicflow.plain import plain
from flowpersist.errors import ConfigurationError, InputValidationError


@dataclasses.dataclass
class Order:
    number: int
    due: date | None = None


@attrs.frozen
class Line:
    name: str


class Model(pydantic.BaseModel):
    size: int


class Options(TypedDict):
    fast: bool


class Colour(enum.Enum):
    RED = "red"


CONTEXT = ToolContext("run", "step", "each[1].step", 2)


async def call(made, **arguments):
    checked = made.check_input(arguments)
    assert not isinstance(checked, Failure), checked
    return made.check_output(await made.call(checked.unwrap(), CONTEXT)).unwrap()


def test_a_tool_is_named_and_described_by_its_function_unless_said_otherwise():
    @tool()
    async def fetch(url: str, tries: int = 3) -> str:
        """Fetch a page.

        More about it.
        """
        return url * tries

    assert (fetch.id, fetch.name, fetch.description, fetch.takes) == (
        "fetch",
        "fetch",
        "Fetch a page.",
        ("url", "tries"),
    )
    assert fetch.input_schema == {
        "type": "object",
        "properties": {"url": {"type": "string"}, "tries": {"type": "integer"}},
        "required": ["url"],
        "additionalProperties": False,
    }
    assert fetch.output_schema == {"type": "string"}
    given = tool(id="f", name="F", description="D", input_schema={"type": "object"}, output_schema={})(fetch.function)
    assert (given.id, given.name, given.description) == ("f", "F", "D")
    assert (given.input_schema, given.output_schema) == ({"type": "object"}, {})


async def test_a_tool_can_be_called_as_its_function():
    @tool()
    async def double(value: int) -> int:
        return value * 2

    assert await double(4) == 8


async def test_the_context_is_passed_by_its_annotation():
    @tool()
    async def where(context: ToolContext) -> list[Any]:
        context.logger.debug("called")
        return [context.run_id, context.step_id, context.path, context.attempt, context.key]

    assert where.takes == ()
    assert await call(where) == ["run", "step", "each[1].step", 2, "run/each[1].step/2"]


async def test_json_data_becomes_the_objects_that_the_annotations_name():
    @tool()
    async def take(
        order: Order, lines: list[Line], model: Model, colour: Colour, options: Options, anything: Any
    ) -> list[Any]:
        assert isinstance(order, Order)
        assert isinstance(lines[0], Line)
        assert isinstance(model, Model)
        return [order.due, lines, model, colour, options, anything]

    order = {"number": 1, "due": "2026-01-02"}
    arguments = {
        "order": order,
        "lines": [{"name": "a"}],
        "model": {"size": 3},
        "colour": "red",
        "options": {"fast": True},
    }
    assert await call(take, **arguments, anything=None) == [
        "2026-01-02",
        [{"name": "a"}],
        {"size": 3},
        "red",
        {"fast": True},
        None,
    ]
    refused = take.check_input({**arguments, "anything": 1, "order": {"number": "x"}})
    assert isinstance(refused.failure(), InputValidationError)
    assert refused.failure().problems[0].pointer == "/order/number"


def test_what_a_class_refuses_beyond_its_schema_is_a_problem_too():
    @attrs.frozen
    class Even:
        value: int = attrs.field()

        @value.validator
        def _even(self, _attribute, value):
            if value % 2:
                raise ValueError

    async def halve(even: Even) -> int:
        return even.value // 2

    halve.__annotations__ = {"even": Even, "return": int}
    assert isinstance(tool()(halve).check_input({"even": {"value": 3}}).failure(), InputValidationError)


def test_keyword_arguments_take_any_field():
    @tool()
    async def anything(**fields: int) -> Literal["ok"]:
        return "ok"

    assert anything.takes is None
    assert anything.check_input({"a": 1}).unwrap() == {"a": 1}
    assert isinstance(anything.check_output("no"), Failure)


def test_what_json_has_no_form_for_is_refused_by_a_schema():
    @tool()
    async def count(items: list[int]) -> int:
        return len(items)

    assert isinstance(count.check_input({"items": object()}).failure(), InputValidationError)


def test_what_can_be_no_tool_is_refused_where_it_is_made():
    def several_results(value: int) -> Iterator[int]:
        yield value

    async def positional(value: int, /) -> int:
        return value

    async def several(*values: int) -> int:
        return sum(values)

    async def strange(value: threading.Thread) -> None: ...

    for function in (several_results, positional, several, 7, int):
        with pytest.raises(TypeError):
            tool()(function)
    with pytest.raises(ConfigurationError, match="'value' of the tool 'strange'"):
        tool()(strange)

    async def unknown(value) -> None: ...

    unknown.__annotations__ = {"value": "NobodyKnowsThis"}
    with pytest.raises(ConfigurationError, match="NobodyKnowsThis"):
        tool()(unknown)
    with pytest.raises(ConfigurationError, match="input schema"):
        tool(input_schema={"type": "nonsense"}, output_schema={})(positional_free)


async def positional_free(value: int) -> int:
    return value


def test_two_classes_of_one_name_need_a_schema():
    def made(kind):
        return dataclasses.make_dataclass("Thing", [("value", kind)])

    async def both(a, b) -> None: ...

    both.__annotations__ = {"a": made(int), "b": made(str), "return": None}
    with pytest.raises(ConfigurationError, match="Thing"):
        tool()(both)


def test_results_become_plain_data():
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    one = uuid.UUID(int=1)
    assert plain(Order(1, date(2026, 1, 2))) == {"number": 1, "due": "2026-01-02"}
    assert plain([Line("a"), (1, {"k": Model(size=2)})]) == [{"name": "a"}, [1, {"k": {"size": 2}}]]
    assert plain({"m": moment, "u": one, "d": Decimal("1.5"), "p": PurePosixPath("/a")}) == {
        "m": moment.isoformat(),
        "u": str(one),
        "d": "1.5",
        "p": "/a",
    }
    assert plain({Colour.RED}) == ["red"]
    unchanged = {"a": [1, "x", None, 2.5, True]}
    assert plain(unchanged) is unchanged
    strange = object()
    assert plain(strange) is strange


def test_cancellation_reaches_threads():
    cancellation = Cancellation()
    assert not cancellation.wait(0)
    thread = threading.Thread(target=cancellation.wait)
    thread.start()
    cancellation.request()
    thread.join(5)
    assert cancellation.requested


async def test_a_tool_that_is_cancelled_finds_its_cancellation_requested():
    seen = []

    @tool()
    async def wait(context: ToolContext) -> None:
        seen.append(context.cancellation)
        await asyncio.sleep(60)

    from flowpersist.dynamicflow import compile as compile_flow  # noqa: PLC0415
    from flowpersist.dynamicflow.engine import Engine  # noqa: PLC0415
    from flowpersist.dynamicflow.tools import Toolbox  # noqa: PLC0415

    flow = compile_flow({"flow": [{"tool": "wait", "timeout": 5}]}).unwrap()
    await Engine(flow=flow, toolbox=Toolbox.of([wait], []), run_id="r", input={}).run({})
    assert seen[0].requested


def test_the_tools_that_a_run_needs_fit_its_metadata():
    tools = frozenset(f"tool-{number:03}-{'x' * 100}" for number in range(128))
    flow = Flow("é" * 300, "1.0", "sha256:0", "a", ("a",), {}, (), tools, frozenset(), {})
    metadata = metadata_of(flow, "run")
    assert needs(metadata) == tools
    assert all(len(str(value).encode()) <= 512 for value in metadata.values())
    assert len(metadata) < 60
