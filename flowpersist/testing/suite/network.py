"""A network that fails, by a proxy in front of the server: lost replies, cut connections, a server that is away."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import pytest

from flowpersist.backends.base import Record, RecordChange, StorageBackend, Where, Written
from flowpersist.errors import BackendUnavailable, RevisionConflict, StorageError, UnknownOutcome
from flowpersist.testing.proxy import Proxy, Side
from flowpersist.testing.suite.cancelling import fill_own, own_answers
from flowpersist.testing.suite.ground import (
    MEBIBYTE,
    NAMESPACE,
    PATIENCE,
    SCHEMA,
    BackendFactory,
    Ground,
    change,
    make,
    ref,
    stored,
)

__all__ = ["Network", "settled"]

T = TypeVar("T")
#: No operation takes that many round trips.
MANY_REPLIES: Final = 60
#: What no pool of a default size holds.
MANY_CONNECTIONS: Final = 100
#: Seconds in which a cancelled operation ends, whatever the server does.
PROMPT: Final = 5


def _transient(error: StorageError) -> bool:
    return error.retryable or isinstance(error, UnknownOutcome)


async def insisting(operation: Callable[[], Awaitable[T]]) -> T:
    """Repeat what fails for now, as a caller would."""
    ends = time.monotonic() + PATIENCE
    while True:
        try:
            return await operation()
        except StorageError as error:
            assert _transient(error), f"a failure of the network that is not retryable: {error!r}"
            assert time.monotonic() < ends, f"no recovery: {error!r}"
        await asyncio.sleep(0.02)


async def settled(backend: StorageBackend, key: str, mine: RecordChange, revision: int) -> int:
    """Repeat a put of unknown outcome until it is known; gives the revision that it made."""

    async def attempt() -> int:
        try:
            return (await backend.put(ref(key), mine, if_revision=revision)).revision
        except RevisionConflict:
            record = (await backend.get(ref(key), body=False)).record
            assert record is not None
            assert record.write_id == mine.write_id, "somebody else's write, and there is nobody else"
            return record.revision

    return await insisting(attempt)


class Network(Ground):
    """What was not heard was done or was not, its caller finds out which, and all goes on by itself."""

    async def _lost(
        self,
        proxy: Proxy,
        replies: int,
        operation: Callable[[], Awaitable[T]],
        unchanged: Callable[[], Awaitable[bool]],
    ) -> T | None:
        """The operation's result, None where it raised what it may."""
        proxy.lose(replies)
        try:
            return await operation()
        except UnknownOutcome:
            return None
        except StorageError as error:
            assert isinstance(error, BackendUnavailable), f"{error!r} for a lost reply"
            assert error.retryable, f"{error!r} is not retryable"
            assert await unchanged(), f"{error!r}, and the write was done: that is an UnknownOutcome"
            return None
        finally:
            proxy.disarm()

    async def test_lost_acknowledgements_of_puts(
        self, backend: StorageBackend, proxied: StorageBackend, proxy: Proxy
    ) -> None:
        heard: Counter[bool] = Counter()
        replies = 1
        for number in range(self.lost):
            proxy.reset = number % 2 == 1
            key = f"k{number // 4}"
            before = (await backend.get(ref(key))).record
            revision = 0 if before is None else before.revision
            mine = change(head=b"%d" % number, body=b"%d." % number * 30_000)

            async def unchanged(key: str = key, before: Record | None = before) -> bool:
                return (await backend.get(ref(key))).record == before

            written = await self._lost(
                proxy,
                replies,
                lambda: proxied.put(ref(key), mine, if_revision=revision),  # noqa: B023
                unchanged,
            )
            done = (await backend.get(ref(key))).record
            made = await settled(proxied, key, mine, revision)
            record = await stored(backend, key)
            assert (record.head, record.body, record.revision) == (mine.head, mine.body, made)
            if written is not None:
                assert written.revision == made
            if done is not None and done.write_id == mine.write_id:
                assert done.revision == made, "the write was done twice"
            heard[written is not None] += 1
            # Each reply of each kind of put in turn, until none is left to lose.
            replies = 1 if written is not None else replies + 1
        assert heard[False], "no acknowledgement was lost: is the proxy in between?"

    async def test_lost_acknowledgements_of_deletions(
        self, backend: StorageBackend, proxied: StorageBackend, proxy: Proxy
    ) -> None:
        replies, told = 1, 0
        for number in range(self.lost // 2):
            revision = (await make(backend, "a", head=b"%d" % number, body=bytes(70_000))).revision

            async def unchanged() -> bool:
                return (await backend.get(ref("a"))).record is not None

            gone = await self._lost(
                proxy,
                replies,
                lambda: proxied.delete(ref("a"), if_revision=revision),  # noqa: B023
                unchanged,
            )
            assert gone is not False, "it was there, and this caller has deleted it"
            told += gone is None
            await insisting(lambda: proxied.delete(ref("a"), if_revision=revision))  # noqa: B023
            assert (await backend.get(ref("a"))).record is None
            replies = 1 if gone else replies + 1
        assert told, "no acknowledgement was lost: is the proxy in between?"

    async def test_lost_answers_to_reads_and_purges(self, proxied: StorageBackend, proxy: Proxy) -> None:
        await fill_own(proxied)
        await make(proxied, "a", head=b"h", body=b"b" * 70_000, attributes={"status": "x"})

        async def read() -> None:
            record = await stored(proxied, "a")
            assert (record.head, record.body) == (b"h", b"b" * 70_000)

        async def listed() -> None:
            (record,) = (await proxied.query(NAMESPACE, Where({"status": "x"}), limit=5)).items
            assert record.head == b"h"

        async def purged() -> None:
            assert await proxied.purge(NAMESPACE, Where({"status": "nothing"}), limit=5) == 0

        async def pinged() -> None:
            await proxied.ping()

        for operation in (read, listed, purged, pinged):
            replies = 1
            while await self._spoilt(proxy, replies, operation):
                await insisting(operation)
                replies += 1
            await own_answers(proxied)

    async def _spoilt(self, proxy: Proxy, replies: int, operation: Callable[[], Awaitable[None]]) -> bool:
        """Whether there was such a reply to lose."""
        proxy.lose(replies)
        try:
            await operation()
        except StorageError as error:
            assert _transient(error), f"{error!r} for a lost reply"
        spoilt = not proxy.armed
        proxy.disarm()
        assert replies < MANY_REPLIES
        return spoilt

    async def test_cut_while_a_large_body_comes(self, proxied: StorageBackend, proxy: Proxy) -> None:
        body = bytes(range(256)) * 4096
        await make(proxied, "large", body=body)
        await fill_own(proxied)
        for size in (0, 1, 1000, 70_000, len(body) // 2, len(body) - 1):
            proxy.cut_after(size)
            try:
                assert (await stored(proxied, "large")).body == body
            except StorageError as error:
                assert error.retryable, f"{error!r} for a connection that was cut"
            proxy.disarm()
            assert (await insisting(lambda: stored(proxied, "large"))).body == body
            await insisting(lambda: own_answers(proxied))

    async def test_cut_while_a_large_body_goes(
        self, backend: StorageBackend, proxied: StorageBackend, proxy: Proxy
    ) -> None:
        old = bytes(MEBIBYTE)
        revision = (await make(backend, "large", head=b"0", body=old)).revision
        for number, size in enumerate((0, 1, 1000, 70_000, MEBIBYTE // 2, MEBIBYTE - 1, MEBIBYTE), 1):
            before = await stored(backend, "large")
            mine = change(head=b"%d" % number, body=b"%d" % number * MEBIBYTE)
            proxy.cut_after(size, Side.CLIENT)
            try:
                await proxied.put(ref("large"), mine, if_revision=revision)
            except StorageError as error:
                assert _transient(error), f"{error!r} for a connection that was cut"
                after = await stored(backend, "large")
                assert after == before or (after.head, after.body) == (mine.head, mine.body), "a torn write"
                if not isinstance(error, UnknownOutcome):
                    assert after == before, f"{error!r}, and the write was done"
            proxy.disarm()
            revision = await settled(proxied, "large", mine, revision)
            assert (await stored(backend, "large")).body == mine.body

    async def test_all_connections_cut_under_load(self, proxied: StorageBackend, proxy: Proxy) -> None:
        await insisting(lambda: fill_own(proxied))
        cutting = True

        async def count(key: str) -> int:
            """Each adds one by one, and knows from its own write ids what was done."""
            revision, number = 0, 0
            while cutting or number < 3:
                number += 1
                mine = change(attributes={"count": number})
                revision = await settled(proxied, key, mine, revision)
            return number

        counting = [asyncio.ensure_future(count(f"k{number}")) for number in range(8)]
        for _ in range(6):
            await asyncio.sleep(0.03)
            proxy.reset = not proxy.reset
            proxy.cut()
        cutting = False
        counted = await asyncio.wait_for(asyncio.gather(*counting), PATIENCE)
        for number, expected in enumerate(counted):
            assert (await insisting(lambda: stored(proxied, f"k{number}"))).attributes == {"count": expected}  # noqa: B023
        await insisting(lambda: own_answers(proxied))

    async def test_a_server_that_goes_and_comes_back(self, proxied: StorageBackend, proxy: Proxy) -> None:
        await fill_own(proxied)
        operations: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: proxied.get(ref("own-01")),
            lambda: make(proxied, "a"),
            lambda: proxied.query(NAMESPACE, Where(), limit=3),
            proxied.ping,
        )
        async with proxy.away():
            tasks = [asyncio.ensure_future(operation()) for operation in operations]
            await asyncio.wait(tasks, timeout=1)
            # A driver may wait for the server to come back; what has ended was told the truth.
            for task in tasks:
                if task.done():
                    error = task.exception()
                    assert isinstance(error, StorageError), f"{task.result()!r} of a server that is not there"
                    assert _transient(error), f"{error!r} is not retryable"
        for ended in await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE):
            if isinstance(ended, BaseException):
                assert isinstance(ended, StorageError), repr(ended)
                assert _transient(ended), repr(ended)
        await insisting(lambda: own_answers(proxied))
        record = (await proxied.get(ref("b"))).record
        assert record is None
        assert isinstance(await insisting(lambda: make(proxied, "b")), Written)

    async def test_a_stalled_operation_ends_promptly_when_cancelled(
        self, proxied: StorageBackend, proxy: Proxy
    ) -> None:
        """No bound on how long a server may take is the contract's: that is the caller's, who cancels."""
        await fill_own(proxied)
        proxy.stall()
        tasks = [
            asyncio.ensure_future(operation)
            for operation in (
                proxied.get(ref("own-01")),
                make(proxied, "a", body=bytes(70_000)),
                proxied.query(NAMESPACE, Where(), limit=3),
                proxied.ping(),
            )
        ]
        await asyncio.sleep(0.1)
        assert not any(task.done() and task.exception() is None for task in tasks)
        began = time.monotonic()
        for task in tasks:
            task.cancel()
        _, waiting = await asyncio.wait(tasks, timeout=PROMPT)
        proxy.resume()
        assert not waiting, f"{len(waiting)} of {len(tasks)} go on {PROMPT} seconds after they were cancelled"
        assert time.monotonic() - began < PROMPT
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(ended, asyncio.CancelledError | StorageError), repr(ended)
        await insisting(lambda: own_answers(proxied, tasks=48))

    async def test_cancelled_under_a_slow_network_nobody_gets_another_s_answer(
        self, proxied: StorageBackend, proxy: Proxy
    ) -> None:
        await fill_own(proxied)
        for number in range(12):
            tasks = [asyncio.ensure_future(proxied.get(ref(f"own-{task:02}"))) for task in range(4)]
            await asyncio.sleep(number * 0.0003)
            proxy.stall()
            await asyncio.sleep(0.002)
            for task in tasks:
                task.cancel()
            proxy.resume()
            await asyncio.gather(*tasks, return_exceptions=True)
            await insisting(lambda: own_answers(proxied, tasks=24))

    async def test_a_server_that_is_not_there(self, make_proxied: BackendFactory, proxy: Proxy) -> None:
        backend = make_proxied()
        async with proxy.away():
            with pytest.raises(BackendUnavailable) as refused:
                await asyncio.wait_for(backend.open(SCHEMA), PATIENCE)
            assert refused.value.retryable
            assert proxy.address not in repr(refused.value), "a message shows no part of a URL"
        await insisting(lambda: backend.open(SCHEMA))
        await make(backend, "a")
        await backend.close()

    async def test_connections_are_shared_and_none_leaks(self, proxied: StorageBackend, proxy: Proxy) -> None:

        async def crowd() -> None:
            # Where the machine is busy, some wait in vain for a connection, and ask again as a caller would.
            await asyncio.gather(*(insisting(lambda: own_answers(proxied)) for _ in range(25)))

        await fill_own(proxied)
        await crowd()
        assert proxy.connections <= MANY_CONNECTIONS, f"{proxy.connections} connections for 300 tasks"
        for number in range(3):
            tasks = [asyncio.ensure_future(own_answers(proxied, tasks=20)) for _ in range(10)]
            await asyncio.sleep(number * 0.004)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await crowd()
        # If each that was cancelled had left its connection behind, there would be hundreds.
        assert proxy.connections <= MANY_CONNECTIONS, f"{proxy.connections} connections after 600 cancellations"
        await proxied.close()
        for _ in range(PROMPT * 100):
            if proxy.connections:
                await asyncio.sleep(0.01)
        assert proxy.connections == 0, "closed, and a connection is left"
