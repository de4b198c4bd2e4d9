"""A put without a revision on MongoDB: an insert or a replace, in the order in which one of them mostly suffices."""

import random
from contextlib import AsyncExitStack

import pytest

from flowpersist.backends.base import KEEP, RecordChange, RecordRef
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import RevisionConflict
from flowpersist.testing.proxy import Proxy, address_of, rerouted


@pytest.fixture(params=["mongodb"])
def backend(request):
    return request.param


def ref(key):
    return RecordRef("n", str(key))


@pytest.fixture
async def pair(url):
    """Two backends as of two processes, the first behind a proxy that counts."""
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(Proxy(*address_of(url)))
        opened = [backend_from_url(rerouted(url, proxy.address)), backend_from_url(url)]
        for one in opened:
            await one.open([])
            stack.push_async_callback(one.close)
        yield proxy, *opened


@pytest.mark.parametrize("growing", [False, True])
@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("body", [b"small", b"l" * 100_000, None, KEEP], ids=["small", "large", "none", "kept"])
async def test_whatever_was_written_last_each_record_is_made_or_replaced(pair, growing, there, body):
    _, one, other = pair
    before = (await other.put(ref("a"), RecordChange("w0", head=b"old", body=b"b"))).revision if there else 0
    if growing:
        await one.put(ref("new"), RecordChange("w1"))
    else:
        known = await one.put(ref("known"), RecordChange("w1"))
        assert (await one.put(ref("known"), RecordChange("w2"))).revision == known.revision + 1
    written = await one.put(ref("a"), RecordChange("w3", head=b"new", body=body))
    record = (await other.get(ref("a"))).record
    assert (record.revision, record.head) == (written.revision, b"new")
    assert record.body == ((b"b" if there else None) if body is KEEP else body)
    assert written.revision == before + 1 if there else written.revision > 1
    with pytest.raises(RevisionConflict):
        await one.put(ref("a"), RecordChange("w3", head=b"new", body=body))
    assert (await other.get(ref("a"))).record.revision == written.revision


async def test_no_revision_is_used_twice_where_two_processes_take_turns(pair):
    """Each makes records that the other has deleted, with numbers that it has drawn long before."""
    _, *both = pair
    chance, had = random.Random(3), {key: set() for key in range(5)}
    for number in range(400):
        key, process = chance.randrange(5), chance.choice(both)
        made = await process.put(ref(key), RecordChange(f"w{number}"), if_revision=None)
        assert made.revision not in had[key]
        had[key].add(made.revision)
        if chance.random() < 0.6:
            assert await chance.choice(both).delete(ref(key), if_revision=made.revision)
    lives = {revision >> 30 for revisions in had.values() for revision in revisions}
    assert len(lives) > 20


async def test_records_of_a_kind_take_one_round_trip_each(pair):
    """Many new ones, then the same again: few calls take more."""
    proxy, one, _ = pair
    for written in ("new", "again"):
        before = proxy.round_trips
        for number in range(100):
            await one.put(ref(number), RecordChange(f"{written}-{number}"))
        # A few for blocks of numbers, the clock, and the change from one kind to the other.
        assert 100 <= proxy.round_trips - before < 120
