"""The replay ledger: a suspension that was put back as it was earlier, deleted, or made again behind the hub's back is
refused by every verb that reads it, on every backend; and no crash between the two stores makes an honest run
unreadable.

Whoever can write the database writes back here: through the primitive, which sees the bytes alone.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from flowpersist import AwaitInput, Criteria, KeyRing, Maintenance, RaisingHub, or_raise
from flowpersist.backends.base import RecordChange, RecordRef, Where
from flowpersist.backends.kit import DelegatingBackend
from flowpersist.backends.memory import MemoryBackend
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import (
    BackendUnavailable,
    ConfigurationError,
    LedgerUnavailable,
    RollbackDetected,
    SuspensionNotFound,
)
from flowpersist.sealed.raw import RawRecords
from flowpersist.testing.hubs import open_test_hub, travel
from machine import WITH_MEMORY

CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
RING = KeyRing.generate()
DAY = timedelta(days=1)
#: Longer than the slowest machine takes.
LEASE = timedelta(hours=1)


@pytest.fixture(params=WITH_MEMORY)
def backend(request):
    return request.param


@pytest.fixture
def ledger(tmp_path):
    return f"sqlite:///{tmp_path}/ledger.db"


@pytest.fixture
async def hub(url, ledger):
    async with open_test_hub(url, keyring=RING, ledger=ledger) as opened:
        yield opened


class Counted(DelegatingBackend):
    """A backend that counts what it is asked, fails where it is told to, and never closes."""

    def __init__(self, inner):
        super().__init__(inner)
        self.calls = []
        self.down = frozenset()

    async def around(self, operation, call):
        if operation == "close":
            return None
        self.calls.append(operation)
        if operation in self.down:
            raise BackendUnavailable("the ledger is down", self.name, False)
        return await call()


def ref_of(suspension):
    return RecordRef("default", str(suspension.id))


async def kept(hub, suspension):
    """A copy of a whole row, such as a backup has."""
    return or_raise(await raw_of(hub).get(ref_of(suspension), body=True)).record


def raw_of(hub):
    """The store without a ledger, which clears up what a slow server leaves open."""
    return RawRecords(hub.backend, hub.runtime)


async def put_back(hub, copy):
    """A whole row as it was, in the place of what stands there."""
    standing = or_raise(await raw_of(hub).get(copy.ref, body=False)).record
    gone = {} if standing is None else dict.fromkeys(standing.attributes)
    change = RecordChange(
        os.urandom(8).hex(),
        attributes={**gone, **copy.attributes},
        head=copy.head,
        body=copy.body,
        due_at=copy.due_at,
    )
    or_raise(await raw_of(hub).put(copy.ref, change, if_revision=0 if standing is None else standing.revision))


async def delete(hub, suspension):
    standing = or_raise(await raw_of(hub).get(ref_of(suspension), body=False)).record
    or_raise(await raw_of(hub).delete(standing.ref, if_revision=standing.revision))


async def refusals(hub, suspension):
    """What each verb that reads a suspension says of it, by its name."""
    key, id_ = suspension.key, suspension.id
    return {
        "inspect": await hub.inspect(key),
        "inspect by id": await hub.inspect(id_),
        "answer": await hub.answer(key, True),
        "resume": await hub.resume(key, True),
        "claim": await hub.claim(key, True),
        "cancel": await hub.cancel(key),
        "extend": await hub.extend(key, timeout=DAY),
        "history": await hub.history(id_),
        "keys": await hub.keys(id_),
    }


async def assert_refused(hub, suspension):
    for verb, result in (await refusals(hub, suspension)).items():
        assert isinstance(result.failure(), RollbackDetected), verb
        assert "accept-restored" in str(result.failure())
        assert str(suspension.key) not in str(result.failure())
    assert or_raise(await hub.claim_due()) == ()
    assert suspension.id not in {one.id for one in or_raise(await hub.query()).items}


async def test_a_row_that_was_put_back_is_refused_by_every_verb(hub):
    made = or_raise(await hub.suspend({"n": 1}, awaiting=CONFIRM))
    waiting = await kept(hub, made)
    or_raise(await hub.answer(made.key, True))
    answered = await kept(hub, made)
    run = or_raise(await hub.claim(made.key, lease=LEASE))
    or_raise(await hub.complete(run, "done"))
    done = await kept(hub, made)
    for earlier in (waiting, answered):
        await put_back(hub, earlier)
        await assert_refused(hub, made)
        page = or_raise(await hub.query())
        assert [type(one.error) for one in page.unreadable] == [RollbackDetected]
        found = or_raise(await Maintenance(hub).verify())
        assert [(one.kind, one.code) for one in found.findings if one.code] == [("suspension", "rolled-back")]
        assert or_raise(await Maintenance(hub).health()).unreadable == {"RollbackDetected": 1}
    # The newest state is what the ledger knows, wherever it comes from.
    await put_back(hub, done)
    assert or_raise(await hub.outcome(made.id)) == "done"


async def test_without_a_ledger_the_same_row_is_taken(url):
    async with open_test_hub(url, keyring=RING) as hub:
        made = or_raise(await hub.suspend({"n": 1}, awaiting=CONFIRM))
        waiting = await kept(hub, made)
        or_raise(await hub.resume(made.key, True))
        await put_back(hub, waiting)
        assert or_raise(await hub.resume(made.key, True)).state == {"n": 1}


async def test_each_step_of_a_run_is_refused_once_the_next_one_has_returned(hub):
    made = or_raise(await hub.suspend(0, awaiting=CONFIRM))
    copies = [await kept(hub, made)]
    for pause in range(1, 4):
        or_raise(await hub.answer(made.key, True))
        copies.append(await kept(hub, made))
        run = or_raise(await hub.claim(made.key, lease=LEASE))
        copies.append(await kept(hub, made))
        or_raise(await hub.renew(run, lease=LEASE))
        copies.append(await kept(hub, made))
        made = or_raise(await hub.suspend_next(run, pause, awaiting=CONFIRM))
        copies.append(await kept(hub, made))
    newest = copies.pop()
    for copy in copies:
        await put_back(hub, copy)
        assert isinstance((await hub.inspect(made.id)).failure(), RollbackDetected)
    await put_back(hub, newest)
    assert or_raise(await hub.resume(made.key, True)).state == 3


async def test_a_row_that_was_deleted_and_made_again_is_refused(hub):
    async def suspend():
        return await hub.suspend({"n": 1}, awaiting=CONFIRM, idempotency_key="order-7")

    made = or_raise(await suspend())
    or_raise(await hub.answer(made.key, True))
    await delete(hub, made)
    assert isinstance((await suspend()).failure(), RollbackDetected)
    await assert_refused(hub, made)
    found = or_raise(await Maintenance(hub).verify())
    assert [(one.problem, one.ref, one.code) for one in found.findings] == [("unreadable", ref_of(made), "rolled-back")]
    # Nor one that a hub without a ledger makes there: it begins a life of its own, after what the ledger knows.
    assert or_raise(await Maintenance(hub).accept_restored(made.id)) == 1
    again = or_raise(await suspend())
    assert or_raise(await hub.resume(again.key, True)).state == {"n": 1}


@pytest.mark.parametrize("later", [timedelta(0), 2 * DAY], ids=["a new ledger", "an old ledger"])
async def test_a_purged_row_that_was_put_back_is_refused(url, ledger, later):
    async with open_test_hub(url, keyring=RING, ledger=ledger, retention=timedelta(0)) as hub:
        travel(hub, later)
        made = or_raise(await hub.suspend({"n": 1}, awaiting=CONFIRM, idempotency_key="order-7"))
        waiting = await kept(hub, made)
        or_raise(await hub.resume(made.key, True))
        travel(hub, timedelta(seconds=1))
        assert or_raise(await Maintenance(hub).cleanup()).deleted == 1
        assert isinstance((await hub.inspect(made.id)).failure(), SuspensionNotFound)
        # An entry stays only where its absence would not tell.
        entries, _ = hub.suspensions.records.ledger.records
        assert len((await entries.page(Where(), limit=10)).unwrap().items) == (0 if later else 1)
        await put_back(hub, waiting)
        await assert_refused(hub, made)
        await delete(hub, made)
        # The id is free for the next one, and the row of the earlier one is refused in its place too.
        travel(hub, timedelta(seconds=1))
        again = or_raise(await hub.suspend({"n": 2}, awaiting=CONFIRM, idempotency_key="order-7"))
        newer = await kept(hub, again)
        await put_back(hub, waiting)
        assert isinstance((await hub.inspect(again.id)).failure(), RollbackDetected)
        await put_back(hub, newer)
        assert or_raise(await hub.resume(again.key, True)).state == {"n": 2}


async def test_another_state_of_the_same_position_is_refused(url, ledger):
    """A change that was never told to the ledger, since its process died, does not come back behind another one."""
    second = Counted(backend_from_url(ledger))
    async with open_test_hub(url, keyring=RING, ledger=second) as hub:
        made = or_raise(await hub.suspend(1, awaiting=CONFIRM))
        waiting = await kept(hub, made)
        second.down = frozenset({"put"})
        or_raise(await hub.answer(made.key, False))
        second.down = frozenset()
        untold = await kept(hub, made)
        await put_back(hub, waiting)
        or_raise(await hub.answer(made.key, True))
        await put_back(hub, untold)
        assert isinstance((await hub.inspect(made.id)).failure(), RollbackDetected)
    await second.inner.close()


async def test_a_ledger_that_is_behind_is_raised_by_whoever_reads_next(url, ledger):
    second = Counted(backend_from_url(ledger))
    async with open_test_hub(url, keyring=RING, ledger=second) as hub:
        made = or_raise(await hub.suspend(1, awaiting=CONFIRM))
        waiting = await kept(hub, made)
        second.down = frozenset({"put", "put_many"})
        or_raise(await hub.answer(made.key, True))
        assert or_raise(await hub.inspect(made.id)).status == "answered"
        second.down = frozenset()
        assert or_raise(await hub.inspect(made.id)).status == "answered"
        await put_back(hub, waiting)
        assert isinstance((await hub.inspect(made.id)).failure(), RollbackDetected)
    await second.inner.close()


async def test_a_ledger_that_is_down_fails_before_anything_is_changed(url, ledger):
    second = Counted(backend_from_url(ledger))
    async with open_test_hub(url, keyring=RING, ledger=second) as hub:
        made = or_raise(await hub.suspend(1, awaiting=CONFIRM))
        before = await kept(hub, made)
        second.down = frozenset({"get", "get_many", "put", "put_many", "delete"})
        for result in [*(await refusals(hub, made)).values(), await hub.suspend(2), await hub.query()]:
            error = result.failure()
            assert isinstance(error, LedgerUnavailable)
            assert (error.retryable, error.http_status) == (True, 503)
        assert (await kept(hub, made)).revision == before.revision
        second.down = frozenset()
        assert or_raise(await hub.resume(made.key, True)).state == 1
        assert or_raise(await hub.query()).items[0].id == made.id
    await second.inner.close()


async def test_what_it_costs(url, ledger):
    """One round trip of the second store for what reads, one more for what changes, one for a new suspension."""
    second = Counted(backend_from_url(ledger))
    async with open_test_hub(url, keyring=RING, ledger=second) as hub:

        async def cost(verb):
            second.calls.clear()
            result = or_raise(await verb)
            return result, list(second.calls)

        or_raise(await hub.suspend(0))
        made, calls = await cost(hub.suspend(1, awaiting=CONFIRM))
        assert calls == ["put"]
        assert (await cost(hub.inspect(made.key)))[1] == ["get"]
        assert (await cost(hub.query()))[1] == ["get_many"]
        assert (await cost(hub.answer(made.key, True)))[1] == ["get", "put"]
        run, calls = await cost(hub.claim(made.key, lease=LEASE))
        assert calls == ["get", "put"]
        assert (await cost(hub.complete(run)))[1] == ["get", "put"]
    await second.inner.close()


async def test_the_ledger_tells_no_ids(hub):
    made = or_raise(await hub.suspend(1, awaiting=CONFIRM, tenant="acme", metadata={"order": "7"}))
    or_raise(await hub.answer(made.key, True))
    backend = hub.suspensions.records.ledger.backend
    for namespace in ("default.ledger", "default.ledger-card"):
        page = await backend.query(namespace, Where(), limit=10, bodies=True)
        assert len(page.items) == 1
        for record in page.items:
            stored = record.ref.key.encode() + record.head + (record.body or b"") + repr(record.attributes).encode()
            assert str(made.id).encode() not in stored
            assert made.id.value not in stored
            assert b"acme" not in stored


async def test_racers_are_never_refused(url, ledger):
    """Hubs that answer, claim, release and read the same runs at a time: no head is behind what the ledger knows."""
    async with (
        open_test_hub(url, keyring=RING, ledger=ledger) as one,
        open_test_hub(url, keyring=RING, ledger=ledger) as two,
    ):
        hubs, made = (one, two), [or_raise(await one.suspend(n)) for n in range(2)]

        async def race(seed):
            chance = random.Random(seed)
            for _ in range(6):
                hub, suspension = chance.choice(hubs), chance.choice(made)
                claimed = await hub.claim(suspension.key, lease=LEASE)
                results = [claimed, await chance.choice(hubs).inspect(suspension.key)]
                results += [await chance.choice(hubs).query()]
                assert or_raise(results[-1]).unreadable == ()
                if hasattr(claimed, "unwrap") and claimed.value_or(None) is not None:
                    results.append(await hub.release(claimed.unwrap()))
                for result in results:
                    failure = result.swap().value_or(None)
                    assert not isinstance(failure, RollbackDetected | LedgerUnavailable), failure

        await asyncio.gather(*map(race, range(6)))
        for suspension in made:
            assert or_raise(await one.resume(suspension.key)).suspension.id == suspension.id


async def test_those_who_make_one_suspension_at_a_time_make_one(url, ledger):
    async with (
        open_test_hub(url, keyring=RING, ledger=ledger) as one,
        open_test_hub(url, keyring=RING, ledger=ledger) as two,
    ):
        made = await asyncio.gather(
            *(hub.suspend(1, awaiting=CONFIRM, idempotency_key=f"k{n % 3}") for n in range(6) for hub in (one, two))
        )
        assert len({or_raise(each).id for each in made}) == 3
        for each in made[:3]:
            assert or_raise(await two.inspect(or_raise(each).key)).status == "waiting"


@asynccontextmanager
async def cut(stores, allowed):
    """A hub whose process dies at a request to either store: after ``allowed`` of them nothing reaches any.

    The stores are open before that, and stay so: to open them anew each time would take as long as all else.
    """
    left = [allowed]

    class Dying(Counted):
        async def around(self, operation, call):
            if operation == "open":
                return None
            if operation in {"close", "ping"}:
                return await super().around(operation, call)
            left[0] -= 1
            if left[0] < 0:
                raise asyncio.CancelledError
            return await super().around(operation, call)

    first, second = map(Dying, stores)
    first.clock_offset = timedelta(0)
    left[0] = 1000
    async with open_test_hub(first, keyring=RING, ledger=second, retention=timedelta(0)) as hub:
        left[0] = allowed
        yield hub


@pytest.fixture
async def stores(url, ledger):
    """Both stores, which hubs open and do not close."""
    both = backend_from_url(url), backend_from_url(ledger)
    async with open_test_hub(Counted(both[0]), keyring=RING, ledger=Counted(both[1])):
        pass
    yield both
    for store in both:
        await store.close()


async def test_a_process_that_dies_between_the_stores_leaves_every_run_readable(url, ledger, stores, backend):
    """Killed at each request to either store, one after the other, through the whole life of a run."""
    if backend == "memory":
        pytest.skip("what is in memory dies with its process")
    async with open_test_hub(url, keyring=RING, ledger=ledger, retention=timedelta(0)) as alive:
        for allowed in range(200):
            run, ended = {"idempotency_key": f"run-{allowed}", "tenant": f"of-{allowed}"}, False
            try:
                async with cut(stores, allowed) as dying:
                    made = or_raise(await dying.suspend(allowed, awaiting=CONFIRM, **run))
                    or_raise(await dying.answer(made.key, True))
                    claimed = or_raise(await dying.claim(made.key, lease=LEASE))
                    made = or_raise(await dying.suspend_next(claimed, -allowed, awaiting=CONFIRM))
                    or_raise(await dying.resume(made.key, True))
                    travel(dying, timedelta(seconds=5))
                    or_raise(await Maintenance(dying).cleanup())
                    ended = True
            except asyncio.CancelledError:
                pass
            page = or_raise(await alive.query(Criteria(tenant=run["tenant"])))
            assert page.unreadable == ()
            again = or_raise(await alive.suspend(allowed, awaiting=CONFIRM, **run))
            assert or_raise(await alive.inspect(again.id)).id == again.id
            if ended:
                break
        assert ended, "the run never came to its end"
        page = or_raise(await alive.query(limit=200))
        assert (page.unreadable, page.next) == ((), None)


async def test_a_transaction_that_was_rolled_back_leaves_the_ledger_as_it_was(tmp_path, ledger, backend):
    if backend != "sqlite":
        pytest.skip("one backend's transactions stand for all: the ledger is told by none")
    path = tmp_path / "own.db"
    async with open_test_hub(f"sqlite:///{path}", keyring=RING, ledger=ledger) as hub:
        made = or_raise(await hub.suspend(1, awaiting=CONFIRM))
        connection = sqlite3.connect(path, isolation_level=None)
        for end in ("rollback", "commit"):
            connection.execute("begin immediate")
            or_raise(await hub.within(connection).answer(made.key, True))
            connection.execute(end)
            expected = "waiting" if end == "rollback" else "answered"
            assert or_raise(await hub.inspect(made.key)).status == expected
        connection.close()


async def test_accepting_a_backup_leaves_what_followed_it_refused(hub):
    made = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    waiting = await kept(hub, made)
    or_raise(await hub.answer(made.key, False))
    answered = await kept(hub, made)
    gone = or_raise(await hub.suspend(2, awaiting=CONFIRM))
    or_raise(await hub.answer(gone.key, True))
    await put_back(hub, waiting)
    await delete(hub, gone)
    assert or_raise(await Maintenance(hub).accept_restored()) == 2
    assert or_raise(await Maintenance(hub).accept_restored()) == 0
    assert isinstance((await hub.inspect(gone.id)).failure(), SuspensionNotFound)
    await put_back(hub, answered)
    assert isinstance((await hub.inspect(made.id)).failure(), RollbackDetected)
    await put_back(hub, waiting)
    assert or_raise(await Maintenance(hub).accept_restored(made.id)) == 1
    assert or_raise(await hub.resume(made.key, True)).state == 1
    assert or_raise(await Maintenance(hub).verify()).clean


async def test_keys_are_rotated_with_a_ledger(url, ledger):
    both = RING.add("next", os.urandom(32)).promote("next")
    async with open_test_hub(url, keyring=RING, ledger=ledger) as hub:
        made = or_raise(await hub.suspend(1, awaiting=CONFIRM))
        waiting = await kept(hub, made)
        or_raise(await hub.answer(made.key, True))
        hub.use_keyring(both)
        or_raise(await Maintenance(hub).rekey())
        left = or_raise(await Maintenance(hub).retire(RING.primary, wait=timedelta(0)))
        assert left.kids == ("next",)
    async with open_test_hub(url, keyring=left, ledger=ledger) as hub:
        assert or_raise(await hub.inspect(made.key)).status == "answered"
    async with open_test_hub(url, keyring=both, ledger=ledger) as hub:
        await put_back(hub, waiting)
        assert isinstance((await hub.inspect(made.id)).failure(), RollbackDetected)


async def test_an_export_comes_back_with_a_ledger(hub, tmp_path):
    made = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    upkeep = Maintenance(hub)
    or_raise(await upkeep.export(tmp_path / "one", suspension=made.id))
    or_raise(await hub.answer(made.key, False))
    later = await kept(hub, made)
    await delete(hub, made)
    assert isinstance((await hub.inspect(made.id)).failure(), RollbackDetected)
    for _ in range(2):
        or_raise(await upkeep.import_(tmp_path / "one"))
        assert or_raise(await hub.inspect(made.key)).status == "waiting"
    await put_back(hub, later)
    assert isinstance((await hub.inspect(made.key)).failure(), RollbackDetected)


async def test_a_store_is_moved_with_its_ledger(hub, ledger, tmp_path):
    made = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    earlier = await kept(hub, made)
    or_raise(await hub.answer(made.key, True))
    to = f"sqlite:///{tmp_path}/new.db"
    assert or_raise(await Maintenance(hub).copy(to)).complete
    async with open_test_hub(to, keyring=RING, ledger=ledger) as new:
        assert or_raise(await new.resume(made.key)).state == 1
        await put_back(new, earlier)
        assert isinstance((await new.inspect(made.key)).failure(), RollbackDetected)
    # The old store with what it had does not bring it back either.
    await put_back(hub, earlier)
    assert isinstance((await hub.inspect(made.key)).failure(), RollbackDetected)


async def test_a_row_that_was_put_back_is_not_moved_and_not_exported(hub, tmp_path):
    made = or_raise(await hub.suspend(1, awaiting=CONFIRM, tenant="acme"))
    earlier = await kept(hub, made)
    or_raise(await hub.answer(made.key, True))
    await put_back(hub, earlier)
    for what in ({"suspension": made.id}, {"tenant": "acme"}):
        exported = await Maintenance(hub).export(tmp_path / "one", **what)
        assert isinstance(exported.failure(), RollbackDetected)
    moved = await Maintenance(hub).copy(f"sqlite:///{tmp_path}/new.db")
    assert isinstance(moved.failure(), RollbackDetected)


async def test_a_ledger_takes_in_what_is_there_when_it_is_new(url, ledger):
    async with open_test_hub(url, keyring=RING) as plain:
        made = or_raise(await plain.suspend(1, awaiting=CONFIRM))
        waiting = await kept(plain, made)
        async with open_test_hub(plain.backend if "memory" in url else url, keyring=RING, ledger=ledger) as hub:
            assert or_raise(await hub.answer(made.key, True)).outcome == "accepted"
            await put_back(hub, waiting)
            assert isinstance((await hub.inspect(made.key)).failure(), RollbackDetected)


async def test_what_a_hub_without_it_makes_is_refused_by_an_old_ledger(url, ledger):
    async with open_test_hub(url, keyring=RING, ledger=ledger) as hub:
        travel(hub, 2 * DAY)
        ledger_of_hub, hub.suspensions.records.ledger = hub.suspensions.records.ledger, None
        made = or_raise(await hub.suspend(1, awaiting=CONFIRM))
        hub.suspensions.records.ledger = ledger_of_hub
        assert isinstance((await hub.inspect(made.key)).failure(), RollbackDetected)
        assert or_raise(await Maintenance(hub).accept_restored()) == 1
        assert or_raise(await hub.resume(made.key, True)).state == 1


async def test_the_hubs_own_store_is_no_ledger():
    store = MemoryBackend()
    with pytest.raises(ConfigurationError, match="another store"):
        async with open_test_hub(store, ledger=store):
            pass


async def test_both_hubs_say_the_same(hub):
    made = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    earlier = await kept(hub, made)
    or_raise(await hub.answer(made.key, True))
    await put_back(hub, earlier)
    with pytest.raises(RollbackDetected):
        await RaisingHub(hub).resume(made.key)
