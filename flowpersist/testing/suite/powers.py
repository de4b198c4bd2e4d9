"""Optional powers: a capability is told where its method is there, and the method keeps its word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeAlias

import pytest

from flowpersist.backends.base import (
    BodyLimited,
    Capability,
    Joining,
    Migrating,
    NamespaceSchema,
    Notifying,
    Range,
    RecordRef,
    StorageBackend,
    Where,
)
from flowpersist.errors import RevisionConflict, StorageError
from flowpersist.testing.proxy import Proxy
from flowpersist.testing.suite.ground import (
    NAMESPACE,
    PATIENCE,
    SCHEMA,
    BackendFactory,
    Ground,
    change,
    fill,
    make,
    opened,
    ref,
    stored,
)
from flowpersist.testing.suite.network import insisting

__all__ = ["Powers", "Transactions"]

POWERS: Final = {
    Capability.NOTIFICATIONS: Notifying,
    Capability.TRANSACTIONS: Joining,
    Capability.MIGRATIONS: Migrating,
    Capability.BODY_LIMIT: BodyLimited,
}
#: Begins a transaction of the user's own: committed when it is left, rolled back when it is left by an error.
Transactions: TypeAlias = Callable[[], AbstractAsyncContextManager[Any]]


class _RollBackError(Exception):
    pass


async def _heard(keys: AsyncIterator[str], wanted: set[str]) -> set[str]:
    """The keys that came until all that are wanted did."""
    heard: set[str] = set()
    async for key in keys:
        heard.add(key)
        if wanted <= heard:
            return heard
    raise AssertionError(f"the changes ended, and only {heard} came")


def _notifying(backend: StorageBackend) -> Callable[[str], AbstractAsyncContextManager[AsyncIterator[str]]]:
    """Its method ``changes``."""
    if Capability.NOTIFICATIONS not in backend.capabilities:
        pytest.skip(f"{backend.name} tells no changes")
    assert isinstance(backend, Notifying)
    return backend.changes


class Powers(Ground):
    """Beyond the primitive."""

    @pytest.fixture
    def transactions(self, backend: StorageBackend) -> Transactions:
        """What begins a transaction on the store of ``backend``, for a backend that can join one."""
        if Capability.TRANSACTIONS in backend.capabilities:
            pytest.skip("give the fixture transactions: within is not tested here")
        pytest.skip(f"{backend.name} joins no transactions")

    async def test_capabilities_are_told_truly(self, backend: StorageBackend) -> None:
        for capability, power in POWERS.items():
            # A setting may take a power away, and the method stays.
            assert capability not in backend.capabilities or isinstance(backend, power), capability

    async def test_a_plan_tells_and_does_nothing(self, make_backend: BackendFactory) -> None:
        backend, witness = make_backend(), make_backend()
        if not isinstance(backend, Migrating) or not isinstance(witness, Migrating):
            pytest.skip(f"{backend.name} has no schema")
        planned = await backend.plan(SCHEMA)
        assert await witness.plan(SCHEMA) == planned, "a plan changed the store"
        await backend.open(SCHEMA)
        assert await backend.plan(SCHEMA) == (), "nothing is to be done on a store that was just opened"
        assert await witness.plan(SCHEMA) == (), "another process sees that it is done"
        await make(backend, "a", attributes={"fresh": "x"})
        more = [*SCHEMA, NamespaceSchema("conformance.later", {"fresh": str})]
        assert await backend.plan(more) == await witness.plan(more)
        await backend.open(more)
        assert await backend.plan(more) == ()
        assert (await stored(backend, "a")).attributes == {"fresh": "x"}
        await backend.close()

    async def test_changes_are_told(self, backend: StorageBackend, make_backend: BackendFactory) -> None:
        changes = _notifying(backend)
        old = (await make(backend, "before")).revision
        async with opened(make_backend) as other, changes(NAMESPACE) as keys:
            hearing = asyncio.ensure_future(_heard(keys, {"a", "é ' \" \\ %", "before"}))
            await other.put(RecordRef("conformance.other", "elsewhere"), change(), if_revision=0)
            await make(other, "a", body=bytes(70_000))
            await make(backend, "é ' \" \\ %")
            await other.delete(ref("before"), if_revision=old)
            heard = await asyncio.wait_for(hearing, PATIENCE)
        assert "elsewhere" not in heard

    async def test_every_kind_of_change_is_told(self, backend: StorageBackend) -> None:
        changes = _notifying(backend)
        for key in ("deleted", "p/1", "p/2", "replaced"):
            await backend.put(ref(key), change())
        async with changes(NAMESPACE) as keys:
            hearing = asyncio.ensure_future(_heard(keys, {"deleted", "p/1", "p/2", "replaced"}))
            await backend.put(ref("replaced"), change())
            await backend.delete(ref("deleted"))
            assert await backend.purge(NAMESPACE, Where(range=Range("key", prefix="p/")), limit=10) == 2
            await asyncio.wait_for(hearing, PATIENCE)

    async def test_a_slow_listener_hears_of_every_key(self, backend: StorageBackend) -> None:
        """Or it gets an error: then it reads everything again."""
        changes = _notifying(backend)
        wanted = {f"k{number:03}" for number in range(self.few)}
        async with changes(NAMESPACE) as keys:
            await fill(backend, sorted(wanted))
            try:
                await asyncio.wait_for(_heard(keys, wanted), PATIENCE)
            except StorageError as error:
                assert error.retryable, repr(error)

    async def test_a_write_that_lost_is_no_change(self, backend: StorageBackend) -> None:
        changes = _notifying(backend)
        await make(backend, "kept")
        async with changes(NAMESPACE) as keys:
            with pytest.raises(RevisionConflict):
                await make(backend, "kept")
            await make(backend, "last")
            assert await asyncio.wait_for(_heard(keys, {"last"}), PATIENCE) == {"last"}

    async def test_who_waits_for_changes_may_be_cancelled(self, backend: StorageBackend) -> None:
        changes = _notifying(backend)

        async def wait() -> None:
            async with changes(NAMESPACE) as keys:
                async for _ in keys:
                    pass

        for pause in (0, 0, 0.001, 0.01, 0.05):
            waiting = [asyncio.ensure_future(wait()) for _ in range(3)]
            await asyncio.sleep(pause)
            for task in waiting:
                task.cancel()
            ended = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), PATIENCE)
            assert all(isinstance(one, asyncio.CancelledError) for one in ended), ended
        async with changes(NAMESPACE) as keys:
            await make(backend, "a")
            assert await asyncio.wait_for(_heard(keys, {"a"}), PATIENCE) == {"a"}

    async def test_changes_after_a_broken_connection(self, proxied: StorageBackend, proxy: Proxy) -> None:
        """They go on, or end with an error that says so; nobody waits for ever for what can't come."""
        changes = _notifying(proxied)

        async def hear() -> set[str]:
            async with changes(NAMESPACE) as keys:
                return await _heard(keys, {"after"})

        hearing = asyncio.ensure_future(hear())
        await asyncio.sleep(0.1)
        proxy.cut()
        revision = 0
        for _ in range(PATIENCE * 10):
            record = await insisting(lambda: proxied.get(ref("after")))
            revision = 0 if record.record is None else record.record.revision
            await insisting(lambda: proxied.put(ref("after"), change(), if_revision=revision))  # noqa: B023
            done, _ = await asyncio.wait([hearing], timeout=0.1)
            if done:
                break
        assert hearing.done(), "neither a change nor an error came"
        error = hearing.exception()
        assert error is None or isinstance(error, StorageError), repr(error)

    async def test_what_joins_a_transaction_shares_its_fate(
        self, backend: StorageBackend, transactions: Transactions
    ) -> None:
        assert isinstance(backend, Joining)
        for number, rolls_back in enumerate((True, False)):
            key = f"k{number}"
            try:
                async with transactions() as transaction:
                    joined = backend.within(transaction)
                    made = await make(joined, key, head=b"h", body=bytes(70_000), attributes={"status": "x"})
                    assert (await stored(joined, key)).revision == made.revision
                    assert (await backend.get(ref(key))).record is None, "seen before it was committed"
                    if rolls_back:
                        raise _RollBackError  # noqa: TRY301 - the transaction's own context must see it
            except _RollBackError:
                assert (await backend.get(ref(key))).record is None
                continue
            record = await stored(backend, key)
            assert (record.head, record.body) == (b"h", bytes(70_000))
