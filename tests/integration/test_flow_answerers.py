"""Who gave an answer and when, read in the document: over pauses, names, containers and lists, and never forged."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flow_steps import ask, said
from flowpersist.dynamicflow import FlowRunner, tool
from flowpersist.hub.opening import open_hub
from flowpersist.hub.outcome import or_raise
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.inputs.people import Principal
from flowpersist.testing import travel


@tool()
async def say(value: object = None) -> object:
    return value


@pytest.fixture
async def hub():
    async with open_hub("memory://", keyring=None) as opened:
        yield opened


@pytest.fixture
def runner(hub):
    return FlowRunner(hub, [say, AwaitInput("sign", "Sign?")])


def noted(name):
    return {**ask(), "output": name}


async def run(runner, *steps, answers=None, form=None, **start):
    """Run to the end; every question is answered by the person who has its name, unless ``answers`` says otherwise."""
    outcome = or_raise(await runner.start(form or {"flow": list(steps)}, **start))
    while getattr(outcome, "waits", ()):
        wait = outcome.waits[0]
        value, by = (answers or {}).get(wait.step, ("yes", wait.step))
        outcome = or_raise(await runner.resume(wait.key, answer=value, by=by))
    return outcome


async def test_who_when_and_what_are_kept_over_further_pauses(runner):
    before = datetime.now(UTC)
    parts = said(["$a.by", "$a.at", "$a.value", "$a", "$a.output.by"])
    done = await run(runner, ask("a"), ask("b"), parts, answers={"a": ({"n": 1}, Principal("ann", roles=["ops"]))})
    by, at, *rest = done.result
    assert (by, rest) == ("ann", [{"n": 1}, {"n": 1}, "ann"])
    assert before - timedelta(seconds=5) < datetime.fromisoformat(at) < datetime.now(UTC) + timedelta(seconds=5)
    assert done.outputs == {"a": {"n": 1}, "b": "yes", "step_3": done.result}


async def test_an_answer_by_nobody_and_a_default_have_their_by(runner, hub):
    assert (await run(runner, ask(), said(["$q.by"]), answers={"q": (1, None)})).result == [None]
    outcome = or_raise(await runner.start({"flow": [ask(default="none", timeout=1000), said(["$q.by", "$q"])]}))
    travel(hub, timedelta(minutes=1))
    assert or_raise(await runner.resume(outcome.suspension_id)).result == ["system", "none"]


OWN = {"by": "the boss", "at": "never", "value": {"by": "deep"}, "amount": 3}


async def test_fields_of_an_answer_never_stand_for_who_gave_it(runner):
    references = ["$q.by", "$q.amount", "$q.value", "$q.value.by", "$q.value.at", "$q.value.value.by", '$q["by"]']
    done = await run(runner, ask(), said(references), answers={"q": (OWN, "eve")})
    assert done.result == ["eve", 3, OWN, "the boss", "never", "deep", "eve"]


async def test_another_value_has_its_own_fields_under_the_same_names(runner):
    done = await run(runner, said(OWN, id="s"), said(["$s.by", "$s.value.by", "$previousOutput.at", "$.at"]))
    assert done.result == ["the boss", "deep", "never", "never"]


PASSED = {
    "output": [noted("x"), said("$x.by")],
    "the step's own name": [noted("q"), said("$q.by")],
    "previousOutput": [ask(), said(["$previousOutput.by", "$.by", "$previousOutput.value"])],
    "sequence": [{"id": "s", "sequence": [said(1), ask()], "output": "x"}, said(["$s.by", "$x.by", "$q.by"])],
    "conditional": [{"id": "c", "condition": "true", "then": ask()}, said(["$c.by", "$q.by"])],
    "switch": [{"id": "w", "switch": "'a'", "branches": {"a": ask()}}, said("$w.by")],
    "onError": [{"id": "e", "tool": "say", "args": {"value": "$input.x"}, "onError": ask()}, said("$e.by")],
    "registered": [{"id": "s", "tool": "sign"}, said("$s.by")],
    "condition": [ask(), {"condition": "$q.by == 'q' && $q == 'yes'", "then": said("yes"), "else": said("no")}],
    "prompt": [ask(), ask("r", shown={"by": "$q.by"}), said("$r.by")],
    "delay": [ask(), {"id": "d", "delay": {"seconds": 0}}, said(["$d.by"])],
    "map": [{"id": "m", "map": [1, 2], "with": [ask(), said("$q.by")]}, said("$m")],
    "list of a map": [{"id": "m", "map": [1, 2], "with": ask(), "output": "x"}, said(["$m[0].by", "$x.1.by", "$m"])],
    "list of a parallel": [
        {"id": "p", "parallel": [ask("a"), said({"by": "x"}), ask("b")]},
        said(["$p[0].by", "$p[1].by", "$b.by"]),
    ],
    "nested lists": [{"id": "m", "map": [1], "with": {"map": [1, 2], "with": ask()}}, said("$m[0][1].by")],
    "items": [{"id": "m", "map": [1, 2], "with": ask()}, {"map": "$m", "with": said(["$item.by", "$.by", "$item"])}],
    "filter": [
        {"id": "m", "map": [1, 2], "with": ask()},
        {"id": "f", "filter": "$m", "condition": "$item.by != 'm[0].q'"},
        said(["$f", "$f[0].by"]),
    ],
    "loop": [
        {"loop": "for", "over": [1, 2], "body": [noted("x"), said("$x.by")]},
        said(["$previousOutput", "$x.by"]),
    ],
    "reduce": [{"reduce": [1], "initial": 0, "with": [ask(), said("$q.by")]}],
    "list of a loop": [
        {
            "id": "l",
            "loop": "for",
            "over": [1, 2, 3],
            "body": {"condition": "$index != 1", "then": ask(), "else": said(0)},
        },
        {"id": "m", "map": "$l", "with": said("$item")},
        said(["$l[0].by", "$l.2.by", "$l"]),
    ],
    "list of a while loop": [
        {"id": "l", "loop": "while", "condition": "$index < 2", "body": ask()},
        said(["$l[1].by", "$l[0].value"]),
    ],
    "the turn before": [
        ask("a"),
        {"id": "l", "loop": "for", "over": [1, 2], "body": [said("$previousOutput.by", id="s"), ask()]},
        said("$s"),
    ],
    "items of a loop": [
        {"id": "m", "map": [1, 2], "with": ask()},
        {"loop": "for", "over": "$m", "body": said("$item.by")},
    ],
    "items of a reduce": [
        {"id": "m", "map": [1, 2], "with": ask()},
        {"reduce": "$m", "initial": 0, "with": said(["$item.by", "$.by", "$acc"])},
    ],
    "accumulator": [
        {
            "id": "r",
            "reduce": [1, 2],
            "initial": 0,
            "with": [{"condition": "$index == 1", "then": said("$acc.by")}, ask("z")],
        },
        said(["$r.by", "$z.by"]),
    ],
}
RESULTS = {
    "output": "q",
    "the step's own name": "q",
    "previousOutput": ["q", "q", "yes"],
    "sequence": ["s.q"] * 3,
    "conditional": ["c.q", "c.q"],
    "switch": "w.q",
    "onError": "e.q",
    "registered": "s",
    "condition": "yes",
    "prompt": "r",
    "delay": ["q"],
    "map": ["m[0].q", "m[1].q"],
    "list of a map": ["m[0].q", "m[1].q", ["yes", "yes"]],
    "list of a parallel": ["p[0].a", "x", "p[2].b"],
    "nested lists": "m[0].m_1[1].q",
    "items": [["m[0].q", "m[0].q", "yes"], ["m[1].q", "m[1].q", "yes"]],
    "filter": [["yes"], "m[1].q"],
    "loop": [["step_1[0].q", "step_1[1].q"], "step_1[1].q"],
    "reduce": "step_1[0].q",
    "list of a loop": ["l[0].l_1.q", "l[2].l_1.q", ["yes", 0, "yes"]],
    "list of a while loop": ["l[1].q", "yes"],
    "the turn before": "l[0].q",
    "items of a loop": ["m[0].q", "m[1].q"],
    "items of a reduce": ["m[1].q", "m[1].q", ["m[0].q", "m[0].q", 0]],
    "accumulator": ["r[1].z", "r[1].z"],
}


@pytest.mark.parametrize("where", PASSED)
async def test_it_goes_wherever_the_answer_goes_unchanged(runner, where):
    done = await run(runner, *PASSED[where])
    assert done.result == RESULTS[where]
    assert all("." not in name for name in done.outputs)


@pytest.mark.parametrize("later", [{"value": 1}, {"by": "forged"}], ids=["a number", "an object"])
async def test_a_variable_that_is_set_again_forgets_who_gave_the_first_value(runner, later):
    body = {"condition": "$item == 1", "then": noted("x"), "else": said(later, output="x")}
    over = {"loop": "for", "over": [1, 2], "body": body}
    done = await run(runner, over, said("$x"), {"condition": "exists($x.by)", "then": said("$x.by"), "else": said(0)})
    assert done.outputs["step_2"] == later
    assert done.result == later.get("by", 0)


async def test_a_graph_passes_it_on_and_keeps_each_path_apart(runner):
    nodes = [
        ask("a") | {"output": "x"},
        said(["$x.by"], id="first"),
        said({"by": "tool"}, id="b", output="x"),
        said(["$x.by"], id="second"),
    ]
    edges = [{"from": "START", "to": ["a", "b"]}, {"from": "a", "to": "first"}, {"from": "b", "to": "second"}]
    done = await run(runner, form={"nodes": nodes, "edges": edges})
    assert done.result == {"first": ["a"], "second": ["tool"]}


APPROVE = {
    "flow": [
        ask(schema={"type": "boolean"}),
        {"condition": "$q && $q.by != null && $q.by != $run.by", "then": said("done"), "else": said("not by you")},
    ]
}


@pytest.mark.parametrize(("who", "result"), [("bob", "done"), ("ann", "not by you"), (None, "not by you")])
async def test_requester_is_not_approver_is_a_condition(runner, who, result):
    assert (await run(runner, form=APPROVE, answers={"q": (True, who)}, by="ann")).result == result
