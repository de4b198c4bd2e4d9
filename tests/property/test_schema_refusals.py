"""An answer that is refused costs no more than one that is taken: a hundred problems at most, in bounded work."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Annotated, Any

import pydantic
import pytest
from returns.result import Success

from flowpersist import AwaitInput, InputValidationError, RaisingHub, or_raise
from flowpersist.inputs.json_schema import JsonSchema
from flowpersist.testing.hubs import open_test_hub

OPTIONS = [f"x{n}" for n in range(2_000)]
BIG = {"items": {"enum": OPTIONS}}
#: A schema, an answer, where the first problem is (None: anywhere), and how many there are at least.
CASES: list[tuple[dict[str, Any], Any, str | None, int]] = [
    (BIG, ["nope"] * 9_000, "/0", 10),
    (BIG, ["x1"] * 8_990 + ["nope"] * 10, "/8990", 10),
    (
        {"properties": {"rows": {"items": {"properties": {"n": {"enum": OPTIONS}}}}}},
        {"rows": [{"n": 1}] * 4_000},
        "/rows/0/n",
        5,
    ),
    ({"additionalProperties": {"items": {"type": "integer"}}}, {f"k{n}": [n, "x"] for n in range(3_000)}, "/k0/1", 50),
    ({"items": {"type": "integer"}}, [1] * 8_999 + ["x"], "/8999", 1),
    ({"items": {"type": "integer"}}, ["x"] * 9_000, "/0", 100),
    ({"items": False}, [1] * 9_000, "/0", 100),
    ({"anyOf": [BIG, {"type": "null"}]}, ["nope"] * 9_000, "", 1),
    ({"oneOf": [BIG, {"items": {"type": "integer"}}]}, ["nope"] * 9_000, "", 1),
    ({"not": {"items": {"not": {"enum": OPTIONS}}}}, ["nope"] * 9_000, "", 1),
    ({"items": {"not": {"enum": [*OPTIONS, {}]}}}, [{}] * 500, "/0", 5),
    ({"required": [f"k{n}" for n in range(5_000)]}, {f"x{n}": n for n in range(4_000)}, "", 1),
    ({"required": [f"k{n}" for n in range(50)]}, {}, "", 50),
    ({"additionalProperties": False}, {f"k{n}": n for n in range(9_000)}, "", 1),
    ({"items": {"required": [f"k{n}" for n in range(300)]}}, [{}] * 5_000, None, 1),
    ({"maxItems": 3}, list(range(9_000)), "", 1),
    ({"items": {"items": {"items": BIG}}}, [[[["nope"] * 20] * 20] * 20], "/0/0/0/0", 5),
    ({"prefixItems": [True, {"type": "null"}], "items": {"type": "integer"}}, [1, 1] + ["x"] * 9_000, None, 1),
    (
        {"if": {"required": ["k1"]}, "then": {"additionalProperties": {"type": "null"}}},
        {f"k{n}": n for n in range(5_000)},
        None,
        1,
    ),
    ({"propertyNames": {"maxLength": 2}}, {f"long{n}": n for n in range(5_000)}, "", 1),
    ({"uniqueItems": True}, [1] * 9_000, "", 1),
    ({"const": OPTIONS}, OPTIONS[:-1], "", 1),
]


@pytest.mark.parametrize(("schema", "answer", "first", "least"), CASES, ids=lambda value: str(value)[:40])
def test_problems_are_few_true_and_cheap(schema, answer, first, least):
    compiled = JsonSchema.of(schema)
    started = time.thread_time()
    error = compiled.check(answer).failure()
    taken = time.thread_time() - started
    assert isinstance(error, InputValidationError)
    # Generous, since the machine is shared and the code may be traced: without the bound some take many seconds. What
    # they take in memory is measured in tests/property/test_schema_exponential.py, in a process of its own.
    assert taken < 2
    assert least <= len(error.problems) <= 100
    assert first is None or error.problems[0].pointer == first
    assert all(len(problem.message) <= 300 for problem in error.problems)
    assert len(str(error)) < 4_000
    assert len({problem for problem in error.problems if problem.pointer}) == len(
        [p for p in error.problems if p.pointer]
    )


def test_pointers_of_problems_name_what_is_wrong_in_the_whole_answer():
    answer = {"ok": list(range(3_000)), "rows": [{"n": n if n % 7 else "x"} for n in range(2_000)], "more": ["y"] * 400}
    schema = {
        "properties": {
            "rows": {"items": {"properties": {"n": {"type": "integer"}}}},
            "ok": {"items": {"type": "integer"}, "minItems": 3_000},
            "more": {"items": {"type": "string"}, "maxItems": 500},
        }
    }
    problems = JsonSchema.of(schema).check(answer).failure().problems
    assert len(problems) > 50
    assert [problem.pointer for problem in problems] == [f"/rows/{7 * n}/n" for n in range(len(problems))]


def test_all_problems_of_a_small_answer_are_named():
    schema = {"items": {"anyOf": [{"type": "integer"}, {"minLength": 3}]}, "contains": {"const": "no"}}
    problems = JsonSchema.of(schema).check(["a", 1, "b"]).failure().problems
    assert sorted(problem.pointer for problem in problems) == ["", "/0", "/2"]


def test_a_long_key_does_not_stand_in_a_hundred_problems():
    answer = {"k" * 100_000: ["x"] * 200}
    problems = JsonSchema.of({"additionalProperties": {"items": {"type": "integer"}}}).check(answer).failure().problems
    assert 1 <= len(problems) <= 3


def test_what_is_wrong_is_never_repeated():
    schema = {"items": {"enum": OPTIONS}, "maxItems": 2}
    for answer in (["my-secret" * 30] * 9, ["my-secret" * 30] * 9_000, [["my-secret"] * 10] * 300):
        error = JsonSchema.of(schema).check(answer).failure()
        assert "my-secret" not in f"{error} {error.problems} {error.to_problem()}"


def test_a_tools_own_data_is_held_to_the_depth_that_its_schema_can_be_asked_about():
    """Of any size, but a schema that asks about each child twice would never end at forty levels."""
    compiled = JsonSchema.of({"items": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}})
    assert compiled.validate([[1] * 50_000], what="the output") == Success([[1] * 50_000])
    deep: object = 1
    for _ in range(40):
        deep = [deep]
    assert "deeply" in str(compiled.validate(deep, what="the output").failure())


class Slow(pydantic.BaseModel):
    name: str

    @pydantic.field_validator("name")
    @classmethod
    def where(cls, name: str) -> str:
        seen.append(threading.current_thread())
        return name


seen: list[threading.Thread] = []


@pytest.mark.parametrize("verb", ["answer", "resume", "claim"])
@pytest.mark.parametrize(
    ("schema", "refused", "threads"),
    [
        (BIG, ["nope"] * 9_000, 1),
        ({"items": {"enum": ["a", "b"]}}, ["nope"], 0),
        ({"maxLength": 3}, "x" * 100_000, 1),
        (Slow, {"name": 7}, 1),
        (Annotated[int, pydantic.Field(ge=3)], 2, 1),
        ({"enum": list(range(500))}, -1, 1),
    ],
    ids=["many values", "few", "long text", "a class", "a form of typing", "a large schema"],
)
async def test_what_may_take_long_is_checked_in_a_thread(monkeypatch, verb, schema, refused, threads):
    hops: list[object] = []
    to_thread = asyncio.to_thread

    async def counted(function, *args):
        hops.append(function)
        return await to_thread(function, *args)

    async with open_test_hub() as hub:
        new = or_raise(await hub.suspend("s", awaiting=AwaitInput(id="x", prompt="?", schema=schema)))
        monkeypatch.setattr(asyncio, "to_thread", counted)
        assert isinstance((await getattr(hub, verb)(new.key, refused)).failure(), InputValidationError)
        assert len(hops) == threads
        with pytest.raises(InputValidationError):
            await getattr(RaisingHub(hub), verb)(new.key, refused)


async def test_the_rules_of_a_class_run_in_a_thread():
    seen.clear()
    async with open_test_hub() as hub:
        new = or_raise(await hub.suspend("s", awaiting=AwaitInput(id="x", prompt="?", schema=Slow)))
        assert isinstance(await hub.answer(new.key, {"name": "x"}), Success)
    assert seen
    assert threading.main_thread() not in seen
