"""An export from every backend is imported into another store: each run with all of it or not at all, and nothing that
is newer is overwritten.
"""

from __future__ import annotations

import json
import os
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from filling import TEXT, answered, filled
from flowpersist import KeyRing, Maintenance, Status, or_raise
from flowpersist.backends.base import Where
from flowpersist.backends.kit import DelegatingBackend
from flowpersist.backends.memory import MemoryBackend
from flowpersist.errors import (
    BackendUnavailable,
    ConfigurationError,
    EncryptionRequired,
    ImportRefused,
    IntegrityError,
    StorageError,
    SuspensionNotFound,
    UnknownKey,
    UnsupportedVersion,
)
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.stores import Stores
from flowpersist.testing.hubs import open_test_hub
from machine import WITH_MEMORY

RING = KeyRing.generate("ring")
LOGIC = pytest.mark.parametrize("backend", ["memory"])


@pytest.fixture(params=WITH_MEMORY)
def backend(request):
    """The name of each backend, memory too."""
    return request.param


@pytest.fixture
def store(backend, request):
    """The URL of the store."""
    return "memory://" if backend == "memory" else request.getfixturevalue("url")


@pytest.fixture
async def hub(store):
    async with open_test_hub(store, keyring=RING) as opened:
        yield opened


@pytest.fixture
def file(tmp_path):
    return tmp_path / "export.jsonl"


@asynccontextmanager
async def other(store=None, **options):
    """A hub on an empty store, with the same keys."""
    async with open_test_hub(MemoryBackend() if store is None else store, **{"keyring": RING, **options}) as opened:
        yield opened


async def imported(hub, file, **options):
    return await Maintenance(hub).import_(file, **options)


async def test_a_tenant_goes_from_each_backend_to_another_store(hub, file):
    new = await filled(hub)
    made = or_raise(await Maintenance(hub).export(file, tenant="t"))
    assert (made.records, file.stat().st_mode & 0o777) == (len(file.read_bytes().splitlines()) - 2, 0o600)
    async with other() as target:
        done = or_raise(await imported(target, file))
        assert (done.created, done.replaced, done.present) == (made.records, 0, 0)
        assert or_raise(await Maintenance(target).verify()).findings == ()
        assert [one.id for one in or_raise(await target.query()).items] == [new.id]
        assert len(or_raise(await target.history(new.id))) == len(or_raise(await hub.history(new.id)))
        run = or_raise(await target.claim(new.key))
        assert (run.state, len(run.answer)) == ({"pause": 8}, 18_000)
        assert (await Stores(target, tenant="t").values("large").load("b")).value == "x" * 50_000
        assert await Stores(target).values("small").load("a") is None
        # And back: what is there is as it was.
        back = or_raise(await imported(hub, file))
        assert (back.created, back.replaced, back.present) == (0, 0, made.records)


async def test_one_suspension_comes_into_each_backend_by_the_control_key_alone(hub, file):
    async with other(keyring=RING.control_only()) as source:
        source.use_keyring(RING)
        new = await answered(source, pauses=8)
        await answered(source)
        source.use_keyring(RING.control_only())
        or_raise(await Maintenance(source).export(file, suspension=new.id))
    hub.use_keyring(RING.control_only())
    assert or_raise(await imported(hub, file, dry_run=True)).created >= 2
    assert or_raise(await hub.query()).items == ()
    or_raise(await imported(hub, file))
    hub.use_keyring(RING)
    assert [one.id for one in or_raise(await hub.query()).items] == [new.id]
    assert or_raise(await hub.claim(new.key)).state == {"pause": 8}


@LOGIC
async def test_a_file_that_was_cut_or_changed_imports_nothing(hub, file):
    new = await answered(hub, pauses=8)
    or_raise(await Maintenance(hub).export(file, suspension=new.id))
    whole = file.read_bytes()
    lines = whole.splitlines(keepends=True)
    broken = [whole[:at] for at in range(0, len(whole), max(1, len(whole) // 40))]
    broken += [b"".join(lines[:at] + lines[at + 1 :]) for at in range(len(lines))]
    broken += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), 97)]
    broken += [whole + b"more\n", b"[]\n" + whole, b"\xff\n", b""]
    async with other() as target:
        for content in broken:
            file.write_bytes(content)
            error = (await imported(target, file)).failure()
            assert isinstance(error, IntegrityError | ImportRefused), error
        assert (await target.backend.query("default", Where(), limit=1)).items == ()
        assert (await target.backend.query("default.audit", Where(), limit=1)).items == ()
        file.write_bytes(whole)
        or_raise(await imported(target, file))


@LOGIC
async def test_another_version_keyring_or_namespace_is_told_and_imports_nothing(hub, file):
    new = await answered(hub)
    or_raise(await Maintenance(hub).export(file, suspension=new.id))
    cases = [({"keyring": KeyRing.generate("ring2")}, UnknownKey), ({"keyring": None}, UnknownKey)]
    cases += [({"namespace": "elsewhere"}, ImportRefused), ({"keyring": RING.control_only()}, None)]
    for options, error in cases:
        async with other(**options) as target:
            result = await imported(target, file)
            assert error is None or isinstance(result.failure(), error)
            items = (await target.backend.query(target.defaults.namespace, Where(), limit=1)).items
            assert bool(items) is (error is None)
    first, *rest = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(json.dumps({**json.loads(first), "version": 2}).encode() + b"\n" + b"".join(rest))
    async with other() as target:
        assert isinstance((await imported(target, file)).failure(), UnsupportedVersion)
    async with other(keyring=None) as plain:
        new = await answered(plain)
        or_raise(await Maintenance(plain).export(file, suspension=new.id))
    async with other() as target:
        assert isinstance((await imported(target, file)).failure(), EncryptionRequired)


@LOGIC
async def test_what_is_newer_is_never_overwritten_and_what_is_older_only_if_asked(hub, file):
    new = or_raise(await hub.suspend({"pause": 0}, awaiting=TEXT))
    old = file.with_name("old.jsonl")
    or_raise(await Maintenance(hub).export(old, suspension=new.id))
    or_raise(await hub.answer(new.key, "yes"))
    or_raise(await Maintenance(hub).export(file, suspension=new.id))
    async with other(hub.backend) as same:
        for replace in (False, True):
            assert isinstance((await imported(same, old, replace=replace)).failure(), ImportRefused)
    # What a store whose clock is behind has is older: it is replaced if that is asked for, state, answer and all.
    async with other(MemoryBackend(clock_offset=-timedelta(days=1))) as target:
        or_raise(await imported(target, old))
        refused = (await imported(target, file)).failure()
        assert "replace=True" in str(refused)
        assert or_raise(await target.inspect(new.id)).status is Status.WAITING
        assert or_raise(await imported(target, file, replace=True)).replaced == 1
        assert or_raise(await target.inspect(new.id)).status is Status.ANSWERED
        assert or_raise(await Maintenance(target).verify()).findings == ()


class Failing(DelegatingBackend):
    """Fails from its put of that number on."""

    def __init__(self, inner, after):
        super().__init__(inner)
        self.left = after

    async def put(self, ref, change, *, if_revision=None, not_after=None):
        self.left -= 1
        if self.left < 0:
            raise BackendUnavailable("down", "memory", False)
        return await self.inner.put(ref, change, if_revision=if_revision, not_after=not_after)


@LOGIC
async def test_an_import_that_was_cut_is_repeated_and_shows_no_half_of_a_run_meanwhile(hub, file):
    await answered(hub, pauses=8, text="large " * 3000)
    await answered(hub, pauses=8)
    made = or_raise(await Maintenance(hub).export(file, tenant="t"))
    inner = MemoryBackend()
    for after in range(made.records - 1):
        async with other(Failing(inner, 1)) as target:
            assert isinstance((await imported(target, file)).failure(), StorageError), after
            verified = or_raise(await Maintenance(target).verify())
            # What stands beside a run may be there before it, and never the run without it.
            assert {one.problem for one in verified.findings} <= {"orphan"}
    async with other(inner) as target:
        assert or_raise(await imported(target, file)).created == 1
        assert or_raise(await imported(target, file)).present == made.records
        assert or_raise(await Maintenance(target).verify()).findings == ()


@LOGIC
async def test_a_run_that_is_answered_while_it_is_exported_is_exported_as_one_moment_has_it(hub, file):
    new = await answered(hub, pauses=2)
    inner, times = hub.backend, 0

    class Changing(DelegatingBackend):
        """Another process claims and releases the run whenever its side records are listed."""

        async def query(self, namespace, where, **options):
            nonlocal times
            if namespace == "default.audit" and times < 3:
                times += 1
                run = or_raise(await hub.claim(new.id))
                or_raise(await hub.release(run))
            return await self.inner.query(namespace, where, **options)

    async with other(Changing(inner)) as source:
        or_raise(await Maintenance(source).export(file, suspension=new.id))
    async with other() as target:
        or_raise(await imported(target, file))
        assert or_raise(await target.inspect(new.id)).attempt == times == 3
        assert or_raise(await Maintenance(target).verify()).findings == ()


@LOGIC
async def test_wrong_arguments_and_places(hub, file, tmp_path):
    maintenance = Maintenance(hub)
    for wrong in ({}, {"tenant": "t", "suspension": SuspensionId.parse("0" * 22)}):
        with pytest.raises(ConfigurationError):
            await maintenance.export(file, **wrong)
    missing = or_raise(await hub.suspend(1)).id
    await hub.backend.delete(hub.suspensions.records.ref(str(missing)))
    assert isinstance((await maintenance.export(file, suspension=missing)).failure(), SuspensionNotFound)
    assert isinstance((await maintenance.export(tmp_path / "no" / "file", tenant="t")).failure(), StorageError)
    assert list(Path(tmp_path).iterdir()) == []
    for make in (lambda path: None, os.mkfifo, os.mkdir):
        make(place := tmp_path / f"odd {make.__name__}")
        with pytest.raises(ConfigurationError, match="can't be read"):
            await maintenance.import_(place)
