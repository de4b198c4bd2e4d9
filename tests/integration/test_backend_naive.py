"""The suite is worth something: a backend that reads and then writes, with a wait in between, fails its races."""

import asyncio
from functools import partial

import pytest

from flowpersist.backends.base import RecordChange
from flowpersist.backends.memory import MemoryBackend
from flowpersist.errors import RevisionConflict
from flowpersist.testing.suite.ground import SCHEMA
from flowpersist.testing.suite.races import Races


class Naive(MemoryBackend):
    async def put(self, ref, change: RecordChange, *, if_revision, not_after=None):
        record = (await self.get(ref, body=False)).record
        revision = 0 if record is None else record.revision
        if revision != if_revision:
            raise RevisionConflict("not now", self.name)
        await asyncio.sleep(0)
        record = (await self.get(ref, body=False)).record
        revision = 0 if record is None else record.revision
        return await super().put(ref, change, if_revision=revision, not_after=not_after)


@pytest.fixture
async def naive():
    backend = Naive("naive")
    await backend.open(SCHEMA)
    yield backend
    await backend.close()


async def test_the_race_of_tasks_finds_it(naive):
    with pytest.raises(AssertionError, match="believe that they won"):
        await Races().test_one_of_many_tasks_wins(naive)


async def test_the_race_of_connections_finds_it():
    with pytest.raises(AssertionError):
        await Races().test_one_of_many_connections_wins(partial(Naive, "naive connections"))


async def test_lost_increments_are_found(naive):
    with pytest.raises(AssertionError):
        await Races().test_increments_are_not_lost(naive)
