"""Several puts that fail in every way: what is reported is what happened, and nothing is done twice."""

import random

import pytest

from flowpersist.backends.base import Put, RecordChange, RecordRef, Written
from flowpersist.backends.kit import DelegatingBackend
from flowpersist.backends.memory import MemoryBackend
from flowpersist.errors import BackendUnavailable, DeadlinePassed, RevisionConflict, StorageError, UnknownOutcome
from flowpersist.sealed.retrying import RetryingBackend, Runtime
from flowpersist.testing.faults import FaultyBackend

KEYS = 6


async def at_once(_):
    pass


def refs():
    return [RecordRef("n", f"k{number}") for number in range(KEYS)]


class Chaotic(DelegatingBackend):
    """Each put of several goes its own way: done or not, and reported or not."""

    def __init__(self, inner, chance, ways):
        super().__init__(inner)
        self.chance = chance
        self.ways = ways
        self.seen = []

    async def put_many(self, puts):
        self.seen.append(len(puts))
        ways = [self.chance.choice(self.ways) for _ in puts]
        done = iter(await self.inner.put_many([it for it, way in zip(puts, ways, strict=True) if way in "dl"]))
        results = [next(done) if way in "dl" else None for way in ways]
        if self.chance.random() < 0.2:
            raise UnknownOutcome("lost", self.name)
        return tuple(self.result(way, one) for way, one in zip(ways, results, strict=True))

    def result(self, way, one):
        if way == "d":
            return one
        if way == "l":
            return UnknownOutcome("lost", self.name)
        return BackendUnavailable("away", self.name, True) if way == "r" else StorageError("broken", self.name)


@pytest.mark.parametrize("ways", ["dlr", "dlrp", "lr", "lp", "rp", "ddddddl"])
async def test_what_is_reported_is_what_happened(ways):
    for seed in range(60):
        chance = random.Random(seed)
        inner = MemoryBackend()
        backend = RetryingBackend(chaotic := Chaotic(inner, chance, ways), Runtime(attempts=4, sleep=at_once))
        await backend.open([])
        before = {}
        for ref in refs():
            if chance.random() < 0.5:
                before[ref] = (await inner.put(ref, RecordChange("old"))).revision
        puts = [
            Put(ref, RecordChange(f"w-{seed}-{ref.key}"), chance.choice([None, before.get(ref, 0)])) for ref in refs()
        ]
        results = await backend.put_many(puts)
        assert chaotic.seen == sorted(chaotic.seen, reverse=True), "what had ended was put again"
        assert len(chaotic.seen) <= 4
        for put, result in zip(puts, results, strict=True):
            record = (await inner.get(put.ref)).record
            mine = record is not None and record.write_id == put.change.write_id
            if isinstance(result, Written):
                assert mine
                assert record.revision == result.revision
            else:
                assert isinstance(result, UnknownOutcome) or not mine, (seed, result)
            if mine:
                assert record.revision <= before.get(put.ref, 0) + 1, "done twice"


async def test_refusals_are_told_at_once():
    faulty = FaultyBackend(MemoryBackend())
    backend = RetryingBackend(faulty, Runtime(sleep=at_once))
    await backend.open([])
    now = (await backend.put(refs()[0], RecordChange("old"))).now
    puts = [
        Put(refs()[0], RecordChange("w"), 0),
        Put(refs()[1], RecordChange("w"), None, now.replace(year=2000)),
        Put(refs()[2], RecordChange("w")),
    ]
    assert [type(one) for one in await backend.put_many(puts)] == [RevisionConflict, DeadlinePassed, Written]
    assert faulty.calls["put_many"] == 1


async def test_a_store_that_stays_away_fails_each():
    faulty = FaultyBackend(MemoryBackend())
    backend = RetryingBackend(faulty, Runtime(attempts=3, sleep=at_once))
    await backend.open([])
    puts = [Put(ref, RecordChange("w")) for ref in refs()]
    faulty.fail("put_many", times=3)
    assert {type(one) for one in await backend.put_many(puts)} == {BackendUnavailable}
    assert faulty.calls["put_many"] == 3
    # One attempt may have been done, and that the later ones failed does not tell.
    faulty.lose("put_many")
    faulty.fail("put_many", times=2)
    assert {type(one) for one in await backend.put_many(puts)} == {UnknownOutcome}
