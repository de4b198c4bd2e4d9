"""Redaction, hints, risk, priority and metadata of questions, and the hub's checks of answers."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from returns.result import Failure

from flowpersist import AwaitInput, ConfigurationError, InputValidationError, KeyRing
from flowpersist.errors import Problem
from flowpersist.hub.answer_checks import AnswerChecks
from flowpersist.inputs import Action
from flowpersist.inputs.redaction import MASK, check_pointers, masked, masked_question
from flowpersist.testing import open_test_hub

SECRET = "DE02120300000000202051"
RING = KeyRing.generate()


def asked(**details):
    return AwaitInput("ok", "Pay it?", bool, **details)


# ----------------------------------------------------------------------------------------------------------- redaction


async def test_a_secret_stands_where_it_is_answered_and_nowhere_else(caplog):
    caplog.set_level(logging.DEBUG)
    events = []
    action = Action("pay", {"iban": SECRET, "amount": 3}, schema={"type": "object"}, redact=["/iban"])
    awaiting = asked(
        shown={"card": {"number": SECRET}, "list": [{"a": SECRET}]}, redact=["/card/number", "/list/*/a"], action=action
    )
    async with open_test_hub(keyring=RING, on_event=events.append) as hub:
        suspension = (await hub.suspend({}, awaiting=awaiting)).unwrap()
        (listed,) = (await hub.query()).unwrap().items
        await hub.answer(suspension.key, "no bool")
        await hub.answer(suspension.key, True, shown_digest="sha256:other")
        seen = (await hub.inspect(suspension.key)).unwrap()
        (await hub.answer(suspension.key, True)).unwrap()
    assert seen.waits[0].awaiting.shown["card"]["number"] == SECRET
    assert seen.waits[0].awaiting.action.arguments["iban"] == SECRET
    told = listed.waits[0].awaiting
    assert told.shown == {"card": {"number": MASK}, "list": [{"a": MASK}]}
    assert told.action.arguments == {"iban": MASK, "amount": 3}
    assert listed.waits[0].digest == seen.waits[0].digest
    texts = [repr(one) for one in (listed, told, told.to_data(), awaiting, action, *events)]
    texts += [json.dumps(wait.awaiting.to_data()) for event in events for wait in event.suspension.waits]
    texts += [caplog.text]
    assert len(events) >= 2
    assert not [text for text in texts if SECRET in text]


NOTICES = {
    "agui": lambda one: one.to_agui("i1"),
    "a2a": lambda one: one.to_a2a("t", "c", "m"),
    "strands": lambda one: one.to_strands("i1"),
    "adk": lambda one: one.to_adk("i1"),
    "slack": lambda one: one.to_slack("r1"),
    "elicitation": lambda one: one.to_mcp_elicitation(),
    "repr": repr,
    "masked": lambda one: one.masked().to_data(),
}


@pytest.mark.parametrize("notice", NOTICES.values(), ids=NOTICES)
def test_notifications_are_masked_and_the_form_is_not(notice):
    action = Action("pay", {"iban": SECRET}, redact=["/iban"])
    awaiting = asked(shown={"iban": SECRET}, redact=["/iban"], action=action)
    assert SECRET not in str(notice(awaiting))
    assert str(awaiting.to_form()).count(SECRET) == 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab/~*0", max_size=3), inner, max_size=3),
    max_leaves=10,
)


def pointers_of(node, at=""):
    if at:
        yield at
    if isinstance(node, dict):
        for key, one in node.items():
            yield from pointers_of(one, f"{at}/{key.replace('~', '~0').replace('/', '~1')}")
    if isinstance(node, list):
        for index, one in enumerate(node):
            yield from pointers_of(one, f"{at}/{index}")


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    document=st.dictionaries(st.text("ab/~*0", min_size=1, max_size=3), JSON, min_size=1, max_size=3), data=st.data()
)
def test_every_pointer_masks_its_place_and_the_rest_stays(document, data):
    pointer = data.draw(st.sampled_from(sorted(pointers_of(document))))
    before = json.dumps(document)
    made = masked(document, check_pointers([pointer], "redact", document))
    assert json.dumps(document) == before
    assert made != document or MASK in before
    left = set(pointers_of(made))
    assert left == {one for one in pointers_of(document) if not one.startswith(f"{pointer}/")}


@given(document=JSON, pointer=st.text("ab/~*0", max_size=6).map("/".__add__))
def test_a_pointer_that_leads_nowhere_masks_what_stands_around_it(document, pointer):
    made = masked(document, [pointer])
    try:
        check_pointers([pointer], "redact", document)
    except ConfigurationError:
        assert made != document or not isinstance(document, dict | list) or document == MASK or made == document == []


def test_a_masked_question_can_be_read_and_has_no_default():
    awaiting = AwaitInput("ok", "?", str, default=SECRET, shown={"a": SECRET}, redact=["/a"])
    data = masked_question(awaiting.to_data())
    assert SECRET not in str(data)
    read = AwaitInput.from_data(data).unwrap()
    assert read.shown == {"a": MASK}
    assert asked().masked() == asked()


BAD = {
    "a pointer that leads nowhere": {"shown": {"a": 1}, "redact": ["/b"]},
    "no shown": {"redact": ["/a"]},
    "no pointer": {"shown": {"a": 1}, "redact": ["a"]},
    "an index beyond": {"shown": {"a": [1]}, "redact": ["/a/1"]},
    "unknown risk": {"risk": "huge"},
    "low priority": {"priority": -1},
    "high priority": {"priority": 101},
    "much metadata": {"metadata": {str(number): 1 for number in range(33)}},
    "unknown field": {"ui": {"/amount": {"label": "x"}}},
    "unknown hint": {"ui": {"": {"colour": "red"}}},
    "unknown widget": {"ui": {"": {"widget": "knob"}}},
    "a number for a label": {"ui": {"": {"label": 7}}},
    "a text for an order": {"ui": {"": {"order": "1"}}},
    "a huge order": {"ui": {"": {"order": 10**5000}}},
    "a check twice": {"checks": ["a", "a"]},
    "an empty check": {"checks": [""]},
}


@pytest.mark.parametrize("details", BAD.values(), ids=BAD)
def test_what_makes_no_sense_is_refused_by_its_name(details):
    with pytest.raises(ConfigurationError, match=r"Invalid (redact|risk|priority|metadata|ui|checks)"):
        asked(**details)


def test_an_action_redacts_places_of_its_arguments_only():
    with pytest.raises(ConfigurationError, match="there is nothing at '/card'"):
        Action("pay", {"iban": SECRET}, redact=["/card"])


def test_hints_and_metadata_are_those_of_the_moment_when_it_was_made():
    ui, metadata = {"": {"label": "Approve"}}, {"case": 7}
    awaiting = asked(ui=ui, metadata=metadata)
    ui[""]["label"], metadata["case"] = "Reject", 8
    assert awaiting.to_form()["fields"][0]["label"] == "Approve"
    assert awaiting.metadata == awaiting.to_data()["metadata"] == {"case": 7}


async def test_labels_come_back_with_the_question():
    awaiting = asked(
        risk="high", priority=90, metadata={"case": 7, "vip": True}, checks=["a"], ui={"": {"label": "Sure?"}}
    )
    async with open_test_hub(keyring=None) as hub:
        suspension = (await hub.suspend({}, awaiting=awaiting)).unwrap()
        (wait,) = (await hub.inspect(suspension.key)).unwrap().waits
    read = wait.awaiting
    assert (read.risk, read.priority, read.metadata, read.checks) == ("high", 90, {"case": 7, "vip": True}, ("a",))
    assert read.ui == {"": {"label": "Sure?"}}


# --------------------------------------------------------------------------------------------------------------- hints

ORDER = {
    "type": "object",
    "properties": {"a/b": {"type": "string"}, "amount": {"type": "integer"}, "note": {"type": "string"}},
}


def test_a_form_follows_the_hints():
    ui = {
        "/note": {"order": 1, "widget": "textarea", "placeholder": "Why?"},
        "/a~1b": {"order": 2, "label": "Name", "help": "As printed"},
    }
    fields = AwaitInput("f", "?", ORDER, ui=ui).to_form()["fields"]
    assert [one["name"] for one in fields] == ["note", "a/b", "amount"]
    assert (fields[0]["widget"], fields[0]["placeholder"]) == ("textarea", "Why?")
    assert (fields[1]["label"], fields[1]["help"]) == ("Name", "As printed")
    assert "order" not in fields[0]


async def test_other_labels_are_another_question():
    async with open_test_hub(keyring=None) as hub:
        digests = set()
        for label in ("Approve", "Reject"):
            suspension = (await hub.suspend({}, awaiting=asked(ui={"": {"label": label}}))).unwrap()
            digests.add(suspension.waits[0].digest)
    assert len(digests) == 2


# -------------------------------------------------------------------------------------------------------------- checks

calls = []


def even(answer):
    calls.append(answer)
    return None if answer % 2 == 0 else "must be even"


async def small(answer):
    await asyncio.sleep(0)
    return [Problem("/x", "must be under 100")] if answer >= 100 else None


def broken(_):
    raise OSError(SECRET)


def strange(_):
    return True


async def cancelled(_):
    raise asyncio.CancelledError


def greedy(answer):
    answer["a"] = "changed"


CHECKS = {"even": even, "small": small, "broken": broken, "strange": strange, "cancelled": cancelled, "greedy": greedy}
VERBS = {
    "answer": lambda hub, key, value: hub.answer(key, value),
    "resume": lambda hub, key, value: hub.resume(key, value),
    "claim": lambda hub, key, value: hub.claim(key, value),
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
@pytest.mark.parametrize(
    ("names", "value", "told"),
    [
        (["even"], 3, "must be even"),
        (["small"], 100, "/x must be under 100"),
        (["even", "small"], 101, "must be even; /x must be under 100"),
        (["broken"], 2, "could not be checked by 'broken' (OSError)"),
        (["strange"], 2, "could not be checked by 'strange' (TypeError)"),
        (["cancelled"], 2, "could not be checked by 'cancelled' (CancelledError)"),
    ],
    ids=["plain", "async", "both", "raises", "no problem", "cancelled"],
)
async def test_an_answer_that_does_not_pass_is_refused_and_the_wait_stays_open(verb, names, value, told):
    async with open_test_hub(keyring=RING, checks=CHECKS) as hub:
        suspension = (await hub.suspend({}, awaiting=AwaitInput("n", "?", int, checks=names))).unwrap()
        error = (await verb(hub, suspension.key, value)).failure()
        assert isinstance(error, InputValidationError)
        assert told in str(error)
        assert SECRET not in str(error)
        assert (await hub.inspect(suspension.key)).unwrap().status == "waiting"


async def test_an_answer_that_passes_is_recorded_as_it_was_given():
    calls.clear()
    async with open_test_hub(keyring=RING, checks=CHECKS) as hub:
        awaiting = AwaitInput("n", "?", {"type": "object"}, checks=["greedy"])
        suspension = (await hub.suspend({}, awaiting=awaiting)).unwrap()
        run = (await hub.resume(suspension.key, {"a": 1})).unwrap()
        assert run.answer == {"a": 1}
        even_one = (await hub.suspend({}, awaiting=AwaitInput("n", "?", int, checks=["even", "small"]))).unwrap()
        assert (await hub.answer(even_one.key, 4)).unwrap().outcome == "accepted"
        assert (await hub.answer(even_one.key, 4)).unwrap().outcome == "replayed"
        assert calls == [4]


async def test_a_check_that_this_process_lacks_refuses_the_answer():
    async with open_test_hub(keyring=RING) as hub:
        suspension = (await hub.suspend({}, awaiting=AwaitInput("n", "?", int, checks=["iban"]))).unwrap()
        error = (await hub.answer(suspension.key, 4)).failure()
        assert isinstance(error, ConfigurationError)
        assert "the check 'iban' is not registered" in str(error)
        assert (await hub.inspect(suspension.key)).unwrap().status == "waiting"


async def test_a_check_that_takes_too_long_refuses_the_answer():
    async def slow(_):
        await asyncio.Event().wait()

    found = await AnswerChecks({"slow": slow}, patience=0.01).asked(["slow"], 1)
    assert isinstance(found, Failure)
    assert "could not be checked within 0.01 s" in str(found.failure())


async def test_cancelling_the_caller_cancels_the_check():
    began = asyncio.Event()
    ended = []

    async def slow(_):
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async with open_test_hub(keyring=None, checks={"slow": slow}) as hub:
        suspension = (await hub.suspend({}, awaiting=AwaitInput("n", "?", int, checks=["slow"]))).unwrap()
        answering = asyncio.create_task(hub.answer(suspension.key, 1))
        await began.wait()
        answering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answering
        assert ended == [True]
        assert (await hub.inspect(suspension.key)).unwrap().status == "waiting"


@pytest.mark.parametrize("checks", [7, {"a": 7}, {7: even}, ["even"]])
async def test_checks_are_functions_by_name(checks):
    with pytest.raises((TypeError, ConfigurationError)):
        async with open_test_hub(keyring=None, checks=checks):
            pass
