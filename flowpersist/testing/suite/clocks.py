"""Time: the store's own clock and an offset, whatever others think that it is."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from flowpersist.backends.base import Range, StorageBackend, Where
from flowpersist.errors import DeadlinePassed
from flowpersist.testing.suite.ground import (
    NAMESPACE,
    BackendFactory,
    Ground,
    all_pages,
    change,
    later,
    make,
    opened,
    ref,
    stored,
)

__all__ = ["Clocks"]

HOUR = timedelta(hours=1)
#: What a round trip and a busy machine may take.
NEAR = timedelta(seconds=30)


class Clocks(Ground):
    """Every time that a backend tells, and every decision, is by its store's clock and its own offset."""

    @pytest.mark.parametrize("offset", [timedelta(0), HOUR, -HOUR, timedelta(days=4000, microseconds=1)])
    async def test_every_time_follows_the_offset(self, make_backend: BackendFactory, offset: timedelta) -> None:
        async with opened(make_backend) as backend:
            real = (await backend.ping()).now
            backend.clock_offset += offset
            written = await make(backend, "a", attributes={"status": "x"})
            record = await stored(backend, "a")
            told = (
                written.now,
                record.created_at,
                record.updated_at,
                (await backend.get(ref("a"))).now,
                (await backend.get(ref("nobody"))).now,
                (await backend.query(NAMESPACE, Where(), limit=1)).now,
                (await backend.ping()).now,
            )
            for moment in told:
                assert timedelta(0) <= moment - offset - real + later(0.01) < NEAR + later(0.01)
                assert moment.utcoffset() == timedelta(0)
            assert list(told) == sorted(told), "time went backwards"

    async def test_offsets_are_each_backend_s_own(self, make_backend: BackendFactory) -> None:
        async with opened(make_backend) as here, opened(make_backend) as ahead:
            ahead.clock_offset += HOUR
            first = await make(here, "a", head=b"0")
            deadline = first.now + later(30)
            with pytest.raises(DeadlinePassed):
                await ahead.put(ref("a"), change(head=b"late"), if_revision=first.revision, not_after=deadline)
            second = await here.put(ref("a"), change(head=b"1"), if_revision=first.revision, not_after=deadline)
            third = await ahead.put(ref("a"), change(), if_revision=second.revision, not_after=deadline + HOUR)
            record = await stored(here, "a")
            assert (record.head, record.created_at, record.updated_at) == (b"1", first.now, third.now)
            # Where a server's clock can only be sampled, two backends differ by a round trip.
            assert HOUR - later(0.01) <= third.now - second.now < HOUR + NEAR

    async def test_what_is_due_is_asked_by_the_store_s_clock(self, backend: StorageBackend) -> None:
        now = (await backend.ping()).now
        for minutes in (1, 2, 3):
            await make(backend, f"in {minutes}", due_at=now + later(minutes))
        for minutes, due in ((0, []), (1, ["in 1"]), (1, ["in 1", "in 2"]), (1, ["in 1", "in 2", "in 3"])):
            backend.clock_offset += later(minutes)
            now = (await backend.ping()).now
            assert await all_pages(backend, Where(range=Range("due", before=now))) == due
        assert await backend.purge(NAMESPACE, Where(range=Range("due", before=now - later(1))), limit=10) == 2

    async def test_a_deadline_is_of_the_moment_of_the_write(self, backend: StorageBackend) -> None:
        """Read in time and written late is late, also for a record that is deleted in between and made anew."""
        made = await make(backend, "a")
        deadline = made.now + later(5)
        await backend.delete(ref("a"), if_revision=made.revision)
        backend.clock_offset += later(6)
        with pytest.raises(DeadlinePassed):
            await make_before(backend, "a", deadline)
        backend.clock_offset -= later(6)
        assert (await make_before(backend, "a", deadline)) > made.revision


async def make_before(backend: StorageBackend, key: str, deadline: datetime) -> int:
    """A new record, if it is not too late."""
    return (await backend.put(ref(key), change(), if_revision=0, not_after=deadline)).revision
