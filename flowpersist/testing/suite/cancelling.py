"""Cancellation at every await of every operation."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from enum import Enum
from functools import partial
from typing import Any, Final

import pytest
from attrs import define

from flowpersist.backends.base import StorageBackend, Where
from flowpersist.errors import RevisionConflict
from flowpersist.testing.suite.ground import (
    NAMESPACE,
    PATIENCE,
    SCHEMA,
    BackendFactory,
    Ground,
    change,
    fill,
    make,
    ref,
    stored,
)

__all__ = ["Cancelling", "Moment", "own_answers"]

#: Large enough to stand apart from the record.
OLD: Final = b"o" * 70_000
NEW: Final = b"n" * 70_000
#: No operation waits that often.
MANY_STEPS: Final = 500


class Moment(Enum):
    """When a waiting operation is cancelled."""

    AT_ONCE = "as soon as it waits"
    MEANWHILE = "while its request is under way"
    AFTER = "when what it waits for is there, and before it goes on"


@define
class _Cancelled:
    """Runs an operation, and cancels its task when it waits for the time of that number (from 0)."""

    operation: Coroutine[Any, Any, Any]
    step: int
    moment: Moment
    reached: bool = False

    @types.coroutine
    def run(self) -> Generator[Any, Any, Any]:
        waiter = self.operation.__await__()
        go_on: Callable[[], Any] = partial(next, waiter)
        number = 0
        while True:
            try:
                awaited = go_on()
            except StopIteration as end:
                return end.value
            if number == self.step:
                self._arm(awaited)
            number += 1
            try:
                yield awaited
            except BaseException as error:  # noqa: BLE001 - the operation gets it, as it would without us
                go_on = partial(waiter.throw, error)
            else:
                go_on = partial(next, waiter)

    def _arm(self, awaited: Any) -> None:  # noqa: ANN401 - a future, or None of a bare yield
        self.reached = True
        task = asyncio.current_task()
        assert task is not None
        if self.moment is Moment.AT_ONCE or awaited is None:
            task.cancel()
        elif self.moment is Moment.AFTER:
            # Before the task's own callback, so that it is cancelled when the result is there already.
            awaited.add_done_callback(lambda _: task.cancel())
        else:
            handle = asyncio.get_running_loop().call_later(0.0003, task.cancel)
            # Once the operation goes on it is the next wait's turn, which is another step.
            awaited.add_done_callback(lambda _: handle.cancel())


async def _each_cancelled(
    operation: Callable[[], Coroutine[Any, Any, Any]], moment: Moment, check: Callable[[], Awaitable[None]]
) -> int:
    """Cancel an operation at each of its waits in turn, checking after each; gives how often it waits."""
    for step in range(MANY_STEPS):
        cancelled = _Cancelled(operation(), step, moment)
        task = asyncio.ensure_future(_awaited(cancelled))
        ended = (await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), PATIENCE))[0]
        if task.cancelling():
            assert isinstance(ended, asyncio.CancelledError), (
                f"cancelled at wait {step}, {moment.value}: the operation went on, and gave {ended!r}"
            )
        else:
            # One that was cancelled before may still be under way, and win.
            lost = isinstance(ended, RevisionConflict)
            assert lost or not isinstance(ended, BaseException), f"wait {step}, {moment.value}: {ended!r}"
        await check()
        if not cancelled.reached:
            return step
    raise AssertionError(f"an operation that waits {MANY_STEPS} times")


async def _awaited(cancelled: _Cancelled) -> Any:  # noqa: ANN401
    return await cancelled.run()


async def own_answers(backend: StorageBackend, *, tasks: int = 12) -> None:
    """Fail where somebody gets what another has asked for. ``fill_own`` has made the records."""

    async def ask(number: int) -> None:
        key = f"own-{number % 12:02}"
        record = (await backend.get(ref(key))).record
        assert record is not None, f"{key} was not found"
        assert (record.ref.key, record.head, record.body) == (key, key.encode(), key.encode() * 10), "another's answer"

    await asyncio.gather(*(ask(number) for number in range(tasks)))


async def fill_own(backend: StorageBackend) -> None:
    """The records of ``own_answers``."""
    for key in (f"own-{number:02}" for number in range(12)):
        await make(backend, key, head=key.encode(), body=key.encode() * 10)


_at_each_moment = pytest.mark.parametrize("moment", Moment)


class Cancelling(Ground):
    """Whenever it is cancelled, an operation ends as cancelled, was done or was not, and nobody else notices."""

    @_at_each_moment
    async def test_cancelled_put_that_replaces(self, backend: StorageBackend, moment: Moment) -> None:
        await fill_own(backend)
        await make(backend, "a", head=b"o", body=OLD)

        async def operation() -> None:
            record = await stored(backend, "a")
            fresh = (b"n", NEW) if record.head == b"o" else (b"o", OLD)
            await backend.put(ref("a"), change(head=fresh[0], body=fresh[1]), if_revision=record.revision)

        async def check() -> None:
            record = await stored(backend, "a")
            assert (record.head, record.body) in {(b"o", OLD), (b"n", NEW)}
            await own_answers(backend)
            # It may still be under way, and then one of the two loses.
            await self._written_at_last(backend, "a", b"o", OLD)

        await _each_cancelled(operation, moment, check)

    async def _written_at_last(self, backend: StorageBackend, key: str, head: bytes, body: bytes | None) -> None:
        for _ in range(10):
            record = (await backend.get(ref(key), body=False)).record
            revision = 0 if record is None else record.revision
            try:
                await backend.put(ref(key), change(head=head, body=body), if_revision=revision)
            except RevisionConflict:
                continue
            assert (await stored(backend, key)).body == body
            return
        raise AssertionError("a record that nobody writes can't be written")

    @_at_each_moment
    async def test_cancelled_put_that_makes(self, backend: StorageBackend, moment: Moment) -> None:
        await fill_own(backend)
        number = 0

        async def operation() -> None:
            nonlocal number
            number += 1
            await make(backend, f"k{number}", head=b"n", body=NEW, attributes={"status": "x"})

        async def check() -> None:
            await own_answers(backend)
            record = (await backend.get(ref(f"k{number}"))).record
            assert record is None or (record.head, record.body) == (b"n", NEW)
            await self._written_at_last(backend, f"k{number}", b"n", NEW)

        await _each_cancelled(operation, moment, check)
        for status in ("x", None):
            where = Where() if status is None else Where({"status": status})
            for record in (await backend.query(NAMESPACE, where, limit=500)).items:
                assert (await stored(backend, record.ref.key)).revision == record.revision

    @_at_each_moment
    async def test_cancelled_delete(self, backend: StorageBackend, moment: Moment) -> None:
        await fill_own(backend)

        async def operation() -> None:
            record = (await backend.get(ref("a"), body=False)).record
            assert await backend.delete(ref("a"), if_revision=0 if record is None else record.revision)

        async def check() -> None:
            record = (await backend.get(ref("a"))).record
            assert record is None or record.body == OLD
            await own_answers(backend)
            await self._written_at_last(backend, "a", b"o", OLD)

        await check()
        await _each_cancelled(operation, moment, check)

    @_at_each_moment
    async def test_cancelled_reads(self, backend: StorageBackend, moment: Moment) -> None:
        await fill_own(backend)
        await make(backend, "large", body=NEW * 4)
        reads: tuple[Callable[[], Coroutine[Any, Any, Any]], ...] = (
            lambda: backend.get(ref("large")),
            lambda: backend.get(ref("own-00"), body=False),
            lambda: backend.query(NAMESPACE, Where(), limit=3),
            backend.ping,
        )
        for read in reads:
            await _each_cancelled(read, moment, lambda: own_answers(backend))

    @_at_each_moment
    async def test_cancelled_purge(self, backend: StorageBackend, moment: Moment) -> None:
        await fill_own(backend)
        doomed = Where({"status": "doomed"})
        lives = 0

        async def operation() -> None:
            await backend.purge(NAMESPACE, doomed, limit=50)

        async def check() -> None:
            nonlocal lives
            await own_answers(backend)
            for record in (await backend.query(NAMESPACE, doomed, limit=50)).items:
                found = (await backend.get(record.ref)).record
                assert found is None or found.body == OLD
            lives += 1
            await fill(
                backend, [f"life-{lives}-{n}" for n in range(3)], tasks=3, attributes={"status": "doomed"}, body=OLD
            )

        await check()
        await _each_cancelled(operation, moment, check)

    @_at_each_moment
    async def test_cancelled_open_and_close(self, make_backend: BackendFactory, moment: Moment) -> None:
        backend = make_backend()

        async def check() -> None:
            await backend.open(SCHEMA)
            record = (await backend.get(ref("a"))).record
            await backend.put(ref("a"), change(), if_revision=0 if record is None else record.revision)
            await backend.close()

        await check()
        await _each_cancelled(lambda: backend.open(SCHEMA), moment, check)

        async def reopen() -> None:
            await backend.close()
            await backend.open(SCHEMA)
            await backend.get(ref("a"))

        await reopen()
        await _each_cancelled(backend.close, moment, reopen)
        await backend.close()
