"""Standing approvals on every backend: counted down among processes, revoked, expired, and each use recorded once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from clients import all_at_once
from flowpersist import KeyRing, RaisingHub
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import ConfigurationError, ValueNotFound
from flowpersist.testing.faults import FaultyBackend
from flowpersist.testing.hubs import open_test_hub, travel
from flowpersist.tools import Approvals, Call

PROCESSES, CALLS, USES = 4, 20, 20
HOUR = timedelta(hours=1)


@pytest.fixture
async def hub(url):
    async with open_test_hub(url) as opened:
        yield opened


async def recorded(approvals, id=None):
    return [use async for use in approvals.uses(id)]


async def test_processes_never_use_a_grant_more_often_than_it_says(url):
    ring = KeyRing.generate()
    async with RaisingHub.open(url, keyring=ring) as hub:
        approvals = Approvals(hub)
        grant = await approvals.grant("pay", by="ann", arguments={}, uses=USES)
        told = await all_at_once(url, ring, "use", [{"tool": "pay", "calls": CALLS}] * PROCESSES)
        assert sorted(number for numbers in told for number in numbers) == list(range(1, USES + 1))
        assert (await approvals.get(grant.id)).used == USES
        uses = await recorded(approvals, grant.id)
        assert [use.number for use in uses] == list(range(1, USES + 1))
        assert {use.by for use in uses} == {f"policy:{grant.id}"}
        assert await recorded(approvals) == uses


async def test_a_use_is_recorded_with_what_was_called_by_whom(hub):
    approvals = Approvals(hub)
    grant = await approvals.grant(
        "pay", by="ann", schema={"properties": {"amount": {"maximum": 9}}}, uses=99, why="small"
    )
    calls = [Call("pay", {"amount": n % 12, "to": "bo"}, "2", "p", f"agent-{n}", "chat") for n in range(40)]
    taken = [await approvals.use(call) for call in calls]
    covered = [call for call, use in zip(calls, taken, strict=True) if use is not None]
    assert covered == [call for call in calls if call.arguments["amount"] <= 9]
    uses = await recorded(approvals)
    assert [(use.digest, use.arguments, use.requested_by, use.scope) for use in uses] == [
        (call.digest, call.arguments, call.requested_by, "chat") for call in covered
    ]
    assert [use.number for use in uses] == list(range(1, len(covered) + 1))
    found = await approvals.get(grant.id)
    assert (found.by, found.why, found.used, found.schema) == ("ann", "small", len(covered), grant.schema)
    # What is too large to be kept with each use is recorded by its digest.
    long = Call("pay", {"amount": 1, "note": "x" * 3000})
    assert (await approvals.use(long)).arguments is None
    assert (await recorded(approvals))[-1].digest == long.digest


async def test_what_has_ended_covers_nothing_and_is_listed(hub):
    approvals, call = Approvals(hub), Call("pay", {"amount": 1})
    brief = await approvals.grant("pay", by="ann", arguments={}, expires_in=HOUR)
    assert (await approvals.use(call)).approval == brief.id
    travel(hub, 2 * HOUR)
    assert await approvals.use(call) is None
    once = await approvals.grant("pay", by="ann", arguments={"amount": 1.0}, uses=1)
    assert (await approvals.use(call)).key == f"{once.id}/1"
    assert await approvals.use(call) is None
    gone = await approvals.grant("pay", by="ann", arguments={"amount": 1}, uses=5)
    revoked = await approvals.revoke(gone.id, by="bo")
    assert (revoked.revoked_by, revoked.used) == ("bo", 0)
    assert await approvals.revoke(gone.id, by="cy") == revoked
    assert await approvals.use(call) is None
    live = await approvals.grant("refund", by="ann", arguments={}, uses=5)
    assert [one.id for one in await approvals.list(ended=False)] == [live.id]
    assert {one.id for one in await approvals.list("pay")} == {brief.id, once.id, gone.id}
    assert {one.id for one in await approvals.list()} == {brief.id, once.id, gone.id, live.id}


async def test_what_has_ended_is_forgotten_with_its_uses(hub):
    approvals = Approvals(hub)
    grant, other = [await approvals.grant("pay", by="ann", arguments={"a": n}, uses=40) for n in (1, 2)]
    for number in range(40):
        await approvals.use(Call("pay", {"a": 1 + number % 2}))
    with pytest.raises(ConfigurationError, match="live"):
        await approvals.forget(grant.id)
    await approvals.revoke(grant.id, by="ann")
    assert await approvals.forget(grant.id) == 20
    assert [one.id for one in await approvals.list()] == [other.id]
    assert {use.approval for use in await recorded(approvals)} == {other.id}
    assert len(await recorded(approvals)) == 20
    with pytest.raises(ValueNotFound):
        await approvals.forget(grant.id)


OTHERS = {
    "another tool": Call("refund", {"amount": 5}, "1", "p"),
    "another version": Call("pay", {"amount": 5}, "2", "p"),
    "no version": Call("pay", {"amount": 5}, None, "p"),
    "another policy": Call("pay", {"amount": 5}, "1", "q"),
    "another value": Call("pay", {"amount": 6}, "1", "p"),
    "a bool for a number": Call("pay", {"amount": True}, "1", "p"),
    "no such argument": Call("pay", {}, "1", "p"),
}


async def test_only_calls_that_fit_are_covered(hub):
    approvals = Approvals(hub)
    await approvals.grant("pay", by="ann", arguments={"amount": 5}, uses=9, version="1", policy="p")
    for name, call in OTHERS.items():
        assert await approvals.use(call) is None, name
    assert await approvals.use(Call("pay", {"amount": 5.0, "to": "bo"}, "1", "p")) is not None
    assert await Approvals(hub, tenant="acme").use(Call("pay", {"amount": 5}, "1", "p")) is None


REFUSED = {
    "no pattern": ({"uses": 1}, "arguments"),
    "two patterns": ({"uses": 1, "arguments": {}, "schema": {}}, "arguments"),
    "no end": ({"arguments": {}}, "until"),
    "in the past": ({"arguments": {}, "until": datetime(2020, 1, 1, tzinfo=UTC)}, "until"),
    "both ends": ({"arguments": {}, "until": datetime(2090, 1, 1, tzinfo=UTC), "expires_in": HOUR}, "expires_in"),
    "no uses": ({"arguments": {}, "uses": 0}, "uses"),
    "no schema": ({"uses": 1, "schema": {"type": "nonsense"}}, "schema"),
    "not JSON": ({"uses": 1, "arguments": {"at": HOUR}}, "arguments"),
    # JSON Schema passes over a word that it does not know, so that each of these would cover every call.
    "values for a schema": ({"uses": 1, "schema": {"amount": 5}}, "amount"),
    "misspelled": ({"uses": 1, "schema": {"properties": {"amount": {"maximun": 5}}}}, "maximun"),
    "misspelled in a list": ({"uses": 1, "schema": {"allOf": [{"requires": ["a"]}]}}, "requires"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_no_grant_is_refused_and_nothing_is_stored(name):
    given, said = REFUSED[name]
    async with open_test_hub("memory://") as hub:
        with pytest.raises(ConfigurationError, match=said):
            await Approvals(hub).grant("pay", by="ann", **given)
        assert await Approvals(hub).list() == ()


@pytest.mark.parametrize("id", ["pay:0011", "pay", ":", "pay:"])
async def test_an_unknown_id_is_named(id):
    async with open_test_hub("memory://") as hub:
        approvals = Approvals(hub)
        for ask in (approvals.get(id), approvals.revoke(id, by="ann")):
            with pytest.raises(ValueNotFound, match="no standing approval"):
                await ask
        with pytest.raises(ValueNotFound):
            await recorded(approvals, id)


async def test_no_use_is_taken_once_a_revocation_has_returned(url):
    ring = KeyRing.generate()
    async with RaisingHub.open(url, keyring=ring) as one, RaisingHub.open(url, keyring=ring) as other:
        doors = [Approvals(one), Approvals(other)]
        grant = await doors[0].grant("pay", by="ann", arguments={}, uses=1000)
        revoked = asyncio.Event()

        async def uses(door):
            taken = 0
            while await door.use(Call("pay", {"amount": 1})) is not None:
                taken += 1
                if taken == 4:
                    revoked.set()
            return taken

        users = [asyncio.create_task(uses(door)) for door in doors]
        await revoked.wait()
        ended = await doors[1].revoke(grant.id, by="bo")
        assert [await door.use(Call("pay", {"amount": 1})) for door in doors] == [None, None]
        taken = sum(await asyncio.gather(*users))
        found = await recorded(doors[0], grant.id)
        assert len(found) == taken == ended.used == (await doors[0].get(grant.id)).used
        assert max(use.at for use in found) <= ended.revoked_at


async def test_a_lost_acknowledgement_neither_takes_a_use_twice_nor_loses_one(url):
    faulty = FaultyBackend(backend_from_url(url))
    async with open_test_hub(faulty) as hub:
        approvals = Approvals(hub)
        grant = await approvals.grant("pay", by="ann", arguments={}, uses=30)
        numbers = []
        for turn in range(40):
            if turn % 3 == 0:
                faulty.lose("put")
            if turn % 7 == 0:
                faulty.fail("get")
            use = await approvals.use(Call("pay", {"amount": turn}))
            numbers += [] if use is None else [use.number]
        assert numbers == list(range(1, 31))
        assert [use.number for use in await recorded(approvals, grant.id)] == numbers
