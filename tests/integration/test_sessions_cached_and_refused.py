"""Sessions: what was read and is given again, and what is refused with the remedy and with nobody's name."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from datetime import timedelta

import attrs
import pytest

from canaries import forms
from flowpersist import KeyRing, Limits
from flowpersist.blocking import open_stores as open_blocking_stores
from flowpersist.errors import (
    ConfigurationError,
    MalformedPayload,
    PersistenceError,
    RevisionConflict,
    StateTooLarge,
    UnknownKey,
    UnknownType,
    UnsupportedType,
    UnsupportedVersion,
)
from flowpersist.sealed.retrying import Runtime
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

RING = KeyRing.generate()
HOUR = timedelta(hours=1)
NAME = "canary-of-a-name-2Vx9Lq"


@attrs.frozen
class Basket:
    items: int


@pytest.fixture
async def sessions():
    async with open_test_hub("memory://", keyring=RING, types=[Basket]) as hub:
        yield Stores(hub).sessions


# ------------------------------------------------------------------------------------------------------ read and kept

REPLACE = """
import asyncio, sys
from flowpersist import KeyRing, Limits
from flowpersist.stores import StateRecord, create_database

async def main():
    kind, url, ring = sys.argv[1:]
    async with create_database(kind, connection_string=url, keyring=KeyRing.parse(ring)) as db:
        await db.save_state(StateRecord("ana", "s", "new"))
        await db.forget("ben")

asyncio.run(main())
"""


async def replaced(kind, url):
    """By another process."""
    running = await asyncio.create_subprocess_exec(sys.executable, "-c", REPLACE, kind, url, RING.export())
    assert await running.wait() == 0


async def test_what_another_process_has_replaced_is_given_no_longer_than_the_bound(tmp_path):
    url, now = f"sqlite:///{tmp_path}/s.db", [0.0]
    runtime = Runtime(monotonic=lambda: now[0])
    async with create_database("sql", connection_string=url, keyring=RING, cache=HOUR, runtime=runtime) as db:
        old = await db.save_state(StateRecord("ana", "s", "old", {"seen": []}))
        await db.save_user(UserRecord("ben"))
        found = await db.get_state("ana", "s")
        found.data["seen"].append("by this reader alone")
        assert await db.get_user("ben") is not None
        await replaced("sqlite", url)
        now[0] = HOUR.total_seconds() - 1
        assert await db.get_state("ana", "s") == old
        assert await db.get_user("ben") is not None
        # A save reads what is stored.
        with pytest.raises(RevisionConflict):
            await db.save_state(old)
        assert (await db.get_state("ana", "s")).state == "new"
        now[0] = HOUR.total_seconds()
        assert await db.get_user("ben") is None
        await db.save_user(UserRecord("ben"))
        assert await db.get_user("ben") is not None
        await db.delete_user("ben")
        assert await db.get_user("ben") is None


async def test_where_the_backend_notifies_a_change_ends_it(server, prefix):
    url = f"{server('redis')}?prefix={prefix}"
    async with create_database("redis", connection_string=url, keyring=RING, cache=HOUR) as db:
        await db.save_state(StateRecord("ana", "s", "old"))
        await db.save_user(UserRecord("ben"))
        async with asyncio.timeout(60):
            # Until it listens, what was read is kept.
            await asyncio.sleep(0.5)
            assert (await db.get_state("ana", "s")).state == "old"
            assert await db.get_user("ben") is not None
            await replaced("redis", url)
            while (await db.get_state("ana", "s")).state != "new" or await db.get_user("ben") is not None:
                await asyncio.sleep(0.01)


async def test_without_a_cache_each_call_reads(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    async with create_database("sqlite", connection_string=url, keyring=RING) as db:
        await db.save_state(StateRecord("ana", "s", "old"))
        assert (await db.get_state("ana", "s")).state == "old"
        await replaced("sqlite", url)
        assert (await db.get_state("ana", "s")).state == "new"


# ----------------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("kind", "url", "told"),
    [
        ("oracle", "", "memory, sql, sqlite, postgres, redis, mongodb, neo4j, file"),
        ("redis", "", "redis://"),
        ("redis", "sqlite:///s.db", "redis://"),
        ("sql", "redis://h", "sqlite:"),
        ("postgres", "mysql://u:hidden@h", "postgresql://"),
    ],
)
def test_an_unknown_type_or_url_is_refused_with_the_known_ones(kind, url, told):
    with pytest.raises(ConfigurationError) as refused:
        create_database(kind, connection_string=url)
    assert told in str(refused.value)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize("cache", [timedelta(0), timedelta(-1)])
def test_a_cache_needs_a_bound(cache):
    with pytest.raises(ConfigurationError, match="cache"):
        create_database("memory", cache=cache)


async def test_ids_of_any_content_are_ids_of_their_own(sessions):
    odd = ["", " ", "a\0", "a", "\ud800", "\udfff", "../../etc", "ä", "x" * 2**18]
    for one in odd:
        for other in odd:
            await sessions.save_state(StateRecord(one, other, "s", [one[:9], other[:9]]))
    for one in odd:
        assert len((await sessions.list_states(one)).items) == len(odd)
        for other in odd:
            assert (await sessions.get_state(one, other)).data == [one[:9], other[:9]]
    lines = [line async for line in sessions.export("\ud800")]
    await sessions.forget("\ud800")
    assert (await sessions.list_states("\ud800")).items == ()
    assert await sessions.import_(lines) == len(odd)
    assert len((await sessions.list_states("a")).items) == len(odd)
    long, longer = "x" * 2**19, "x" * (2**20 + 1)
    for call in (
        lambda: sessions.get_state(long, long),
        lambda: sessions.save_state(StateRecord(long, long, "s")),
        lambda: sessions.delete_session(long, long),
        lambda: sessions.delete_state(long, long),
        lambda: sessions.list_states(longer),
        lambda: sessions.forget(longer),
    ):
        with pytest.raises(StateTooLarge):
            await call()


async def test_arguments_of_another_class_are_refused(sessions):
    for call in (
        lambda: sessions.get_state(1, "s"),
        lambda: sessions.get_state("ana", None),
        lambda: sessions.list_states(b"ana"),
        lambda: sessions.forget(7),
        lambda: sessions.save_state(ContextRecord("ana", "s")),
        lambda: sessions.save_session(StateRecord("ana", "s", "x")),
        lambda: sessions.list_users(limit="5"),
    ):
        with pytest.raises(TypeError):
            await call()
    for wrong in (
        lambda: StateRecord("ana", 1, "x"),
        lambda: ContextRecord("ana", "s", "text"),
        lambda: StateRecord("ana", "s", "x", created_at="now"),
        lambda: UserRecord(None),
    ):
        with pytest.raises(TypeError):
            wrong()
    for session in (
        Session(),
        Session(StateRecord("ana", "s", "x"), ContextRecord("ben", "s")),
        Session(StateRecord("ana", "s", "x"), ContextRecord("ana", "t")),
    ):
        with pytest.raises(ConfigurationError, match="same ids"):
            await sessions.save_session(session)


async def test_what_this_process_can_not_read_is_raised_and_names_nobody(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    url = f"sqlite:///{tmp_path}/s.db"
    async with open_test_hub(url, keyring=RING, types=[Basket]) as hub:
        one = Stores(hub).sessions
        await one.save_session(Session(StateRecord(NAME, NAME, "s", Basket(1)), ContextRecord(NAME, NAME, [NAME])))
        with pytest.raises(UnsupportedType):
            await one.save_state(StateRecord(NAME, NAME, "s", object()))
        stale = attrs.evolve(await one.get_state(NAME, NAME), version=9)
        with pytest.raises(RevisionConflict) as conflict:
            await one.save_state(stale)
        later = Stores(hub).values("sessions", dict)
        await later.save(("session", NAME, "later"), {"format": 2, "state": {}})
        await later.save(("session", NAME, "odd"), {"format": 1, "state": {"no": "state"}})
        said = [repr(stale), repr(await one.get_session(NAME, NAME)), repr(conflict.value)]
        for session, error in (("later", UnsupportedVersion), ("odd", MalformedPayload)):
            with pytest.raises(error) as refused:
                await one.get_state(NAME, session)
            said.append(repr(refused.value))
        with pytest.raises((UnsupportedVersion, MalformedPayload)):
            await one.list_states(NAME)
        await later.delete(("session", NAME, "later"))
    for ring, types, error in ((KeyRing.generate(), [Basket], UnknownKey), (RING, [], UnknownType)):
        async with open_test_hub(url, keyring=ring, types=types) as hub:
            for call in ("get_state", "get_session", "delete_state", "resume_session"):
                with pytest.raises(error) as refused:
                    await getattr(Stores(hub).sessions, call)(NAME, NAME)
                said.append(repr(refused.value) + repr(refused.value.to_problem()))
    text = "\n".join([*said, caplog.text]).encode()
    assert [form for form, secret in forms(NAME).items() if secret in text] == []
    async with open_test_hub(url, keyring=RING, types=[Basket]) as hub:
        assert (await Stores(hub).sessions.get_state(NAME, NAME)).data == Basket(1)
        # What can't be read is forgotten all the same.
        await Stores(hub).sessions.forget(NAME)
        assert (await Stores(hub).sessions.list_states(NAME)).items == ()


async def test_lines_that_were_cut_or_changed_are_refused_and_nothing_is_imported(sessions):
    for number in range(3):
        await sessions.save_state(StateRecord("ana", f"s{number}", "active", Basket(number)))
    await sessions.save_identity(IdentityRecord("ana", "i", "Ana"))
    lines = [line async for line in sessions.export("ana")]
    await sessions.forget("ana")
    text = "\n".join(lines)
    head, first, *others = lines
    record = json.loads(first)

    def changed(**members):
        return json.dumps({**record, **members})

    wrong = {
        "empty": "",
        "no last line": "\n".join(lines[:-1]),
        "a line is missing": "\n".join([head, *others]),
        "a line comes twice": "\n".join([head, first, first, *others]),
        "no first line": "\n".join(lines[1:]),
        "more after the last": "\n".join([*lines, first]),
        "another record": "\n".join([head, changed(record="secrets"), *others]),
        "another version of a record": "\n".join([head, changed(version=7), *others]),
        "no version": "\n".join([head, changed(version=0), *others]),
        "a time that is none": "\n".join([head, changed(created_at={"$time": "soon"}), *others]),
        "an id that is no text": "\n".join([head, changed(session_id=5), *others]),
        "a field too many": "\n".join([head, changed(more=5), *others]),
        "the codec's bytes cut": "\n".join([head, changed(data={"$codec": "mALE"}), *others]),
        "another format": text.replace("flowpersist.sessions", "flowpersist.others"),
        "nested": "[" * 100_000,
        "no object": "\n".join([head, "5", *others]),
        "another person's head": text.replace('"user_id": "ana"', '"user_id": 5'),
    }
    wrong |= {f"cut at {at}": text[:at] for at in range(0, len(text), 97)}
    for what, given in wrong.items():
        with pytest.raises((MalformedPayload, PersistenceError)) as refused:
            await sessions.import_(given.splitlines())
        assert not isinstance(refused.value, ConfigurationError), what
        assert "line" in str(refused.value), what
        assert "Ana" not in str(refused.value), what
    with pytest.raises(UnsupportedVersion, match="upgrade"):
        await sessions.import_(text.replace('"version": 1, "user_id"', '"version": 2, "user_id"').splitlines())
    async with open_test_hub("memory://", limits=Limits(max_bytes=len(text) - 99), types=[Basket]) as hub:
        with pytest.raises(StateTooLarge):
            await Stores(hub).sessions.import_(lines)
    assert [line async for line in sessions.export("ana")][1:] == ['{"end": 0, "checksum": "' + "0" * 64 + '"}']
    async with open_test_hub("memory://") as hub:
        with pytest.raises(UnknownType, match="line 2"):
            await Stores(hub).sessions.import_(lines)
        assert (await Stores(hub).sessions.list_states("ana")).items == ()
    assert await sessions.import_(["", *lines, "\n"]) == 4


def test_sessions_without_asyncio():
    with open_blocking_stores("memory://", keyring=RING) as stores:
        sessions = stores.sessions
        state = sessions.save_state(StateRecord("ana", "s", "asked"))
        assert sessions.resume_session("ana").state == state
        lines = list(sessions.export("ana"))
        assert sessions.forget("ana")
        assert sessions.import_(lines) == 1
        assert sessions.get_state("ana", "s") == state
