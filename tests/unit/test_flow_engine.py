"""What each type of step does, run by the interpreter alone: no hub, and the frame copied between walks as a store
would.
"""

from __future__ import annotations

import asyncio
import copy

import pytest
from returns.result import Success

from flowpersist.dynamicflow import Join, ToolContext, tool
from flowpersist.dynamicflow import compile as compile_flow
from flowpersist.dynamicflow.engine import Engine
from flowpersist.dynamicflow.outcomes import PENDING, Done, Failed
from flowpersist.dynamicflow.tools import Toolbox
from flowpersist.inputs.await_input import AwaitInput

calls: list[tuple[str, object]] = []
events: list[tuple[str, object]] = []
running = {"now": 0, "most": 0}


@tool()
async def say(value: object = None) -> object:
    calls.append(("say", value))
    return value


@tool()
async def add(a: int, b: int) -> int:
    calls.append(("add", (a, b)))
    return a + b


@tool()
async def boom(value: object = None) -> object:
    calls.append(("boom", value))
    raise RuntimeError("it broke")


@tool()
async def slow(value: object = None, seconds: float = 5.0) -> object:
    calls.append(("slow", value))
    running["now"] += 1
    running["most"] = max(running["most"], running["now"])
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        calls.append(("cancelled", value))
        raise
    finally:
        running["now"] -= 1
    return value


@tool()
async def second_time(context: ToolContext) -> int:
    if context.attempt < 2:
        raise RuntimeError("not yet")
    return context.attempt


@tool()
async def nothing() -> str:
    return "nothing needed"


@tool(output_schema={"type": "integer"})
async def wrong() -> object:
    return "no number"


TOOLS = [say, add, boom, slow, second_time, nothing, wrong, AwaitInput(id="approve", prompt="Approve?", schema=bool)]


@pytest.fixture(autouse=True)
def _fresh():
    calls.clear()
    events.clear()
    running.update(now=0, most=0)


class Run:
    """Walks a flow again and again, as the runner does."""

    def __init__(self, *steps, input=None, joins=()):
        compiled = compile_flow({"metadata": {"name": "doc"}, "flow": list(steps)})
        assert isinstance(compiled, Success), compiled
        self.flow, self.input, self.frame = compiled.unwrap(), input, {}
        self.toolbox = Toolbox.of(TOOLS, joins)
        self.open: set[str] = set()
        self.awaited: dict[str, AwaitInput] = {}
        self.room = 10**9

    async def walk(self, answers=None, expired=()):
        self.frame = copy.deepcopy(self.frame)
        self.open -= {*(answers or {}), *expired}
        self.engine = Engine(
            flow=self.flow,
            toolbox=self.toolbox,
            run_id="run",
            input=self.input,
            answers=dict(answers or {}),
            expired=set(expired),
            open=dict.fromkeys(self.open, 0),
            room=self.room,
            emit=lambda kind, data: events.append((kind, data)),
            backoff=lambda _failures: 0.0,
        )
        outcome = await self.engine.run(self.frame)
        self.open = set(self.engine.open)
        self.awaited.update(self.engine.waits)
        return outcome


async def result(*steps, input=None, joins=()):
    run = Run(*steps, input=input, joins=joins)
    outcome = await run.walk()
    assert isinstance(outcome, Done), outcome
    return outcome.value


async def failure(*steps, input=None):
    outcome = await Run(*steps, input=input).walk()
    assert isinstance(outcome, Failed), outcome
    return outcome.error


def unknown(name):
    """A question that is the run's input, which nothing is known of before it runs."""
    return {"id": name, "tool": "await_input", "args": "$input"}


def ask(name, **args):
    return {"id": name, "tool": "await_input", "args": {"prompt": f"{name}?", **args}}


def spoken(value, **more):
    return {"tool": "say", "args": {"value": value}, **more}


# ------------------------------------------------------------------------------------------------ tools and references


async def test_arguments_resolve_to_values_and_not_to_text():
    got = await result(spoken({"a": "$input.a", "all": ["$input"], "price": "$$5", "n": 1}), input={"a": [1, 2]})
    assert got == {"a": [1, 2], "all": [{"a": [1, 2]}], "price": "$5", "n": 1}


async def test_steps_outputs_and_variables_are_seen_by_later_steps():
    got = await result(
        spoken({"items": [{"title": "T"}]}, id="s1", output="v"),
        spoken(["$s1.output.items.0.title", "$s1.items.0.title", "$v.items.0.title", "$previousOutput.items.0.title"]),
    )
    assert got == ["T", "T", "T", "T"]


async def test_a_reference_that_does_not_resolve_names_step_and_reference():
    error = await failure(spoken("$input.missing", id="s"), input={"here": 1})
    assert (error.step, error.reference, error.document) == ("s", "$input.missing", "doc")


async def test_a_name_of_a_branch_that_was_not_taken_is_an_error_when_it_is_used():
    error = await failure({"condition": "false", "then": spoken(1, output="v")}, spoken("$v", id="s"))
    assert (error.step, error.reference) == ("s", "$v")


async def test_a_step_without_arguments_gets_the_result_before_it():
    assert await result(spoken({"a": 1, "b": 2}), {"tool": "add"}) == 3
    assert await result({"tool": "say"}, input={"value": 7}) == 7
    assert await result(spoken([1, 2]), {"tool": "nothing"}) == "nothing needed"
    assert await result(spoken(None), {"tool": "slow", "args": {"seconds": 0}}, {"tool": "say"}) is None


async def test_what_is_no_object_goes_to_the_only_field():
    assert await result(spoken([1, 2]), {"tool": "say"}) == [1, 2]
    error = await failure(spoken([1, 2]), {"id": "a", "tool": "add"})
    assert error.step == "a"
    assert "add args" in error.message


async def test_a_join_brings_an_output_that_is_passed_on_into_shape():
    join = Join("say", "add", lambda value: {"a": value[0], "b": value[1]})
    assert await result(spoken([1, 2]), {"tool": "add"}, joins=[join]) == 3
    within = {"condition": "true", "then": spoken([3, 4])}
    assert await result(within, {"tool": "add"}, joins=[join]) == 7
    assert await result(spoken([1, 2]), {"tool": "add", "args": {"a": 5, "b": 5}}, joins=[join]) == 10


async def test_a_join_that_raises_fails_the_step():
    run = Run(spoken(3), {"id": "a", "tool": "add"}, joins=[Join("say", "add", lambda value: value["no"])])
    outcome = await run.walk()
    assert isinstance(outcome, Failed)
    assert (outcome.error.step, outcome.error.tool) == ("a", "add")


async def test_arguments_and_results_that_their_schema_refuses_fail_the_step():
    error = await failure({"id": "a", "tool": "add", "args": {"a": "x"}})
    assert (error.step, error.tool) == ("a", "add")
    assert "/a" in error.message
    error = await failure({"id": "w", "tool": "wrong"})
    assert (error.step, error.tool) == ("w", "wrong")
    error = await failure({"id": "a", "tool": "add", "args": "$input"}, input=3)
    assert "must be an object" in error.message


# ----------------------------------------------------------------------------------------------------------- branching


async def test_conditional_takes_a_branch_or_passes_its_input_on():
    check = {"condition": "$input.n > 1", "then": [spoken("a"), spoken("yes")], "else": spoken("no")}
    assert await result(check, input={"n": 2}) == "yes"
    assert await result(check, input={"n": 1}) == "no"
    assert await result(spoken("before"), {"condition": "false", "then": spoken(1)}) == "before"
    assert await result({"condition": "true"}, input={"n": 1}) == {"n": 1}


async def test_a_branch_hands_its_names_out():
    assert await result({"condition": "true", "then": spoken(1, id="s", output="v")}, spoken(["$v", "$s"])) == [1, 1]


async def test_a_condition_that_can_not_be_evaluated_fails_its_step():
    assert (await failure({"id": "c", "condition": "$input.no > 1"}, input={})).step == "c"
    assert (await failure({"id": "f", "filter": [1], "condition": "$input.no > 1"}, input={})).step == "f"
    assert (await failure({"id": "w", "switch": "$input.no", "branches": {}}, input={})).step == "w"


async def test_switch_takes_the_branch_of_the_value_or_the_default():
    cases = {"switch": "$input.k", "branches": {"a": spoken("A"), "1": spoken("one"), "true": spoken("T"), "e": []}}
    assert await result(cases, input={"k": "a"}) == "A"
    assert await result(cases, input={"k": 1}) == "one"
    assert await result(cases, input={"k": True}) == "T"
    assert await result(cases, input={"k": "e"}) == {"k": "e"}
    assert await result({**cases, "default": spoken("D")}, input={"k": "zzz"}) == "D"
    assert "no branch for 'zzz'" in (await failure(cases, input={"k": "zzz"})).message


# --------------------------------------------------------------------------------------------------------- collections


async def test_filter_keeps_the_items_for_which_the_condition_holds():
    assert await result({"filter": "$input", "condition": "$item.n > 1"}, input=[{"n": 1}, {"n": 2}]) == [{"n": 2}]
    assert await result({"filter": "[1, 2, 3]", "condition": "$item != 2"}) == [1, 3]
    assert await result({"filter": "$input", "as": "x", "condition": "$x"}, input=[0, 1]) == [1]


@pytest.mark.parametrize("over", ["$input", "[1", "text", {"a": 1}])
async def test_what_is_no_list_is_refused(over):
    error = await failure({"id": "m", "map": over, "with": spoken("$item")}, input="text")
    assert error.step == "m"
    assert "expected a list" in error.message


async def test_map_gives_a_list_in_the_order_of_its_items():
    body = [spoken("$item", id="s"), {"id": "a", "tool": "add", "args": {"a": "$s", "b": 1}}]
    assert await result({"map": "$input", "with": body}, input=[1, 2, 3]) == [2, 3, 4]
    assert await result({"map": "$input", "with": body, "concurrency": 2}, input=[1, 2, 3]) == [2, 3, 4]
    assert await result({"map": [], "with": body}) == []


async def test_map_runs_at_most_so_many_at_once():
    body = {"tool": "slow", "args": {"value": "$item", "seconds": 0.001}}
    await result({"map": list(range(6)), "with": body, "concurrency": 2})
    assert running["most"] == 2
    await result({"map": list(range(6)), "with": body, "parallel": True})
    assert running["most"] == 6
    running["most"] = 0
    await result({"map": list(range(6)), "with": body})
    assert running["most"] == 1


async def test_every_steps_result_is_among_the_outputs_of_a_map_by_iteration():
    run = Run({"id": "m", "map": [1, 2], "with": {"condition": "$item > 1", "then": spoken("$item", id="s")}})
    assert isinstance(await run.walk(), Done)
    assert run.engine.outputs["m"] == [1, 2]
    assert run.engine.outputs["s"] == [None, 2]


async def test_a_failing_iteration_cancels_the_others_and_fails_the_map():
    body = {"condition": "$item == 0", "then": {"tool": "boom"}, "else": {"tool": "slow", "args": {"value": "$item"}}}
    error = await failure({"id": "m", "map": [1, 0, 2], "with": body, "parallel": True})
    assert "it broke" in error.message
    assert running["now"] == 0
    assert ("cancelled", 1) in calls


async def test_reduce_hands_the_accumulator_on():
    body = {"id": "a", "tool": "add", "args": {"a": "$acc", "b": "$item"}}
    assert await result({"reduce": [1, 2, 3], "initial": 10, "with": body}) == 16
    assert await result({"reduce": [], "initial": "$input", "with": body}, input=4) == 4
    named = {"tool": "add", "args": {"a": "$sum", "b": "$n"}}
    assert await result({"reduce": [1, 2], "initial": 0, "as": "n", "accumulator": "sum", "with": named}) == 3
    assert (await failure({"id": "r", "reduce": [1], "initial": "$input.no", "with": body}, input={})).step == "r"
    assert (await failure({"id": "r", "reduce": "$input", "initial": 0, "with": body}, input={})).step == "r"
    assert (await failure({"id": "r", "reduce": [1], "initial": "x", "with": body})).step == "a"


async def test_parallel_gives_a_list_in_the_order_written_and_its_steps_results():
    slower = {"id": "a", "tool": "slow", "args": {"value": "first", "seconds": 0.01}}
    both = {"id": "p", "parallel": [slower, [spoken(0), spoken("second", id="b")]]}
    assert await result(both) == ["first", "second"]
    assert await result(both, spoken(["$a", "$b"])) == ["first", "second"]


async def test_what_a_branch_sets_stays_in_the_branch():
    steps = [spoken("outer", output="v"), {"parallel": [[spoken("inner", output="v"), spoken("$v", id="s")]]}]
    assert await result(*steps, spoken(["$v", "$s"])) == ["outer", "inner"]
    mapped = {"map": [1], "with": spoken("inner", output="v")}
    assert await result(spoken("outer", output="v"), mapped, spoken("$v")) == "outer"


async def test_loops_give_one_result_an_iteration():
    count = {"tool": "add", "args": {"a": "$n", "b": 1}, "output": "n"}
    assert await result(spoken(0, output="n"), {"loop": "while", "condition": "$n < 3", "body": count}) == [1, 2, 3]
    assert (
        await result(spoken(0, output="n"), {"loop": "while", "condition": "$n < 3", "body": count}, spoken("$n")) == 3
    )
    assert await result({"loop": "for", "over": [5, 6], "as": "x", "body": spoken("$x")}) == [5, 6]
    assert await result({"loop": "while", "condition": "false", "body": count}) == []


async def test_a_loop_that_does_not_end_fails():
    endless = {"id": "l", "loop": "while", "condition": "true", "body": spoken(1), "maxIterations": 5}
    assert "maxIterations" in (await failure(endless)).message
    assert len(calls) == 5
    assert (await failure({**endless, "condition": "$input.no == 1"}, input={})).step == "l"
    assert (await failure({"id": "l", "loop": "for", "over": "$input", "body": spoken(1)}, input={})).step == "l"
    assert (await failure({"loop": "for", "over": [1], "body": {"id": "b", "tool": "boom"}})).step == "b"


# ----------------------------------------------------------------------------------------------- failures and attempts


async def test_a_tool_that_raises_fails_the_step_by_name():
    error = await failure({"id": "b", "tool": "boom"})
    assert (error.step, error.tool, error.document) == ("b", "boom", "doc")
    assert "it broke" in error.message
    assert isinstance(error.__cause__, RuntimeError)


async def test_retry_counts_the_further_attempts():
    assert await result({"tool": "second_time", "retry": 1}) == 2
    await failure({"tool": "boom", "retry": 2})
    assert len(calls) == 3


async def test_timeout_bounds_one_attempt():
    error = await failure({"id": "s", "tool": "slow", "timeout": 5, "retry": 1})
    assert "took longer" in error.message
    assert [name for name, _ in calls] == ["slow", "cancelled", "slow", "cancelled"]


async def test_on_error_stands_in_for_a_step_that_failed():
    stand_in = {"id": "e", "tool": "say", "args": {"value": "$error.message"}, "output": "w"}
    broken = {"id": "b", "tool": "boom", "onError": stand_in, "output": "v"}
    got = await result(broken, spoken(["$v", "$b", "$w", "$e"]))
    assert len(set(got)) == 1
    assert "it broke" in got[0]
    error = await failure({"id": "b", "tool": "boom", "onError": {"id": "e", "tool": "boom"}})
    assert error.step == "e"


async def test_a_container_is_attempted_again_as_a_whole():
    both = {"parallel": [spoken("again"), {"tool": "boom"}], "retry": 1, "onError": [spoken("caught")]}
    assert await result(both) == "caught"
    assert [name for name, _ in calls].count("boom") == 2


async def test_cancelling_the_walk_cancels_its_tools_and_tells_them():
    run = Run({"map": [1, 2], "parallel": True, "with": {"tool": "slow", "args": {"value": "$item"}}})
    task = asyncio.create_task(run.walk())
    while running["now"] < 2:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert running["now"] == 0
    assert {("cancelled", 1), ("cancelled", 2)} <= set(calls)


# ------------------------------------------------------------------------------------------------------------ awaiting


async def test_a_step_that_awaits_pauses_and_its_answer_is_its_result():
    run = Run(spoken(1, id="first"), {**ask("ok"), "output": "v"}, spoken(["$v", "$ok", "$first"]))
    assert await run.walk() is PENDING
    assert run.awaited["ok"].prompt == "ok?"
    assert len(calls) == 1
    outcome = await run.walk({"ok": "yes"})
    assert outcome == Done(["yes", "yes", 1], "say")
    assert len(calls) == 2
    assert run.engine.outputs["first"] == 1


async def test_prompts_are_filled_in():
    run = Run(
        ask("ok", prompt="Ship $input.id for $$5?", title="$input.id", shown={"order": "$input"}), input={"id": 7}
    )
    await run.walk()
    assert run.awaited["ok"].prompt == "Ship 7 for $5?"
    assert run.awaited["ok"].title == "7"
    assert run.awaited["ok"].shown == {"order": {"id": 7}}


async def test_a_question_of_a_document_may_have_reminders_and_a_ladder():
    ladder = [{"to": ["lead"], "timeout": 5000}, {"to": ["cto"], "timeout": 9000}]
    run = Run(ask("q", timeout=7000, reminders=[1000, 2000], escalation=ladder, on_expiry="escalate"))
    await run.walk()
    asked = run.awaited["q"]
    assert [one.total_seconds() for one in asked.reminders] == [2, 1]
    assert [(step.to, step.timeout.total_seconds()) for step in asked.escalation] == [(("lead",), 5), (("cto",), 9)]
    for broken in ({"reminders": [1.5]}, {"reminders": 7}, {"escalation": ["lead"]}, {"on_expiry": "approve"}):
        assert (await failure(unknown("q"), input={"prompt": "?", "timeout": 7000, **broken})).step == "q"
    error = await failure(unknown("q"), input={"prompt": "?", "reminders": [1000]})
    assert (error.step, "give it a timeout or a deadline" in error.message) == ("q", True)


async def test_a_registered_await_input_is_a_tool():
    run = Run({"id": "a", "tool": "approve"})
    assert await run.walk() is PENDING
    assert run.awaited["a"].id == "approve"
    assert await run.walk({"a": True}) == Done(True)


async def test_wrong_fields_of_await_input_fail_the_step():
    for wrong in ({}, {"prompt": "?", "shcema": {}}, {"prompt": "?", "schema": "no"}, 3):
        assert (await failure(unknown("a"), input=wrong)).step == "a"
    assert (await failure(ask("a", prompt="$input.no"), input={})).reference == "$input.no"


async def test_all_branches_wait_at_once_and_answers_come_in_any_order():
    body = [spoken("$item"), ask("q"), spoken(["$item", "$q"])]
    run = Run({"id": "each", "map": ["a", "b", "c"], "with": body, "parallel": True})
    assert await run.walk() is PENDING
    assert run.open == {"each[0].q", "each[1].q", "each[2].q"}
    assert await run.walk({"each[2].q": "C"}) is PENDING
    assert run.engine.waits == {}
    assert run.engine.waiting == {"each[0].q", "each[1].q"}
    outcome = await run.walk({"each[0].q": "A", "each[1].q": "B"})
    assert outcome.value == [["a", "A"], ["b", "B"], ["c", "C"]]
    assert len(calls) == 6


async def test_waiting_iterations_leave_their_place_to_others_but_one_after_another_means_so():
    steps = {"id": "m", "map": [1, 2, 3], "with": ask("q")}
    run = Run({**steps, "concurrency": 2})
    await run.walk()
    assert len(run.open) == 3
    run = Run(steps)
    await run.walk()
    assert run.open == {"m[0].q"}
    await run.walk({"m[0].q": 1})
    assert run.open == {"m[1].q"}


async def test_siblings_go_on_while_a_branch_waits():
    run = Run({"id": "p", "parallel": [ask("q"), [spoken(1, id="a"), spoken(2, id="b")]]}, spoken(["$q", "$a", "$b"]))
    assert await run.walk() is PENDING
    assert len(calls) == 2
    assert run.open == {"p[0].q"}
    assert (await run.walk({"p[0].q": 0})).value == [0, 1, 2]
    assert len(calls) == 3


async def test_paths_tell_nested_iterations_apart():
    inner = {"id": "in", "map": "$row", "as": "cell", "with": ask("q"), "parallel": True}
    run = Run({"id": "out", "map": [[1, 2], [3]], "as": "row", "with": inner, "parallel": True})
    await run.walk()
    assert run.open == {"out[0].in[0].q", "out[0].in[1].q", "out[1].in[0].q"}
    await run.walk({"out[0].in[1].q": "b"})
    await run.walk({"out[1].in[0].q": "c"})
    assert (await run.walk({"out[0].in[0].q": "a"})).value == [["a", "b"], ["c"]]


@pytest.mark.parametrize("name", ["reduce", "loop", "while", "conditional", "switch", "sequence"])
async def test_every_container_goes_on_where_it_was(name):
    asked = [ask("q"), {"id": "sum", "tool": "add", "args": {"a": "$n", "b": "$q"}, "output": "n"}]
    containers = {
        "reduce": {"reduce": [1, 2], "initial": 0, "accumulator": "n", "with": asked},
        "loop": {"loop": "for", "over": [1, 2], "body": asked},
        "while": {"loop": "while", "condition": "$n < 15", "body": asked},
        "conditional": {"condition": "$n == 0", "then": asked, "else": {"tool": "boom"}},
        "switch": {"switch": "$n", "branches": {"0": asked}},
        "sequence": {"sequence": asked},
    }
    run = Run(spoken(0, output="n"), {"id": "c", **containers[name]}, spoken(["$n", "$sum"], id="end"))
    outcome = await run.walk()
    while outcome is PENDING:
        (path,) = run.engine.waiting
        outcome = await run.walk({path: 10})
    turns = 2 if name in {"reduce", "loop", "while"} else 1
    assert [value for called, value in calls if called == "add"] == [(0, 10), (10, 10)][:turns]
    assert outcome.value == [0 if name == "reduce" else 10 * turns, 10 * turns]


async def test_what_is_done_leaves_nothing_but_its_results():
    run = Run({"id": "m", "map": [1, 2], "with": [spoken("$item", id="s")]}, ask("q"))
    await run.walk()
    left = run.frame["sub"]["m"]
    assert left == {"result": [1, 2], "steps": {"s": [1, 2]}, "began": left["began"], "ended": left["ended"]}


async def test_expired_without_default_fails_the_step_and_may_be_asked_again():
    run = Run({**ask("q"), "onError": spoken("nobody came")})
    await run.walk()
    assert (await run.walk(expired=["q"])).value == "nobody came"
    run = Run({**ask("q"), "retry": 1})
    await run.walk()
    assert await run.walk(expired=["q"]) is PENDING
    assert set(run.engine.waits) == {"q"}
    outcome = await run.walk(expired=["q"])
    assert isinstance(outcome, Failed)
    assert outcome.error.step == "q"


async def test_a_steps_timeout_is_how_long_it_waits():
    run = Run({**ask("q"), "timeout": 1500}, input={})
    await run.walk()
    assert run.awaited["q"].timeout.total_seconds() == 1.5
    run = Run({"id": "a", "tool": "approve", "timeout": 2000})
    await run.walk()
    assert run.awaited["a"].timeout.total_seconds() == 2


async def test_a_stand_in_may_await_and_the_failed_step_is_not_tried_again():
    run = Run({"id": "b", "tool": "boom", "onError": [ask("q"), spoken(["$q", "$error.step"])]})
    assert await run.walk() is PENDING
    assert run.open == {"b.q"}
    assert (await run.walk({"b.q": "go"})).value == ["go", "b"]
    assert [name for name, _ in calls] == ["boom", "say"]


async def test_what_a_container_asked_in_an_attempt_that_failed_is_asked_anew():
    steps = {
        "id": "p",
        "parallel": [ask("q"), [ask("go"), {"tool": "boom"}]],
        "onError": {"id": "e", "parallel": [spoken(1)]},
    }
    run = Run({**steps, "retry": 1})
    await run.walk()
    assert run.open == {"p[0].q", "p[1].go"}
    assert await run.walk({"p[1].go": 1}) is PENDING
    assert run.engine.waiting == {"p[0].q", "p[1].go"}
    assert set(run.engine.waits) == {"p[0].q", "p[1].go"}


async def test_waits_beyond_the_room_open_as_others_are_answered():
    run = Run({"id": "m", "map": [1, 2, 3], "with": ask("q"), "parallel": True})
    run.room = 0
    await run.walk()
    assert run.open == {"m[0].q"}
    await run.walk({"m[0].q": 1})
    assert run.open == {"m[1].q"}
    await run.walk({"m[1].q": 2})
    assert (await run.walk({"m[2].q": 3})).value == [1, 2, 3]


async def test_what_is_awaited_must_fit_and_so_must_the_path_that_names_it():
    error = await failure(ask("q", shown={"text": "x" * 120_000}))
    assert error.step == "q"
    assert "show less" in error.message
    deep = ask("q")
    for number in range(6):
        deep = {"id": "n" * 95 + str(number), "sequence": [deep]}
    assert "shorter ids" in (await failure(deep)).message


async def test_errors_from_below_name_document_and_step():
    error = await failure({"id": "c", "condition": "$input > 1"}, input="text")
    assert (error.document, error.step) == ("doc", "c")
    error = await failure(unknown("a"), input={"prompt": "?", "timeout": "soon"})
    assert (error.document, error.step, error.tool) == ("doc", "a", "await_input")


async def test_the_arguments_of_await_input_may_be_a_reference_and_have_times():
    run = Run(
        {"id": "a", "tool": "await_input", "args": "$input"},
        input={"prompt": "$x?", "deadline": "2030-01-01T00:00:00Z"},
    )
    await run.walk()
    assert (run.awaited["a"].prompt, run.awaited["a"].deadline.year) == ("$x?", 2030)
    run = Run({**ask("b", timeout=1500, default=None), "timeout": 9_000})
    await run.walk()
    assert (run.awaited["b"].timeout.total_seconds(), run.awaited["b"].default) == (1.5, None)


async def test_a_registered_await_input_is_filled_from_the_arguments():
    parameters = {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]}
    TOOLS.append(AwaitInput(id="confirm", prompt="$what?", parameters=parameters))
    try:
        run = Run({"id": "a", "tool": "confirm", "args": {"what": "$input"}}, input="Ship")
        await run.walk()
        assert run.awaited["a"].prompt == "Ship?"
        run = Run(spoken("Ship it"), {"id": "a", "tool": "confirm"})
        await run.walk()
        assert run.awaited["a"].prompt == "Ship it?"
        error = await failure({"id": "a", "tool": "confirm", "args": {"what": 3}})
        assert (error.step, error.tool, error.document) == ("a", "confirm", "doc")
        assert (await failure({"id": "a", "tool": "confirm", "args": "$input"}, input=3)).step == "a"
    finally:
        TOOLS.pop()


async def test_a_tool_that_is_missing_fails_its_step():
    assert (await failure({"id": "a", "tool": "unheard-of"})).tool == "unheard-of"


# -------------------------------------------------------------------------------------------------------------- events


async def test_events_tell_what_happens_in_order():
    await result(spoken(1, id="a"), {"id": "b", "tool": "boom", "onError": spoken(2, id="e")})
    assert [kind for kind, _ in events] == [
        *("node-start", "tool-start", "tool-output", "node-complete", "flow-progress"),
        *("node-start", "tool-start", "tool-error"),
        *("node-start", "tool-start", "tool-output", "node-complete"),
        *("node-complete", "flow-progress"),
    ]
    assert events[4][1] == {"step": 1, "total": 2, "node": "a"}
    assert events[2][1] == {"tool": "say", "node": "a", "path": "a", "output": 1}


async def test_what_is_done_is_not_told_again():
    run = Run(spoken(1), ask("q"))
    await run.walk()
    events.clear()
    await run.walk({"q": 1})
    assert [kind for kind, _ in events] == ["node-complete", "flow-progress"]


async def test_the_interpreter_shares_the_event_loop():
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    await result({"filter": list(range(5_000)), "condition": "$item >= 0 && $item < 1000000"})
    ticking.cancel()
    # One for each slice of the time that it took, and at least one in between.
    assert ticks > 2
