"""What the entries of an audit trail say of a question and an answer, beside what was decided."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from flowpersist import AwaitInput, ConfigurationError, Principal, or_raise
from flowpersist.dynamicflow import Accepted, FlowRunner
from flowpersist.inputs import Via
from flowpersist.testing.hubs import open_test_hub
from flowpersist.tools import approve

ANN = Principal(
    "ann", name="Ann Lee", issuer="idp", roles=["lead"], authenticated_at=datetime(2026, 1, 2, tzinfo=UTC),
    method="passkey", on_behalf_of="cfo",
)  # fmt: skip
SIGN = AwaitInput("sign", "Sign?", schema=bool, meaning="responsibility")


async def answered(hub, by, requester="ben", **options):
    new = or_raise(await hub.suspend(1, awaiting=SIGN, by=requester))
    or_raise(await hub.answer(new.key, True, by=by, **options))
    asked, told = or_raise(await hub.history(new.id))
    return asked.waits[0], told


async def test_an_answer_says_who_with_which_meaning_and_how_it_came():
    async with open_test_hub() as hub:
        asked, told = await answered(hub, ANN, via=Via("slack", "msg-17"))
        wait = told.waits[0]
        assert told.by == ANN
        assert (asked.meaning, wait.meaning) == ("responsibility", "responsibility")
        assert (wait.answer.channel, wait.answer.delivery) == ("slack", "msg-17")
        assert asked.schema.startswith("sha256:")


@pytest.mark.parametrize(
    ("by", "requester", "own"),
    [
        ("ann", "ben", False),
        ("ann", "ann", True),
        (Principal("agent", on_behalf_of="ben"), "ben", True),
        ("ann", None, None),
        (None, "ben", None),
    ],
)
async def test_self_approval_is_told(by, requester, own):
    async with open_test_hub() as hub:
        asked, told = await answered(hub, by, requester)
        assert (asked.self_approval, told.waits[0].self_approval) == (None, own)


async def test_every_verb_that_answers_takes_a_channel():
    async with open_test_hub() as hub:
        for give in (hub.answer, hub.resume, hub.claim):
            new = or_raise(await hub.suspend(1, awaiting=SIGN))
            or_raise(await give(new.key, True, via=Via("email")))
            assert or_raise(await hub.history(new.id))[1].waits[0].answer.channel == "email"
        new = or_raise(await hub.suspend(1, awaiting=SIGN))
        async with hub.running(new.key, True, via=Via("email", "7")) as run:
            or_raise(run)
        assert or_raise(await hub.history(new.id))[1].waits[0].answer.delivery == "7"


async def test_an_effect_says_its_attempt_and_how_it_ended():
    async with open_test_hub() as hub:
        for verb, ended in (("complete", "completed"), ("fail", "failed")):
            new = or_raise(await hub.suspend(1, awaiting=SIGN))
            or_raise(await hub.release(or_raise(await hub.claim(new.key, True)), OSError("lost")))
            run = or_raise(await hub.claim(new.key))
            or_raise(await (hub.complete(run, True) if verb == "complete" else hub.fail(run, ValueError(), why=True)))
            *_, released, _, last = or_raise(await hub.history(new.id))
            assert (released.verb, released.attempt, released.error) == ("release", 1, "OSError")
            assert (last.verb, last.attempt, last.status) == (verb, 2, ended)
            assert last.error == (None if verb == "complete" else "ValueError")


FLOW = {
    "flow": [
        {
            "id": "all",
            "parallel": [
                {"id": name, "tool": "await_input", "args": {"prompt": "Go on?", "schema": {"type": "boolean"}}}
                for name in ("a", "b", "c")
            ],
        }
    ]
}


async def channels(hub, id_):
    answers = [wait.answer for entry in or_raise(await hub.history(id_)) for wait in entry.waits]
    return [(one.channel, one.delivery) for one in answers if one is not None and one.channel is not None]


async def test_a_flow_takes_a_channel_whoever_runs_it():
    async with open_test_hub() as hub:
        runner = FlowRunner(hub)
        asked = or_raise(await runner.start(FLOW))
        # While another process holds the run, the answer is recorded only.
        or_raise(await hub.answer(asked.keys["all[0].a"], True))
        held = or_raise(await hub.claim(asked.suspension_id))
        accepted = or_raise(await runner.resume(asked.keys["all[1].b"], answer=True, via=Via("email", "7")))
        assert isinstance(accepted, Accepted)
        or_raise(await hub.release(held))
        async for event in runner.stream_resume(asked.keys["all[2].c"], answer=True, via=Via("slack")):
            last = event
        assert last.type == "flow-complete"
        assert await channels(hub, asked.suspension_id) == [("email", "7"), ("slack", None)]


async def test_an_approval_takes_a_channel():
    async def pay(amount: int) -> str:
        return f"paid {amount}"

    async with open_test_hub() as hub:
        guarded = approve(pay, hub=hub)
        waiting = await guarded.call({"amount": 5})
        decided = await guarded.resume(waiting.key, answer={"decision": "approve"}, by="ann", via=Via("teams", "t1"))
        assert decided == "paid 5"
        assert await channels(hub, waiting.suspension.id) == [("teams", "t1")]


@pytest.mark.parametrize("verb", ["resume", "stream_resume"])
async def test_a_channel_of_a_flow_is_a_via(verb):
    async with open_test_hub() as hub:
        with pytest.raises(TypeError, match="via"):
            await getattr(FlowRunner(hub), verb)("key", answer=True, via="email")


async def test_the_meaning_is_a_part_of_what_is_shown():
    async with open_test_hub() as hub:
        one = or_raise(await hub.suspend(1, awaiting=SIGN))
        other = or_raise(await hub.suspend(1, awaiting=AwaitInput("sign", "Sign?", schema=bool, meaning="review")))
        assert one.waits[0].digest != other.waits[0].digest
        assert one.waits[0].awaiting.meaning == "responsibility"


@pytest.mark.parametrize("given", ["approve", "", 1, ["review"]])
def test_an_unknown_meaning_is_refused(given):
    with pytest.raises((ConfigurationError, TypeError), match="meaning"):
        AwaitInput("sign", "?", meaning=given)


@pytest.mark.parametrize("given", [("",), ("x" * 513,), ("email", ""), (1,)])
def test_an_invalid_channel_is_refused(given):
    with pytest.raises(ConfigurationError, match=r"channel|delivery"):
        Via(*given)
