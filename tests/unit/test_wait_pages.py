"""Waits on pages: they come back as they were, a change touches its own page, and a part decides as the whole does."""

from __future__ import annotations

import itertools
import random
import sys
from datetime import UTC, datetime, timedelta

import pytest
from returns.result import Success

from flowpersist import AwaitInput, KeyRing, or_raise
from flowpersist.backends.memory import MemoryBackend
from flowpersist.hub.answering_verbs import Reply, claim_unless
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle import paging, verbs
from flowpersist.lifecycle.changes import close, due_at, next_change, present
from flowpersist.lifecycle.decisions import Holder, Offer
from flowpersist.lifecycle.giving import given
from flowpersist.lifecycle.holding import complete
from flowpersist.lifecycle.indexing import attributes_of
from flowpersist.lifecycle.model import Head, Status, WaitReceipt, WaitState, WaitStatus, replace, secret_digest
from flowpersist.lifecycle.pages import UNREAD
from flowpersist.lifecycle.paging import divided, joined, read_page
from flowpersist.lifecycle.parts import enough, pages_of, part_of, prefix_of
from flowpersist.lifecycle.retrying import retry
from flowpersist.lifecycle.scheduling import take_notices
from flowpersist.lifecycle.views import suspension_of
from flowpersist.lifecycle.waits import Answer, Notice, Schedule
from flowpersist.testing.faults import FaultyBackend
from flowpersist.testing.hubs import open_test_hub

NOW = datetime(2026, 1, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
ASK = AwaitInput(id="ok", prompt="OK?", schema=bool).to_data()
REMINDING = AwaitInput(id="ok", prompt="OK?", schema=bool, reminders=(HOUR,), timeout=9 * HOUR).to_data()


def head_with(waits, receipts=(), **fields):
    given = {
        "id": SuspensionId.new(now=NOW, entropy=random.Random(1).randbytes),
        "tenant": None,
        "metadata": {},
        "created_at": NOW,
        "updated_at": NOW,
        "retention": HOUR,
        "status": Status.WAITING,
        "until": "all",
    }
    return Head(**{**given, **fields}, waits=tuple(waits), receipts=tuple(receipts))


def wait(number, chance, **fields):
    given = {"sequence": 1, "awaiting": ASK, "deadline": None}
    return WaitState(f"w{number}", chance.randbytes(32), **{**given, **fields})


def receipt(number, chance):
    return WaitReceipt(chance.randbytes(32), f"w{number}", 1, WaitStatus.ANSWERED, NOW, None, None, None)


class Store:
    """Pages by their names."""

    def __init__(self, chance):
        self.chance = chance
        self.pages = {}

    def put(self, head, pages=True):
        parts = divided(head, lambda: self.chance.randbytes(16), pages=pages).unwrap()
        self.pages.update({one.reference.name: one.page for one in parts.new})
        for name in parts.removed:
            del self.pages[name]
        return parts

    def read(self, stored):
        return joined(stored, [read_page(self.pages[one.name].content).unwrap() for one in stored.paged.pages])

    def part(self, stored, secret, now=NOW):
        found = pages_of(stored, [prefix_of(secret)])
        if not found or not enough(stored, now):
            return None
        (reference,) = found
        return part_of(stored, {reference.name: read_page(self.pages[reference.name].content).unwrap()})


@pytest.mark.parametrize("seed", range(12))
def test_waits_and_receipts_come_back_in_their_order_whatever_becomes_of_them(seed, monkeypatch):
    monkeypatch.setattr(paging, "KEPT_PAGES", 2)
    chance = random.Random(seed)
    store, numbers = Store(chance), itertools.count()
    head = head_with([wait(next(numbers), chance) for _ in range(chance.randrange(1, 700))])
    for _ in range(12):
        stored = store.put(head).head
        again = store.read(stored)
        assert [replace(one, place=0) for one in again.waits] == [replace(one, place=0) for one in head.waits]
        assert sorted(one.wait for one in again.receipts) == sorted(one.wait for one in head.receipts)
        assert again.receipts[-100:] == head.receipts[-100:]
        starts = [one.start for one in stored.paged.pages]
        assert starts == sorted(set(starts))
        assert all(one.entries <= paging.PER_PAGE for one in stored.paged.pages)
        assert {one.name for one in stored.paged.pages} | set(stored.paged.replaced) == store.pages.keys()
        for one in stored.paged.pages:
            content = read_page(store.pages[one.name].content).unwrap()
            assert one.open == len([it for it in content.waits if it.open])
            assert one.entries == len(content.waits) + len(content.receipts)
        over = chance.sample(again.waits, min(len(again.waits) - 1, chance.choice([0, 1, 50, 300])))
        waits = [one for one in again.waits if one not in over]
        waits += [wait(next(numbers), chance) for _ in range(chance.choice([0, 1, 200]))]
        head = replace(
            again, waits=tuple(waits), receipts=(*again.receipts, *(receipt(one.name, chance) for one in over))
        )
    assert len(stored.paged.pages) <= 2 * (1 + (len(head.waits) + len(head.receipts)) // (paging.PER_PAGE // 2))
    inline = store.put(head, pages=False)
    assert inline.head.waits == head.waits
    assert inline.head.paged.pages == ()
    assert store.put(inline.head, pages=False).head.paged is None
    assert store.pages == {}


def test_what_does_not_change_stays_on_its_page():
    chance = random.Random(3)
    store = Store(chance)
    first = store.put(head_with([wait(n, chance) for n in range(1000)]))
    assert len(first.new) == -(-1000 // paging.PER_PAGE)
    whole = store.read(first.head)
    assert store.put(whole).new == ()
    changed = replace(whole.waits[500], status=WaitStatus.CLOSED)
    second = store.put(replace(whole, waits=tuple(changed if one is whole.waits[500] else one for one in whole.waits)))
    assert len(second.new) == 1
    assert len(second.head.paged.replaced) == 1
    assert len(set(first.head.paged.pages) & set(second.head.paged.pages)) == len(first.head.paged.pages) - 1


def test_every_key_is_found_where_the_first_page_is_gone_and_another_is_divided_in_its_place():
    chance, numbers = random.Random(7), itertools.count()
    store = Store(chance)
    stored = store.put(head_with([wait(next(numbers), chance) for _ in range(1000)])).head
    whole, second = store.read(stored), stored.paged.pages[1].start
    left = [one for one in whole.waits if secret_digest(one.secret)[:8] >= second]
    whole = store.read(store.put(replace(whole, waits=tuple(left))).head)
    many = (wait(next(numbers), chance) for _ in itertools.count())
    low = itertools.islice((one for one in many if secret_digest(one.secret)[:8] < second), 100)
    stored = store.put(replace(whole, waits=(*whole.waits, *low))).head
    starts = [one.start for one in stored.paged.pages]
    assert starts == sorted(set(starts))
    for one in store.read(stored).waits:
        assert one in store.part(stored, one.secret).waits


def test_large_entries_have_pages_of_their_own():
    chance = random.Random(4)
    large = {"id": "x", "prompt": chance.randbytes(30_000).hex()}
    store = Store(chance)
    parts = store.put(head_with([wait(n, chance, awaiting=large if n % 3 == 0 else ASK) for n in range(30)]))
    assert all(one.reference.size < 2 * paging.PAGE_BYTES + 30_000 for one in parts.new)
    assert len(parts.new) >= 10


def some_head(chance):
    """A head that a verb may meet, and what has become of its waits."""
    until = chance.choice(["all", "each", "any"])
    waits = []
    for number in range(chance.randrange(2, 9)):
        status = chance.choice([WaitStatus.OPEN] * 4 + [WaitStatus.ANSWERED, WaitStatus.EXPIRED, WaitStatus.CLOSED])
        if status is WaitStatus.EXPIRED and until == "all":
            status = WaitStatus.OPEN
        ended = status is WaitStatus.ANSWERED
        waits.append(
            wait(
                number,
                chance,
                awaiting=chance.choice([ASK, ASK, ASK, REMINDING, None]),
                status=status,
                deadline=chance.choice([None, NOW + HOUR, NOW + 3 * HOUR]),
                answer=Answer(True, "ann", NOW, "id", b"s" * 32) if ended else None,
                closed_at=None if status is WaitStatus.OPEN else NOW,
                delivery=chance.choice([None, 1]) if ended else None,
                schedule=chance.choice([None, Schedule(NOW, NOW, notices=(Notice("remind", NOW, 0),))]),
            )
        )
    status = chance.choice([Status.WAITING, Status.WAITING, Status.RUNNING, Status.ANSWERED, Status.RESERVED])
    lease = NOW + 2 * HOUR if status is Status.RUNNING else None
    receipts = [receipt(n, chance) for n in range(chance.choice([0, 3, 110]))]
    return head_with(waits, receipts, until=until, status=status, lease_until=lease)


@pytest.mark.parametrize("seed", range(300))
def test_a_part_decides_as_the_whole_does(seed, monkeypatch):
    monkeypatch.setattr(paging, "PER_PAGE", 2)
    chance = random.Random(seed)
    store = Store(chance)
    stored = store.put(some_head(chance)).head
    whole = store.read(stored)
    now = NOW + chance.choice([timedelta(0), HOUR, HOUR + timedelta(microseconds=1), 4 * HOUR])
    for one in whole.waits:
        part = store.part(stored, one.secret, now)
        if part is None:
            expired = any(page.expired for page in stored.paged.pages)
            assert stored.until == "any" or expired or present(whole, now) is not whole
            continue
        assert present(whole, now) is whole
        assert present(part, now) is part
        assert (next_change(part), due_at(part)) == (next_change(whole), due_at(whole))
        assert attributes_of(part) == attributes_of(whole)
        offer = Offer(True, "ann", chance.choice([None, "id"]))
        both = [
            verbs.answer(head, next(it for it in head.waits if it.secret == one.secret), offer, now)
            for head in (part, whole)
        ]
        of_part, of_whole = both
        assert type(of_part.result) is type(of_whole.result)
        if isinstance(of_whole.result, Success):
            assert of_part.result == of_whole.result
        else:
            assert str(of_part.result.failure()) == str(of_whole.result.failure())
        assert (of_part.head is part) == (of_whole.head is whole)
        made = Store(random.Random(0))
        made.pages = dict(store.pages)
        assert made.read(made.put(of_part.head).head).waits == of_whole.head.waits
        assert due_at(of_part.head) == due_at(of_whole.head)
        assert of_part.head.status is of_whole.head.status
        assert secret_digest(one.secret)


def test_what_needs_all_waits_refuses_a_part():
    chance = random.Random(5)
    store = Store(chance)
    stored = store.put(head_with([wait(n, chance) for n in range(300)], until="each")).head
    whole = store.read(stored)
    part = store.part(stored, whole.waits[0].secret)
    for look in (
        lambda: suspension_of(part),
        lambda: close(part, Status.CANCELLED, NOW),
        lambda: verbs.claim(
            replace(part, status=Status.ANSWERED, attempt=1), None, None, NOW, lease=HOUR, claim_id="c"
        ),
        lambda: verbs.claim(part, None, None, NOW, lease=HOUR, claim_id="c"),
        lambda: verbs.cancel(part, None, NOW, reason=None),
        lambda: verbs.extend(part, None, NOW, deadline=NOW + HOUR),
        lambda: complete(replace(part, status=Status.RUNNING), Holder(0, None), NOW, discard=True),
        lambda: retry(replace(part, status=Status.PARKED), NOW, lease=HOUR, claim_id="c"),
        lambda: take_notices(part, NOW),
        lambda: present(replace(part, rest=replace(part.rest, change=NOW)), NOW + HOUR),
        lambda: given(part),
        lambda: verbs.answer(part, None, Offer(True, None, None), NOW),
    ):
        with pytest.raises(TypeError, match="all waits"):
            look()
    for look in (list, len, bool, tuple, lambda waits: waits[0], lambda waits: None in waits, lambda w: w == ()):
        with pytest.raises(ValueError, match="were not read"):
            look(UNREAD)
    assert repr(UNREAD) == "<unread>"


# ---------------------------------------------------------------------------------------------------------------- cost


class Calls:
    """Counts the calls of Python functions in this thread while it is entered."""

    count = 0

    def __enter__(self):
        sys.setprofile(self._called)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)

    def _called(self, _frame, event, _argument):
        self.count += event == "call"


async def cost(count, names=("w0", "w1", "w2")):
    """What an answer takes beside so many open waits, the third one: calls of functions, and of the store."""
    store = FaultyBackend(MemoryBackend())
    question = AwaitInput(id="ok", prompt="OK?", schema=bool)
    async with open_test_hub(store, keyring=KeyRing.generate()) as hub:
        new = or_raise(await hub.suspend("s", awaiting={f"w{n}": question for n in range(count)}))
        for name in names:
            store.calls.clear()
            calls = Calls()
            with calls:
                or_raise(await hub.answer(new.keys[name], True))
        return calls.count, sum(store.calls.values())


async def test_an_answer_costs_the_same_beside_any_number_of_open_waits():
    few, some, many, most = [await cost(count) for count in (10, 100, 1_000, 10_000)]
    assert (few[1], some[1]) == (2, 2)
    # The page of the wait is read and written beside the head.
    assert (many[1], most[1]) == (4, 4)
    assert max(some[0], many[0], most[0]) <= 1.6 * few[0]
    assert most[0] <= 1.05 * many[0]
    # Once many pages were replaced, each answer removes one of them.
    later = await cost(10_000, [f"w{n}" for n in range(40)])
    assert later[1] == 5
    assert later[0] <= 1.7 * few[0]


async def no_refusal(_):
    return None


async def cost_of_a_turn(count):
    """What a claim with an answer, a checkpoint and a pause take at most beside so many open waits: calls of functions,
    and of the store. Some divide a page, and some find two waits on one.
    """
    figures = {}
    store, yes = FaultyBackend(MemoryBackend()), Reply(True, None)
    question = AwaitInput(id="ok", prompt="OK?", schema=bool)
    async with open_test_hub(store, keyring=KeyRing.generate()) as hub:
        new = or_raise(await hub.suspend("s", awaiting={f"w{n}": question for n in range(count)}, until="each"))

        async def counted(name, verb):
            store.calls.clear()
            calls = Calls()
            with calls:
                given = or_raise(await verb)
            figures[name] = max(figures.get(name, (0, 0)), (calls.count, sum(store.calls.values())))
            return given

        for number in range(8):
            run = await counted(
                "claim", claim_unless(hub, no_refusal, new.keys[f"w{number}"], yes, lease=HOUR, partly=True)
            )
            assert dict(run.answers) == {f"w{number}": True}
            run = await counted("checkpoint", hub.checkpoint(run, "t", awaiting={f"c{number}": question}))
            paused = await counted("pause", hub.suspend_next(run, "t", awaiting={f"p{number}": question}, until="each"))
            assert run.partial is not None
            assert f"c{number}" in run.keys
            assert 2 <= len(run.keys) <= 11
            assert paused.partial
            assert f"p{number}" in paused.keys
            assert 2 <= len(paused.keys) <= 11
        assert len(or_raise(await hub.inspect(new.id)).open_waits) == count + 8
    return figures


async def test_a_claim_and_a_pause_cost_the_same_beside_any_number_of_open_waits():
    few, many, most = [await cost_of_a_turn(count) for count in (200, 1_000, 10_000)]
    for verb, (calls, round_trips) in most.items():
        assert calls <= 1.1 * many[verb][0]
        assert calls <= 1.25 * few[verb][0]
        # The head and its pages are read and written, and up to three replaced pages removed.
        assert round_trips <= 7


async def test_a_pause_of_a_part_shows_an_open_wait_as_long_as_there_is_one(monkeypatch):
    monkeypatch.setattr(paging, "PAGED_FROM", 2)
    monkeypatch.setattr(paging, "PER_PAGE", 2)
    question = AwaitInput(id="ok", prompt="OK?", schema=bool)
    async with open_test_hub() as hub:
        new = or_raise(await hub.suspend("s", awaiting={f"w{n}": question for n in range(12)}, until="each"))
        keys, partial = dict(new.keys), []
        for _ in range(12):
            name, key = keys.popitem()
            run = or_raise(await claim_unless(hub, no_refusal, key, Reply(True, None), lease=HOUR, partly=True))
            assert dict(run.answers) == {name: True}
            if not or_raise(await hub.keys(new.id)):
                break
            paused = or_raise(await hub.suspend_next(run, "t", until="each"))
            partial.append(paused.partial)
            left = or_raise(await hub.keys(new.id))
            assert paused.keys.items() <= left.items()
            assert paused.keys
            assert {one.name for one in paused.open_waits} == paused.keys.keys()
            keys = dict(paused.keys)
        assert len(partial) == 11
        assert partial.count(True) > 4
