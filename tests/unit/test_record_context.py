"""A seal is bound to where its record stands: whoever writes the database can put it nowhere else."""

from __future__ import annotations

import pytest

from flowpersist import KeyRing, or_raise
from flowpersist.backends.base import RecordChange, RecordRef
from flowpersist.backends.memory import MemoryBackend
from flowpersist.errors import TamperedEnvelope
from flowpersist.testing.hubs import open_test_hub

RING = KeyRing.generate()


async def put(backend, ref, record, **changed):
    """Write a record in the place of another."""
    old = (await backend.get(ref)).record
    change = {"attributes": record.attributes, "head": record.head, "body": record.body, **changed}
    await backend.put(ref, RecordChange("w" * 16, **change), if_revision=0 if old is None else old.revision)


@pytest.mark.parametrize("place", ["key", "namespace", "tenant"])
async def test_a_record_that_was_put_in_the_place_of_another_is_refused(place):
    backend = MemoryBackend()
    async with (
        open_test_hub(backend, keyring=RING) as hub,
        open_test_hub(MemoryBackend(), keyring=RING, namespace="others") as others,
    ):
        one, other = [or_raise(await hub.suspend(n, tenant="acme")) for n in range(2)]
        ref = RecordRef("default", str(one.id))
        record = (await backend.get(ref)).record
        if place == "key":
            await put(backend, RecordRef("default", str(other.id)), record)
            told = await hub.inspect(other.id)
        elif place == "namespace":
            await put(others.backend, RecordRef("others", str(one.id)), record)
            told = await others.inspect(one.id)
        else:
            await put(backend, ref, record, attributes={**record.attributes, "tenant": "bolt"})
            told = await hub.inspect(one.id)
        assert isinstance(told.failure(), TamperedEnvelope)
