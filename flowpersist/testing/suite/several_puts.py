"""Several puts at once: each does what it would do alone, whatever becomes of the others."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import pytest

from flowpersist.backends.base import (
    KEEP,
    MAX_REFS,
    BodyLimited,
    Put,
    Record,
    RecordRef,
    StorageBackend,
    Where,
    Written,
)
from flowpersist.errors import DeadlinePassed, PersistenceError, RevisionConflict, StorageError, UnknownOutcome
from flowpersist.testing.faults import FaultyBackend
from flowpersist.testing.proxy import Proxy
from flowpersist.testing.suite.ground import (
    MEBIBYTE,
    NAMESPACE,
    SOON,
    Ground,
    change,
    largest,
    later,
    make,
    ref,
    stored,
)
from flowpersist.testing.suite.network import insisting

__all__ = ["SeveralPuts"]

#: What stands there before; None: nothing.
BEFORE: Final[tuple[Mapping[str, object] | None, ...]] = (
    None,
    {},
    {"attributes": {"status": "x", "run": "r"}, "head": b"h" * 5000, "body": b"b" * 70_000, "due_at": SOON},
)
#: What is put.
PARTS: Final[tuple[Mapping[str, object], ...]] = (
    {},
    dict.fromkeys(("attributes", "head", "body", "due_at")),
    {"attributes": {"status": "y", "count": 2}, "head": b"n", "body": None},
    {"attributes": {"run": "r2"}, "head": b"n", "body": b"new"},
    {"attributes": {}, "head": b"n" * 6000, "body": b"new" * 30_000, "due_at": SOON},
    {"head": b"n", "due_at": None, "body": KEEP},
)
ROUNDS: Final = 6
KEYS: Final = 24


def _content(record: Record | None) -> object:
    return record and (record.attributes, record.head, record.body, record.body_size, record.due_at)


def _written(results: Sequence[Written | PersistenceError]) -> list[Written]:
    failed = [result for result in results if isinstance(result, PersistenceError)]
    assert not failed, failed
    return [result for result in results if isinstance(result, Written)]


class SeveralPuts(Ground):
    """``put_many`` is as many puts."""

    async def test_each_does_what_it_does_alone(self, backend: StorageBackend) -> None:
        cases = [(before, parts, which) for before in BEFORE for parts in PARTS for which in ("any", "right", "wrong")]
        puts: list[Put] = []
        for number, (before, parts, which) in enumerate(cases):
            for side in ("alone", "together"):
                made = None if before is None else await make(backend, f"{side}-{number}", **before)
                standing = 0 if made is None else made.revision
                at = {"any": None, "right": standing, "wrong": standing + 1}[which]
                puts.append(Put(ref(f"{side}-{number}"), change(**parts), at))
        alone = [await _alone(backend, put) for put in puts[::2]]
        together = await backend.put_many(puts[1::2])
        assert [type(one) for one in alone] == [type(one) for one in together]
        for number, (case, result) in enumerate(zip(cases, together, strict=True)):
            one, other = [(await backend.get(ref(f"{side}-{number}"))).record for side in ("alone", "together")]
            assert _content(one) == _content(other), case
            if isinstance(result, Written):
                assert other is not None
                assert (other.revision, other.updated_at) == (result.revision, result.now)
                assert other.write_id == puts[2 * number + 1].change.write_id
            else:
                assert isinstance(result, RevisionConflict)
                assert f"together-{number} " in result.message

    async def test_one_that_fails_costs_the_others_nothing(self, backend: StorageBackend) -> None:
        for key in ("changed", "late", "there"):
            await make(backend, key, head=b"old", body=b"old")
        now = (await backend.ping()).now
        backend.clock_offset += later(2)
        body = b"b" * 1000
        puts = [
            Put(ref("new"), change(head=b"n", body=body), not_after=now + later(4)),
            Put(ref("late"), change(head=b"n", body=body), not_after=now + later(1)),
            Put(ref("there"), change(head=b"n", body=body), if_revision=0),
            Put(ref("late-new"), change(head=b"n"), if_revision=0, not_after=now + later(1)),
            Put(ref("changed"), change(head=b"n", body=None)),
            Put(RecordRef("conformance.other", "new"), change(head=b"n", body=body), if_revision=0),
        ]
        results = await backend.put_many(puts)
        kinds = [Written, DeadlinePassed, RevisionConflict, DeadlinePassed, Written, Written]
        assert [type(result) for result in results] == kinds
        for put, kind in zip(puts, kinds, strict=True):
            record = (await backend.get(put.ref)).record
            head = b"n" if kind is Written else b"" if put.ref.key == "late-new" else b"old"
            assert (b"" if record is None else record.head) == head

    async def test_a_body_that_is_too_large_fails_alone(self, backend: StorageBackend) -> None:
        if not isinstance(backend, BodyLimited) or backend.largest_body > 32 * MEBIBYTE:
            pytest.skip("it takes bodies that are too large for a test")
        puts = [Put(ref("a"), change(body=bytes(backend.largest_body + 1))), Put(ref("b"), change(body=b"b"))]
        refused, made = await backend.put_many(puts)
        assert type(refused) is StorageError
        assert isinstance(made, Written)
        assert (await backend.get(ref("a"))).record is None

    async def test_bodies_of_more_than_a_page(self, backend: StorageBackend) -> None:
        size = largest(backend, 6 * MEBIBYTE)
        bodies = {f"k{number}": bytes([number]) * (size if number % 2 else 1000) for number in range(1, 8)}
        for _ in range(2):
            _written(await backend.put_many([Put(ref(key), change(body=body)) for key, body in bodies.items()]))
            for key, body in bodies.items():
                assert (await stored(backend, key)).body == body

    async def test_as_many_as_may_be(self, backend: StorageBackend) -> None:
        keys = [f"k{number:04}" for number in range(MAX_REFS)]
        random.Random(1).shuffle(keys)
        revisions: dict[str, int] = {}
        for head in (b"one", b"two"):
            body = b"b" * 100 if head == b"two" else None
            puts = [
                Put(ref(key), change(attributes={"status": "x"}, head=head + key.encode(), body=body)) for key in keys
            ]
            for key, made in zip(keys, _written(await backend.put_many(puts)), strict=True):
                assert made.revision > revisions.get(key, 0)
                revisions[key] = made.revision
            page = await backend.query(NAMESPACE, Where({"status": "x"}), limit=MAX_REFS, bodies=True)
            assert [record.ref.key for record in page.items] == sorted(keys)
            for record in page.items:
                assert record.head == head + record.ref.key.encode()
                assert (record.revision, record.body) == (revisions[record.ref.key], body)

    async def test_none_too_many_and_what_makes_no_sense(self, backend: StorageBackend) -> None:
        assert await backend.put_many([]) == ()
        with pytest.raises(ValueError, match=str(MAX_REFS)):
            await backend.put_many([Put(ref(f"k{number}"), change()) for number in range(MAX_REFS + 1)])
        good = Put(ref("a"), change())
        for bad in (
            good,
            Put(ref("b"), change(), if_revision=-1),
            Put(ref("b"), change(), if_revision=2**63),
            Put(ref("b"), change(), not_after=datetime(2040, 1, 1, tzinfo=UTC).replace(tzinfo=None)),
        ):
            with pytest.raises(ValueError):  # noqa: PT011 - that nothing is written matters
                await backend.put_many([good, bad])
        assert (await backend.get(ref("a"))).record is None

    async def test_a_repeat_finds_what_was_done(self, backend: StorageBackend) -> None:
        faulty = FaultyBackend(backend)
        await make(backend, "there", body=b"old")
        puts = [Put(ref(key), change(head=key.encode(), body=b"b")) for key in ("new", "there", "changed")]
        faulty.lose("put_many")
        with pytest.raises(UnknownOutcome):
            await faulty.put_many(puts)
        await backend.put(ref("changed"), change(head=b"another's"))
        before = [await stored(backend, put.ref.key) for put in puts[:2]]
        *done, renewed = await faulty.put_many([*puts[:2], puts[2]])
        assert [type(result) for result in done] == [RevisionConflict, RevisionConflict]
        assert [await stored(backend, put.ref.key) for put in puts[:2]] == before, "done twice"
        assert isinstance(renewed, Written)
        assert (await stored(backend, "changed")).head == b"changed"
        assert faulty.calls["put_many"] == 2

    async def test_one_of_many_wins_at_a_revision(self, backend: StorageBackend) -> None:
        keys = [f"k{number:02}" for number in range(KEYS)]
        standing = dict.fromkeys(keys, 0)
        for number in range(ROUNDS):

            async def write(who: int, number: int = number) -> list[tuple[str, Written]]:
                mine = random.Random(who * 100 + number).sample(keys, KEYS)
                head = b"%d-%d" % (who, number)
                puts = [Put(ref(key), change(head=head, body=head * 1000), standing[key]) for key in mine]
                results = await backend.put_many(puts)
                assert all(isinstance(result, Written | RevisionConflict) for result in results), results
                return [(key, result) for key, result in zip(mine, results, strict=True) if isinstance(result, Written)]

            won = [one for some in await asyncio.gather(*map(write, range(4))) for one in some]
            assert sorted(key for key, _ in won) == keys
            standing.update({key: made.revision for key, made in won})
            for key in keys:
                record = await stored(backend, key)
                assert record.revision == standing[key]
                assert record.body == record.head * 1000

    async def test_writers_without_a_revision_do_not_block_each_other(self, backend: StorageBackend) -> None:
        keys = [f"k{number:02}" for number in range(KEYS)]

        async def write(who: int) -> list[tuple[str, int]]:
            made: list[tuple[str, int]] = []
            for number in range(ROUNDS):
                mine = random.Random(who * 100 + number).sample(keys, KEYS // 2)
                body = None if (who + number) % 3 == 0 else b"%d." % who * 500
                puts = [Put(ref(key), change(attributes={"count": who}, head=body or b"", body=body)) for key in mine]
                done = _written(await backend.put_many(puts))
                made += [(key, one.revision) for key, one in zip(mine, done, strict=True)]
                for key in mine[:3]:
                    made.append((key, (await backend.put(ref(key), change(head=b"", body=None))).revision))
            return made

        made = [one for some in await asyncio.gather(*map(write, range(4))) for one in some]
        assert len(set(made)) == len(made), "a revision was used twice"
        top = {key: max(revision for it, revision in made if it == key) for key in {key for key, _ in made}}
        for key, revision in top.items():
            record = await stored(backend, key)
            assert record.revision == revision
            assert (record.body or b"") == record.head

    async def test_lost_acknowledgements_of_several(
        self, backend: StorageBackend, proxied: StorageBackend, proxy: Proxy
    ) -> None:
        for replies in range(1, 7):
            proxy.reset = replies % 2 == 1
            mine = {
                f"k{number}": change(head=b"%d" % replies, body=b"b" * 30_000 * (number % 2)) for number in range(8)
            }
            puts = [Put(ref(key), one) for key, one in mine.items()]
            proxy.lose(replies)
            try:
                results: Sequence[Written | PersistenceError] = await proxied.put_many(puts)
            except StorageError as error:
                assert error.retryable or isinstance(error, UnknownOutcome)
                results = [error] * len(puts)
            finally:
                proxy.disarm()
            for put, result in zip(puts, results, strict=True):
                record = (await backend.get(put.ref)).record
                done = record is not None and record.write_id == put.change.write_id
                if isinstance(result, Written):
                    assert done
                elif not isinstance(result, UnknownOutcome):
                    assert isinstance(result, StorageError)
                    assert result.retryable
                    assert not done, f"{result!r}, and the write was done: that is an UnknownOutcome"
                await insisting(lambda put=put: _again(proxied, put))  # type: ignore[misc]
                assert (await stored(backend, put.ref.key)).head == put.change.head


async def _alone(backend: StorageBackend, put: Put) -> Written | PersistenceError:
    try:
        return await backend.put(put.ref, put.change, if_revision=put.if_revision, not_after=put.not_after)
    except PersistenceError as error:
        return error


async def _again(backend: StorageBackend, put: Put) -> None:
    try:
        await backend.put(put.ref, put.change)
    except RevisionConflict:
        record = await stored(backend, put.ref.key)
        assert record.write_id == put.change.write_id
