"""Runs that are taken and paused with some pages of their waits, on every backend: whoever races, whatever ends a
process and whichever reply is lost, each answer is read once and no wait is lost.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from datetime import timedelta

import pytest
from returns.result import Success

from flowpersist import AwaitInput, KeyRing, Maintenance, or_raise
from flowpersist.backends.base import Where
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import UnknownOutcome
from flowpersist.hub.answering_verbs import Reply, claim_partly, claim_unless
from flowpersist.lifecycle import paging
from flowpersist.lifecycle.model import WaitStatus
from flowpersist.testing.faults import FaultyBackend
from flowpersist.testing.hubs import open_test_hub, travel
from interrupted import WRITES, Interrupted, Killed

ASK = AwaitInput(id="ok", prompt="OK?", schema=bool)
RING = KeyRing.generate()
HOUR = timedelta(hours=1)
CALLS = WRITES | {"get", "get_many"}
WAITS = {f"w{n}": ASK for n in range(24)}


@pytest.fixture(autouse=True)
def small_pages(monkeypatch):
    """Pages of few waits, so that a few waits have several."""
    for name, value in {"PAGED_FROM": 8, "PER_PAGE": 4, "KEPT_PAGES": 2, "REMOVED_PAGES": 1}.items():
        monkeypatch.setattr(paging, name, value)


@pytest.fixture
def faulty(url):
    return FaultyBackend(Interrupted(backend_from_url(url)))


@pytest.fixture
def store(faulty):
    return faulty.inner


@pytest.fixture
async def hub(faulty):
    async with open_test_hub(faulty, keyring=RING) as opened:
        yield opened


async def no_refusal(_):
    return None


def taken(hub, key):
    return claim_unless(hub, no_refusal, key, Reply(True, None), lease=12 * HOUR, partly=True)


async def head_of(hub, id):
    return or_raise(await hub.suspensions.records.read(str(id))).record.head


async def is_sound(hub, id):
    """Its pages are there, and each wait stands once, as itself or as a receipt."""
    head = await head_of(hub, id)
    pages = {one.ref.key.partition("/")[2] for one in or_raise(await pages_of(hub)).items}
    assert {one.name.hex() for one in head.paged.pages} <= pages
    assert or_raise(await Maintenance(hub).verify()).clean
    counted = Counter([wait.name for wait in head.waits] + [one.wait for one in head.receipts])
    assert set(counted.values()) == {1}
    assert counted.keys() >= WAITS.keys()
    return head


async def pages_of(hub):
    return await hub.suspensions.records.pages.page(Where(), limit=1000)


VERBS = {
    "claim": lambda hub, new, _: taken(hub, new.keys["w3"]),
    "checkpoint": lambda hub, _, run: hub.checkpoint(run, "t", awaiting={"x": ASK, "z": ASK}),
    "pause": lambda hub, _, run: hub.suspend_next(run, "t", awaiting={"y": ASK}, until="each", superseded=["x"]),
}


async def live(hub, new, until="end"):
    """A claim, a checkpoint and a pause, up to and without that one; gives the run, and what it was given."""
    run, given = None, Counter()
    for name, verb in VERBS.items():
        if name == until:
            break
        run = or_raise(await verb(hub, new, run))
        if name != "pause":
            given.update(run.answers)
    return run, given


async def drained(hub, new):
    """What later claims are given, until nothing is left."""
    given = Counter()
    while isinstance(claimed := await claim_partly(hub, new.id, lease=HOUR), Success):
        run = claimed.unwrap()
        given.update(run.answers)
        or_raise(await hub.suspend_next(run, "u", until="each"))
    return given


@pytest.mark.parametrize("verb", VERBS)
async def test_an_answer_between_any_two_calls_is_read_once(hub, store, verb):
    store.of = CALLS
    for number in range(1, 30):
        new = or_raise(await hub.suspend("s", awaiting=WAITS, until="each"))
        run, given = await live(hub, new, verb)
        others = []

        async def answer(new=new, others=others):
            others.append("w9")
            or_raise(await hub.answer(new.keys["w9"], True))

        store.left, store.between = number, answer
        done = or_raise(await VERBS[verb](hub, new, run))
        store.left, store.between = 0, None
        if verb != "pause":
            given.update(done.answers)
            or_raise(await hub.suspend_next(done, "t", until="each"))
        given.update(await drained(hub, new))
        assert given == Counter(["w3", *others])
        await is_sound(hub, new.id)
        if not others:
            break
    assert number > 3


@pytest.mark.parametrize("verb", VERBS)
async def test_a_crash_at_any_write_leaves_what_was_or_what_is_to_be(hub, store, verb):
    over, number = False, 0
    while not over:
        number += 1
        new = or_raise(await hub.suspend("s", awaiting=WAITS, until="each"))
        run, _ = await live(hub, new, verb)
        before = await head_of(hub, new.id)
        store.left = number
        with suppress(Killed):
            or_raise(await VERBS[verb](hub, new, run))
            over = True
        store.left = 0
        after = await is_sound(hub, new.id)
        if not over and after.sequence == before.sequence and after.status is before.status:
            assert after.waits == before.waits
        await goes_on(hub, new, after)
    assert number > 1


async def goes_on(hub, new, head):
    """Whoever is the next holder is given what the earlier one had, once."""
    stands = {wait.name: wait.status for wait in head.waits}
    travel(hub, 13 * HOUR)
    answered = stands.get("w3") is WaitStatus.ANSWERED
    assert await drained(hub, new) == (Counter(["w3"]) if answered else Counter())
    after = await is_sound(hub, new.id)
    assert [one.wait for one in after.receipts if one.wait == "w3"] == ["w3"] * (
        stands.get("w3") is not WaitStatus.OPEN
    )
    assert {wait.name for wait in after.waits} == {name for name, how in stands.items() if how is WaitStatus.OPEN}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("operation", ["put", "put_many"])
async def test_a_lost_reply_of_any_write_is_cleared_up(hub, faulty, verb, operation):
    for number in range(1, 6):
        new = or_raise(await hub.suspend("s", awaiting=WAITS, until="each"))
        run, _ = await live(hub, new, verb)
        faulty.lose(operation, times=number)
        done = await VERBS[verb](hub, new, run)
        faulty._plans[operation].faults.clear()
        assert isinstance(done, Success) or isinstance(done.failure(), UnknownOutcome)
        await goes_on(hub, new, await is_sound(hub, new.id))
