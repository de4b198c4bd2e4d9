"""An answer is bound to exactly the question that was shown."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
import pytest_asyncio
from returns.result import Success

from flowpersist import AwaitInput, ConfigurationError, InputValidationError, RaisingHub, or_raise
from flowpersist.dynamicflow import FlowRunner
from flowpersist.errors import QuestionChanged
from flowpersist.inputs import Action
from flowpersist.lifecycle.shown import digest_text, shown_digest
from flowpersist.testing.hubs import open_test_hub, travel

CALL = Action("refund", {"order": 7, "amount": 20}, version="2", policy="2026-11")
ASK = AwaitInput(id="ok", prompt="Refund?", schema=bool, action=CALL)
WRONG = "sha256:" + "0" * 64


@pytest_asyncio.fixture(loop_scope="module")
async def hub():
    async with open_test_hub() as opened:
        yield RaisingHub(opened)


OTHER_ACTIONS = {
    "none": None,
    "tool": Action("charge", CALL.arguments, "2", "2026-11"),
    "arguments": Action("refund", {"order": 7, "amount": 2000}, "2", "2026-11"),
    "version": Action("refund", CALL.arguments, "3", "2026-11"),
    "policy": Action("refund", CALL.arguments, "2", "2026-12"),
}


@pytest.mark.parametrize("action", OTHER_ACTIONS.values(), ids=OTHER_ACTIONS)
def test_another_call_is_another_question(action):
    other = AwaitInput(id="ok", prompt="Refund?", schema=bool, action=action)
    assert shown_digest(other.to_data()) != shown_digest(ASK.to_data())


def test_an_action_comes_back_and_is_kept_as_it_was_given():
    arguments = {"order": 7, "lines": [1]}
    awaiting = AwaitInput(id="ok", prompt="?", action=Action("refund", arguments))
    arguments["lines"].append(2)
    assert or_raise(AwaitInput.from_data(awaiting.to_data())).action == Action("refund", {"order": 7, "lines": [1]})


BAD_ACTIONS = {
    "empty tool": lambda: Action(""),
    "arguments are no mapping": lambda: Action("refund", [1]),
    "arguments are no JSON": lambda: Action("refund", {"at": timedelta(1)}),
    "a name is no text": lambda: Action("refund", {1: 2}),
}


@pytest.mark.parametrize("make", BAD_ACTIONS.values(), ids=BAD_ACTIONS)
def test_a_bad_action_is_refused(make):
    with pytest.raises(ConfigurationError, match="Invalid"):
        make()


VERBS = {
    "answer": lambda hub, key, digest: hub.answer(key, True, shown_digest=digest),
    "resume": lambda hub, key, digest: hub.resume(key, True, shown_digest=digest),
    "claim": lambda hub, key, digest: hub.claim(key, True, shown_digest=digest),
    "running": lambda hub, key, digest: entered(hub.running(key, True, shown_digest=digest)),
}


async def entered(block):
    async with block as run:
        return run


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
async def test_an_answer_to_another_digest_is_refused_and_the_wait_stays_open(hub, verb):
    new = await hub.suspend("s", awaiting=ASK)
    (wait,) = new.waits
    for digest in (WRONG, "", "nonsense", wait.digest.upper()):
        with pytest.raises(QuestionChanged, match="show it again"):
            await verb(hub, new.key, digest)
    assert (await hub.inspect(new.key)).status == "waiting"
    await verb(hub, new.key, wait.digest)
    assert (await hub.inspect(new.key)).waits[0].answered_digest == wait.digest


async def test_a_digest_must_be_a_text(hub):
    new = await hub.suspend("s", awaiting=ASK)
    with pytest.raises(TypeError, match="shown_digest"):
        await hub.answer(new.key, value=True, shown_digest=b"x")


async def test_the_same_answer_to_another_question_is_no_replay(hub):
    new = await hub.suspend("s", awaiting=ASK)
    digest = new.waits[0].digest
    await hub.answer(new.key, value=True, answer_id="a", shown_digest=digest)
    assert (await hub.answer(new.key, value=True, shown_digest=digest)).outcome == "replayed"
    assert (await hub.answer(new.key, value=True, answer_id="a", shown_digest=WRONG)).outcome == "replayed"
    outcome = await hub.hub.answer(new.key, value=True, shown_digest=WRONG)
    assert outcome.failure().code == "answer-conflict"


async def test_what_needs_no_answer_has_no_digest_to_answer_to(hub):
    new = await hub.suspend("s")
    with pytest.raises(QuestionChanged):
        await hub.answer(new.key, value=True, shown_digest=WRONG)


async def test_a_flow_takes_the_digest_too():
    args = {"prompt": "Go on?", "schema": {"type": "boolean"}}
    document = {"flow": [{"id": "ok", "tool": "await_input", "args": args}]}
    async with open_test_hub() as hub:
        runner = FlowRunner(hub)
        suspended = or_raise(await runner.start(document))
        (wait,) = suspended.waits
        digest = digest_text(shown_digest(wait.awaiting.to_data()))
        refused = await runner.resume(wait.key, answer=True, shown_digest=WRONG)
        assert isinstance(refused.failure(), QuestionChanged)
        assert or_raise(await runner.resume(wait.key, answer=True, shown_digest=digest)).result is True


async def test_two_answers_to_one_question_are_one_approval(hub):
    new = await hub.suspend("s", awaiting=ASK)
    digest = new.waits[0].digest
    outcomes = await asyncio.gather(*(hub.hub.resume(new.key, True, shown_digest=digest) for _ in range(4)))
    assert [isinstance(one, Success) for one in outcomes].count(True) == 1


async def test_a_default_is_recorded_with_the_digest(hub):
    new = await hub.suspend(
        "s", awaiting=AwaitInput(id="ok", prompt="?", default=False, action=CALL, timeout=timedelta(1))
    )
    travel(hub.hub, timedelta(2))
    (wait,) = (await hub.inspect(new.key)).waits
    assert wait.answered_digest == wait.digest


# ---------------------------------------------------------------------------------------------------------------- edits
TOOL_SCHEMA = {
    "type": "object",
    "properties": {"order": {"type": "integer"}, "amount": {"type": "integer", "maximum": 100}},
    "required": ["order", "amount"],
    "additionalProperties": False,
}
EDITABLE = Action("refund", {"order": 7, "amount": 20}, schema=TOOL_SCHEMA)
DECIDED = {
    "yes": (True, EDITABLE),
    "no": (False, None),
    "nothing": (None, None),
    "a text": ("approve", None),
    "one": (1, None),
    "approve": ({"decision": "approve"}, EDITABLE),
    "reject": ({"decision": "reject"}, None),
    "unknown": ({"decision": "perhaps"}, None),
    "arguments": (
        {"decision": "edit", "arguments": {"order": 7, "amount": 5}},
        Action("refund", {"order": 7, "amount": 5}, schema=TOOL_SCHEMA),
    ),
    "patch": (
        {"decision": "edit", "patch": [{"op": "replace", "path": "/amount", "value": 5}]},
        Action("refund", {"order": 7, "amount": 5}, schema=TOOL_SCHEMA),
    ),
}


@pytest.mark.parametrize(("answer", "action"), DECIDED.values(), ids=DECIDED)
def test_what_was_decided(answer, action):
    assert or_raise(EDITABLE.decided(answer)) == action
    assert EDITABLE.arguments == {"order": 7, "amount": 20}


def grown(count):
    return [{"op": "copy", "from": "", "path": f"/x{at}"} for at in range(count)]


BAD_EDITS = {
    "nothing edited": {},
    "both": {"arguments": {"order": 1, "amount": 1}, "patch": []},
    "breaks the schema": {"arguments": {"order": 7, "amount": 2000}},
    "an argument too many": {"arguments": {"order": 7, "amount": 1, "to": "me"}},
    "no object": {"arguments": [1]},
    "patch breaks the schema": {"patch": [{"op": "replace", "path": "/amount", "value": 2000}]},
    "patch reaches outside": {"patch": [{"op": "add", "path": "/a/b", "value": 1}]},
    "patch takes the root": {"patch": [{"op": "replace", "path": "", "value": 5}]},
    "patch is no list": {"patch": {"op": "add"}},
    "patch is no operation": {"patch": [7]},
    "unknown operation": {"patch": [{"op": "zap", "path": "/amount"}]},
    "a failing test": {"patch": [{"op": "test", "path": "/amount", "value": 1}]},
    "a move into itself": {
        "patch": [{"op": "add", "path": "/a", "value": {}}, {"op": "move", "from": "/a", "path": "/a/b"}]
    },
    "too many operations": {"patch": [{"op": "test", "path": "/amount", "value": 20}] * 101},
    "grows without end": {"patch": grown(60)},
}


@pytest.mark.parametrize("edit", BAD_EDITS.values(), ids=BAD_EDITS)
async def test_a_bad_edit_is_refused_and_the_wait_stays_open(hub, edit):
    awaiting = AwaitInput(id="ok", prompt="Refund?", action=EDITABLE)
    new = await hub.suspend("s", awaiting=awaiting)
    answer = {"decision": "edit", **edit}
    assert isinstance(awaiting.check(answer).failure(), InputValidationError)
    with pytest.raises(InputValidationError):
        await hub.answer(new.key, answer)
    assert (await hub.inspect(new.key)).status == "waiting"
    assert (await hub.answer(new.key, {"decision": "reject"})).outcome == "accepted"


def test_a_patch_is_bounded_on_data_without_a_schema():
    free = Action("free", {"list": list(range(100))})
    assert isinstance(free.decided({"decision": "edit", "patch": grown(100)}).failure(), InputValidationError)


def test_an_edited_call_is_another_question():
    edited = or_raise(EDITABLE.decided({"decision": "edit", "arguments": {"order": 7, "amount": 5}}))
    first, second = (AwaitInput(id="ok", prompt="?", action=one).to_data() for one in (EDITABLE, edited))
    assert shown_digest(first) != shown_digest(second)


def test_arguments_must_fit_the_tool():
    with pytest.raises(ConfigurationError, match="Invalid arguments of 'refund'"):
        Action("refund", {"order": "x"}, schema=TOOL_SCHEMA)
    with pytest.raises(ConfigurationError, match="the schema of 'refund'"):
        Action("refund", {}, schema={"type": "nonsense"})


SILENT = {"yes": (bool, True), "approve": (None, {"decision": "approve"})}


@pytest.mark.parametrize(("schema", "default"), SILENT.values(), ids=SILENT)
def test_silence_never_approves_unless_that_is_said(schema, default):
    with pytest.raises(ConfigurationError, match="silence would approve"):
        AwaitInput(id="ok", prompt="?", schema=schema, default=default, action=CALL)
    said = AwaitInput(id="ok", prompt="?", schema=schema, default=default, action=CALL, approve_on_expiry=True)
    assert or_raise(AwaitInput.from_data(said.to_data())).approve_on_expiry
    # What is not an approval of a call may have any default.
    assert AwaitInput(id="ok", prompt="?", schema=schema, default=default).default == default
