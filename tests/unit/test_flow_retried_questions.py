"""An answer counts for what was shown with its question, and for nothing that was shown later.

A further attempt asks under a new key, whatever holds the question and however its answer comes; waits and answers keep
the digest of what was shown.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from flowpersist import AwaitInput, RaisingHub, or_raise
from flowpersist.dynamicflow import Accepted, Completed, FlowRunner, Migration, Suspended, tool
from flowpersist.dynamicflow import compile as compile_flow
from flowpersist.errors import WaitSuperseded
from flowpersist.lifecycle.shown import canonical_json, shown_digest
from flowpersist.testing.hubs import open_test_hub, travel

VECTORS = json.loads((Path(__file__).parents[2] / "specs/persistence/vectors/shown.json").read_text())["vectors"]
published: list[object] = []
drafts: list[int] = []
gates: list[asyncio.Event] = []
entered: list[asyncio.Event] = []


@tool()
async def draft() -> int:
    drafts.append(len(drafts) + 1)
    return drafts[-1]


@tool()
async def publish(version: object) -> object:
    published.append(version)
    return version


@tool()
async def must(value: object) -> object:
    if value == "no":
        raise RuntimeError("refused")
    return value


@tool()
async def held(value: object) -> object:
    entered[0].set()
    await gates[0].wait()
    if value == "no":
        raise RuntimeError("refused")
    return value


@tool()
async def slowly() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


TOOLS = [draft, publish, must, held, slowly]


@pytest.fixture(autouse=True)
def _fresh():
    published.clear()
    drafts.clear()
    gates[:] = [asyncio.Event()]
    entered[:] = [asyncio.Event()]


@pytest_asyncio.fixture(loop_scope="module")
async def hub():
    async with open_test_hub(keyring=None) as opened:
        yield opened


def runner(hub, migrations=()):
    return FlowRunner(hub, TOOLS, migrations=migrations, backoff=lambda _: 0)


def ask(name, prompt="?", **args):
    return {"id": name, "tool": "await_input", "args": {"prompt": prompt, **args}}


def checked(by="must"):
    return [ask("a"), {"tool": by, "args": {"value": "$a"}}]


def drafted():
    return [
        {"id": "d", "tool": "draft"},
        ask("q", "Publish version $d?"),
        {"condition": "$q == 'yes'", "then": {"tool": "publish", "args": {"version": "$d"}}},
    ]


PAIR = {"parallel": [checked(), drafted()]}
#: Whatever holds the question, it is the container with the retries that gives the attempt up.
HOLDERS = {
    "parallel": {**PAIR, "retry": 2},
    "sequence": {"sequence": [{"id": "in", **PAIR}], "retry": 2},
    "map": {"map": [1], "with": [{"id": "in", **PAIR}], "retry": 2},
    "loop": {"loop": "for", "over": [1], "body": [{"id": "in", **PAIR}], "retry": 2},
    "reduce": {"reduce": [1], "initial": 0, "with": [{"id": "in", **PAIR}], "retry": 2},
    "conditional": {"condition": "true", "then": [{"id": "in", **PAIR}], "retry": 2},
    "switch": {"switch": "'x'", "branches": {"x": [{"id": "in", **PAIR}]}, "retry": 2},
    "onError": {"sequence": [{"tool": "must", "args": {"value": "no"}}], "onError": [{"id": "in", **PAIR, "retry": 2}]},
}


async def started(hub, holder, by="must"):
    document = json.loads(json.dumps({"flow": [{"id": "p", **holder}]}).replace('"must"', f'"{by}"'))
    outcome = or_raise(await runner(hub).start(document))
    assert isinstance(outcome, Suspended)
    return {path.rsplit(".", 1)[-1]: key for path, key in outcome.keys.items()}, outcome


def questions(outcome):
    assert isinstance(outcome, Suspended)
    return {wait.step.rsplit(".", 1)[-1]: (wait.key, wait.awaiting.prompt) for wait in outcome.waits}


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
async def test_a_yes_to_version_one_publishes_no_version_two(hub, holder):
    keys, _ = await started(hub, holder)
    again = or_raise(await runner(hub).resume(keys["a"], answer="no"))
    assert type((await runner(hub).resume(keys["q"], answer="yes")).failure()) is WaitSuperseded
    assert published == []
    asked = questions(again)
    assert asked["q"][0] != keys["q"]
    assert asked["q"][1] == "Publish version 2?"
    last = or_raise(await runner(hub).resume(asked["q"][0], answer="yes"))
    assert published == [2]
    assert isinstance(or_raise(await runner(hub).resume(questions(last)["a"][0], answer="fine")), Completed)


@pytest.mark.parametrize("first", ["a", "q"])
async def test_answers_that_come_together_count_for_their_attempt_alone(hub, first):
    keys, outcome = await started(hub, HOLDERS["parallel"])
    words = {"a": "no", "q": "yes"}
    second = next(name for name in words if name != first)
    or_raise(await hub.answer(keys[first], words[first]))
    again = or_raise(await runner(hub).resume(keys[second], answer=words[second]))
    assert published in ([], [1])
    assert questions(again)["q"][1] == "Publish version 2?"
    assert or_raise(await hub.inspect(keys["a"])).id == or_raise(await hub.query()).items[0].id
    assert set(again.keys) == set(outcome.keys)


async def test_an_answer_that_its_attempt_never_read_is_not_read_by_the_next(hub):
    """Two iterations at a time: the first fails and the second is busy, so that the third has not begun again."""
    fails_at_once = {"filter": [1], "condition": "$q != 'no' || $q < 1"}
    d, q, publishes = drafted()
    body = [d, q, fails_at_once, {"tool": "slowly"}, publishes]
    steps = {"id": "m", "map": [0, 1, 2], "with": body, "concurrency": 2, "retry": 1}
    first = or_raise(await runner(hub).start({"flow": [steps]}))
    assert [wait.awaiting.prompt for wait in first.waits] == [f"Publish version {number}?" for number in (1, 2, 3)]
    or_raise(await hub.answer(first.keys["m[1].q"], "yes"))
    or_raise(await hub.answer(first.keys["m[2].q"], "yes"))
    again = or_raise(await runner(hub).resume(first.keys["m[0].q"], answer="no"))
    assert published == []
    assert {wait.awaiting.prompt for wait in again.waits} == {f"Publish version {number}?" for number in (4, 5, 6)}


async def test_an_answer_that_comes_while_its_attempt_is_given_up_counts_for_nothing(hub):
    """It is accepted, as nobody knows better yet; the attempt that follows asks all the same."""
    keys, _ = await started(hub, HOLDERS["parallel"], by="held")
    running = asyncio.create_task(runner(hub).resume(keys["a"], answer="no"))
    await asyncio.wait_for(entered[0].wait(), 5)
    assert isinstance(or_raise(await runner(hub).resume(keys["q"], answer="yes")), Accepted)
    gates[0].set()
    again = or_raise(await running)
    assert published == []
    assert questions(again)["q"][1] == "Publish version 2?"
    assert or_raise(await hub.answer(keys["q"], "yes")).outcome == "replayed"
    assert type((await hub.answer(keys["q"], "other")).failure()) is WaitSuperseded


# -------------------------------------------------------------------------------------------------------------- digests


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_the_digest_is_that_of_the_specification(vector):
    awaiting = vector["awaiting"]
    shown = {name: awaiting[name] for name in ("prompt", "title", "shown", "schema", "ui") if name in awaiting}
    assert canonical_json(shown) == vector["canonical"]
    assert f"sha256:{hashlib.sha256(vector['canonical'].encode()).hexdigest()}" == vector["digest"]
    # The second one is remembered.
    for _ in range(2):
        assert f"sha256:{shown_digest(awaiting).hex()}" == vector["digest"]


ASK = AwaitInput(id="ok", prompt="Publish version 1?", title="Release", schema=bool, shown={"author": "ann"})
OTHERS = {
    "prompt": {"prompt": "Publish version 2?"},
    "title": {"title": None},
    "schema": {"schema": {"type": ["boolean", "null"]}},
    "shown": {"shown": {"author": "bob"}},
}


def shown_with(**changes):
    fields = {"id": "ok", "prompt": ASK.prompt, "title": ASK.title, "schema": bool, "shown": ASK.shown}
    return AwaitInput(**{**fields, **changes})


@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS)
def test_another_digest_for_whatever_is_shown_otherwise(changes):
    assert shown_digest(shown_with(**changes).to_data()) != shown_digest(ASK.to_data())


def test_what_is_not_shown_has_no_part_in_it():
    other = shown_with(id="other", default=False, timeout=timedelta(hours=1))
    assert shown_digest(other.to_data()) == shown_digest(ASK.to_data())


DOORS = {"outcomes": lambda hub: hub, "raising": RaisingHub}


def given(value):
    return or_raise(value) if hasattr(value, "unwrap") else value


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
async def test_a_wait_and_its_answer_keep_the_digest_of_what_was_shown(hub, door):
    verbs, expected = door(hub), f"sha256:{shown_digest(ASK.to_data()).hex()}"
    new = given(
        await verbs.suspend(1, awaiting={"a": ASK, "b": ASK, "free": AwaitInput(id="f", prompt="?")}, until="each")
    )
    assert [wait.digest == expected for wait in new.waits] == [True, True, False]
    assert {wait.answered_digest for wait in new.waits} == {None}
    receipt = given(await verbs.answer(new.keys["a"], True))
    assert receipt.digest == expected
    (wait,) = [wait for wait in given(await verbs.inspect(new.id)).waits if wait.name == "a"]
    assert (wait.digest, wait.answered_digest) == (expected, expected)
    run = given(await verbs.claim(new.keys["a"]))
    assert [wait.answered_digest for wait in run.suspension.waits if wait.name in run.answers] == [expected]
    given(await verbs.suspend_next(run, 2, until="each"))
    # The run has gone on: the receipt that is left says it still.
    assert given(await verbs.answer(new.keys["a"], True)).digest == expected


async def test_a_default_is_an_answer_to_what_was_shown(hub):
    awaiting = shown_with(default=False, timeout=timedelta(hours=1))
    new = or_raise(await hub.suspend(1, awaiting=awaiting))
    travel(hub, timedelta(hours=2))
    (wait,) = or_raise(await hub.inspect(new.key)).waits
    assert wait.answered_digest == wait.digest == f"sha256:{shown_digest(awaiting.to_data()).hex()}"


async def test_no_answer_is_needed_and_nothing_is_shown(hub):
    (wait,) = or_raise(await hub.suspend(1)).waits
    assert wait.digest is None


# ----------------------------------------------------------------------------------------------------------- migrations


@pytest.mark.parametrize("changed", [True, False], ids=["another text", "the same text"])
async def test_a_question_that_a_new_document_words_otherwise_is_asked_anew(hub, changed):
    old = {"flow": [{"id": "p", "parallel": [ask("a"), ask("q", "Publish?")]}]}
    new = {
        "flow": [{"id": "p", "parallel": [ask("a"), ask("q", "Publish to all?" if changed else "Publish?")]}, ask("z")]
    }
    first = or_raise(await runner(hub).start(old))
    assert isinstance(first, Suspended)
    hashes = [compile_flow(document).unwrap().hash for document in (old, new)]
    moving = runner(hub, [Migration(*hashes, lambda state: state)])
    second = or_raise(await moving.resume(first.keys["p[0].a"], answer=1, document=new))
    assert isinstance(second, Suspended)
    assert (second.keys["p[1].q"] != first.keys["p[1].q"]) is changed
    if changed:
        assert type((await hub.answer(first.keys["p[1].q"], 1)).failure()) is WaitSuperseded
        assert second.waits[0].awaiting.prompt == "Publish to all?"
