"""Artifacts on every backend: whole or not at all, in bounded memory, and damage is never passed on."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from contextlib import aclosing
from datetime import timedelta

import pytest

from canaries import forms
from flowpersist import KeyRing, Maintenance, or_raise
from flowpersist.backends.base import RecordChange, Where
from flowpersist.backends.kit import DelegatingBackend
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import (
    DeadlinePassed,
    EncryptionError,
    IntegrityError,
    PersistenceError,
    RevisionConflict,
    SerializationError,
    ValueNotFound,
)
from flowpersist.sealed.pieces import GRACE, PIECE_BYTES, cut_into_pieces
from flowpersist.stores import Stores
from flowpersist.testing import open_test_hub, travel
from forked import forked_async
from machine import WITH_MEMORY

RING = KeyRing.generate()
NAME = "canary-artifact-4Mz8Hy2Bq6Rj"
LONGER = GRACE + timedelta(minutes=1)


@pytest.fixture(params=WITH_MEMORY)
def backend(request):
    return request.param


@pytest.fixture
async def stores(url):
    async with open_test_hub(url, keyring=RING) as hub:
        yield Stores(hub)


async def read(stores, name):
    return b"".join([piece async for piece in stores.artifacts.open(name)])


async def parts(*given):
    for part in given:
        await asyncio.sleep(0)
        yield part


async def left(stores, scope=""):
    """How many records there are of each collection, as they are stored."""
    names = ("artifacts", "artifacts.pieces", "artifacts.claims")
    pages = [await stores.hub.backend.query(f"default.values.{scope}{name}", Where(), limit=99) for name in names]
    return tuple(len(page.items) for page in pages)


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES])
async def test_an_artifact_of_any_size_comes_back(stores, size):
    data = os.urandom(size)
    written = await stores.artifacts.write("a", data, media_type="text/plain")
    assert (written.name, written.size, written.digest) == ("a", size, hashlib.sha256(data).hexdigest())
    assert await read(stores, "a") == data
    assert await stores.artifacts.list() == (written,)
    assert await left(stores) == (1, -(-size // PIECE_BYTES), 0)
    assert await stores.artifacts.delete("a") is True
    assert await stores.artifacts.delete("a") is False
    assert await left(stores) == (0, 0, 0)


async def test_names_and_parts_of_every_kind(stores):
    names = ("", "a", "a/b", "\x00\ud800", "ä" * 5000)
    for name in names:
        view = memoryview(bytearray(b"78"))
        await stores.artifacts.write(name, parts(b"", b"12", bytearray(b"3"), b"", memoryview(b"456"), view))
        assert await read(stores, name) == b"12345678"
    assert [one.name for one in await stores.artifacts.list()] == sorted(names)
    assert [one.media_type for one in await stores.artifacts.list()] == [None] * 5
    await stores.project("p").artifacts.write("a", b"of p")
    assert (await read(stores, "a"), await read(stores.project("p"), "a")) == (b"12345678", b"of p")
    assert await stores.delete_project("p") == 2
    assert await read(stores, "a") == b"12345678"


async def test_what_is_not_there(stores):
    with pytest.raises(ValueNotFound):
        await read(stores, "a")
    assert await stores.artifacts.list() == ()
    assert await stores.artifacts.delete("a") is False
    assert (await stores.hub.backend.query("default.collections", Where(), limit=5)).items == ()


async def test_a_write_that_is_cut_leaves_the_earlier_artifact_whole(stores):
    await stores.artifacts.write("a", b"earlier")

    async def broken():
        yield os.urandom(PIECE_BYTES + 5)
        yield b"x" * PIECE_BYTES
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        await stores.artifacts.write("a", broken())
    assert (await read(stores, "a"), await left(stores)) == (b"earlier", (1, 1, 0))
    stuck = asyncio.Event()

    async def endless():
        yield os.urandom(PIECE_BYTES + 5)
        stuck.set()
        await asyncio.sleep(3600)
        yield b""

    writing = asyncio.ensure_future(stores.artifacts.write("a", endless()))
    await stuck.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert (await read(stores, "a"), await left(stores)) == (b"earlier", (1, 1, 0))
    with pytest.raises(TypeError, match="Invalid data: expected bytes"):
        await stores.artifacts.write("a", parts(b"x" * PIECE_BYTES, "text"))
    assert (await read(stores, "a"), await left(stores)) == (b"earlier", (1, 1, 0))


PROGRAM = """
import asyncio, os, sys
from flowpersist import KeyRing
from flowpersist.stores import open_stores

async def data():
    for _ in range(3):
        yield os.urandom(2**20)
    print("written", flush=True)
    await asyncio.sleep(3600)
    yield b""

async def main():
    async with open_stores(sys.argv[1], keyring=KeyRing.parse(sys.argv[2])) as stores:
        await stores.artifacts.write("a", data())

asyncio.run(main())
"""


async def test_a_killed_writer_leaves_the_earlier_artifact_and_its_pieces_are_removed(backend, url, stores):
    if backend == "memory":
        pytest.skip("one process has it")
    await stores.artifacts.write("a", b"earlier")
    async with forked_async(PROGRAM, url, RING.export()) as running:
        assert await running.stdout.readline() == b"written\n"
    assert await read(stores, "a") == b"earlier"
    assert await left(stores) == (1, 4, 1)
    # Whoever has not stood still for so long may go on.
    assert (await stores.cleanup())["artifacts.claims"] == 0
    travel(stores.hub, LONGER)
    stores.hub.use_keyring(RING.control_only())
    assert or_raise(await Maintenance(stores.hub).cleanup_stores()) == 4
    stores.hub.use_keyring(RING)
    assert (await read(stores, "a"), await left(stores)) == (b"earlier", (1, 1, 0))


async def test_a_writer_that_stood_still_for_too_long_is_refused_and_cleanup_takes_nothing_from_others(stores):
    await stores.artifacts.write("a", b"earlier")

    async def slow():
        yield os.urandom(PIECE_BYTES)
        yield b"x"
        travel(stores.hub, LONGER)
        assert (await stores.cleanup())["artifacts.claims"] == 2

    with pytest.raises(DeadlinePassed, match="stood still"):
        await stores.artifacts.write("a", slow())
    assert (await read(stores, "a"), await left(stores)) == (b"earlier", (1, 1, 0))

    async def early():
        yield os.urandom(PIECE_BYTES)
        travel(stores.hub, GRACE / 2)
        assert (await stores.cleanup())["artifacts.claims"] == 0
        yield b"x"

    assert (await stores.artifacts.write("a", early())).size == PIECE_BYTES + 1
    travel(stores.hub, LONGER)
    await stores.cleanup()
    assert (len(await read(stores, "a")), await left(stores)) == (PIECE_BYTES + 1, (1, 2, 0))


async def test_a_claim_that_a_crash_left_behind_a_commit_takes_no_pieces(stores):
    await stores.artifacts.write("a", b"content")
    (claims, pieces) = ("default.values.artifacts.claims", "default.values.artifacts.pieces")
    (manifest,) = (await stores.hub.backend.query("default.values.artifacts", Where(), limit=5)).items
    version = manifest.attributes["version"]
    (piece,) = (await stores.hub.backend.query(pieces, Where(), limit=5)).items
    contents = stores.artifacts._contents
    or_raise(await contents._claimed(version, manifest.ref.key))
    assert len((await stores.hub.backend.query(claims, Where(), limit=5)).items) == 1
    travel(stores.hub, LONGER)
    assert (await stores.cleanup())["artifacts.claims"] == 1
    assert (await read(stores, "a"), await left(stores)) == (b"content", (1, 1, 0))
    assert piece.revision > 0


async def test_readers_get_one_version_or_an_error(stores):
    old, new = b"o" * (2 * PIECE_BYTES + 1), b"n" * (3 * PIECE_BYTES)
    await stores.artifacts.write("a", old)
    reading = stores.artifacts.open("a")
    assert await anext(reading) == old[:PIECE_BYTES]
    await stores.artifacts.write("a", new)
    with pytest.raises(RevisionConflict, match="read it from the start") as refused:
        await anext(reading)
    assert refused.value.retryable
    assert await read(stores, "a") == new
    reading = stores.artifacts.open("a")
    await anext(reading)
    await stores.artifacts.delete("a")
    with pytest.raises(RevisionConflict):
        await anext(reading)
    await stores.artifacts.write("a", old)
    outcomes = set()

    async def look():
        for _ in range(4):
            try:
                outcomes.add(await read(stores, "a"))
            except RevisionConflict:
                outcomes.add(None)

    async def change():
        for data in (new, old, new):
            await stores.artifacts.write("a", data)

    await asyncio.gather(look(), look(), change())
    assert outcomes <= {old, new, None}
    assert await left(stores) == (1, 3, 0)


async def test_of_several_writers_one_stands_and_nothing_else_is_left(stores):
    contents = [bytes([number]) * (PIECE_BYTES + number) for number in range(4)]
    await asyncio.gather(*(stores.artifacts.write("a", data) for data in contents))
    stands = await read(stores, "a")
    assert stands in contents
    # What one of them claimed another may have claimed after it: upkeep removes both claims.
    travel(stores.hub, LONGER)
    await stores.cleanup()
    assert (await read(stores, "a"), await left(stores)) == (stands, (1, 1 + (len(stands) > PIECE_BYTES), 0))


async def collect(stores, seen):
    async for piece in stores.artifacts.open("a"):
        seen.append(piece)


async def damage(stores, how):
    backend, namespace = stores.hub.backend, "default.values.artifacts.pieces"
    first, second = (await backend.query(namespace, Where(), limit=9, bodies=True)).items
    if how == "flipped":
        body = first.body[:100] + bytes([first.body[100] ^ 1]) + first.body[101:]
        await backend.put(first.ref, RecordChange("w", body=body), if_revision=first.revision)
    elif how == "cut":
        await backend.put(first.ref, RecordChange("w", body=first.body[:-10]), if_revision=first.revision)
    elif how == "swapped":
        for one, other in ((first, second), (second, first)):
            change = RecordChange("w", head=other.head, body=other.body)
            await backend.put(one.ref, change, if_revision=one.revision)
    elif how == "exchanged bodies":
        for one, other in ((first, second), (second, first)):
            await backend.put(one.ref, RecordChange("w", body=other.body), if_revision=one.revision)
    else:
        await backend.delete(second.ref if how == "the last missing" else first.ref)


HOW = ("flipped", "cut", "swapped", "exchanged bodies", "the first missing", "the last missing")


async def refuse_damaged(stores, how):
    data = [os.urandom(PIECE_BYTES), os.urandom(PIECE_BYTES)]
    await stores.artifacts.write("a", parts(*data))
    await damage(stores, how)
    seen: list[bytes] = []
    with pytest.raises(IntegrityError):
        await collect(stores, seen)
    assert seen == data[: len(seen)]
    # It is mended by being written again.
    await stores.artifacts.write("a", b"again")
    assert (await read(stores, "a"), await left(stores)) == (b"again", (1, 1, 0))


@pytest.mark.parametrize("how", HOW)
async def test_damaged_pieces_are_refused(how, stores):
    await refuse_damaged(stores, how)


@pytest.mark.parametrize("how", HOW)
async def test_damaged_pieces_are_refused_without_a_keyring(how):
    async with open_test_hub(keyring=None) as hub:
        await refuse_damaged(Stores(hub), how)


async def test_pieces_of_another_digest_and_damaged_manifests_are_refused_and_replaced(stores):
    await stores.artifacts.write("a", b"content")
    contents, backend = stores.artifacts._contents, stores.hub.backend
    version = or_raise(await contents.manifest(("a",))).version
    or_raise(await contents._pieces.save((version, 0), b"CONTENT", None, None, {}))
    with pytest.raises(IntegrityError, match="not the one that was written"):
        await read(stores, "a")
    (record,) = (await backend.query("default.values.artifacts", Where(), limit=5)).items
    await backend.put(record.ref, RecordChange("w", head=record.head[:-5] + b"12345"), if_revision=record.revision)
    for refused in (read(stores, "a"), stores.artifacts.list()):
        with pytest.raises(IntegrityError, match="record "):
            await refused
    await stores.artifacts.write("a", b"again")
    assert (await read(stores, "a"), await left(stores)) == (b"again", (1, 1, 0))
    or_raise(await contents._manifests.save(("b",), ("version", -1, "x", None), None, None, {}))
    for refused in (read(stores, "b"), stores.artifacts.list()):
        with pytest.raises(SerializationError, match="manifest"):
            await refused
    assert await stores.artifacts.delete("b") is True


async def test_no_name_and_no_content_stands_in_clear(backend, url, stored, caplog):
    if backend == "memory":
        pytest.skip("nobody else reads it")
    async with open_test_hub(url, keyring=RING) as hub:
        stores = Stores(hub)
        await stores.artifacts.write(NAME, f"content of {NAME}".encode(), media_type=f"x/{NAME}")
        assert NAME not in repr(await stores.artifacts.list())
        hub.use_keyring(KeyRing.generate())
        with pytest.raises(EncryptionError) as refused:
            await read(stores, NAME)
        hub.use_keyring(RING)
        with pytest.raises(PersistenceError) as missing:
            await read(stores, f"no {NAME}")
        assert NAME not in f"{refused.value} {missing.value}"
        found = await stored()
        assert [name for name, form in forms(NAME).items() if form in found] == []
    assert NAME not in caplog.text


MEMORY = """
import asyncio, hashlib, os, resource, sys
from flowpersist import KeyRing
from flowpersist.stores import open_stores

SIZE, PART = 100 * 2**20, 3 * 2**20 + 17
digest = hashlib.sha256()

def grown(since):
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - since) // 1024

async def data():
    left = SIZE
    while left:
        part = os.urandom(min(PART, left))
        digest.update(part)
        left -= len(part)
        yield part

async def main():
    async with open_stores(sys.argv[1], keyring=KeyRing.generate()) as stores:
        await stores.artifacts.write("warm", os.urandom(5 * 2**20))
        since = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        written = await stores.artifacts.write("a", data())
        assert (written.size, written.digest) == (SIZE, digest.hexdigest())
        again = hashlib.sha256()
        async for piece in stores.artifacts.open("a"):
            again.update(piece)
        assert again.hexdigest() == written.digest
        print(grown(since))

asyncio.run(main())
"""


async def test_a_hundred_megabytes_take_bounded_memory(tmp_path):
    arguments = [sys.executable, "-c", MEMORY, f"file://{tmp_path}/flows"]
    running = await asyncio.create_subprocess_exec(*arguments, stdout=-1)
    out, _ = await running.communicate()
    assert running.returncode == 0
    # MiB more than for 5 MiB: those of a few pieces, and what threads hold of them.
    assert int(out) < 90


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
async def test_parts_of_any_size_become_pieces_of_one_size(size):
    data = bytes(range(97))
    for step in (1, 2, 7, 97):
        given = parts(*(data[start : start + step] for start in range(0, 97, step)))
        async with aclosing(cut_into_pieces(given, size)) as pieces:
            cut = [piece async for piece in pieces]
        assert b"".join(cut) == data
        assert [len(piece) for piece in cut[:-1]] == [size] * (len(cut) - 1)


class Crash(BaseException):
    """The process has died."""


class Dying(DelegatingBackend):
    """Dies at an operation of that number, before it is done or after, and does nothing from then on."""

    def __init__(self, inner):
        super().__init__(inner)
        self.left = -1
        self.after = False

    async def around(self, operation, call):
        if operation in ("open", "close") or self.left < 0:
            return await call()
        self.left -= 1
        if self.left > 0:
            return await call()
        if self.left == 0 and self.after:
            await call()
        self.left = 0
        raise Crash


OLD, NEW = b"o" * (PIECE_BYTES + 1), b"n" * (2 * PIECE_BYTES + 1)
CHANGES = {
    "write": (lambda artifacts: artifacts.write("a", parts(NEW)), {OLD, NEW}),
    "delete": (lambda artifacts: artifacts.delete("a"), {OLD, None}),
}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("change", CHANGES)
async def test_a_crash_at_any_operation_leaves_one_version_whole_and_nothing_else(change, after, tmp_path):
    call, expected = CHANGES[change]
    seen, operation = set(), 0
    while True:
        operation += 1
        dying = Dying(backend_from_url(f"memory://{tmp_path.name}-{change}-{after}-{operation}"))
        dying.after = after
        async with open_test_hub(dying, keyring=RING) as hub:
            stores = Stores(hub)
            await stores.artifacts.write("a", OLD)
            dying.left = operation
            died = False
            try:
                await call(stores.artifacts)
            except Crash:
                died = True
            dying.left = -1
            for again in range(2):
                try:
                    found = await read(stores, "a")
                except ValueNotFound:
                    found = None
                assert found in expected
                pieces = 0 if found is None else -(-len(found) // PIECE_BYTES)
                if again:
                    assert await left(stores) == (int(found is not None), pieces, 0)
                travel(hub, LONGER)
                await stores.cleanup()
            seen.add(found)
            if not died:
                break
    assert seen == expected
    assert operation > 4


REFUSED = {
    "a name that is no text": lambda artifacts: artifacts.write(5, b""),
    "data that is a text": lambda artifacts: artifacts.write("a", "text"),
    "data that is a list": lambda artifacts: artifacts.write("a", [b"x"]),
    "a media type that is no text": lambda artifacts: artifacts.write("a", b"", media_type=5),
    "to delete no text": lambda artifacts: artifacts.delete(None),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_makes_no_sense_is_refused(case):
    async with open_test_hub() as hub:
        with pytest.raises(TypeError, match="Invalid"):
            await REFUSED[case](Stores(hub).artifacts)
        assert (await hub.backend.query("default.collections", Where(), limit=5)).items == ()
