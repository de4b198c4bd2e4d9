"""What a run is started with: who asks for it, whose it is, and what it is listed with."""

from __future__ import annotations

import json

import pytest

from flow_steps import ask, said
from flowpersist import blocking
from flowpersist.dynamicflow import Completed, FlowRunner, Suspended, tool
from flowpersist.dynamicflow import compile as compile_flow
from flowpersist.errors import ConfigurationError, FlowError, IdempotencyConflict, PermissionDenied, UnsupportedType
from flowpersist.hub.opening import open_hub
from flowpersist.hub.outcome import or_raise
from flowpersist.inputs.people import Principal
from flowpersist.lifecycle import Criteria


@tool()
async def say(value: object = None) -> object:
    return value


@pytest.fixture
async def hub():
    async with open_hub("memory://", keyring=None) as opened:
        yield opened


@pytest.fixture
def runner(hub):
    return FlowRunner(hub, [say])


FACTS = {"flow": [ask(), said(["$run.id", "$run.by", "$run.tenant", "$run"])]}


async def test_the_document_reads_the_facts_of_its_run_before_and_after_a_pause(runner, hub):
    begun = {"flow": [said("$run.by"), *FACTS["flow"]]}
    outcome = or_raise(await runner.start(begun, run_id="r1", by=Principal("ann", roles=["ops"]), tenant="acme"))
    done = or_raise(await FlowRunner(hub, [say]).resume(outcome.key, answer=1, by="bob"))
    assert done.outputs["step_1"] == "ann"
    assert done.result == ["r1", "ann", "acme", {"id": "r1", "by": "ann", "tenant": "acme"}]


async def test_a_run_without_a_requester_has_none(runner, hub):
    outcome = or_raise(await runner.start(FACTS))
    done = or_raise(await runner.resume(outcome.key, answer=1))
    assert done.result[:3] == [str(outcome.key.id), None, None]


async def test_a_run_is_listed_with_its_metadata_at_each_pause_and_after_its_end(runner, hub):
    two = {"flow": [ask("a"), ask("b")]}
    given = {"team": "ops", "toolset": "x", "priority": 3}
    outcome = or_raise(await runner.start(two, by="ann", tenant="acme", metadata=given))
    for key in ("a", "b"):
        page = or_raise(await hub.query(Criteria(tenant="acme", metadata=given)))
        assert [one.requested_by for one in page.items] == ["ann"]
        outcome = or_raise(await runner.resume(outcome.keys[key], answer=1))
    assert isinstance(outcome, Completed)
    page = or_raise(await hub.query(Criteria(tenant="acme", metadata=given)))
    assert [one.requested_by for one in page.items] == ["ann"]


@pytest.mark.parametrize("name", ["events", "kind", "flow", "hash", "run", "tools", "tools12"])
async def test_names_that_the_runner_gives_are_refused(runner, name):
    with pytest.raises(ConfigurationError, match="names other than events, flow, hash, kind, run and tools"):
        await runner.start(FACTS, metadata={name: "x"})
    with pytest.raises(ConfigurationError):
        runner.stream(FACTS, metadata={name: "x"})


async def test_tenants_have_run_ids_of_their_own(runner):
    first = or_raise(await runner.start(FACTS, run_id="r", tenant="a"))
    second = or_raise(await runner.start(FACTS, run_id="r", tenant="b"))
    again = or_raise(await runner.start(FACTS, run_id="r", tenant="a", by="somebody else"))
    assert (first.key.id != second.key.id, first.key.id == again.key.id) == (True, True)


VOTES = ask(schema={"type": "boolean"}, quorum=1)


@pytest.mark.parametrize("before", [[], [ask("first")]], ids=["first pause", "second pause"])
async def test_whoever_asks_for_a_run_does_not_vote_in_it(runner, before):
    outcome = or_raise(await runner.start({"flow": [*before, VOTES]}, by="ann"))
    for step in before:
        outcome = or_raise(await runner.resume(outcome.keys[step["id"]], answer=1, by="ann"))
    for own in ("ann", Principal("agent-7", on_behalf_of="ann")):
        refused = await runner.resume(outcome.key, answer=True, by=own)
        assert isinstance(refused.failure(), PermissionDenied)
    assert or_raise(await runner.resume(outcome.key, answer=True, by="bob")).result is True


@pytest.mark.parametrize("before", [[], [ask("first")]], ids=["first pause", "second pause"])
async def test_a_quorum_that_only_the_requester_would_fill_fails_its_step(runner, before):
    two = ask(schema={"type": "boolean"}, assignees=["ann", "bob"], quorum=2)
    outcome = await runner.start({"flow": [*before, two]}, by="ann")
    if before:
        outcome = await runner.resume(outcome.unwrap().key, answer=1)
    error = outcome.failure()
    assert isinstance(error, FlowError)
    assert error.step == "q"
    assert "its quorum can't be reached: it takes 2 votes, and without whoever asks there are 1 assignees" in str(error)


async def test_a_stream_takes_the_same(runner, hub):
    events = [one async for one in runner.stream(FACTS, by="ann", tenant="acme", metadata={"team": "ops"})]
    assert events[-1].type == "flow-suspended"
    page = or_raise(await hub.query(Criteria(tenant="acme", metadata={"team": "ops"})))
    assert [one.requested_by for one in page.items] == ["ann"]


# ------------------------------------------------------------------------------ texts that only describe a document

PLAIN = {"flow": [{"id": "q", "tool": "await_input", "args": {"prompt": "?"}}, said({"description": "kept"})]}
DESCRIBED = {
    "version": "1.0",
    "metadata": {"name": "n", "description": "d", "author": "a", "other": [1]},
    "flow": [{**PLAIN["flow"][0], "description": "d", "name": "n", "metadata": {"x": 1}}, PLAIN["flow"][1]],
}


async def test_a_run_goes_on_under_a_document_that_is_only_described_otherwise(runner, hub):
    outcome = or_raise(await runner.start(PLAIN))
    done = or_raise(await runner.resume(outcome.key, answer=1, document=DESCRIBED))
    assert done.result == {"description": "kept"}
    assert or_raise(await hub.inspect(outcome.key.id)).metadata["flow"] == "n"


def test_what_only_describes_is_a_matter_of_where_it_stands():
    assert hash_of(PLAIN) == hash_of(DESCRIBED)
    data = json.loads(json.dumps(PLAIN))
    data["flow"][1]["args"]["value"]["description"] = "changed"
    assert hash_of(data) != hash_of(PLAIN)
    inner = {"flow": [{"map": [1], "with": {**PLAIN["flow"][0], "description": "d"}, "name": "n"}]}
    assert hash_of(inner) == hash_of({"flow": [{"map": [1], "with": PLAIN["flow"][0]}]})
    assert hash_of({**PLAIN, "other": 1}) != hash_of(PLAIN)


def hash_of(document):
    return compile_flow(document).unwrap().hash


@pytest.mark.parametrize("reference", ["$run.name", "$run.id.x", "$run.metadata"])
def test_a_fact_that_no_run_has_is_found_when_it_is_compiled(reference):
    error = compile_flow({"flow": [said(reference)]}).failure()
    assert "is not a fact of the run: expected one of $run.id, $run.by, $run.tenant" in error.message
    assert error.reference == reference


def test_the_name_is_reserved():
    for step in ({**said(1), "id": "run"}, {**said(1), "output": "run"}):
        assert "run" in compile_flow({"flow": [step]}).failure().message


def test_a_blocking_runner_takes_the_same():
    with blocking.open_hub("memory://", keyring=None) as hub:
        runner = blocking.FlowRunner(hub, [say])
        outcome = runner.start(FACTS, by="ann", tenant="acme", metadata={"team": "ops"})
        assert isinstance(outcome, Suspended)
        assert runner.resume(outcome.key, answer=1).result[1:3] == ["ann", "acme"]


def described(text, ask_text="?", value=7):
    """A document with descriptions at every level, and what it does."""
    inner = {"metadata": {"name": text}, "flow": [said(value, id="in", description=text)]}
    asks = {**ask(prompt=ask_text), "description": text, "name": text, "metadata": {"note": text}}
    steps = [asks, {"id": "sub", "flow": inner, "description": text}]
    return {"version": "1.0", "metadata": {"name": text, "author": text, "description": text}, "flow": steps}


async def test_a_document_whose_descriptions_alone_differ_starts_the_same_run(runner, hub):
    first = or_raise(await runner.start(described("first"), input={"n": 1}, run_id="r"))
    bare = described("second")
    del bare["version"]
    for other in (described("second"), bare, json.dumps(described("third"))):
        assert or_raise(await runner.start(other, input={"n": 1}, run_id="r")) == first
    stored = (await hub.inspect(first.suspension_id)).unwrap()
    assert stored.metadata["flow"] == "first"
    done = or_raise(await runner.resume(first.key, answer=1))
    assert or_raise(await runner.start(described("fourth"), input={"n": 1}, run_id="r")) == done


@pytest.mark.parametrize(
    ("document", "given"),
    [
        (described("first", ask_text="Otherwise?"), {"n": 1}),
        (described("first", value=8), {"n": 1}),
        ({**described("first"), "timeout": 1000}, {"n": 1}),
        ({**described("first"), "failed": "park"}, {"n": 1}),
        (described("first"), {"n": 2}),
        (described("first"), {"n": True}),
        (described("first"), None),
    ],
    ids=["question", "sub-flow", "timeout", "failed", "input", "kind of input", "no input"],
)
async def test_a_document_or_an_input_that_does_something_else_is_a_conflict(runner, document, given):
    or_raise(await runner.start(described("first"), input={"n": 1}, run_id="r"))
    assert isinstance((await runner.start(document, input=given, run_id="r")).failure(), IdempotencyConflict)


async def test_a_registered_flow_that_does_something_else_is_a_conflict(hub):
    document = {"flow": [{"id": "s", "flow": "inner"}, ask()]}

    def with_inner(value, text):
        return FlowRunner(hub, [say], flows={"inner": {"flow": [said(value, id="a", description=text)]}})

    first = or_raise(await with_inner(1, "x").start(document, run_id="r"))
    assert or_raise(await with_inner(1, "y").start(document, run_id="r")) == first
    assert isinstance((await with_inner(2, "x").start(document, run_id="r")).failure(), IdempotencyConflict)


async def test_an_input_that_no_store_keeps_is_named_with_and_without_a_run_id(runner):
    for run_id in (None, "r"):
        refused = (await runner.start(FACTS, input={"x": {"y": object()}}, run_id=run_id)).failure()
        assert isinstance(refused, UnsupportedType)
        assert "object" in str(refused)
        assert "'y'" in str(refused)
