"""The suite is worth something: each backend here breaks one law, and the test of that law finds it."""

import asyncio
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from uuid import uuid4

import pytest
from attrs import evolve

from flowpersist.backends.base import Page, Read, Where, Written
from flowpersist.backends.memory import MemoryBackend
from flowpersist.backends.sqlite import SqliteBackend
from flowpersist.testing.conformance import BackendConformance
from flowpersist.testing.suite.cancelling import Moment
from flowpersist.testing.suite.ground import SCHEMA


class Suite(BackendConformance):
    """Not collected for itself: its tests are called with a backend that must fail them."""

    __test__ = False
    kills = 4
    many = 700


@asynccontextmanager
async def found(kind, *, match=None):
    """What is done inside must fail as a test fails."""
    make = partial(kind, uuid4().hex)
    backend = make()
    await backend.open(SCHEMA)
    with pytest.raises((AssertionError, pytest.fail.Exception, TimeoutError), match=match):
        yield Suite(), backend, make
    await backend.close()


class ReusesRevisions(MemoryBackend):
    async def delete(self, ref, *, if_revision):
        done = await super().delete(ref, if_revision=if_revision)
        self._store.floor = 0
        return done


async def test_a_revision_that_is_used_again_is_found():
    async with found(ReusesRevisions) as (suite, backend, _):
        await suite.test_revisions_are_never_used_twice(backend)
    async with found(ReusesRevisions) as (suite, backend, _):
        await suite.test_a_writer_who_read_the_deleted_record_loses(backend)
    async with found(ReusesRevisions, match="used twice|more than one") as (suite, backend, make):
        await suite.test_tasks_that_contend_can_be_put_in_order(backend, make)


class WaitsBetween(MemoryBackend):
    """Compares, waits, writes."""

    async def put(self, ref, change, *, if_revision, not_after=None):
        record = (await self.get(ref)).record
        await asyncio.sleep(0)
        if (0 if record is None else record.revision) == if_revision:
            record = (await self.get(ref)).record
            if_revision = 0 if record is None else record.revision
        return await super().put(ref, change, if_revision=if_revision, not_after=not_after)


async def test_a_gap_between_comparing_and_writing_is_found():
    async with found(WaitsBetween, match="more than one|follows") as (suite, backend, make):
        await suite.test_tasks_that_contend_can_be_put_in_order(backend, make)
    async with found(WaitsBetween, match="believe that they have taken") as (suite, _, make):
        await suite.test_a_stale_writer_never_wins_over_a_new_life(make)


class ForgetsDeadlines(MemoryBackend):
    async def put(self, ref, change, *, if_revision, not_after=None):
        return await super().put(ref, change, if_revision=if_revision)


async def test_a_deadline_that_is_ignored_is_found():
    for name in ("test_deadlines_are_of_the_store_s_clock", "test_a_deadline_is_of_the_moment_of_the_write"):
        async with found(ForgetsDeadlines, match="DID NOT RAISE") as (suite, backend, _):
            await getattr(suite, name)(backend)


class ClockOfTheHost(MemoryBackend):
    """Its pages tell another time than its records."""

    async def query(self, *args, **options):
        page = await super().query(*args, **options)
        return evolve(page, now=page.now - self.clock_offset)


async def test_a_time_without_the_offset_is_found():
    async with found(ClockOfTheHost) as (suite, _, make):
        await suite.test_every_time_follows_the_offset(make, timedelta(hours=1))


class Swallows(MemoryBackend):
    """Goes on where it is cancelled."""

    async def get(self, ref, *, body=True):
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        return await super().get(ref, body=body)


@pytest.mark.parametrize("moment", Moment)
async def test_a_cancellation_that_is_swallowed_is_found(moment):
    async with found(Swallows, match="went on, and gave") as (suite, backend, _):
        await suite.test_cancelled_reads(backend, moment)


class Tears(MemoryBackend):
    """Writes the head, waits, and writes the body."""

    async def put(self, ref, change, *, if_revision, not_after=None):
        made = await super().put(ref, evolve(change, body=None), if_revision=if_revision, not_after=not_after)
        await asyncio.sleep(0)
        records = self._store.records(ref.namespace).records
        if isinstance(change.body, bytes) and ref.key in records:
            records[ref.key] = evolve(records[ref.key], body=change.body, body_size=len(change.body))
        return made


async def test_a_torn_body_is_found():
    async with found(Tears) as (suite, backend, _):
        await suite.test_cancelled_put_that_makes(backend, Moment.AT_ONCE)
    async with found(Tears) as (suite, backend, _):
        await suite.test_record_and_body_are_of_one_revision(backend)


class MixesUp(MemoryBackend):
    """One connection for all, and a cancelled request leaves its reply to the next caller."""

    def __init__(self, *args):
        super().__init__(*args)
        self._connection = asyncio.Lock()
        self._replies = []

    async def get(self, ref, *, body=True):
        async with self._connection:
            self._replies.append(await super().get(ref, body=body))
            await asyncio.sleep(0)
            return self._replies.pop(0)


async def test_an_answer_for_another_is_found():
    async with found(MixesUp) as (suite, backend, _):
        await suite.test_cancelled_reads(backend, Moment.AT_ONCE)


class PurgesByKey(MemoryBackend):
    """Looks what matches, waits, and deletes whatever stands there then."""

    async def purge(self, namespace, where, *, limit):
        page = await self.query(namespace, where, limit=limit)
        await asyncio.sleep(0)
        purged = 0
        for record in page.items:
            there = (await self.get(record.ref)).record
            purged += there is not None and await self.delete(record.ref, if_revision=there.revision)
        return purged


async def test_a_purge_of_what_no_longer_matches_is_found():
    async with found(PurgesByKey) as (suite, backend, make):
        await suite.test_several_purges_and_writers(backend, make)


class Miscounts(MemoryBackend):
    async def purge(self, namespace, where, *, limit):
        return await super().purge(namespace, where, limit=limit) + 1


async def test_a_wrong_count_is_found():
    async with found(Miscounts, match="were said to be purged") as (suite, backend, make):
        await suite.test_tasks_that_contend_can_be_put_in_order(backend, make)


class SkipsBetweenPages(MemoryBackend):
    """Pages by offset: what is inserted before it shifts the rest."""

    async def query(self, namespace, where, *, order="key", limit, after=None, descending=False):
        start = 0 if after is None else int(after)
        page = await super().query(namespace, where, order=order, limit=100_000, descending=descending)
        end = start + limit
        return Page(page.items[start:end], str(end) if end < len(page.items) else None, page.now)


async def test_a_walk_by_offset_is_found():
    async with found(SkipsBetweenPages) as (suite, backend, _):
        await suite.test_a_walk_while_several_tasks_insert(backend, "key")


class CutsShort(MemoryBackend):
    async def query(self, namespace, where, *, limit, **options):
        return await super().query(namespace, Where(), limit=min(limit, 499), **options)

    async def get(self, ref, *, body=True):
        read = await super().get(ref, body=body)
        if read.record is None or read.record.body is None:
            return read
        return Read(evolve(read.record, body=read.record.body[: 16 * 1024 * 1024]), read.now)


async def test_a_body_that_is_cut_short_is_found():
    async with found(CutsShort) as (suite, backend, _):
        await suite.test_bodies_up_to_the_largest(backend)


class ReadsAndReplaces(MemoryBackend):
    """Replaces the revision that it has read, and gives up where another write came in between."""

    async def put(self, ref, change, *, if_revision=None, not_after=None):
        if if_revision is None:
            record = (await self.get(ref)).record
            await asyncio.sleep(0)
            if_revision = 0 if record is None else record.revision
        return await super().put(ref, change, if_revision=if_revision, not_after=not_after)


async def test_a_write_without_a_revision_that_reads_first_is_found():
    async with found(ReadsAndReplaces, match="lost") as (suite, _, make):
        await suite.test_of_many_at_once_each_is_done(make)
    async with found(ReadsAndReplaces, match="DID NOT RAISE") as (suite, backend, _):
        await suite.test_a_repeat_that_finds_itself_done_is_told_so(backend, b"b")


class BodiesOfLater(MemoryBackend):
    """Reads the bodies of a page once the page is read, whatever revision they are of then."""

    async def query(self, *args, bodies=False, **options):
        page = await super().query(*args, **options)
        if not bodies:
            return page
        await asyncio.sleep(0)
        whole = [evolve(one, body=(await self.get(one.ref)).record.body) for one in page.items]
        return evolve(page, items=tuple(whole))


async def test_a_body_of_another_revision_in_a_page_is_found():
    async with found(BodiesOfLater) as (suite, backend, _):
        await suite.test_record_and_body_are_of_one_revision_here_too(backend)


async def test_a_page_without_a_bound_in_bytes_is_found():
    async with found(BodiesOfLater) as (suite, backend, _):
        await suite.test_a_page_ends_before_its_bodies_take_too_much(backend)


class Hasty(SqliteBackend):
    """Acknowledges first, and writes then."""

    def __init__(self, path):
        super().__init__(path)
        self.tasks = set()

    async def put(self, ref, change, *, if_revision, not_after=None):
        writing = asyncio.ensure_future(super().put(ref, change, if_revision=if_revision, not_after=not_after))
        if not if_revision:
            return await writing
        self.tasks.add(writing)
        writing.add_done_callback(self.tasks.discard)
        writing.add_done_callback(lambda done: done.exception())
        return Written(if_revision + 1, (await self.ping()).now)


def hasty(path):
    return Hasty(path)


@pytest.mark.slow
async def test_an_acknowledgement_before_the_write_is_found(tmp_path):
    backend = hasty(tmp_path / "store.db")
    await backend.open(SCHEMA)
    with pytest.raises(AssertionError, match="was acknowledged at step"):
        await Suite().test_what_killed_writers_were_told_is_there(backend, partial(hasty, tmp_path / "store.db"))
    await backend.close()
