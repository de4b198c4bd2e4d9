"""The data keys of tenants, fetched before they are needed: opening and sealing do not wait for a key service.

With a keyring that has no such keys all of this does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from returns.result import Failure, Result

from flowpersist.backends.base import Order, Page, Read, Reads, Record, RecordRef, StorageBackend, Where
from flowpersist.errors import PersistenceError
from flowpersist.keys.tenant_keys import TenantRing
from flowpersist.sealed.drafts import tenant_of
from flowpersist.sealed.encoding import encoded
from flowpersist.sealed.envelope import Sealer
from flowpersist.sealed.retrying import RetryingBackend, Runtime
from flowpersist.stages.header import kid_of

__all__ = ["KeyedStore", "ready_to_open", "ready_to_reseal", "ready_to_seal", "seal_value"]


async def ready_to_open(sealer: Sealer, records: Iterable[object]) -> PersistenceError | None:
    """Fetch the data keys that these records name; gives why that failed."""
    ring = sealer.keyring
    if not isinstance(ring, TenantRing):
        return None
    kids: set[str] = set()
    for one in records:
        if isinstance(one, Record):
            kids |= {kid_of(one.head), kid_of(one.body or b"")}
    return await ring.data.ready(kids, ())


async def ready_to_seal(sealer: Sealer, *tenants: str | None) -> PersistenceError | None:
    """Fetch, or make, the data keys that seal for these tenants; gives why that failed."""
    ring = sealer.keyring
    if not isinstance(ring, TenantRing):
        return None
    return await ring.data.ready((), [tenant for tenant in tenants if tenant is not None])


async def seal_value(
    sealer: Sealer, tenant: str | None, value: object, *, context: bytes, purpose: str
) -> Result[bytes, PersistenceError]:
    """Encode and seal a value of a tenant, in a thread unless a bounded look finds it small."""
    failed = await ready_to_seal(sealer, tenant)
    if failed is not None:
        return Failure(failed)
    own = sealer.for_tenant(tenant)
    return await encoded(own.codec, value, partial(own.seal_bytes, context=context, purpose=purpose))


async def ready_to_reseal(sealer: Sealer, records: Iterable[Record], owner: str | None) -> PersistenceError | None:
    """The same for the tenants of these records, but those whose keys were destroyed: they get no new ones."""
    ring = sealer.keyring
    if not isinstance(ring, TenantRing):
        return None
    there = [one for one in records if not ring.data.is_destroyed(kid_of(one.head))]
    return await ready_to_seal(sealer, *(tenant_of(one.attributes) or owner for one in there))


class KeyedStore(RetryingBackend):
    """A backend whose records come once the keys are there that open them, by the sealer of that moment."""

    def __init__(self, inner: StorageBackend, runtime: Runtime, sealer: Callable[[], Sealer]) -> None:
        super().__init__(inner, runtime)
        self._sealer = sealer

    async def get(self, ref: RecordRef, *, body: bool = True) -> Read:
        """See ``StorageBackend``."""
        read = await super().get(ref, body=body)
        await self._fetch((read.record,))
        return read

    async def get_many(self, refs: Iterable[RecordRef], *, body: bool = True) -> Reads:
        """See ``StorageBackend``."""
        reads = await super().get_many(list(refs), body=body)
        await self._fetch(reads.records)
        return reads

    async def query(
        self,
        namespace: str,
        where: Where,
        *,
        order: Order = "key",
        limit: int,
        after: str | None = None,
        descending: bool = False,
        bodies: bool = False,
    ) -> Page[Record]:
        """See ``StorageBackend``."""
        page = await super().query(
            namespace, where, order=order, limit=limit, after=after, descending=descending, bodies=bodies
        )
        await self._fetch(page.items)
        return page

    async def _fetch(self, records: Iterable[object]) -> None:
        if not isinstance(self._sealer().keyring, TenantRing):
            return
        failed = await ready_to_open(self._sealer(), records)
        if failed is not None:
            raise failed
