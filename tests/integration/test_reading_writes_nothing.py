"""Reading writes nothing, though time has changed everything since the last put; and what is read is true as of now."""

from __future__ import annotations

import inspect
from datetime import timedelta

import pytest

from flowpersist import AwaitInput, Criteria, KeyRing, Maintenance, PersistenceHub, RaisingHub, Status, or_raise
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import InputValidationError, PersistenceError
from flowpersist.testing.faults import FaultyBackend
from flowpersist.testing.hubs import open_test_hub, travel

HOUR = timedelta(hours=1)
WEEK = timedelta(weeks=1)
CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
DEFAULT = AwaitInput(id="confirm", prompt="Ship it?", schema=bool, default=False)
BACKENDS = ("memory", "sqlite", "filesystem", "postgres", "redis", "mongodb", "neo4j")
WRITING = ("put", "delete", "purge")
#: The verbs that change something; every other one only reads.
CHANGING = {
    *("suspend", "reserve", "answer", "resume", "claim", "claim_due", "renew", "complete", "fail", "park"),
    *("retry", "release", "suspend_next", "checkpoint", "running", "work", "cancel", "extend"),
}


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


async def everything(hub):
    """Suspensions of every status, and of every change that time makes: what the index says of them is behind."""
    made = {}
    made["reserved"] = or_raise(await hub.reserve(CONFIRM))
    made["reserved, expired"] = or_raise(await hub.reserve(CONFIRM, timeout=HOUR))
    made["waiting"] = or_raise(await hub.suspend(1, awaiting=CONFIRM, timeout=WEEK))
    for number in range(4):
        made[f"waiting, expired {number}"] = or_raise(await hub.suspend(number, awaiting=CONFIRM, timeout=HOUR))
    made["waiting, answered by default"] = or_raise(await hub.suspend(1, awaiting=DEFAULT, timeout=HOUR))
    made["answered"] = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    or_raise(await hub.answer(made["answered"].key, True))
    for name, lease in (("running", WEEK), ("running, lapsed", HOUR), ("running, cancelled", HOUR)):
        made[name] = or_raise(await hub.suspend(1))
        or_raise(await hub.claim(made[name].key, lease=lease))
    or_raise(await hub.cancel(made["running, cancelled"].id))
    for name in ("completed", "failed"):
        made[name] = or_raise(await hub.suspend(1))
        run = or_raise(await hub.claim(made[name].key))
        or_raise(await hub.complete(run, "out") if name == "completed" else await hub.fail(run))
    made["parked"] = or_raise(await hub.suspend(1))
    or_raise(await hub.park(or_raise(await hub.claim(made["parked"].key))))
    made["cancelled"] = or_raise(await hub.suspend(1))
    or_raise(await hub.cancel(made["cancelled"].key))
    travel(hub, 2 * HOUR)
    return made


async def pages(hub, criteria, limit):
    """All pages; how many there were."""
    found, after, count = [], None, 0
    while True:
        page = or_raise(await hub.query(criteria, limit=limit, after=after))
        assert len(page.items) <= limit
        found, count = [*found, *page.items], count + 1
        if page.next is None:
            return found, count
        after = page.next


async def read_all(hub, new):
    """Every reading verb, once for each of its ways."""
    await hub.inspect(new.key)
    await hub.inspect(new.id)
    await hub.history(new.key)
    await hub.history(new.id)
    await hub.outcome(new.id)
    await hub.failure(new.id)
    await hub.keys(new.id)
    for criteria in (Criteria(), *(Criteria(status=status) for status in Status)):
        await pages(hub, criteria, 3)
        [item async for item in RaisingHub(hub).iterate(criteria)]
    for bound in (new.created_at, new.created_at + WEEK):
        await pages(hub, Criteria(due_before=bound), 3)
        await pages(hub, Criteria(due_before=bound, status="expired"), 3)
        await pages(hub, Criteria(created_before=bound, status="expired"), 3)
    await Maintenance(hub).health()
    await Maintenance(hub).cleanup(dry_run=True)


def test_each_verb_is_known_to_read_or_to_change():
    verbs = {name for name, _ in inspect.getmembers(PersistenceHub, callable) if not name.startswith("_")}
    # The last two change the hub and nothing that is stored.
    reading = {"inspect", "history", "peek", "outcome", "failure", "keys", "query"}
    assert verbs - CHANGING == reading | {"remember", "use_keyring", "within"}


async def test_no_reading_verb_writes(url):
    ring = KeyRing.generate()
    watched = FaultyBackend(backend_from_url(url))
    async with open_test_hub(watched, keyring=ring) as hub:
        made = await everything(hub)
        before = {name: watched.calls[name] for name in WRITING}
        for new in made.values():
            await hub.inspect(new.id)
            await hub.outcome(new.id)
            await hub.failure(new.id)
            await hub.keys(new.id)
        await read_all(hub, made["waiting"])
        # Who may only read is given the same.
        hub.use_keyring(ring.control_only())
        await read_all(hub, made["waiting"])
        assert {name: watched.calls[name] for name in WRITING} == before
        # They would have been counted.
        or_raise(await Maintenance(hub).tick())
        assert watched.calls["put"] - before["put"] == 8


@pytest.mark.parametrize("ticked", [False, True], ids=["nobody ticked", "somebody ticked"])
async def test_a_page_by_status_is_true_as_of_now(url, ticked):
    """The same in the same order, in whatever pages, as looking at each suspension."""
    async with open_test_hub(url) as hub:
        made = await everything(hub)
        if ticked:
            or_raise(await Maintenance(hub).tick())
        order = [item.id for item in or_raise(await hub.query()).items]
        assert len(order) == len(made)
        seen = {new.id: or_raise(await hub.inspect(new.id)) for new in made.values()}
        for status in Status:
            wanted = [seen[one] for one in order if seen[one].status is status]
            assert wanted or status is Status.RUNNING
            for limit in (2, 100):
                assert (await pages(hub, Criteria(status=status), limit))[0] == wanted
        by_creation = [seen[one] for one in sorted(seen, key=lambda one: seen[one].created_at)]
        bound = made["waiting, expired 3"].created_at
        for status in Status:
            for criteria in (
                Criteria(status=status, created_before=bound),
                Criteria(status=status, created_after=bound),
            ):
                earlier = criteria.created_before is not None
                wanted = [it for it in by_creation if it.status is status and (it.created_at < bound) is earlier]
                for limit in (2, 100):
                    assert (await pages(hub, criteria, limit))[0] == wanted
        # By due: the expired ones are due again when their retention is over.
        for status in Status:
            found, _ = await pages(hub, Criteria(status=status, due_before=made["waiting"].created_at + 3 * HOUR), 2)
            assert {it.id for it in found} == {it.id for it in seen.values() if it.status is status is Status.ANSWERED}


async def test_a_page_costs_what_it_shows():
    """400 that have expired unseen, and one that waits: each page reads a page's worth of rows, and opens no more."""
    watched = FaultyBackend(backend_from_url("memory://"))
    async with open_test_hub(watched) as hub:
        for number in range(400):
            or_raise(await hub.suspend(number, awaiting=CONFIRM, timeout=HOUR))
        waiting = or_raise(await hub.suspend(1, awaiting=CONFIRM))
        travel(hub, 2 * HOUR)
        opened = Opened(hub)
        puts = watched.calls["put"]
        for status, found in (("waiting", 1), ("expired", 400)):
            items, after = [], None
            while True:
                queries, opens = watched.calls["query"], opened.count
                page = or_raise(await hub.query(Criteria(status=status), limit=20, after=after))
                # One of them looks whether there are so few that they can be read at once.
                assert watched.calls["query"] - queries <= 6
                assert opened.count - opens <= 21
                items += page.items
                after = page.next
                if after is None:
                    break
            assert len(items) == found
            assert items[-1].id == waiting.id or status == "expired"
        assert watched.calls["put"] == puts


class Opened:
    """How many heads a hub has opened."""

    def __init__(self, hub):
        self.count = 0
        records = hub.suspensions.records
        opening = records.open

        def counted(*args):
            self.count += 1
            return opening(*args)

        records.open = counted


@pytest.mark.parametrize(
    "cursor", ["nonsense", "", "WyJrZXkiLDEsMl0", "WyJkdWUiLCIxOTcwLTAxLTAxVDAwOjAwOjAwKzAwOjAwIiwieCJd", "é"]
)
async def test_a_cursor_of_nobody_is_invalid_input(cursor):
    async with open_test_hub() as hub:
        error = (await hub.query(Criteria(status="expired"), after=cursor)).failure()
        assert isinstance(error, InputValidationError)
        with pytest.raises(PersistenceError, match="cursor"):
            await RaisingHub(hub).query(Criteria(status="expired"), after=cursor)


async def test_a_dry_run_of_cleanup_says_what_a_cleanup_would_do(url):
    """Also of those that have expired unseen so long ago that their retention is over too."""
    async with open_test_hub(url) as hub:
        await everything(hub)
        travel(hub, 5 * WEEK)
        told = or_raise(await Maintenance(hub).cleanup(dry_run=True)).deleted
        assert told >= 9
        assert or_raise(await Maintenance(hub).cleanup()).deleted == told
