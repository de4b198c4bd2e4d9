"""Sessions on every backend: saved, resumed by another process, forgotten, exported, imported, cut at every step."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import attrs
import pytest
from returns.result import Success

from canaries import forms
from flowpersist import KeyRing, Maintenance, or_raise
from flowpersist.backends.base import Where
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import RevisionConflict, ValueNotFound
from flowpersist.sealed.intents import INTENT
from flowpersist.sealed.naming import Prefix
from flowpersist.stores import (
    ContextRecord,
    IdentityRecord,
    Session,
    StateRecord,
    Stores,
    UserRecord,
    create_database,
)
from flowpersist.testing import open_test_hub
from flowpersist.testing.faults import FaultyBackend
from forked import forked_async, run_forked
from machine import WITH_MEMORY

TYPES = {"filesystem": "file", "redis_cluster": "redis"}
LONG = os.environ.get("FLOWPERSIST_LONG") == "1"
#: Whose calls take long: not all that may be cut is cut there in both ways, unless there is time.
SLOW = () if LONG else ("neo4j", "redis_cluster", "mongodb")
RING = KeyRing.generate()
ANA = "canary-of-ana-7Qw3Zt"
DATA = "canary-of-her-data-4Nk8Vb"
#: Of every size: in a head, in a body, and with a key that no head has room for.
SESSIONS = ("s1", "s2", "x" * 5000)


@attrs.frozen
class Basket:
    items: tuple[str, ...]


@pytest.fixture(params=WITH_MEMORY)
def backend(request):
    return request.param


@asynccontextmanager
async def opened(source, ring=RING):
    async with open_test_hub(source, keyring=ring, types=[Basket]) as hub:
        yield Stores(hub).sessions


@pytest.fixture
async def sessions(url):
    async with opened(url) as one:
        yield one


async def fill_briefly(sessions):
    """Of each kind one: what is cut at every step need not be long."""
    await sessions.save_session(Session(StateRecord(ANA, "s1", "a", {"b": Basket((DATA,))}), ContextRecord(ANA, "s1")))
    await sessions.save_identity(IdentityRecord(ANA, "mail", DATA))
    await sessions.save_user(UserRecord(ANA))


async def fill(sessions, user=ANA, data=DATA):
    """What there may be of a person."""
    for number, session in enumerate(SESSIONS):
        state = StateRecord(user, session, "active", {"basket": Basket((data,)), "n": number})
        await sessions.save_session(Session(state, ContextRecord(user, session, [data * (1 + 900 * number)])))
    await sessions.save_identity(IdentityRecord(user, "mail", data, "contact", {"address": data}))
    await sessions.save_identity(IdentityRecord(user, "passport", data, data=datetime(2026, 1, 1, tzinfo=UTC)))
    await sessions.save_user(UserRecord(user, {"name": data, "tags": [1, 2.5, None, True]}))


async def exported(sessions, user=ANA):
    return [line async for line in sessions.export(user)]


async def nothing_is_left(sessions, user=ANA):
    """By no verb."""
    assert await sessions.get_user(user) is None
    assert user not in [one.user_id for one in (await sessions.list_users()).items]
    assert await sessions.get_identities(user) == ()
    for session in SESSIONS:
        assert await sessions.get_session(user, session) is None
        assert await sessions.get_state(user, session) is None
        assert await sessions.get_context(user, session) is None
        assert not await sessions.delete_session(user, session)
    for page in (sessions.list_sessions, sessions.list_states, sessions.list_contexts, sessions.list_identities):
        assert (await page(user)).items == ()
    assert await sessions.get_identity(user, "mail") is None
    assert not await sessions.delete_user(user)
    with pytest.raises(ValueNotFound):
        await sessions.resume_session(user)
    assert len(await exported(sessions, user)) == 2


# ---------------------------------------------------------------------------------------------------------- records


async def test_records_are_saved_read_and_deleted(sessions):
    await nothing_is_left(sessions)
    first = await sessions.save_state(StateRecord(ANA, "s1", "new", {"a": 1}))
    assert (first.version, first.created_at) == (1, first.updated_at)
    assert await sessions.get_state(ANA, "s1") == first
    assert await sessions.get_context(ANA, "s1") is None
    context = await sessions.save_context(ContextRecord(ANA, "s1", ["hello"]))
    assert await sessions.get_session(ANA, "s1") == Session(first, context)
    second = await sessions.save_state(attrs.evolve(first, state="active"))
    assert (second.version, second.created_at, second.state) == (2, first.created_at, "active")
    assert second.updated_at >= first.updated_at
    both = await sessions.save_session(Session(attrs.evolve(second, state="done"), attrs.evolve(context, entries=[])))
    assert (both.state.version, both.context.version) == (3, 2)
    assert both.state.updated_at == both.context.updated_at == both.updated_at
    assert await sessions.delete_state(ANA, "s1")
    assert not await sessions.delete_state(ANA, "s1")
    assert await sessions.get_session(ANA, "s1") == Session(None, both.context)
    assert await sessions.delete_context(ANA, "s1")
    assert await sessions.get_session(ANA, "s1") is None
    identity = await sessions.save_identity(IdentityRecord(ANA, "i", "Ana", "self"))
    assert await sessions.get_identity(ANA, "i") == identity
    user = await sessions.save_user(UserRecord(ANA))
    assert (await sessions.list_users()).items == (user,)
    assert await sessions.delete_user(ANA)
    assert await sessions.delete_identity(ANA, "i")
    await nothing_is_left(sessions)


async def test_a_record_replaces_the_version_that_it_was_read_as(sessions):
    first = await sessions.save_state(StateRecord(ANA, "s", "a"))
    context = await sessions.save_context(ContextRecord(ANA, "s", [1]))
    second = await sessions.save_state(first)
    for stale in (first, attrs.evolve(second, version=7)):
        with pytest.raises(RevisionConflict):
            await sessions.save_state(stale)
        with pytest.raises(RevisionConflict):
            await sessions.save_session(Session(stale, attrs.evolve(context, entries=[2])))
    assert await sessions.get_session(ANA, "s") == Session(second, context)
    # One that was made, and not read, replaces any.
    assert (await sessions.save_state(StateRecord(ANA, "s", "b"))).version == 3
    await sessions.delete_session(ANA, "s")
    with pytest.raises(RevisionConflict):
        await sessions.save_state(second)
    again = await sessions.save_state(StateRecord(ANA, "s", "c"))
    assert again.version == first.version
    with pytest.raises(RevisionConflict):
        await sessions.save_state(first)


async def test_no_save_is_lost_among_many(sessions):
    async def add(number):
        while True:
            context = await sessions.get_context(ANA, "s") or ContextRecord(ANA, "s")
            if not context.version and number:
                await asyncio.sleep(0.001)
                continue
            try:
                return await sessions.save_context(attrs.evolve(context, entries=[*context.entries, number]))
            except RevisionConflict:
                continue

    await asyncio.gather(*map(add, range(8)))
    found = await sessions.get_context(ANA, "s")
    assert sorted(found.entries) == list(range(8))
    assert found.version == 8


async def test_pages_and_the_session_that_was_saved_last(sessions):
    for number in range(12):
        await sessions.save_state(StateRecord("ben", f"s{number}", "a"))
        await sessions.save_context(ContextRecord("cleo", f"s{number}"))
    found, after = [], None
    while True:
        page = await sessions.list_states("ben", limit=5, after=after)
        found += page.items
        after = page.next
        if after is None:
            break
    assert sorted(one.session_id for one in found) == sorted(f"s{number}" for number in range(12))
    assert (await sessions.list_contexts("ben")).items == ()
    assert len((await sessions.list_sessions("cleo")).items) == 12
    last = await sessions.save_state(StateRecord("ben", "s5", "b"))
    assert (await sessions.resume_session("ben")).state == last
    assert (await sessions.resume_session("ben", "s1")).state.state == "a"
    with pytest.raises(ValueNotFound):
        await sessions.resume_session("ben", "none")


# ------------------------------------------------------------------------------------------- another process goes on

PROGRAM = """
import asyncio, sys
from flowpersist import KeyRing
from flowpersist.stores import ContextRecord, Session, StateRecord, create_database

async def main():
    kind, url, ring = sys.argv[1:]
    db = await create_database(kind, connection_string=url, keyring=KeyRing.parse(ring))
    await db.save_session(Session(StateRecord("ana", "s", "asked", {"n": 1}), ContextRecord("ana", "s", ["hello"])))
    await db.close()

asyncio.run(main())
"""


async def test_a_session_is_resumed_after_its_process_has_ended(backend, url):
    if backend == "memory":
        pytest.skip("one process has it")
    kind = TYPES.get(backend, backend)
    assert await run_forked(PROGRAM, (kind, url, RING.export())) == []
    async with create_database(kind, connection_string=url, keyring=RING) as db:
        session = await db.resume_session("ana")
        assert (session.state.state, session.state.data, session.context.entries) == ("asked", {"n": 1}, ["hello"])
        assert (await db.save_state(attrs.evolve(session.state, state="answered"))).version == 2


# -------------------------------------------------------------------------------------------------------- forgetting


async def digests(sessions, user=ANA):
    """What stands in the names of a person's records, and of no other's."""
    naming = (await sessions.records.collection.naming()).unwrap()
    found = [naming.span(Prefix((kind, user))).start.split("/")[1] for kind in ("session", "identity", "user")]
    return [*found, naming.name(("intent", naming.name(("intent", user)))).split("/")[1]]


async def rows(backend, stored, tmp_path):
    """A dump of the records. SQLite's file, and the index of files, keep what was deleted until its space is used
    again: digests, of which nobody can tell whose they are.
    """
    if backend == "filesystem":
        return b"\0".join(one.read_bytes() for one in tmp_path.rglob("*") if one.is_file() and "index." not in one.name)
    if backend != "sqlite":
        return await stored()
    with sqlite3.connect(tmp_path / "flows.db") as connection:
        return "\n".join(connection.iterdump()).encode()


async def test_nothing_of_a_person_is_left_once_they_are_forgotten(backend, url, stored, tmp_path, caplog):
    if backend == "memory":
        pytest.skip("nobody else reads it")
    async with opened(url) as sessions:
        await fill(sessions)
        await fill(sessions, "ben", "other")
        kept = sorted(await exported(sessions, "ben"))
        names = await digests(sessions)
        before = await rows(backend, stored, tmp_path)
        assert [name for name in names[:3] if name.encode() not in before] == []
        assert await sessions.forget(ANA)
        assert await sessions.cleanup() == 0
        after = await rows(backend, stored, tmp_path)
        assert [name for name in names if name.encode() in after] == []
        for data in (before, after, await stored(), caplog.text.encode()):
            for secret in (ANA, DATA):
                assert [form for form, text in forms(secret).items() if text in data] == []
        await nothing_is_left(sessions)
        assert sorted(await exported(sessions, "ben")) == kept
        await fill(sessions)
        assert len(await exported(sessions)) == 11


# ---------------------------------------------------------------------------------------------- cut at every step


class Cut(BaseException):
    """The process is no more."""


class CutBackend(FaultyBackend):
    """After ``left`` changes nothing is done any more; the last one is done, but nobody hears of it, if ``lost``."""

    def __init__(self, inner, left, *, lost):
        super().__init__(inner)
        self.left, self.lost = left, lost

    async def around(self, operation, call):
        if operation in {"put", "delete", "purge"}:
            self.left -= 1
            if self.left < 0:
                raise Cut
            if self.left == 0 and self.lost:
                await call()
                raise Cut
        elif self.left <= 0 and operation not in {"open", "close"}:
            raise Cut
        return await super().around(operation, call)


async def cut_at_every_step(url, change, check, *, lost):
    """Run the change, cut after each number of changes to the store, until it comes through."""
    for number in range(200):
        cut = CutBackend(backend_from_url(url), 10_000, lost=lost)
        async with opened(cut) as sessions:
            await sessions.get_user(ANA)
            cut.left = number
            try:
                await change(sessions)
            except Cut:
                pass
            else:
                assert number > 3
                return
            cut.left = 10_000
        async with opened(url) as sessions:
            await check(sessions, number)
    pytest.fail("it never came through")


@pytest.mark.parametrize("lost", [False, True], ids=["not done", "not heard of"])
async def test_to_forget_is_all_or_none_wherever_it_is_cut(backend, url, lost):
    if lost and backend in SLOW:
        pytest.skip("cut in the other way")
    async with opened(url) as keeping:
        await fill_briefly(keeping)
        whole = await exported(keeping)
        finished = []

        async def check(sessions, number):
            if not number:
                assert sorted(await exported(sessions)) == sorted(whole)
            elif number % 2:
                finished.append(await sessions.cleanup())
            await (nothing_is_left(sessions) if number else asyncio.sleep(0))
            assert await sessions.cleanup() == 0
            await sessions.import_(whole)

        await cut_at_every_step(url, lambda sessions: sessions.forget(ANA), check, lost=lost)
        assert finished.count(1) >= len(finished) - 1


async def test_maintenance_finishes_what_was_cut_once_in_any_number_of_processes(backend, url):
    """Of every tenant and project, and without the key that opens it nothing is done and nothing fails."""
    cut = CutBackend(backend_from_url(url), 10_000, lost=False)
    async with open_test_hub(cut, keyring=RING, types=[Basket]) as hub:
        several = [Stores(hub).sessions, Stores(hub, tenant="acme").sessions, Stores(hub).project("p").sessions]
        for sessions in several:
            await fill_briefly(sessions)
            await sessions.save_user(UserRecord("ben"))
            cut.left = 2
            with pytest.raises(Cut):
                await sessions.forget(ANA)
            cut.left = 10_000
    async with open_test_hub(url, keyring=KeyRing.generate()) as strange:
        await Maintenance(strange).cleanup_stores()
    async with open_test_hub(url, keyring=RING) as hub, open_test_hub(url, keyring=RING) as other:
        several = [Stores(hub).sessions, Stores(hub, tenant="acme").sessions, Stores(hub).project("p").sessions]
        left = [await intents(sessions) for sessions in several]
        assert left == [1, 1, 1]
        done = await asyncio.gather(*(Maintenance(one).cleanup_stores() for one in (hub, other)))
        assert all(isinstance(one, Success) for one in done), done
        assert [await intents(sessions) for sessions in several] == [0, 0, 0]
        for sessions in several:
            assert await sessions.cleanup() == 0
            assert await sessions.get_user("ben") is not None
            await nothing_is_left(sessions)


async def intents(sessions):
    """How many stand in the store."""
    collection = sessions.records.collection
    naming = or_raise(await collection.naming())
    where = Where(range=naming.span(Prefix((INTENT,))).range)
    return len(or_raise(await collection.records.listed(where, limit=9)).items)


@pytest.mark.parametrize("lost", [False, True], ids=["not done", "not heard of"])
async def test_to_import_is_all_or_none_wherever_it_is_cut(backend, url, lost):
    if lost and backend in SLOW:
        pytest.skip("cut in the other way")
    async with opened("memory://") as source:
        await fill_briefly(source)
        await source.save_state(StateRecord(ANA, "s1", "newer"))
        lines = await exported(source)
    async with opened(url) as keeping:
        await keeping.save_state(StateRecord(ANA, "s1", "older"))
        await keeping.save_state(StateRecord(ANA, "kept", "kept"))
        before = await exported(keeping)

        async def check(sessions, number):
            if not number:
                assert sorted(await exported(sessions)) == sorted(before)
                return
            if number % 3 == 0:
                assert (await sessions.get_state(ANA, "s1")).state == "newer"
            elif number % 3 == 1:
                assert len((await sessions.list_sessions(ANA)).items) == 2
            assert (await sessions.get_state(ANA, "kept")).state == "kept"
            assert set(lines[1:-1]) < set(await exported(sessions))
            assert await sessions.cleanup() == 0
            await sessions.forget(ANA)
            await sessions.import_(before)

        await cut_at_every_step(url, lambda sessions: sessions.import_(lines), check, lost=lost)


async def saved_and_read(sessions, session):
    await sessions.save_session(session)
    await sessions.get_user(ANA)


@pytest.mark.parametrize("lost", [False, True], ids=["not done", "not heard of"])
async def test_state_and_context_are_saved_both_or_none(backend, url, lost):
    """They are one record, and one put."""
    given = Session(StateRecord(ANA, "s", "new"), ContextRecord(ANA, "s", [1]))
    for number in range(2):
        cut = CutBackend(backend_from_url(url), 10_000, lost=lost)
        async with opened(url), opened(cut) as sessions:
            await sessions.save_user(UserRecord(ANA))
            cut.left = number
            with pytest.raises(Cut):
                await saved_and_read(sessions, given)
            cut.left = 10_000
        async with opened(url) as sessions:
            found = await sessions.get_session(ANA, "s")
            assert (found is None) == (number == 0)
            assert found is None or (found.state.state, found.context.entries) == ("new", [1])


KILLED = """
import asyncio, os, signal, sys
from flowpersist import KeyRing
from flowpersist.backends.kit import DelegatingBackend
from flowpersist.backends.registry import backend_from_url
from flowpersist.stores import open_stores

class Killed(DelegatingBackend):
    left = 10_000

    async def around(self, operation, call):
        self.left -= operation in {"put", "delete", "purge"}
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return await call()

async def main():
    url, ring, verb, left = sys.argv[1:]
    backend = Killed(backend_from_url(url))
    async with open_stores(backend, keyring=KeyRing.parse(ring)) as stores:
        await stores.sessions.get_user("ana")
        backend.left = int(left)
        if verb == "forget":
            await stores.sessions.forget("ana")
        else:
            await stores.sessions.import_(sys.stdin.read().splitlines())

asyncio.run(main())
"""


@pytest.mark.parametrize("verb", ["forget", "import"])
async def test_a_process_that_is_killed_leaves_all_or_none(backend, url, verb):
    if backend not in {"sqlite", "postgres"}:
        pytest.skip("cut at every step above")
    async with opened(url) as sessions:
        for number in range(20):
            for one in ("a", "b"):
                await sessions.save_state(StateRecord("ana", one, "old"))
            old = await exported(sessions, "ana")
            await sessions.save_state(StateRecord("ana", "a", "new"))
            await sessions.save_state(StateRecord("ana", "b", "new"))
            new = await exported(sessions, "ana")
            await sessions.import_(old)
            async with forked_async(KILLED, url, RING.export(), verb, number) as running:
                await running.communicate("\n".join(new).encode())
            states = {one.state for one in (await sessions.list_states("ana")).items}
            assert states == ({"old"} if not number else set() if verb == "forget" else {"new"})
            assert await sessions.cleanup() == 0
            if running.returncode == 0:
                assert number > 3
                return
            assert running.returncode == -signal.SIGKILL
        pytest.fail("it never came through")


# -------------------------------------------------------------------------------------- whoever sleeps changes nothing


class Asleep(FaultyBackend):
    """Sleeps before the first change of a kind, until it is woken."""

    def __init__(self, inner, operation, skipped):
        super().__init__(inner)
        self.operation, self.skipped = operation, skipped
        self.sleeping, self.woken = asyncio.Event(), asyncio.Event()

    async def around(self, operation, call):
        if operation == self.operation:
            self.skipped -= 1
            if self.skipped < 0 and not self.woken.is_set():
                self.sleeping.set()
                await self.woken.wait()
        return await super().around(operation, call)


@pytest.mark.parametrize("operation", ["delete", "query", "get"])
async def test_who_slept_while_others_forgot_and_saved_anew_removes_nothing(backend, url, operation):
    if operation != "delete" and backend in SLOW:
        pytest.skip("sleeps at another step")
    asleep = Asleep(backend_from_url(url), operation, 1000)
    async with opened(url) as sessions, opened(asleep) as sleeper:
        await fill(sessions)
        await sleeper.get_user(ANA)
        asleep.skipped = int(operation == "query")
        forgetting = asyncio.ensure_future(sleeper.forget(ANA))
        await asyncio.wait_for(asleep.sleeping.wait(), 30)
        await nothing_is_left(sessions)
        await fill(sessions, data="anew")
        whole = sorted(await exported(sessions))
        asleep.woken.set()
        await forgetting
        assert sorted(await exported(sessions)) == whole
        assert sorted(await exported(sleeper)) == whole


@pytest.mark.parametrize("skipped", [1, 2, 3])
async def test_who_slept_while_others_imported_and_saved_changes_nothing(backend, url, skipped):
    if skipped != 2 and backend in SLOW:
        pytest.skip("sleeps at another step")
    asleep = Asleep(backend_from_url(url), "put", 1000)
    async with opened(url) as sessions, opened(asleep) as sleeper:
        await fill(sessions)
        lines = await exported(sessions)
        asleep.skipped = skipped
        importing = asyncio.ensure_future(sleeper.import_(lines))
        await asyncio.wait_for(asleep.sleeping.wait(), 30)
        for session in SESSIONS:
            found = await sessions.get_state(ANA, session)
            await sessions.save_state(attrs.evolve(found, state="newest"))
        asleep.woken.set()
        await importing
        assert {one.state for one in (await sleeper.list_states(ANA)).items} == {"newest"}


async def test_who_imports_and_who_forgets_at_once_leave_all_or_none(backend, url):
    async with opened(url) as one, opened(url) as other:
        await fill(one)
        lines = await exported(one)

        async def read():
            for _ in range(10):
                # Each page is of one moment: what was forgotten meanwhile is not there, and what was not is there.
                assert len((await one.list_identities(ANA)).items) in {0, 1, 2}
                await asyncio.sleep(0)

        for _ in range(3):
            await asyncio.gather(one.forget(ANA), other.import_(lines), other.forget(ANA), one.import_(lines), read())
            assert await exported(one) == await exported(other)
            assert len(await exported(one)) in {2, 11}
        await asyncio.gather(one.forget(ANA), other.forget(ANA))
        await nothing_is_left(other)


# -------------------------------------------------------------------------------------- lines of an export elsewhere


async def test_what_is_exported_of_one_store_and_imported_into_another_is_equal(sessions):
    async with opened("memory://", KeyRing.generate()) as other:
        await fill(other)
        odd = {"a": (1, {2}), "b": float("nan"), 3: b"x", "c": "\ud800", "d": {"$codec": "no"}, "e": datetime.now(UTC)}
        await other.save_state(StateRecord(ANA, "\ud800\0", "odd", odd))
        lines = await exported(other)
        assert await sessions.import_(f"{line}\n" for line in lines) == 10
        assert sorted(await exported(sessions)) == sorted(lines)
        for session in SESSIONS:
            assert await sessions.get_session(ANA, session) == await other.get_session(ANA, session)
        assert await sessions.get_identities(ANA) != ()
        assert await sessions.get_user(ANA) == await other.get_user(ANA)
        # The other way, by an async iterator, over what is there; and what is imported is read and saved as ever.
        await other.forget(ANA)
        assert await other.import_(sessions.export(ANA)) == 10
        assert sorted(await exported(other)) == sorted(lines)
        user = await other.get_user(ANA)
        assert (await other.save_user(user)).version == user.version + 1
