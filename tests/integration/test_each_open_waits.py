"""Many open waits on every backend: they stand on pages beside the head, and no verb can tell."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack, suppress
from datetime import timedelta

import pytest
from returns.result import Failure, Success

from cancelling import CancelledAt
from flowpersist import AwaitInput, Criteria, KeyRing, Maintenance, Principal, Status, or_raise
from flowpersist.backends.base import RecordChange, RecordRef, Where
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import (
    AlreadyResumed,
    IntegrityError,
    StateTooLarge,
    SuspensionExpired,
    SuspensionNotFound,
    TamperedEnvelope,
    WaitSuperseded,
)
from flowpersist.hub.paged_heads import pages_named
from flowpersist.keys.suspension_key import SuspensionKey
from flowpersist.lifecycle import paging
from flowpersist.lifecycle.model import replace, secret_digest
from flowpersist.sealed.drafts import Draft
from flowpersist.testing.hubs import open_test_hub, travel
from flowpersist.tools import Quorum
from interrupted import WRITES, Interrupted, Killed

ASK = AwaitInput(id="ok", prompt="OK?", schema=bool)
SAY = AwaitInput(id="say", prompt="Say it", schema=str)
RING = KeyRing.generate()
HOUR, WEEK = timedelta(hours=1), timedelta(days=8)
PAGES = "default.waits"
BESIDE = ("receipts", "answers", "steps", "audit", "events", "waits")


@pytest.fixture(autouse=True)
def small_pages(request, monkeypatch):
    """Pages of few waits, so that a few waits have several."""
    if "as_they_are" not in request.fixturenames:
        for name, value in {"PAGED_FROM": 8, "PER_PAGE": 4, "KEPT_PAGES": 2, "REMOVED_PAGES": 1}.items():
            monkeypatch.setattr(paging, name, value)


@pytest.fixture
def as_they_are():
    """Pages as large as they are."""


@pytest.fixture
def store(url):
    return Interrupted(backend_from_url(url))


@pytest.fixture
async def hub(store):
    async with open_test_hub(store, keyring=RING) as opened:
        yield opened


def named(number, asked=ASK):
    return {f"w{n}": asked for n in range(number)}


async def stored(hub, *names):
    spaces = [".".join(("default", *name.split())) for name in names]
    return [one for space in spaces for one in (await hub.backend.query(space, Where(), limit=1000)).items]


async def head_of(hub, id):
    return or_raise(await hub.suspensions.records.read(str(id))).record.head


async def key_on_page(hub, new, number):
    """The key of a wait that stands on the page of that number."""
    starts = [one.start for one in (await head_of(hub, new.id)).paged.pages]
    keys = list(new.keys.values())
    return next(key for key in keys if paging.page_at(starts, secret_digest(key.secret)[:8]) == number)


async def is_sound(hub, id):
    """All its pages are there, and beside them those alone that a sweep still comes to."""
    head = await head_of(hub, id)
    assert head.paged is not None
    pages = {record.ref.key.partition("/")[2]: record for record in await stored(hub, "waits")}
    names = {name.hex() for name in pages_named(head)}
    assert names <= pages.keys()
    assert all(record.due_at is not None for name, record in pages.items() if name not in names)
    assert or_raise(await Maintenance(hub).verify()).clean
    return head


# --------------------------------------------------------------------------------------------------------------- verbs


async def test_all_verbs_see_all_waits_in_their_order(hub):
    new = or_raise(await hub.suspend("s", awaiting=named(30), until="each", timeout=HOUR))
    assert (await is_sound(hub, new.id)).paged.pages
    names = list(named(30))
    assert list(new.keys) == names
    assert [wait.name for wait in or_raise(await hub.inspect(new.keys["w9"])).waits] == names
    for number in (17, 3, 8):
        receipt = or_raise(await hub.answer(new.keys[f"w{number}"], number > 3, answer_id=str(number)))
        assert receipt.outcome == "accepted"
    assert or_raise(await hub.answer(new.keys["w17"], True)).outcome == "replayed"
    (listed,) = or_raise(await hub.query(Criteria(tool="ok"))).items
    assert [wait.name for wait in listed.waits] == names
    run = or_raise(await hub.claim(new.id))
    assert dict(run.answers) == {"w3": False, "w8": True, "w17": True}
    assert or_raise(await hub.answer(new.keys["w4"], True)).outcome == "accepted"
    again = or_raise(await hub.suspend_next(run, "t", awaiting={"x": ASK, "w3": ASK}, until="each", superseded=["w0"]))
    assert [wait.name for wait in again.waits] == [*(n for n in names if n not in {"w0", "w3", "w8", "w17"}), "x", "w3"]
    assert again.status is Status.ANSWERED
    assert or_raise(await hub.answer(new.keys["w8"], True)).outcome == "replayed"
    assert isinstance((await hub.answer(new.keys["w8"], False)).failure(), AlreadyResumed)
    assert isinstance((await hub.answer(new.keys["w0"], True)).failure(), WaitSuperseded)
    assert dict(or_raise(await hub.keys(new.id))).keys() == {n.name for n in again.waits} - {"w4"}
    await is_sound(hub, new.id)
    assert or_raise(await hub.cancel(new.id)).status is Status.CANCELLED
    assert isinstance((await hub.answer(again.keys["x"], True)), Failure)
    assert [one.verb for one in or_raise(await hub.history(new.id)) if not one.refusal] == [
        "suspend",
        "answer",
        "answer",
        "answer",
        "claim",
        "answer",
        "suspend_next",
        "cancel",
    ]
    await is_sound(hub, new.id)


async def test_a_wrong_secret_opens_nothing(hub):
    new = or_raise(await hub.suspend("s", awaiting=named(30)))
    key = new.keys["w5"]
    wrong = SuspensionKey(key.id, bytes(32), key.prefix)
    for refused in (await hub.answer(wrong, True), await hub.inspect(wrong), await hub.cancel(wrong)):
        assert isinstance(refused.failure(), SuspensionNotFound)


@pytest.mark.parametrize("until", ["all", "any", "each"])
async def test_the_last_answer_makes_it_claimable(hub, until):
    new = or_raise(await hub.suspend("s", awaiting=named(20), until=until))
    keys = list(new.keys.values())
    needed = keys if until == "all" else keys[7:8]
    outcomes = [or_raise(await hub.answer(key, True)).outcome for key in needed]
    assert outcomes == ["pending"] * (len(needed) - 1) + ["accepted"]
    seen = or_raise(await hub.inspect(new.id))
    assert seen.status is Status.ANSWERED
    assert len(seen.open_waits) == (19 if until == "each" else 0)
    if until == "any":
        assert isinstance((await hub.answer(keys[0], True)).failure(), WaitSuperseded)
    run = or_raise(await hub.claim(new.id))
    assert len(run.answers) == len(needed)
    ended = or_raise(await hub.complete(run, "done", discard=True))
    assert ended.status is Status.COMPLETED
    assert or_raise(await hub.answer(needed[0], True)).outcome == "replayed"
    await is_sound(hub, new.id)


async def test_time_ends_waits_on_pages(hub):
    late = AwaitInput(id="late", prompt="?", schema=str, default="nobody", timeout=3 * HOUR)
    new = or_raise(
        await hub.suspend(
            "s", awaiting={**named(12, late), "soon": AwaitInput(id="s", prompt="?", timeout=HOUR)}, until="each"
        )
    )
    assert or_raise(await hub.answer(new.keys["w3"], "me")).outcome == "accepted"
    travel(hub, 2 * HOUR)
    assert isinstance((await hub.answer(new.keys["soon"], "?")).failure(), SuspensionExpired)
    travel(hub, 2 * HOUR)
    run = or_raise(await hub.claim(new.id))
    assert dict(run.answers) == {**{f"w{n}": "nobody" for n in range(12)}, "w3": "me"}
    assert run.expired == ("soon",)
    await is_sound(hub, new.id)


async def test_one_that_needs_all_expires_with_one(hub):
    new = or_raise(await hub.suspend("s", awaiting={**named(12), "soon": AwaitInput(id="s", prompt="?", timeout=HOUR)}))
    travel(hub, 2 * HOUR)
    assert or_raise(await hub.inspect(new.id)).status is Status.EXPIRED
    assert or_raise(await Maintenance(hub).tick()).updated == 1
    assert isinstance((await hub.answer(new.keys["w1"], True)).failure(), SuspensionExpired)
    await is_sound(hub, new.id)


async def test_reminders_votes_and_large_answers_stand_on_pages(store):
    events = []
    texts = {f"w{n}": random.Random(n).randbytes(6_000).hex() for n in range(12)}
    async with open_test_hub(store, keyring=RING, on_event=events.append) as hub:
        remind = AwaitInput(id="say", prompt="?", schema=str, timeout=3 * HOUR, reminders=(HOUR,))
        vote = AwaitInput(id="vote", prompt="?", schema=bool, quorum=Quorum(2, of=["ops"]))
        new = or_raise(await hub.suspend("s", awaiting={**named(12, remind), "vote": vote}))
        for name, text in texts.items():
            or_raise(await hub.answer(new.keys[name], text) if name != "w3" else await hub.inspect(new.id))
        for who in "ann", "ben":
            by = Principal(who, roles=["ops"])
            assert or_raise(await hub.answer(new.keys["vote"], True, by=by)).outcome == "pending"
        travel(hub, 2 * HOUR + timedelta(minutes=1))
        or_raise(await Maintenance(hub).tick())
        assert [one.delivery.wait for one in events if one.delivery] == ["w3"]
        assert len(events[-1].suspension.waits) == 13
        or_raise(await hub.answer(new.keys["w3"], texts["w3"]))
        run = or_raise(await hub.claim(new.id))
        assert dict(run.answers) == {**texts, "vote": True}
        assert run.tallies["vote"].votes
        await is_sound(hub, new.id)


async def test_many_receipts_stand_on_pages_and_then_alone(hub, monkeypatch):
    """A run that closes many waits at once has a receipt of each, for as long as it goes on."""
    monkeypatch.setattr(paging, "MAX_RECEIPTS", 5)
    every = {}
    new = or_raise(await hub.suspend("s", awaiting=named(40)))
    for _ in range(4):
        every.update({str(key): name for name, key in new.keys.items()})
        for key in new.keys.values():
            or_raise(await hub.answer(key, True))
        run = or_raise(await hub.claim(new.id))
        new = or_raise(await hub.suspend_next(run, "t", awaiting=named(40)))
        for key in every:
            assert or_raise(await hub.answer(key, True)).outcome == "replayed"
            assert isinstance((await hub.answer(key, False)).failure(), AlreadyResumed)
        head = await is_sound(hub, new.id)
        assert len(head.receipts) + head.moved_receipts == len(every)


async def test_pages_go_when_the_waits_are_few(hub):
    new = or_raise(await hub.suspend("s", awaiting=named(30), until="each"))
    for number in range(30):
        or_raise(await hub.answer(new.keys[f"w{number}"], True))
        if number % 7 == 6:
            run = or_raise(await hub.claim(new.id))
            or_raise(await hub.suspend_next(run, "t", until="each"))
            assert or_raise(await Maintenance(hub).verify()).clean
    run = or_raise(await hub.claim(new.id))
    small = or_raise(await hub.suspend_next(run, "t", awaiting=ASK))
    or_raise(await hub.answer(small.key, True))
    travel(hub, 3 * HOUR)
    or_raise(await Maintenance(hub).cleanup())
    run = or_raise(await hub.claim(new.id))
    or_raise(await hub.suspend_next(run, "t", awaiting=ASK))
    assert (await head_of(hub, new.id)).paged is None or await stored(hub, "waits")
    or_raise(await hub.cancel(new.id))
    travel(hub, WEEK)
    assert or_raise(await Maintenance(hub).cleanup()).deleted == 1
    assert await stored(hub, "", *BESIDE) == []


# --------------------------------------------------------------------------------------------------------------- races


async def test_answers_at_the_same_time_are_all_there(url, store):
    """On one page and on different ones, by several hubs."""
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(open_test_hub(store, keyring=RING))
        hubs = [hub]
        hubs += [await stack.enter_async_context(open_test_hub(url, keyring=RING)) for _ in range(2)]
        new = or_raise(await hub.suspend("s", awaiting=named(40)))
        told = await asyncio.gather(
            *(hubs[n % len(hubs)].answer(key, n % 2 == 0) for n, key in enumerate(new.keys.values()))
        )
        assert sorted(or_raise(one).outcome for one in told) == ["accepted"] + ["pending"] * 39
        run = or_raise(await hubs[-1].claim(new.id))
        assert dict(run.answers) == {f"w{n}": n % 2 == 0 for n in range(40)}
        await is_sound(hub, new.id)


async def test_of_two_answers_of_one_wait_one_is_told_so(hub, store):
    new = or_raise(await hub.suspend("s", awaiting=named(20)))
    for number in range(1, 12):
        name = f"w{number}"
        other = []

        async def answer(name=name, other=other):
            other.append(await hub.answer(new.keys[name], False))

        store.left, store.between = number, answer
        mine = await hub.answer(new.keys[name], True)
        store.left = 0
        if not other:
            break
        assert isinstance(mine, Failure) != isinstance(other[0], Failure)
        await is_sound(hub, new.id)
    assert number > 2


async def test_whoever_reads_while_pages_are_replaced_reads_what_stands_then(hub, store):
    """Between any two calls to the store, as many answers come as replace all pages and remove what they replaced."""
    new = or_raise(await hub.suspend("s", awaiting=named(40)))
    waiting = [f"w{n}" for n in range(40)]
    store.of = WRITES | {"get", "get_many", "query"}

    async def answers():
        for name in [waiting.pop() for _ in range(4)]:
            assert or_raise(await hub.answer(new.keys[name], True)).outcome == "pending"

    verbs = [
        lambda: hub.inspect(new.id),
        hub.query,
        lambda: hub.keys(new.id),
        Maintenance(hub).verify,
    ]
    for verb in verbs:
        for number in (2, 3):
            store.left, store.between = number, answers
            assert isinstance(await verb(), Success)
            store.left = 0
    seen = or_raise(await hub.inspect(new.id))
    assert {wait.name for wait in seen.open_waits} == set(waiting)


# ------------------------------------------------------------------------------------------------------------- crashes


ASKED = {**named(14), "soon": AwaitInput(id="s", prompt="?", schema=bool, default=True, timeout=2 * HOUR)}


async def pause_again(hub, new):
    """Of a run that is held."""
    run = or_raise(await hub.claim(new.id, claim_id="mine"))
    return await hub.suspend_next(run, "t", awaiting={f"x{n}": ASK for n in range(9)}, until="each")


VERBS = {
    "suspend": lambda hub, _: hub.suspend("s", awaiting=ASKED),
    "answer": lambda hub, new: hub.answer(new.keys["w7"], True),
    "claim": lambda hub, new: hub.claim(new.id),
    "suspend_next": pause_again,
    "cancel": lambda hub, new: hub.cancel(new.id),
    "tick": lambda hub, _: Maintenance(hub).tick(),
}


@pytest.mark.parametrize("verb", VERBS)
async def test_a_crash_at_any_write_leaves_what_was_or_what_is_to_be(hub, store, verb):
    over, number = False, 0
    while not over:
        number += 1
        new = or_raise(await hub.suspend("s", awaiting=ASKED, until="each"))
        if verb == "tick":
            travel(hub, 3 * HOUR)
        else:
            or_raise(await hub.answer(new.keys["w1"], True))
        if verb == "suspend_next":
            or_raise(await hub.claim(new.id, lease=12 * HOUR, claim_id="mine"))
        before = await head_of(hub, new.id)
        store.left = number
        with suppress(Killed):
            or_raise(await VERBS[verb](hub, new))
            over = True
        store.left = 0
        after = await is_sound(hub, new.id)
        if not over and verb != "suspend":
            assert {wait.name for wait in after.waits} >= {wait.name for wait in before.waits if wait.open}
        for one in or_raise(await hub.query()).items:
            or_raise(await hub.cancel(one.id))
    assert number > 1
    travel(hub, 13 * HOUR)
    or_raise(await Maintenance(hub).tick())
    or_raise(await Maintenance(hub).cleanup())
    named_pages = set()
    for one in or_raise(await hub.query()).items:
        named_pages |= {name.hex() for name in pages_named(await head_of(hub, one.id))}
    assert {record.ref.key.partition("/")[2] for record in await stored(hub, "waits")} == named_pages
    travel(hub, WEEK)
    or_raise(await Maintenance(hub).cleanup())
    assert await stored(hub, "", *BESIDE) == []


async def test_a_lost_acknowledgement_at_any_write_loses_no_wait(hub, store):
    """The process that put the head goes on, and another one has changed it before."""
    new = or_raise(await hub.suspend("s", awaiting=named(20)))
    for number in range(1, 10):
        store.of = {"put"}
        others = [f"w{number + 10}"]

        async def answer(others=others):
            or_raise(await hub.answer(new.keys[others[0]], True))

        store.left, store.between = 1, answer
        or_raise(await hub.answer(new.keys[f"w{number}"], True))
        await is_sound(hub, new.id)
    assert len(or_raise(await hub.inspect(new.id)).open_waits) == 2


async def test_an_answer_that_is_cancelled_anywhere_can_be_repeated(hub):
    """Also while it removes pages that earlier ones have replaced."""
    new = or_raise(await hub.suspend("s", awaiting=named(80)))
    for number in range(1, 80):
        stepped = CancelledAt(hub.answer(new.keys[f"w{number}"], True, answer_id="a"), number)
        with suppress(asyncio.CancelledError):
            await stepped
        receipt = or_raise(await hub.answer(new.keys[f"w{number}"], True, answer_id="a"))
        assert receipt.outcome in {"pending", "replayed"}
        if not stepped.reached:
            break
    assert not stepped.reached
    assert len(or_raise(await hub.inspect(new.id)).open_waits) == 80 - number
    await is_sound(hub, new.id)


# -------------------------------------------------------------------------------------------------------------- damage


async def test_a_page_that_is_gone_or_exchanged_is_found(hub):
    lost, exchanged = [or_raise(await hub.suspend("s", awaiting=named(20))) for _ in range(2)]
    head = await head_of(hub, lost.id)
    on_page = {new.id: await key_on_page(hub, new, number) for new, number in ((lost, 1), (exchanged, 0))}
    ref = RecordRef(PAGES, f"{lost.id}/{head.paged.pages[1].name.hex()}")
    record = (await hub.backend.get(ref)).record
    await hub.backend.delete(ref, if_revision=record.revision)
    pages = (await head_of(hub, exchanged.id)).paged.pages
    refs = [RecordRef(PAGES, f"{exchanged.id}/{one.name.hex()}") for one in pages[:2]]
    one, two = [(await hub.backend.get(ref)).record for ref in refs]
    await hub.backend.put(one.ref, RecordChange("x", head=two.head), if_revision=one.revision)
    for new, kind in ((lost, IntegrityError), (exchanged, TamperedEnvelope)):
        for refused in (await hub.answer(on_page[new.id], True), await hub.inspect(new.id), await hub.cancel(new.id)):
            assert type(refused.failure()) is kind
    found = or_raise(await Maintenance(hub).verify())
    assert {(one.problem, one.code) for one in found.findings} >= {("head", "integrity"), ("head", "tampered")}


async def test_a_page_that_is_exchanged_is_no_other_ones(url):
    """Also where nothing is sealed, so that each page opens in the place of another."""
    async with open_test_hub(url, keyring=None) as hub:
        new = or_raise(await hub.suspend("s", awaiting=named(20)))
        key = await key_on_page(hub, new, 0)
        refs = [RecordRef(PAGES, f"{new.id}/{one.name.hex()}") for one in (await head_of(hub, new.id)).paged.pages[:2]]
        one, two = [(await hub.backend.get(ref)).record for ref in refs]
        await hub.backend.put(one.ref, RecordChange("x", head=two.head), if_revision=one.revision)
        for refused in (await hub.answer(key, True), await hub.inspect(new.id), await hub.claim(new.id)):
            assert type(refused.failure()) is TamperedEnvelope


async def test_a_page_that_nobody_names_is_found_and_removed(hub):
    """One that is not due any more, as nothing here leaves it."""
    new = or_raise(await hub.suspend("s", awaiting=named(20)))
    for number in range(3):
        or_raise(await hub.answer(new.keys[f"w{number}"], True))
    travel(hub, 3 * HOUR)
    or_raise(await Maintenance(hub).cleanup())
    for number in range(3, 6):
        or_raise(await hub.answer(new.keys[f"w{number}"], True))
    record = or_raise(await hub.suspensions.records.read(str(new.id))).record
    forgetting = replace(record.head, paged=replace(record.head.paged, replaced=()))
    draft = Draft(forgetting, dict(record.attributes), record.due_at)
    or_raise(await hub.suspensions.records.put(str(new.id), draft, revision=record.revision, mark=record.mark))
    travel(hub, 3 * HOUR)
    found = or_raise(await Maintenance(hub).verify())
    assert {(one.problem, one.kind) for one in found.findings} == {("orphan", "wait")}
    or_raise(await Maintenance(hub).verify(repair=True))
    travel(hub, 3 * HOUR)
    or_raise(await Maintenance(hub).cleanup())
    await is_sound(hub, new.id)
    names = {record.ref.key.partition("/")[2] for record in await stored(hub, "waits")}
    assert names == {name.hex() for name in pages_named(await head_of(hub, new.id))}


async def test_a_head_without_its_pages_can_not_be_looked_at_or_put(hub):
    new = or_raise(await hub.suspend("s", awaiting=named(20)))
    records = hub.suspensions.records
    bare = or_raise(await records.bare(str(new.id))).record
    with pytest.raises(ValueError, match="were not read"):
        list(bare.head.waits)
    with pytest.raises(ValueError, match="read it whole"):
        await records.put(str(new.id), Draft(bare.head, {}, None), revision=bare.revision, mark=bare.mark)
    assert len(or_raise(await hub.inspect(new.id)).waits) == 20


# -------------------------------------------------------------------------------------------------------------- upkeep


async def test_upkeep_carries_pages_along(hub, tmp_path):
    new = or_raise(await hub.suspend("s", awaiting=named(30), tenant="t"))
    or_raise(await hub.answer(new.keys["w3"], True))
    assert or_raise(await Maintenance(hub).check_upgrade()).passes
    ring = RING.add("new", bytes(range(32))).promote("new")
    hub.use_keyring(ring)
    or_raise(await Maintenance(hub).rekey())
    assert set(or_raise(await Maintenance(hub).key_use()).records) == {ring.primary}
    or_raise(await Maintenance(hub).export(tmp_path / "one", suspension=new.id))
    async with open_test_hub(f"sqlite:///{tmp_path}/other.db", keyring=ring) as other:
        or_raise(await Maintenance(other).import_(tmp_path / "one"))
        for number in (4, 5, 6):
            or_raise(await other.answer(new.keys[f"w{number}"], True))
        assert len(or_raise(await other.inspect(new.id)).open_waits) == 26
        await is_sound(other, new.id)
    copied = or_raise(await Maintenance(hub).copy(f"sqlite:///{tmp_path}/copy.db"))
    assert copied.complete
    async with open_test_hub(f"sqlite:///{tmp_path}/copy.db", keyring=ring) as other:
        for number in (4, 5, 6):
            or_raise(await other.answer(new.keys[f"w{number}"], True))
        assert len(or_raise(await other.inspect(new.id)).open_waits) == 26
        await is_sound(other, new.id)


# ------------------------------------------------------------------------------------------------------------- bounds


@pytest.mark.usefixtures("as_they_are")
async def test_a_run_has_ten_thousand_open_waits(hub):
    most = 10_000
    new = or_raise(await hub.suspend("s", awaiting=named(most), until="each", timeout=WEEK))
    assert list(new.keys) == list(named(most))
    names = random.Random(1).sample(list(new.keys), 20)
    for name in names:
        assert or_raise(await hub.answer(new.keys[name], True)).outcome == "accepted"
    run = or_raise(await hub.claim(new.id))
    assert set(run.answers) == set(names)
    again = or_raise(await hub.suspend_next(run, "t", awaiting={"more": ASK}, until="each"))
    assert len(again.waits) == most - 20 + 1
    assert or_raise(await hub.answer(new.keys[names[0]], True)).outcome == "replayed"
    assert len(or_raise(await hub.inspect(new.id)).open_waits) == most - 20 + 1
    assert or_raise(await hub.cancel(new.id)).status is Status.CANCELLED


@pytest.mark.usefixtures("as_they_are")
async def test_all_of_ten_thousand_can_be_answered_and_read(hub):
    """Of each a receipt stays, which no head can hold."""
    asked = {f"w{n}": AwaitInput(id="s", prompt="?", schema=bool, default=True, timeout=HOUR) for n in range(10_000)}
    new = or_raise(await hub.suspend("s", awaiting=asked))
    travel(hub, 2 * HOUR)
    run = or_raise(await hub.claim(new.id))
    assert len(run.answers) == 10_000
    again = or_raise(await hub.suspend_next(run, "t", awaiting=ASK))
    assert or_raise(await hub.answer(new.keys["w77"], True)).outcome == "replayed"
    or_raise(await hub.answer(again.key, True))
    assert or_raise(await hub.claim(new.id)).answers == {"ok": True}
    assert or_raise(await hub.answer(new.keys["w9999"], True)).outcome == "replayed"


async def test_more_waits_than_a_suspension_keeps_are_refused(hub, monkeypatch):
    monkeypatch.setattr(paging, "MAX_KEPT", 40)
    new = or_raise(await hub.suspend("s", awaiting=named(40), until="each"))
    or_raise(await hub.answer(new.keys["w1"], True))
    run = or_raise(await hub.claim(new.id))
    more = {"x": ASK, "y": ASK}
    assert isinstance((await hub.suspend_next(run, "t", awaiting=more, until="each")).failure(), StateTooLarge)
    assert or_raise(await hub.suspend_next(run, "t", awaiting={"x": ASK}, until="each")).waits[-1].name == "x"
