"""How many round trips an operation takes, counted by a proxy: each reply that follows a request is one."""

import asyncio

import pytest

from flowpersist.backends.base import KEEP, Put, Range, RecordChange, RecordRef, Where, Written
from flowpersist.backends.registry import backend_from_url
from flowpersist.testing.proxy import Proxy, address_of, rerouted

SMALL, LARGE = b"v" * 1024, b"v" * 1024 * 1024
PREFIX = Where(range=Range("key", prefix="k"))
#: Where a body of 1 MiB comes after its record, in chunks or since a script would be slower.
APART = {"redis", "mongodb"}


@pytest.fixture(params=["postgres", "redis", "mongodb", "neo4j"])
def backend(request):
    return request.param


@pytest.fixture
async def counted(url):
    """A function that gives an operation's result and its round trips, and a backend behind the proxy."""
    async with Proxy(*address_of(url)) as proxy:
        opened = backend_from_url(rerouted(url, proxy.address))
        await opened.open([])

        async def count(operation):
            # Several times: the first time a statement is planned, and now and then a driver asks for something else in
            # the background, such as the server's clock.
            trips = []
            for _ in range(5):
                before = proxy.round_trips
                found = await operation()
                trips.append(proxy.round_trips - before)
                # Some drivers go on for a moment after the reply.
                await asyncio.sleep(0.05)
            return found, min(trips[1:])

        yield opened, count
        await opened.close()


def ref(number):
    return RecordRef("n", f"k{number:02}")


async def filled(opened, body=SMALL):
    for number in range(10):
        await opened.put(ref(number), RecordChange(f"w-{number}", head=b"h", body=body))


@pytest.mark.parametrize("body", [None, SMALL, KEEP], ids=["none", "small", "kept"])
async def test_a_put_without_a_revision_takes_one(counted, body):
    opened, count = counted
    await filled(opened)
    numbers = iter(range(9))

    async def put():
        return await opened.put(ref(0), RecordChange(f"again-{next(numbers)}", head=b"h", body=body))

    _, trips = await count(put)
    assert trips == 1


async def test_a_put_of_a_new_record_takes_one(counted):
    """Also where revisions of new records are drawn from a counter: several at a time."""
    opened, count = counted
    numbers = iter(range(20, 29))

    async def put():
        return await opened.put(ref(next(numbers)), RecordChange("w", head=b"h", body=SMALL))

    _, trips = await count(put)
    assert trips == 1


async def test_a_delete_without_a_revision_takes_one(counted):
    opened, count = counted
    await filled(opened, None)
    numbers = iter(range(9))
    deleted, trips = await count(lambda: opened.delete(ref(next(numbers))))
    assert (deleted, trips) == (True, 1)


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
async def test_a_get_takes_one(counted, body):
    opened, count = counted
    await filled(opened, body)
    read, trips = await count(lambda: opened.get(ref(3)))
    assert (read.record.body, trips) == (body, 1)


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
async def test_the_latest_of_a_prefix_with_its_body_takes_one(counted, backend, body):
    opened, count = counted
    await filled(opened, body)
    page, trips = await count(lambda: opened.query("n", PREFIX, limit=1, descending=True, bodies=True))
    assert [(record.ref, record.body) for record in page.items] == [(ref(9), body)]
    assert trips == (2 if body is LARGE and backend in APART else 1)


async def test_ten_of_a_prefix_with_their_bodies_take_one(counted):
    opened, count = counted
    await filled(opened)
    page, trips = await count(lambda: opened.query("n", PREFIX, limit=10, bodies=True))
    assert [record.body for record in page.items] == [SMALL] * 10
    assert trips == 1


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
async def test_ten_at_once_take_one(counted, backend, body):
    opened, count = counted
    await filled(opened, body)
    refs = [ref(number) for number in range(10)]
    reads, trips = await count(lambda: opened.get_many(refs))
    assert [record.body for record in reads.records] == [body] * 10
    assert trips == (2 if body is LARGE and backend == "mongodb" else 1)


@pytest.mark.parametrize("body", [None, SMALL], ids=["none", "small"])
@pytest.mark.parametrize("new", [False, True], ids=["there", "new"])
async def test_ten_puts_at_once_take_one(counted, backend, body, new):
    """One, but where the server has no command that tells of each."""
    opened, count = counted
    await filled(opened)
    rounds = iter(range(9))

    async def put():
        number = next(rounds)
        first = 100 * (number + 1) if new else 0
        changes = [RecordChange(f"{number}-{at}", attributes={"status": "x"}, head=b"h", body=body) for at in range(10)]
        return await opened.put_many([Put(ref(first + at), change) for at, change in enumerate(changes)])

    results, trips = await count(put)
    assert [type(result) for result in results] == [Written] * 10
    assert trips == 1 if backend != "mongodb" else 1 < trips <= 30


async def test_puts_at_a_revision_take_one_for_each_kind(counted, backend):
    opened, count = counted
    await filled(opened)
    numbers = iter(range(100, 999))

    async def put():
        refs = [ref(next(numbers)) for _ in range(10)]
        made = [Put(ref, RecordChange("new", head=b"h", body=SMALL), if_revision=0) for ref in refs]
        first = await opened.put_many(made)
        again = [
            Put(ref, RecordChange("again", attributes={}, head=b"n", body=SMALL), if_revision=one.revision)
            for ref, one in zip(refs, first, strict=True)
        ]
        return await opened.put_many(again)

    results, trips = await count(put)
    assert [type(result) for result in results] == [Written] * 10
    # Elsewhere each of them is a statement, and some are under way at the same time.
    assert trips == 2 if backend in {"postgres", "redis"} else trips > 2
