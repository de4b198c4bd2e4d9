"""A hub does the same on every backend: the whole, from keys and sealing down to the server's files and tables."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections import Counter
from datetime import timedelta
from urllib.parse import urlsplit, urlunsplit

import pytest
from returns.result import Success

from canaries import ANSWER, OUTCOME, PERSON, PROMPT, STATE, all_secrets, full_cycle, hits
from clients import all_at_once
from flowpersist import AwaitInput, KeyRing, Maintenance, Status, or_raise
from flowpersist.backends.base import NamespaceSchema, RecordRef
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import (
    AlreadyResumed,
    BackendUnavailable,
    ConfigurationError,
    InputValidationError,
    PersistenceError,
    StorageError,
    SuspensionNotFound,
)
from flowpersist.testing.hubs import open_test_hub, travel
from machine import BACKENDS, SERVERS

CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
WEEK = timedelta(weeks=1)


async def test_a_suspension_goes_from_one_hub_to_another(url):
    """Suspended here, answered there, resumed in a third; then it is over for everybody."""
    ring = KeyRing.generate()
    state = {"order": 17, "lines": ["x" * 1000] * 200}
    async with open_test_hub(url, keyring=ring) as hub:
        new = or_raise(await hub.suspend(state, awaiting={"a": CONFIRM, "b": CONFIRM}, metadata={"run": "r1"}))
    async with open_test_hub(url, keyring=ring.control_only()) as hub:
        assert isinstance((await hub.answer(new.keys["a"], "yes")).failure(), InputValidationError)
        or_raise(await hub.answer(new.keys["a"], True, by="ana"))
        assert or_raise(await hub.inspect(new.keys["b"])).status is Status.WAITING
        or_raise(await hub.answer(new.keys["b"], False, by="ben"))
    async with open_test_hub(url, keyring=ring) as hub:
        (run,) = or_raise(await hub.claim_due())
        assert (run.state, run.answers["a"], run.answers["b"]) == (state, True, False)
        following = or_raise(await hub.suspend_next(run, {"step": 2}, awaiting=CONFIRM))
        resumed = or_raise(await hub.resume(following.key, True))
        assert resumed.state == {"step": 2}
        assert isinstance((await hub.resume(following.key, True)).failure(), AlreadyResumed)
        assert or_raise(await hub.claim_due()) == ()
        assert {item.status for item in or_raise(await hub.query()).items} == {Status.COMPLETED}


async def test_of_eight_tasks_one_resumes(url):
    ring = KeyRing.generate()
    async with open_test_hub(url, keyring=ring) as hub, open_test_hub(url, keyring=ring) as other:
        for _ in range(3):
            new = or_raise(await hub.suspend({"n": 1}, awaiting=CONFIRM))
            told = await asyncio.gather(
                *((hub, other)[task % 2].resume(new.key, True, by=str(task)) for task in range(8))
            )
            lost = [one.failure() for one in told if not isinstance(one, Success)]
            assert len(lost) == 7
            assert {type(error) for error in lost} == {AlreadyResumed}
            assert or_raise(await hub.inspect(new.key)).attempt == 1


# SQLite stands in test_hub_races, and what four processes see of a cluster of one node is what they see of its node.
@pytest.mark.parametrize("backend", [name for name in BACKENDS if name not in {"sqlite", "redis_cluster"}])
async def test_of_many_tasks_in_four_processes_one_resumes(url):
    processes, tasks, number_of_keys = 4, 5, 4
    ring = KeyRing.generate()
    async with open_test_hub(url, keyring=ring) as hub:
        made = [or_raise(await hub.suspend(number, awaiting=CONFIRM)) for number in range(number_of_keys)]
        keys = [("resume", str(new.key)) for new in made]
        told = await all_at_once(
            url, ring, "race", [{"keys": keys, "tasks": tasks, "me": str(number)} for number in range(processes)]
        )
        for number, new in enumerate(made):
            count = Counter(name for rows in told for at, _, name in rows if at == number)
            assert count == {"won": 1, "AlreadyResumed": processes * tasks - 1}
            assert or_raise(await hub.inspect(new.key)).attempt == 1


async def test_cleanup_removes_what_is_over_and_nothing_else(url):
    async with open_test_hub(url) as hub:
        over = [or_raise(await hub.suspend("x" * 50_000, awaiting=CONFIRM)) for _ in range(12)]
        for new in over:
            or_raise(await hub.resume(new.key, True))
        waiting = or_raise(await hub.suspend("y" * 50_000, awaiting=CONFIRM))
        assert or_raise(await Maintenance(hub).cleanup()).deleted == 0
        travel(hub, WEEK + timedelta(hours=1))
        assert or_raise(await Maintenance(hub).cleanup(dry_run=True)).deleted == 12
        assert or_raise(await Maintenance(hub).cleanup()).deleted == 12
        assert isinstance((await hub.inspect(over[0].key)).failure(), SuspensionNotFound)
        assert [item.id for item in or_raise(await hub.query()).items] == [waiting.id]
        assert or_raise(await hub.resume(waiting.key, True)).state == "y" * 50_000


async def test_no_store_holds_a_secret_in_any_form(url, stored):
    """Uncompressed, so that nothing hides it but its seal."""
    ring = KeyRing.generate()
    async with open_test_hub(url, keyring=ring, compression="none") as hub:
        keys = await full_cycle(hub)
        data = await stored()
    roots = [key.root for key in ring.keys.values()]
    assert len(data) > 1000
    assert hits(data, [*all_secrets(keys), *roots]) == set()


async def test_the_search_finds_in_every_store_what_is_not_sealed(url, stored):
    """Without a keyring the test above must fail, or it looks in the wrong place."""
    async with open_test_hub(url, keyring=None) as hub:
        keys = await full_cycle(hub)
        data = await stored()
    found = {secret for secret, _ in hits(data, all_secrets(keys))}
    assert {STATE, PROMPT, ANSWER, OUTCOME, PERSON, "a key's secret"} <= found


PASSWORD = "canary-of-the-password%2F8Xw"
FORMS = (PASSWORD, PASSWORD.replace("%2F", "/"))


def with_password(url, address=None):
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"somebody:{PASSWORD}@{address or parts.netloc.rpartition('@')[2]}"))


def all_said(error):
    """What a person may see of an error: itself, its causes, and the traceback that a log has of it."""
    said = []
    while error is not None:
        said += [str(error), repr(error), repr(error.args)]
        if isinstance(error, PersistenceError):
            said.append(repr(error.to_problem()))
        error = error.__cause__ or error.__context__
    return said


@pytest.mark.parametrize("backend", SERVERS)
@pytest.mark.parametrize("there", [False, True], ids=["nobody there", "refused"])
async def test_a_password_shows_nowhere(url, there, caplog, unused_tcp_port):
    """Neither where nobody listens nor where the server does not know the user, nor where it lets anybody in."""
    caplog.set_level(logging.DEBUG)
    made = backend_from_url(with_password(url, None if there else f"127.0.0.1:{unused_tcp_port}"))
    said = [repr(made), str(made)]
    refused = None
    try:
        async with asyncio.timeout(60):
            await made.open([NamespaceSchema("secrets", {})])
            said.append(repr(await made.ping()))
            said.append(repr(await made.get(RecordRef("secrets", "none"))))
    except PersistenceError as error:
        refused = error
        said += [*all_said(error), "".join(traceback.format_exception(error))]
    finally:
        await made.close()
    # Some of the servers ask nobody for a password, or know no passwords.
    assert isinstance(refused, StorageError | ConfigurationError | None if there else BackendUnavailable)
    text = "\n".join([*said, caplog.text])
    assert [form for form in FORMS if form in text] == []
