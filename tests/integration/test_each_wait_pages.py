"""What stands beside a suspension on every backend, while others copy, import and sweep it."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from flowpersist import AwaitInput, Criteria, KeyRing, Maintenance, or_raise
from flowpersist.backends.base import RecordChange, RecordRef, Where
from flowpersist.backends.kit import DelegatingBackend
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import IntegrityError, RollbackDetected, SuspensionNotFound
from flowpersist.hub import listing
from flowpersist.keys.suspension_key import generate_key
from flowpersist.lifecycle.views import suspension_of
from flowpersist.sealed.moved import is_mark
from flowpersist.sealed.raw import RawRecords
from flowpersist.testing.hubs import open_test_hub, travel

ASK = AwaitInput(id="ok", prompt="OK?", schema=bool)
SAY = AwaitInput(id="say", prompt="Say it", schema=str)
RING = KeyRing.generate()
HOUR = timedelta(hours=1)
#: A wait whose answer gets a record of its own, and many that stand on pages.
ASKED = {"long": SAY, **{f"w{n}": ASK for n in range(200)}}


@pytest.fixture
async def hub(url):
    async with open_test_hub(url, keyring=RING) as opened:
        yield opened


async def suspended(hub):
    new = or_raise(await hub.suspend("s", awaiting=ASKED, until="each"))
    or_raise(await hub.answer(new.keys["long"], "x" * 9000))
    return new


async def is_whole(hub, new):
    for name in ("w3", "w150"):
        or_raise(await hub.answer(new.keys[name], True))
    run = or_raise(await hub.claim(new.id))
    assert dict(run.answers) == {"long": "x" * 9000, "w3": True, "w150": True}
    assert len(run.suspension.waits) == len(ASKED)
    assert or_raise(await Maintenance(hub).verify()).clean


@pytest.fixture
def before_heads(monkeypatch):
    """Has a coroutine run before the head of a suspension is put as it is stored; one that gives True ends the put."""
    put = RawRecords.put
    waiting = []

    async def later(self, ref, change, **kwargs):
        if ref.namespace == "default":
            for one in waiting:
                await one(self.backend)
        return await put(self, ref, change, **kwargs)

    monkeypatch.setattr(RawRecords, "put", later)
    return waiting


class Killed(BaseException):
    """Ends a process: no handler runs."""


async def test_a_sweep_during_an_import_leaves_what_its_head_will_name(hub, tmp_path, before_heads):
    async with open_test_hub("memory://", keyring=RING) as first:
        new = await suspended(first)
        or_raise(await Maintenance(first).export(tmp_path / "file", suspension=new.id))
    travel(hub, 3 * HOUR)

    async def cleaned(_):
        or_raise(await Maintenance(hub).cleanup())

    before_heads.append(cleaned)
    or_raise(await Maintenance(hub).import_(tmp_path / "file"))
    await is_whole(hub, new)


async def test_an_import_that_was_cut_long_ago_is_repeated(hub, tmp_path, before_heads):
    async with open_test_hub("memory://", keyring=RING) as first:
        new = await suspended(first)
        or_raise(await Maintenance(first).export(tmp_path / "file", suspension=new.id))

    async def killed(_):
        raise Killed

    before_heads.append(killed)
    with pytest.raises(Killed):
        await Maintenance(hub).import_(tmp_path / "file")
    travel(hub, 3 * HOUR)

    async def cleaned(_):
        or_raise(await Maintenance(hub).cleanup())

    before_heads[:] = [cleaned]
    or_raise(await Maintenance(hub).import_(tmp_path / "file"))
    await is_whole(hub, new)


async def test_a_sweep_during_a_copy_leaves_what_its_head_will_name(hub, url, before_heads, tmp_path):
    async with open_test_hub(f"sqlite:///{tmp_path}/old.db", keyring=RING) as old:
        new = await suspended(old)
        travel(hub, 3 * HOUR)
        there = backend_from_url(url)
        there.clock_offset += 3 * HOUR
        ours = []

        async def cleaned(_):
            if not ours:
                ours.append(True)
                or_raise(await Maintenance(hub).cleanup())

        before_heads.append(cleaned)
        assert or_raise(await Maintenance(old).copy(there)).complete
    await is_whole(hub, new)


async def test_a_copy_that_was_cut_long_ago_is_finished(hub, url, monkeypatch, tmp_path):
    async with open_test_hub(f"sqlite:///{tmp_path}/old.db", keyring=RING) as old:
        new = await suspended(old)
        marked = RawRecords.get

        async def killed(self, ref, *, body):
            read = await marked(self, ref, body=body)
            if ref.namespace == "default" and self.backend is old.backend and is_mark(read.unwrap().record.head):
                raise Killed
            return read

        monkeypatch.setattr(RawRecords, "get", killed)
        with pytest.raises(Killed):
            await Maintenance(old).copy(backend_from_url(url))
        monkeypatch.setattr(RawRecords, "get", marked)
        travel(hub, 3 * HOUR)
        or_raise(await Maintenance(hub).cleanup())
        there = backend_from_url(url)
        there.clock_offset += 3 * HOUR
        assert or_raise(await Maintenance(old).copy(there)).complete
    await is_whole(hub, new)


class Counting(DelegatingBackend):
    """Counts the calls for the records of a namespace."""

    forwarded = frozenset()

    def __init__(self, inner):
        super().__init__(inner)
        self.read = Counter()

    async def get(self, ref, **options):
        self.read[ref.namespace] += 1
        return await super().get(ref, **options)

    async def get_many(self, refs, **options):
        self.read.update(ref.namespace for ref in refs)
        return await super().get_many(refs, **options)


async def test_upkeep_reads_the_pages_of_a_run_once_and_not_for_each_record_beside_it(url):
    """Else the work of a run with many answers would grow with the square of their number."""
    store = Counting(backend_from_url(url))
    async with open_test_hub(store, keyring=RING) as hub:
        new = or_raise(await hub.suspend("s", awaiting={f"w{n}": SAY for n in range(140)}, until="each"))
        for key in list(new.keys.values())[:20]:
            or_raise(await hub.answer(key, "x" * 5000))
        travel(hub, 3 * HOUR)
        store.read.clear()
        or_raise(await Maintenance(hub).cleanup())
        assert store.read["default.waits"] <= 20
        run = or_raise(await hub.claim(new.id))
        or_raise(await hub.suspend_next(run, "t", until="each"))
        assert or_raise(await Maintenance(hub).verify()).clean


async def test_a_head_that_was_put_back_without_its_pages_keeps_no_other_from_being_accepted(url, tmp_path):
    async with open_test_hub(url, keyring=RING, ledger=f"sqlite:///{tmp_path}/ledger.db") as hub:
        broken = await suspended(hub)
        other = or_raise(await hub.suspend("s", awaiting=ASK))
        raw = RawRecords(hub.backend, hub.runtime)
        refs = [RecordRef("default", str(one.id)) for one in (broken, other)]
        backup = [or_raise(await raw.get(ref, body=True)).record for ref in refs]
        for key in list(broken.keys.values())[1:120]:
            or_raise(await hub.answer(key, True))
        or_raise(await hub.answer(other.key, True))
        for one in backup:
            there = or_raise(await raw.get(one.ref, body=False)).record
            change = RecordChange(
                raw.write_id(), attributes=dict(one.attributes), head=one.head, body=one.body, due_at=one.due_at
            )
            or_raise(await raw.put(one.ref, change, if_revision=there.revision))
        refused = (await Maintenance(hub).accept_restored()).failure()
        assert type(refused) is IntegrityError
        assert str(broken.id) in str(refused)
        assert or_raise(await hub.answer(other.key, True)).outcome == "accepted"
        assert isinstance((await hub.inspect(broken.id)).failure(), RollbackDetected)


@pytest.mark.parametrize("criteria", [Criteria(), Criteria(tool="say")], ids=["all", "some"])
async def test_a_listing_of_many_waits_lets_others_go_on(hub, monkeypatch, criteria):
    for _ in range(5):
        or_raise(await hub.suspend("s", awaiting=ASKED))
    turns, seen = [0], []

    async def other():
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    def shown(*args, **kwargs):
        seen.append(turns[0])
        return suspension_of(*args, **kwargs)

    monkeypatch.setattr(listing, "suspension_of", shown)
    task = asyncio.create_task(other())
    assert len(or_raise(await hub.query(criteria)).items) == 5
    task.cancel()
    assert len(set(seen)) == 5


@pytest.mark.parametrize("watched", [False, True])
async def test_a_short_answer_stands_on_its_page_whoever_watches(url, watched):
    """An observer has all waits read, which are more than a head could hold."""
    events = []
    async with open_test_hub(url, keyring=RING, on_event=events.append if watched else None) as hub:
        asked = AwaitInput(id="say", prompt="Say it. " * 80, schema=str)
        new = or_raise(await hub.suspend("s", awaiting={f"w{n}": asked for n in range(200)}, until="each"))
        or_raise(await hub.answer(new.keys["w7"], "x" * 300))
        assert not (await hub.backend.query("default.answers", Where(), limit=10)).items
        assert or_raise(await hub.claim(new.id)).answers == {"w7": "x" * 300}


@pytest.mark.parametrize("verb", ["answer", "inspect", "cancel"])
async def test_a_wrong_secret_of_a_run_with_pages_takes_the_reads_of_an_unknown_id(url, verb):
    store = Counting(backend_from_url(url))
    async with open_test_hub(store, keyring=RING) as hub:
        new = or_raise(await hub.suspend("s", awaiting=ASKED))
        tried = []
        for key in (generate_key(id=new.id), generate_key()):
            store.read.clear()
            refused = await (hub.answer(key, True) if verb == "answer" else getattr(hub, verb)(key))
            assert isinstance(refused.failure(), SuspensionNotFound)
            tried.append(store.read.total())
        assert tried[0] == tried[1]
