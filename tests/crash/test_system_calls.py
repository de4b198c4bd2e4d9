"""A process is killed before any system call of an operation: the store holds what was there, or what was written.

The store is opened, strace is attached, and the process dies at the n-th call of one name, for all names and n that the
operation has when nobody is killed. A few of these moments; with FLOWPERSIST_LONG=1 all of them, of all operations.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import subprocess
from collections import Counter, defaultdict
from contextlib import contextmanager

import pytest

from flowpersist.backends.base import NamespaceSchema, RecordChange, RecordRef, Where
from flowpersist.backends.registry import backend_from_url
from flowpersist.testing.suite.processes import CONTEXT
from machine import program

LONG = os.environ.get("FLOWPERSIST_LONG") == "1"
SAMPLES = 2
SCHEMA = [NamespaceSchema("n", {"status": str})]
REF, OTHER = RecordRef("n", "k"), RecordRef("n", "other")
KINDS = {"sqlite": "sqlite:///{}/store.db", "filesystem": "file:{}/store"}
PATIENCE = 60
#: Waiting for events is no part of an operation.
WAITING = re.compile(r"e?poll|p?select")
#: Before these calls nothing has changed since the one before.
READING = re.compile(r"p?read|.*stat|access|lseek|getdents|mmap|munmap")


def small(revision):
    return RecordChange(f"w{revision}", attributes={"status": f"s{revision}"}, head=b"h%d" % revision, body=b"small")


def large(revision):
    """So large that it stands apart from its record."""
    return RecordChange(
        f"w{revision}", attributes={"status": f"s{revision}"}, head=b"h%d" % revision, body=b"x" * 200_000
    )


async def make(backend, revision):
    return (await backend.put(OTHER, small(2), if_revision=0)).revision


async def replace(backend, revision):
    return (await backend.put(REF, small(2), if_revision=revision)).revision


async def replace_by_large(backend, revision):
    return (await backend.put(REF, large(2), if_revision=revision)).revision


async def delete(backend, revision):
    assert await backend.delete(REF, if_revision=revision)


async def purge(backend, revision):
    assert await backend.purge("n", Where({"status": "s1"}), limit=10) == 1


OPERATIONS = {
    "make": (make, small, None),
    "replace": (replace, small, small(2)),
    "replace a large one": (replace_by_large, large, large(2)),
    "delete": (delete, large, None),
    "purge": (purge, small, None),
}


def operate(url, name, revision, pipe):
    """The process that dies."""

    async def work():
        backend = backend_from_url(url)
        await backend.open(SCHEMA)
        pipe.send("open")
        await asyncio.to_thread(pipe.recv)
        await OPERATIONS[name][0](backend, revision)
        pipe.send("done")
        # Closing is another operation.
        os._exit(0)

    asyncio.run(work())


@contextmanager
def attached(pid, log, *options):
    """Strace on a process and all of its threads."""
    command = [program("strace", "strace"), "-f", "-p", str(pid), "-o", str(log), *options]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        for said in tracer.stderr:
            if "not permitted" in said:
                pytest.skip("tracing is not allowed here")
            if "attached" in said:
                break
        else:
            pytest.fail("strace ended before it had attached")
        yield
    finally:
        tracer.terminate()
        tracer.communicate(timeout=PATIENCE)


def traced(url, name, revision, log, *options):
    """Whether the operation was acknowledged, by a process that strace may kill."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=operate, args=(url, name, revision, theirs))
    process.start()
    theirs.close()
    try:
        assert ours.poll(PATIENCE)
        assert ours.recv() == "open"
        with attached(process.pid, log, *options):
            ours.send("go")
            process.join(PATIENCE)
        assert process.exitcode in {0, -9}, process.exitcode
        try:
            done = ours.poll() and ours.recv() == "done"
        except (EOFError, ConnectionResetError):
            # Reset where it died before it had read what we sent.
            done = False
        assert done or process.exitcode == -9
        return done, process.exitcode == 0
    finally:
        process.kill()
        process.join()
        ours.close()


class Place:
    """A store with one record, new for each process that dies."""

    def __init__(self, kind, name, directory):
        self.kind, self.name, self.directory = kind, name, directory
        self.log = directory / "calls"
        self.full = directory / "full"
        self.full.mkdir()
        self.first = OPERATIONS[name][1](1)
        #: Whether the operation was done, over all who died.
        self.left = set()
        self.revision = asyncio.run(self.prepared())

    async def prepared(self):
        backend = backend_from_url(KINDS[self.kind].format(self.full))
        await backend.open(SCHEMA)
        revision = (await backend.put(REF, self.first, if_revision=0)).revision
        await backend.close()
        return revision

    def run(self, *options):
        """Of a copy, what was told and what is left is compared; whether the process came to its end."""
        here = self.directory / "here"
        shutil.copytree(self.full, here)
        try:
            url = KINDS[self.kind].format(here)
            done, ended = traced(url, self.name, self.revision, self.log, *options)
            self.left.add(asyncio.run(self.check(url, done=done)))
            assert not list(here.rglob("*.new"))
            return ended
        finally:
            shutil.rmtree(here)

    async def check(self, url, *, done):
        """All of the old or all of the new, indexed, and nobody holds a lock; whether it is the new."""
        backend = backend_from_url(url)
        await backend.open(SCHEMA)
        stored = {ref: (await backend.get(ref)).record for ref in (REF, OTHER)}
        before = {REF: self.first, OTHER: None}
        after = (
            {REF: self.first, OTHER: small(2)} if self.name == "make" else {REF: OPERATIONS[self.name][2], OTHER: None}
        )
        new = shown(stored) == shown(after)
        assert new or (not done and shown(stored) == shown(before))
        there = [record for record in stored.values() if record is not None]
        page = await backend.query("n", Where(), limit=10)
        assert [one.ref for one in page.items] == [one.ref for one in there]
        for status in ("s1", "s2"):
            found = await backend.query("n", Where({"status": status}), limit=10)
            assert [one.ref for one in found.items] == [one.ref for one in there if one.attributes["status"] == status]
        for ref, record in stored.items():
            await backend.put(ref, small(3), if_revision=0 if record is None else record.revision)
        await backend.close()
        return new

    def calls(self):
        """How many calls of each name a thread makes at most, when nobody is killed."""
        assert self.run("-e", "trace=%file,%desc")
        counts = defaultdict(Counter)
        for line in self.log.read_text().splitlines():
            made = re.match(r"(\d+) +(\w+)\(", line)
            if made and not WAITING.match(made[2]):
                counts[made[2]][made[1]] += 1
        return {name: max(threads.values()) for name, threads in counts.items()}


def shown(records):
    return {
        ref.key: record and (record.write_id, dict(record.attributes), record.head, record.body)
        for ref, record in records.items()
    }


def moments(calls):
    """All of them, or some of those before which something may have changed."""
    every = [(name, number) for name, count in sorted(calls.items()) for number in range(1, count + 1)]
    if LONG:
        return every
    changing = [moment for moment in every if not READING.match(moment[0])]
    return random.Random(7).sample(changing, min(SAMPLES, len(changing)))


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS if LONG else ["make", "replace a large one", "delete"])
@pytest.mark.parametrize("kind", KINDS)
def test_whoever_is_killed_before_any_system_call_leaves_the_old_or_the_new(kind, name, tmp_path, record_property):
    place = Place(kind, name, tmp_path)
    calls = place.calls()
    assert len(calls) > 3
    killed, place.left = 0, set()
    for call, number in moments(calls):
        options = ("-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={number}")
        killed += not place.run(*options)
    assert killed
    assert not LONG or place.left == {True, False}
    record_property("attempts", killed)
