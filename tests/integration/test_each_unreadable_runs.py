"""Runs that a process can't read cost it no more than one look each now and then, are told once, and stall nobody."""

from __future__ import annotations

import asyncio
import logging
import secrets
import zlib
from datetime import timedelta

import attrs
import pytest

from flowpersist import AwaitInput, Criteria, KeyRing, Maintenance, RaisingHub, TypeRegistry, or_raise
from flowpersist.backends.base import RecordChange, Unreadable
from flowpersist.backends.registry import backend_from_url
from flowpersist.dynamicflow import FlowRunner, tool
from flowpersist.errors import IntegrityError, TamperedEnvelope, UnknownKey, UnknownType
from flowpersist.sealed.envelope import Sealer
from flowpersist.sealed.retrying import Runtime
from flowpersist.sealed.unreadable import FIRST, MOST, REASONS, SILENCE, UnreadableRecords
from flowpersist.testing.faults import FaultyBackend
from flowpersist.testing.hubs import open_test_hub
from machine import WITH_MEMORY

CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
#: More than a page of those that are due, and than one of the patrol.
MANY = 130
SECOND = timedelta(seconds=1)


@attrs.frozen
class Order:
    number: int


@pytest.fixture(params=WITH_MEMORY)
def backend(request):
    return request.param


class Watch(FaultyBackend):
    """Counts the rows of all pages."""

    def __init__(self, url):
        super().__init__(backend_from_url(url))
        self.rows = 0

    async def query(self, namespace, where, **options):
        page = await super().query(namespace, where, **options)
        self.rows += len(page.items) + len(page.unreadable)
        return page


class Clock:
    """The process's clock, which moves when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def runtime(clock):
    return Runtime(base=timedelta(0), slow=timedelta(minutes=1), monotonic=clock)


async def answered(hub, count, state, at_once=16):
    async def one(number):
        new = or_raise(await hub.suspend(state(number), awaiting=CONFIRM))
        or_raise(await hub.answer(new.key, True))
        return new

    made = []
    for start in range(0, count, at_once):
        made += await asyncio.gather(*(one(number) for number in range(start, min(count, start + at_once))))
    return made


async def tampered(hub, made):
    """Somebody writes to the store."""
    for new in made:
        ref = hub.suspensions.records.ref(str(new.id))
        read = await hub.backend.get(ref, body=False)
        head = bytes([*read.record.head[:-9], read.record.head[-9] ^ 1, *read.record.head[-8:]])
        head = mended_crc(head)
        await hub.backend.put(ref, RecordChange(secrets.token_hex(8), head=head), if_revision=read.record.revision)


def mended_crc(envelope):
    return envelope[:-4] + zlib.crc32(envelope[:-4]).to_bytes(4, "big")


OLD, NEW = KeyRing.generate("old"), KeyRing.generate("new")
BOTH = NEW.add("old", OLD.keys["old"].root)
NO_TYPES, TYPES = TypeRegistry(), TypeRegistry(Order)
#: What is wrong: the writers' ring and types for the bad ones, the reader's, and what the warning names.
REASONS_TOLD = {
    "a class that is not registered": ({"types": TYPES}, {"types": NO_TYPES}, "TypeRegistry(Order)"),
    "a missing key": ({"keyring": OLD}, {"keyring": NEW}, "add key 'old' to FLOWPERSIST_KEYS"),
    "plain text": ({"keyring": None}, {"keyring": NEW}, "not encrypted"),
    "altered": ({}, {}, "altered"),
}


async def prepared(url, writers, what):
    options = {"keyring": NEW, "types": TYPES, **writers}
    async with open_test_hub(url, **options) as hub:
        bad = await answered(hub, MANY, Order if "class" in what else int)
        if what == "altered":
            await tampered(hub, bad)
    async with open_test_hub(url, keyring=NEW) as hub:
        good = await answered(hub, 12, lambda number: f"good {number}", at_once=1)
    return bad, good


@pytest.fixture
def opened(monkeypatch):
    """What is opened, of heads and of bodies, in the order in which it is."""
    found = []
    true = Sealer.opened_bytes

    def counted(sealer, data, context, purpose, limit):
        found.append(purpose)
        return true(sealer, data, context, purpose, limit)

    monkeypatch.setattr(Sealer, "opened_bytes", counted)
    return found


@pytest.mark.parametrize("what", REASONS_TOLD)
async def test_runs_that_cannot_be_read_are_passed_over_at_a_flat_cost(url, what, opened, caplog):
    writers, readers, named = REASONS_TOLD[what]
    if "class" not in what and not url.startswith(("memory", "sqlite")):
        pytest.skip("what can't be opened costs the same on every backend, which one reason shows")
    _, good = await prepared(url, writers, what)
    caplog.set_level(logging.DEBUG)
    watch, clock = Watch(url), Clock()
    async with open_test_hub(watch, runtime=runtime(clock), **{"keyring": NEW, **readers}) as hub:
        taken = list(or_raise(await hub.claim_due()))
        # A first look at each of them; the page that had the good one is gone over once more, and then no more.
        assert watch.rows <= 2 * MANY
        taken += or_raise(await hub.claim_due())
        clock.now += 0.1
        for _ in range(8):
            opened.clear()
            watch.rows = 0
            taken += or_raise(await hub.claim_due())
            assert watch.rows <= 2
            assert len(opened) <= 3
        assert [run.suspension.id for run in taken] == [new.id for new in good[:10]]

        said = [it for it in caplog.records if it.name == "flowpersist.sealed"]
        assert len(said) == 1
        assert said[0].levelno >= logging.WARNING
        assert named in said[0].getMessage()
        health = or_raise(await Maintenance(hub).health())
        assert list(health.unreadable.values()) == [MANY]
        assert any(str(MANY) in warning and named in warning for warning in health.warnings) or what == "altered"

        # Nothing is due but them: still no walk.
        taken += or_raise(await hub.claim_due(limit=5))
        for _ in range(3):
            opened.clear()
            watch.rows = 0
            assert or_raise(await hub.claim_due(limit=5)) == ()
            assert watch.rows <= 2
            assert opened == []


@pytest.mark.parametrize("what", ["a class that is not registered", "a missing key"])
async def test_they_are_tried_again_a_few_at_a_time_and_taken_once_they_can_be_read(url, what, opened):
    writers, readers, _ = REASONS_TOLD[what]
    types = TypeRegistry()
    bad, good = await prepared(url, writers, what)
    watch, clock = Watch(url), Clock()
    async with open_test_hub(watch, runtime=runtime(clock), **{"keyring": NEW, **readers, "types": types}) as hub:
        assert len(or_raise(await hub.claim_due(limit=len(good)))) == len(good)
        assert or_raise(await hub.claim_due()) == ()
        clock.now += FIRST + 1
        opened.clear()
        watch.rows = 0
        assert or_raise(await hub.claim_due()) == ()
        # One page of the patrol and the last of them: a head as it is listed, head and body to take it.
        assert 0 < len(opened) <= 3 * (50 + 1)
        # Mended.
        if "class" in what:
            types.register(Order)
        else:
            hub.use_keyring(BOTH)
        taken = set()
        for _ in range(3 * MANY):
            clock.now += 5
            taken |= {run.suspension.id for run in or_raise(await hub.claim_due(limit=20))}
            if len(taken) == MANY:
                break
        assert taken == {new.id for new in bad}
        assert or_raise(await Maintenance(hub).health()).unreadable == {}


async def test_what_comes_to_stand_among_them_is_found(url):
    """By the patrol, a page of it a second: a run whose due lies behind those that are passed over."""
    bad, _ = await prepared(url, REASONS_TOLD["a class that is not registered"][0], "class")
    watch, clock = Watch(url), Clock()
    async with open_test_hub(watch, runtime=runtime(clock), keyring=NEW) as hub:
        assert len(or_raise(await hub.claim_due(limit=12))) == 12
        assert or_raise(await hub.claim_due()) == ()
        late = or_raise(await hub.suspend("late", awaiting=CONFIRM))
        or_raise(await hub.answer(late.key, True))
        ref = hub.suspensions.records.ref(str(late.id))
        revision = (await hub.backend.get(ref)).record.revision
        due = bad[MANY - 20].created_at
        await hub.backend.put(ref, RecordChange("moved", due_at=due), if_revision=revision)
        taken = []
        for _ in range(2 + MANY // 50):
            clock.now += 1.1
            watch.rows = 0
            taken += or_raise(await hub.claim_due())
            assert watch.rows <= 60
        assert [run.state for run in taken] == ["late"]


async def test_what_one_caller_is_refused_another_gets(url):
    """Of another class than is expected, or without the tools: remembered for who asked so, and for nobody else."""
    async with open_test_hub(url) as hub:
        made = await answered(hub, 5, lambda number: number)
        assert or_raise(await hub.claim_due(limit=5, expect=dict)) == ()
        assert or_raise(await hub.claim_due(limit=5, expect=dict)) == ()
        assert or_raise(await hub.claim_due(Criteria(tool="other"), limit=5)) == ()
        assert len(await RaisingHub(hub).claim_due(limit=5, expect=int)) == len(made)


async def test_a_store_that_fails_is_not_a_run_that_cannot_be_read(url):
    watch = Watch(url)
    async with open_test_hub(watch, runtime=Runtime(attempts=1)) as hub:
        (new,) = await answered(hub, 1, str)
        watch.fail("get")
        assert or_raise(await hub.claim_due()) == ()
        assert or_raise(await Maintenance(hub).health()).unreadable == {}
        assert [run.suspension.id for run in or_raise(await hub.claim_due())] == [new.id]


async def test_many_that_were_altered_write_one_line(caplog):
    """Of 600 tampered rows, by whatever lists them: claims, ticks, pages, cleanups."""
    async with open_test_hub() as hub:
        made = await answered(hub, 200, str)
        await tampered(hub, made)
        caplog.clear()
        for _ in range(3):
            assert or_raise(await hub.claim_due(limit=3)) == ()
            or_raise(await Maintenance(hub).tick())
            or_raise(await Maintenance(hub).cleanup())
            page = or_raise(await hub.query())
            assert len(page.unreadable) == 100
        assert len(caplog.records) == 1


class Damaged(Watch):
    """A store some of whose rows can't be read."""

    def __init__(self, url):
        super().__init__(url)
        self.keys = set()

    async def query(self, namespace, where, **options):
        page = await super().query(namespace, where, **options)
        bad = [record.ref for record in page.items if record.ref.key in self.keys]
        items = tuple(record for record in page.items if record.ref not in bad)
        unreadable = tuple(Unreadable(ref, IntegrityError(f"record {ref.key} can't be read")) for ref in bad)
        return attrs.evolve(page, items=items, unreadable=unreadable)


async def test_rows_that_the_store_itself_cannot_read_are_passed_over_the_same_way(url, caplog):
    watch, clock = Damaged(url), Clock()
    async with open_test_hub(watch, runtime=runtime(clock)) as hub:
        bad = await answered(hub, MANY, str)
        good = await answered(hub, 12, str, at_once=1)
        watch.keys = {str(new.id) for new in bad}
        taken = [run for _ in range(3) for run in or_raise(await hub.claim_due())]
        clock.now += 0.1
        for _ in range(5):
            watch.rows = 0
            taken += or_raise(await hub.claim_due())
            assert watch.rows <= 2
        assert [run.suspension.id for run in taken] == [new.id for new in good[:8]]
        assert len([it for it in caplog.records if it.name == "flowpersist.sealed"]) == 1
        assert list(or_raise(await Maintenance(hub).health()).unreadable.values()) == [MANY]


@tool(id="add")
async def add(n: int) -> int:
    """Add one."""
    return n + 1


async def test_a_worker_tells_once_which_tool_it_lacks(caplog):
    ask = AwaitInput(id="ask", prompt="Go?", schema=bool)
    document = {"name": "f", "flow": [{"id": "q", "tool": "ask"}, {"id": "a", "tool": "add", "input": {"n": 1}}]}
    clock = Clock()
    async with open_test_hub(runtime=runtime(clock)) as hub:
        runner = FlowRunner(hub, [add, ask])
        for _ in range(20):
            started = or_raise(await runner.start(document))
            or_raise(await hub.answer(started.waits[0].key, True))
        task = asyncio.create_task(FlowRunner(hub, [ask]).work(poll=SECOND / 1000))
        try:
            async with asyncio.timeout(10):
                while sum(or_raise(await Maintenance(hub).health()).unreadable.values()) < 20:
                    await asyncio.sleep(0)
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        said = [it.getMessage() for it in caplog.records if it.name == "flowpersist.sealed"]
        assert len(said) == 1
        assert "add" in said[0]
        assert "FlowRunner(hub, tools=" in said[0]


class TestMemory:
    """What is remembered is bounded, whatever comes in."""

    def test_records_are_remembered_until_their_time_comes(self):
        clock = Clock()
        unread = UnreadableRecords(clock)
        waits = []
        for _ in range(12):
            unread.meet("k", 3, UnknownType("no class"))
            started = clock.now
            while unread.passes("k", 3):
                clock.now += 0.5
            waits.append(clock.now - started)
        assert waits[:5] == [1, 2, 4, 8, 16]
        assert max(waits) == 300

    def test_a_change_is_looked_at_at_once(self):
        unread = UnreadableRecords(Clock())
        unread.meet("k", 3, UnknownType("no class"))
        assert unread.passes("k", 3)
        assert not unread.passes("k", 4)
        assert not unread.passes("other", 3)

    def test_records_and_reasons_are_bounded(self, caplog):
        unread = UnreadableRecords(Clock())
        for number in range(MOST + 500):
            unread.meet(f"k{number}", 1, UnknownKey(f"sealed with key 'k{number}'"))
        assert sum(unread.counts().values()) == MOST
        assert len(unread.counts()) <= REASONS + 1
        assert len(caplog.records) <= REASONS + 1
        assert not unread.passes("k0", 1)
        assert unread.passes(f"k{MOST + 499}", 1)

    def test_the_same_reason_is_told_again_after_an_hour(self, caplog):
        clock = Clock()
        unread = UnreadableRecords(clock)
        for _ in range(3):
            unread.meet("k", 1, TamperedEnvelope("altered"))
            unread.meet("l", 1, TamperedEnvelope("altered"))
            clock.now += SILENCE / 2
        assert len(caplog.records) == 2

    def test_what_was_not_met_for_an_hour_is_not_counted(self):
        clock = Clock()
        unread = UnreadableRecords(clock)
        unread.meet("k", 1, UnknownType("no class"))
        clock.now += SILENCE + 10
        assert unread.counts() == {}
