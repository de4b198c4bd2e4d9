"""RaisingHub has the verbs of PersistenceHub: the same arguments, the same results, failures raised."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve
from returns.result import Failure, Success

from flowpersist import AwaitInput, PersistenceHub, RaisingHub, Status, or_raise
from flowpersist.backends.memory import MemoryBackend
from flowpersist.errors import PersistenceError, SuspensionNotFound
from flowpersist.keys.suspension_key import generate_key
from flowpersist.testing.hubs import open_test_hub, travel

CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
#: What is no verb, and on one of them only.
OWN = {"hub", "backend", "runtime", "suspensions", "defaults", "holds", "open", "iterate"}


def verbs(cls):
    return {name for name, _ in inspect.getmembers(cls, callable) if not name.startswith("_")} - OWN


def test_both_have_the_same_verbs():
    assert verbs(PersistenceHub) == verbs(RaisingHub)
    assert {
        "suspend",
        "reserve",
        "inspect",
        "answer",
        "resume",
        "claim",
        "claim_due",
        "renew",
        "complete",
        "release",
    } <= (verbs(RaisingHub))
    assert {"suspend_next", "running", "work", "cancel", "extend", "query", "fail", "outcome"} <= verbs(RaisingHub)


@pytest.mark.parametrize("verb", sorted(verbs(PersistenceHub)))
def test_each_verb_has_the_same_arguments_and_defaults(verb):
    one = inspect.signature(getattr(PersistenceHub, verb)).parameters.values()
    other = inspect.signature(getattr(RaisingHub, verb)).parameters.values()
    assert [(p.name, p.kind, p.default, p.annotation) for p in one] == [
        (p.name, p.kind, p.default, p.annotation) for p in other
    ]


class Steps:
    """A script over every verb, whose calls give results or errors; the same for both hubs."""

    def __init__(self, hub, call):
        self.hub, self.call, self.log = hub, call, []

    async def do(self, verb, *args, **options):
        result = await self.call(getattr(self.hub, verb)(*args, **options))
        self.log.append((verb, shape(result)))
        return result

    async def play(self):
        new = await self.do("suspend", {"n": 1}, awaiting=CONFIRM, metadata={"run": "r"}, tenant="t")
        await self.do("inspect", new.key)
        await self.do("resume", new.key)
        await self.do("answer", new.key, "no")
        await self.do("answer", new.key, True, by="ann", answer_id="a")
        await self.do("answer", new.key, False)
        await self.do("outcome", new.key)
        run = await self.do("claim", new.key, claim_id="me")
        await self.do("claim", new.key, claim_id="you")
        await self.do("renew", run)
        second = await self.do("suspend_next", run, {"n": 2}, awaiting={"a": CONFIRM, "b": CONFIRM}, until="any")
        await self.do("keys", second.id)
        await self.do("history", second.id)
        await self.do("extend", second.keys["a"], timeout=timedelta(hours=1))
        await self.do("answer", second.keys["b"], True)
        (run,) = await self.do("claim_due", limit=3)
        asked = await self.do("checkpoint", run, {"n": 3}, awaiting={"c": CONFIRM})
        await self.do("answer", asked.keys["c"], False)
        told = await self.do("checkpoint", asked, {"n": 4})
        await self.do("checkpoint", told, {"n": 5}, unread=["c"])
        await self.do("release", run, "later")
        run = await self.do("claim", second.id)
        await self.do("complete", evolve(run, fence=99))
        await self.do("complete", run, {"out": 1})
        await self.do("outcome", new.key)
        await self.do("cancel", new.key)
        other = await self.do("reserve", CONFIRM, idempotency_key="k")
        await self.do("suspend", 1, key=other.key)
        await self.do("cancel", other.key, "enough")
        failing = await self.do("suspend", "f")
        run = await self.do("claim", failing.key)
        await self.do("failure", failing.key)
        await self.do("fail", run, "broken", why={"because": 1})
        await self.do("failure", failing.key)
        await self.do("retry", failing.id)
        parked = await self.do("suspend", "p")
        await self.do("retry", parked.id)
        run = await self.do("claim", parked.key)
        await self.do("park", run, "parked", error="broken")
        await self.do("peek", parked.id)
        run = await self.do("retry", parked.id, "mended", sequence=1)
        await self.do("retry", parked.id)
        await self.do("complete", run)
        await self.do("peek", parked.id)
        for_good = await self.do("suspend", "g", awaiting=CONFIRM)
        await self.do("resume", for_good.key, True, answer_id="mine")
        await self.do("resume", for_good.key, True, answer_id="other")
        await self.do("inspect", generate_key())
        await self.do("inspect", "df_susp_nonsense")
        await self.do("query", limit=2)
        return self.log


def shape(result):
    """What of a result can be compared between two stores: everything but ids, times and secrets."""
    if isinstance(result, PersistenceError):
        return (type(result).__name__, result.code, result.http_status)
    if isinstance(result, tuple):
        return [shape(item) for item in result]
    names = (
        "verb",
        "status",
        "sequence",
        "attempt",
        "fence",
        "outcome",
        "wait",
        "by",
        "state",
        "answers",
        "metadata",
        "reason",
    )
    parts = {name: getattr(result, name) for name in names if hasattr(result, name)}
    if hasattr(result, "keys") and hasattr(result, "waits"):
        parts["keys"] = sorted(result.keys)
    if hasattr(result, "items") and hasattr(result, "next"):
        parts = {"page": [shape(item) for item in result.items], "more": result.next is not None}
    return parts or type(result).__name__


async def test_a_script_over_every_verb_gives_the_same_on_both():
    async def unwrapped(call):
        result = await call
        assert isinstance(result, Success | Failure)
        return result.unwrap() if isinstance(result, Success) else result.failure()

    async def caught(call):
        try:
            return await call
        except PersistenceError as error:
            return error

    async with open_test_hub() as one, open_test_hub() as other:
        returned = await Steps(one, unwrapped).play()
        raised = await Steps(RaisingHub(other), caught).play()
    assert returned == raised
    assert len({verb for verb, _ in returned}) == len(
        verbs(PersistenceHub) - {"running", "work", "use_keyring", "remember", "within"}
    )


async def test_or_raise_takes_both_and_nothing_else():
    error = SuspensionNotFound("gone")
    assert or_raise(Success(1)) == 1
    with pytest.raises(SuspensionNotFound) as raised:
        or_raise(Failure(error))
    assert raised.value is error
    with pytest.raises(TypeError, match="int"):
        or_raise(1)


async def test_open_gives_a_hub_on_a_url_and_closes_its_backend(monkeypatch):
    monkeypatch.delenv("FLOWPERSIST_KEYS", raising=False)
    async with RaisingHub.open("memory://", keyring=None) as hub:
        assert isinstance(hub, RaisingHub)
        assert isinstance(hub.hub, PersistenceHub)
        assert isinstance(hub.hub.backend, MemoryBackend)
        new = await hub.suspend(1, awaiting=CONFIRM)
    closed = (await hub.hub.inspect(new.key)).failure()
    assert closed.code == "backend-unavailable"


async def test_travel_takes_either_hub():
    async with open_test_hub() as hub:
        new = or_raise(await hub.suspend(1, awaiting=CONFIRM, timeout=timedelta(hours=1)))
        travel(RaisingHub(hub), timedelta(hours=2))
        assert or_raise(await hub.inspect(new.key)).status is Status.EXPIRED
        assert new.created_at < datetime.now(UTC) + timedelta(minutes=1)
