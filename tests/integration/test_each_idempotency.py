"""Idempotency keys: what is asked for again is the same suspension, what differs is told, and lists have the oldest
first, on every backend and by both hubs.

Ids that are derived from such keys are hashes, so an order by id is none by time.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve

from flowpersist import AwaitInput, Criteria, Maintenance, RaisingHub, Status, or_raise
from flowpersist.errors import ConfigurationError, IdempotencyConflict, PersistenceError
from flowpersist.testing.hubs import open_test_hub, travel

ASK = AwaitInput(id="ok", prompt="Ship it?", schema=bool)
SECOND = timedelta(seconds=1)


@pytest.fixture
async def hub(url):
    async with open_test_hub(url) as opened:
        yield opened


@pytest.fixture(params=["hub", "raising hub"])
def door(request):
    """The same call by one of the two hubs, as a value or an error."""

    async def call(hub, verb, *arguments, **named):
        if request.param == "hub":
            told = await getattr(hub, verb)(*arguments, **named)
            return told.value_or(None) or told.failure()
        try:
            return await getattr(RaisingHub(hub), verb)(*arguments, **named)
        except PersistenceError as error:
            return error

    return call


# --------------------------------------------------------------------------------------------------------------- order


async def walked(hub, criteria, limit):
    """The ids of all pages, each as long as the criteria allow."""
    ids, after = [], None
    while True:
        page = or_raise(await hub.query(criteria, limit=limit, after=after))
        ids += [one.id for one in page.items]
        after = page.next
        if after is None:
            return ids


#: Each of them finds the twelve suspensions of the test.
CRITERIA = {
    "all": Criteria(),
    "status": Criteria(status="waiting"),
    "tool": Criteria(tool="ok"),
    "tenant": Criteria(tenant="acme"),
    "run": Criteria(run="r1"),
    "metadata": Criteria(metadata={"kind": "order"}),
    "created": Criteria(created_after=datetime(2020, 1, 1, tzinfo=UTC)),
}


#: How many are read at once, and a page's length: all at once, page by page, and past what is read at once.
READS = ((100, 1), (100, 100), (2, 5))


async def test_lists_have_the_oldest_first_whoever_made_the_ids(hub, monkeypatch):
    made = []
    for number in range(12):
        key = None if number % 4 == 3 else f"order-{number}"
        new = or_raise(
            await hub.suspend(
                number,
                awaiting=ASK,
                idempotency_key=key,
                tenant="acme",
                metadata={"run": "r1", "kind": "order"},
            )
        )
        made.append(new.id)
        travel(hub, SECOND)
    assert made != sorted(made)
    for name, criteria in CRITERIA.items():
        for few, limit in READS:
            monkeypatch.setattr("flowpersist.hub.listing.FEW", few)
            assert await walked(hub, criteria, limit) == made, (name, few, limit)
    assert [one.id async for one in RaisingHub(hub).iterate()] == made


async def test_a_page_goes_on_where_the_last_one_ended_whatever_comes_and_goes(hub):
    made = [or_raise(await hub.suspend(n, awaiting=ASK, idempotency_key=f"order-{n}")) for n in range(8)]
    ids = [new.id for new in made]
    first = or_raise(await hub.query(limit=3))
    assert [one.id for one in first.items] == ids[:3]
    # What was shown changes, what was not shown yet goes, and something new comes last.
    or_raise(await hub.answer(made[1].key, True))
    or_raise(await hub.resume(made[4].key, True))
    late = or_raise(await hub.suspend(8, awaiting=ASK, idempotency_key="order-8"))
    rest, after = [], first.next
    while after is not None:
        page = or_raise(await hub.query(limit=2, after=after))
        rest += [one.id for one in page.items]
        after = page.next
    assert rest == [*ids[3:], late.id]


@pytest.mark.parametrize("criteria", [Criteria(status="waiting"), Criteria(tenant="acme")], ids=["status", "tenant"])
async def test_pages_agree_where_few_become_many(hub, monkeypatch, criteria):
    """The first page is of what was little enough to be read at once, and the next ones are not."""
    monkeypatch.setattr("flowpersist.hub.listing.FEW", 6)

    async def made(number):
        return or_raise(await hub.suspend(number, awaiting=ASK, tenant="acme", idempotency_key=f"order-{number}")).id

    ids = [await made(number) for number in range(5)]
    first = or_raise(await hub.query(criteria, limit=3))
    ids += [await made(number) for number in range(5, 9)]
    rest, after = [], first.next
    while after is not None:
        page = or_raise(await hub.query(criteria, limit=3, after=after))
        rest += [one.id for one in page.items]
        after = page.next
    assert [*(one.id for one in first.items), *rest] == ids


# ------------------------------------------------------------------------------------------------------------ question


OTHERS = {
    "prompt": {"awaiting": evolve(ASK, prompt="Ship it now?")},
    "title": {"awaiting": evolve(ASK, title="Shipping")},
    "schema": {"awaiting": evolve(ASK, schema=int)},
    "default": {"awaiting": evolve(ASK, default=True)},
    "shown": {"awaiting": evolve(ASK, shown={"order": 18})},
    "id": {"awaiting": evolve(ASK, id="go")},
    "name": {"awaiting": {"other": ASK}},
    "one more": {"awaiting": {"ok": ASK, "more": ASK}},
    "none": {"awaiting": None},
    "until": {"awaiting": ASK, "until": "any"},
}


async def test_another_question_under_the_same_key_is_a_conflict(hub, door):
    first = await door(hub, "suspend", 1, awaiting=ASK, idempotency_key="k")
    reserved = await door(hub, "reserve", ASK, idempotency_key="r")
    for name, other in OTHERS.items():
        told = await door(hub, "suspend", 1, idempotency_key="k", **other)
        assert isinstance(told, IdempotencyConflict), name
        assert "question" in str(told), name
        told = await door(hub, "reserve", idempotency_key="r", **other)
        assert isinstance(told, IdempotencyConflict), name
    # Until when is no part of it: who counts from now says another moment each time.
    later = datetime.now(UTC) + timedelta(days=3)
    for same in (ASK, {"ok": ASK}, evolve(ASK, timeout=timedelta(days=1)), evolve(ASK, deadline=later)):
        again = await door(hub, "suspend", 1, awaiting=same, idempotency_key="k", deadline=later)
        assert (again.id, again.key) == (first.id, first.key)
        assert (await door(hub, "reserve", same, idempotency_key="r")).key == reserved.key


async def test_the_first_question_is_remembered_when_the_run_has_gone_on(hub, door):
    first = await door(hub, "suspend", 1, awaiting=ASK, idempotency_key="k")
    run = or_raise(await hub.claim(first.key, True))
    next_one = AwaitInput(id="when", prompt="When?", schema=str)
    second = or_raise(await hub.suspend_next(run, 2, awaiting=next_one))
    again = await door(hub, "suspend", 1, awaiting=ASK, idempotency_key="k")
    assert (again.id, again.sequence, again.keys) == (first.id, 2, second.keys)
    assert isinstance(await door(hub, "suspend", 2, awaiting=next_one, idempotency_key="k"), IdempotencyConflict)


# -------------------------------------------------------------------------------------------------------------- digest


@pytest.mark.parametrize("digest", ["POST /orders 17", b"\x00\xff" * 40, ""], ids=repr)
async def test_a_digest_stands_for_a_state_that_is_another_each_time(hub, door, digest):
    async def requested(given):
        state = {"request": uuid.uuid4(), "order": 17}
        named = {"awaiting": ASK, "idempotency_key": "k", "idempotency_digest": given}
        return state, await door(hub, "suspend", state, **named)

    state, first = await requested(digest)
    _, again = await requested(digest)
    assert (again.id, again.key) == (first.id, first.key)
    for other in ("POST /orders 18", b"\x00\xff", None):
        assert isinstance((await requested(other))[1], IdempotencyConflict)
    assert isinstance(await door(hub, "suspend", state, awaiting=ASK, idempotency_key="k"), IdempotencyConflict)
    # What was stored is the state that came first.
    assert or_raise(await hub.resume(first.key, True)).state == state


async def test_a_digest_is_no_state(hub, door):
    await door(hub, "suspend", "text", awaiting=ASK, idempotency_key="k")
    named = {"awaiting": ASK, "idempotency_key": "k", "idempotency_digest": "text"}
    assert isinstance(await door(hub, "suspend", "text", **named), IdempotencyConflict)


async def test_a_digest_serves_a_reserved_key_too(hub, door):
    reserved = await door(hub, "reserve", ASK)
    for _ in range(2):
        filled = await door(hub, "suspend", uuid.uuid4(), key=reserved.key, idempotency_digest="d")
        assert filled.status is Status.WAITING
    told = await door(hub, "suspend", uuid.uuid4(), key=reserved.key, idempotency_digest="e")
    assert isinstance(told, IdempotencyConflict)


async def test_a_digest_alone_is_refused_before_anything_is_stored(hub):
    with pytest.raises(ConfigurationError, match="idempotency_digest"):
        await hub.suspend(1, idempotency_digest="d")
    for wrong in (1, ["d"], bytearray(b"d"), object()):
        with pytest.raises(TypeError, match="idempotency_digest"):
            await hub.suspend(1, idempotency_key="k", idempotency_digest=wrong)
    assert or_raise(await hub.query()).items == ()


# -------------------------------------------------------------------------------------------------------- after the end


async def completed(hub, new):
    or_raise(await hub.complete(or_raise(await hub.claim(new.key, True)), "done"))


async def taken(hub, new):
    or_raise(await hub.resume(new.key, True))


async def failed(hub, new):
    or_raise(await hub.fail(or_raise(await hub.claim(new.key, True)), "no"))


async def cancelled(hub, new):
    or_raise(await hub.cancel(new.key, "changed my mind"))


async def expired(hub, new):
    or_raise(await hub.extend(new.key, timeout=timedelta(hours=1)))
    travel(hub, timedelta(hours=2))


ENDS = {
    completed: Status.COMPLETED,
    taken: Status.COMPLETED,
    failed: Status.FAILED,
    cancelled: Status.CANCELLED,
    expired: Status.EXPIRED,
}


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_after_the_end_the_answer_says_so(hub, door, end):
    first = await door(hub, "suspend", 1, awaiting=ASK, idempotency_key="k")
    await end(hub, first)
    again = await door(hub, "suspend", 1, awaiting=ASK, idempotency_key="k")
    seen = or_raise(await hub.inspect(first.key))
    assert (again.id, again.status, again.closed_at) == (first.id, ENDS[end], seen.closed_at)
    assert again.status.closed
    assert (again.reason, again.error) == (seen.reason, seen.error)
    assert isinstance(await door(hub, "suspend", 2, awaiting=ASK, idempotency_key="k"), IdempotencyConflict)
    # Once it is forgotten the key is free.
    travel(hub, timedelta(days=8))
    assert or_raise(await Maintenance(hub).cleanup()).deleted == 1
    new = await door(hub, "suspend", 2, awaiting=ASK, idempotency_key="k")
    assert (new.id, new.status) == (first.id, Status.WAITING)
    assert new.key != first.key
