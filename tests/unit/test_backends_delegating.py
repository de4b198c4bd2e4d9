"""A delegating backend forwards every operation, and offers the optional protocols that the inner backend has."""

from datetime import timedelta

import pytest

from flowpersist.backends.base import (
    BodyLimited,
    Capability,
    Joining,
    Migrating,
    Notifying,
    Put,
    RecordChange,
    RecordRef,
    StorageBackend,
    Sweeping,
    Where,
)
from flowpersist.backends.kit import DelegatingBackend
from flowpersist.backends.memory import MemoryBackend
from flowpersist.sealed.retrying import RetryingBackend, Runtime
from flowpersist.testing.faults import FaultyBackend

REF = RecordRef("n", "k")
MEMBERS = {
    Notifying: ("changes", Capability.NOTIFICATIONS),
    Joining: ("within", Capability.TRANSACTIONS),
    Migrating: ("plan", Capability.MIGRATIONS),
    BodyLimited: ("largest_body", Capability.BODY_LIMIT),
    Sweeping: ("sweep", None),
}


def having(protocol):
    """A backend with one optional protocol beside those of memory."""
    member, capability = MEMBERS[protocol]
    backend = type("Having", (MemoryBackend,), {member: 7})()
    backend.capabilities = frozenset({Capability.DURABLE} | ({capability} if capability else set()))
    return backend


async def test_every_operation_is_forwarded_and_runs_through_around():
    class Counting(DelegatingBackend):
        def __init__(self, inner):
            super().__init__(inner)
            self.seen = []

        async def around(self, operation, call):
            self.seen.append(operation)
            return await call()

    backend = Counting(MemoryBackend())
    assert isinstance(backend, StorageBackend)
    await backend.open([])
    revision = (await backend.put(REF, RecordChange("w"), if_revision=0)).revision
    assert (await backend.get(REF, body=False)).record.revision == revision
    (again,) = await backend.put_many([Put(REF, RecordChange("w-2"), revision)])
    revision = again.revision
    assert len((await backend.query("n", Where(), limit=1)).items) == 1
    assert await backend.delete(REF, if_revision=revision)
    assert await backend.purge("n", Where(), limit=1) == 0
    assert (await backend.ping()).backend == backend.name == "memory"
    backend.clock_offset += timedelta(hours=1)
    assert backend.inner.clock_offset == timedelta(hours=1)
    await backend.close()
    assert backend.seen == ["open", "put", "get", "put_many", "query", "delete", "purge", "ping", "close"]


async def test_a_put_without_a_revision_whose_acknowledgement_was_lost_is_done_once():
    async def at_once(_):
        pass

    faulty = FaultyBackend(MemoryBackend())
    backend = RetryingBackend(faulty, Runtime(sleep=at_once))
    await backend.open([])
    before = (await backend.put(REF, RecordChange("w-1"))).revision
    faulty.lose("put")
    written = await backend.put(REF, RecordChange("w-2", head=b"h"))
    record = (await backend.get(REF)).record
    assert (record.head, record.revision) == (b"h", written.revision) == (b"h", before + 1)
    assert faulty.calls["put"] == 3


@pytest.mark.parametrize("protocol", MEMBERS)
@pytest.mark.parametrize("make", [DelegatingBackend, lambda inner: RetryingBackend(inner, Runtime())])
def test_an_optional_protocol_is_forwarded_where_the_inner_backend_has_it(make, protocol):
    member, capability = MEMBERS[protocol]
    with_it, without = make(having(protocol)), make(MemoryBackend())
    assert isinstance(with_it, protocol)
    assert getattr(with_it, member) == 7
    assert capability is None or capability in with_it.capabilities
    assert isinstance(without, protocol) is isinstance(MemoryBackend(), protocol)


@pytest.mark.parametrize("protocol", MEMBERS)
def test_what_a_subclass_does_not_forward_is_not_announced(protocol):
    faulty = FaultyBackend(having(protocol))
    assert not isinstance(faulty, protocol)
    assert faulty.capabilities == {Capability.DURABLE}


def test_a_capability_that_shows_when_the_inner_backend_is_open():
    inner = MemoryBackend()
    backend = DelegatingBackend(inner)
    inner.capabilities = frozenset({Capability.DURABLE})
    assert backend.capabilities == {Capability.DURABLE}
    inner.capabilities = frozenset()
    assert backend.capabilities == frozenset()
