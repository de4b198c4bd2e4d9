"""Envelope encryption: a data key for each tenant, wrapped by a key management service.

All that belongs to a tenant is sealed with a data key of its own. The service wraps data keys and never sees data; the
wrapped keys stand apart from the database, so that no backup of it holds them. To shred a tenant, its wrapped keys are
destroyed: then nobody can open what they sealed, wherever copies of it are.

Sealing and opening do not wait: the keys that they need are fetched before, and kept for a bounded time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from typing import Final, Protocol, TypeVar, runtime_checkable

from attrs import evolve, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import BackendUnavailable, KeyDestroyed, PersistenceError, UnknownKey
from flowpersist.errors.arguments import check_callable, check_duration, check_instance, check_str, check_whole
from flowpersist.errors.secrecy import discreet
from flowpersist.keys.crypto import KEY_BYTES
from flowpersist.keys.keyring import KeyRing, RingKey, Role

__all__ = ["KeyService", "TenantKeys", "TenantRing", "WrappedKey", "WrappedKeyStore"]

T = TypeVar("T")
log = logging.getLogger("flowpersist.keys")
#: What the id of a data key begins with; the rest is random.
PREFIX: Final = "t."
#: So many keys are unwrapped at a time.
AT_A_TIME: Final = 8
NAME: Final = "key service"


@frozen
class WrappedKey:
    """A data key as the service has wrapped it. ``tenant`` and ``kid`` are bound to it by the service, if it can."""

    kid: str
    tenant: str
    wrapped: bytes = field(repr=False)


@runtime_checkable
class KeyService(Protocol):
    """A key management service. It raises whatever its client raises: that is a ``BackendUnavailable`` for the caller,
    unless it is a ``PersistenceError``.
    """

    async def wrap(self, key: bytes, *, context: bytes) -> bytes:
        """Encrypt a data key of 32 bytes. What comes back opens under the same ``context`` only, if it can bind one."""
        ...

    async def unwrap(self, wrapped: bytes, *, context: bytes) -> bytes:
        """Decrypt it."""
        ...


@runtime_checkable
class WrappedKeyStore(Protocol):
    """Where wrapped keys stand: not in the database that they serve, nor in its backups."""

    async def of_tenant(self, tenant: str) -> Sequence[WrappedKey]:
        """The keys of a tenant, the newest first; none where it never had one, or they were destroyed."""
        ...

    async def tenant_of(self, kid: str) -> str | None:
        """Whose key it is; None where there is no such key (any more)."""
        ...

    async def add(self, key: WrappedKey, *, after: str | None) -> bool:
        """Make a key the newest of its tenant, durably, if the newest by now is ``after``, None: if it has none."""
        ...

    async def destroy(self, tenant: str) -> int:
        """Forget the keys of a tenant for good, durably; gives how many there were. Twice: none."""
        ...


@frozen(repr=False)
class TenantRing(KeyRing):
    """A keyring for what belongs to no tenant, beside the data keys of tenants. ``sealing``: the data key that seals
    instead of the primary one; empty: none does.
    """

    data: TenantKeys = field(kw_only=True, eq=False)
    sealing: str | None = field(default=None, kw_only=True)
    _control: bool = field(default=False, kw_only=True)

    @property
    def primary(self) -> str:
        """The id of the key that seals."""
        return KeyRing.primary.fget(self) if self.sealing is None else self.sealing  # type: ignore[attr-defined]

    def for_tenant(self, tenant: str | None) -> TenantRing:
        """The same, sealing with the key of a tenant, which must have been fetched; None: with the primary one."""
        return self if tenant is None else evolve(self, sealing=self.data.kid_of(tenant) or "")

    def control_only(self) -> TenantRing:
        """The control subkeys alone, also of data keys."""
        return evolve(self, keys=KeyRing.control_only(self).keys, control=True)

    def subkey(self, kid: str, role: Role) -> Result[bytes, PersistenceError]:
        """One subkey of one key: of this ring, or of a data key that was fetched."""
        if kid in self.keys or not (kid.startswith(PREFIX) or not kid):
            return KeyRing.subkey(self, kid, role)
        if role == "state" and self._control:
            return Failure(UnknownKey(f"this keyring holds the control subkey of {kid!r} alone"))
        return self.data.subkey(kid, role)


@frozen
class _Held:
    key: RingKey = field(repr=False)
    tenant: str
    until: float


class TenantKeys:
    """A ``KeyProvider`` of a ring whose tenants have data keys, wrapped by ``service`` and kept in ``store``.

    - ``ring``: seals what belongs to no tenant, and the audit trails of shredded ones.
    - ``cache``: how long an unwrapped key is used. So long a shredded tenant may stay readable for other processes,
      and so long the service may be out of reach for tenants that are in use.
    - ``timeout``: how long one request to the service may take.
    - ``most``: unwrapped keys that are held at a time.
    - ``monotonic``, ``entropy``: seconds of a monotonic clock, and random bytes.
    """

    def __init__(
        self,
        ring: KeyRing,
        service: KeyService,
        store: WrappedKeyStore,
        *,
        cache: timedelta = timedelta(minutes=5),
        timeout: timedelta = timedelta(seconds=5),
        most: int = 10_000,
        monotonic: Callable[[], float] = time.monotonic,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        check_instance(ring, "ring", KeyRing, "a KeyRing")
        check_instance(service, "service", KeyService, "a KeyService")
        check_instance(store, "store", WrappedKeyStore, "a WrappedKeyStore")
        check_duration(cache, "cache")
        check_duration(timeout, "timeout")
        check_whole(most, "most", least=1024)
        check_callable(monotonic, "monotonic")
        check_callable(entropy, "entropy")
        self._ring, self._service, self._store = ring, service, store
        self._cache, self._timeout, self._most = cache.total_seconds(), timeout.total_seconds(), most
        self._monotonic, self._entropy = monotonic, entropy
        self._held: OrderedDict[str, _Held] = OrderedDict()
        #: The newest key of tenants, and until when that is so.
        self._newest: OrderedDict[str, tuple[str, float]] = OrderedDict()
        #: Ids that the store does not have, and until when that is believed.
        self._gone: OrderedDict[str, float] = OrderedDict()
        self._fetching: dict[tuple[int, str], asyncio.Task[None]] = {}

    async def keyring(self) -> TenantRing:
        """The ring; no data key is fetched yet."""
        return TenantRing(self._ring.keys, data=self)

    # ---- what sealing and opening ask, without waiting

    def kid_of(self, tenant: str) -> str | None:
        """The data key that seals for a tenant, if it was fetched."""
        found = self._newest.get(tenant)
        return None if found is None else found[0]

    def tenant_of(self, kid: str) -> str | None:
        """Whose data key it is, if it was fetched."""
        held = self._held.get(kid)
        return None if held is None else held.tenant

    def is_destroyed(self, kid: str) -> bool:
        """Whether it was looked for lately, and is not there."""
        return kid in self._gone

    def subkey(self, kid: str, role: Role) -> Result[bytes, PersistenceError]:
        """One subkey of a data key. What has just run out is still used by who has fetched it before."""
        held = self._held.get(kid)
        if held is not None and self._monotonic() < held.until + self._timeout:
            subkey = held.key.control if role == "control" else held.key.state
            if subkey is not None:
                return Success(subkey)
        if kid in self._gone:
            message = f"data key {kid!r} was destroyed: its tenant was shredded, and what it sealed can't be opened"
            return Failure(KeyDestroyed(f"{message} by anybody any more"))
        return Failure(UnknownKey(f"data key {kid!r} was not fetched from the {NAME}; try again"))

    # ---- fetching

    async def ready(self, kids: Iterable[str], tenants: Iterable[str]) -> PersistenceError | None:
        """Fetch these data keys, and those that seal for these tenants, which get one where they have none.

        ``BackendUnavailable`` where the service or the store can't be reached in time. A key that was destroyed is no
        error here.
        """
        now = self._monotonic()
        wanted = {f"kid {kid}": self._fetch_kid(kid) for kid in set(kids) if self._lacks(kid, now)}
        wanted |= {f"tenant {one}": self._fetch_tenant(one) for one in set(tenants) if self._lacks_tenant(one, now)}
        if not wanted:
            return None
        gate = asyncio.Semaphore(AT_A_TIME)
        done = await asyncio.gather(*(self._shared(name, work, gate) for name, work in wanted.items()))
        return next((error for error in done if error is not None), None)

    @discreet
    async def shred(self, tenant: str) -> int:
        """Destroy the data keys of a tenant: nothing that they sealed can be opened any more, backups included. Gives
        how many keys there were. ``Maintenance.shred`` keeps the audit trails, without what is personal in them.

        Other processes that have used the tenant lately may do so until their ``cache`` has run out. After
        ``BackendUnavailable`` the keys may be destroyed or be it later: do it again.
        """
        check_str(tenant, "tenant")
        destroyed = await self._asked(self._store.destroy(tenant), changes=True)
        for kid in [kid for kid, held in self._held.items() if held.tenant == tenant]:
            self._forgotten(kid)
        self._newest.pop(tenant, None)
        return destroyed

    @discreet
    async def rotate(self, tenant: str) -> str:
        """Give a tenant a new data key, which seals from now on; gives its id. ``Maintenance.rekey`` seals the rest
        with it. Raises ``StorageError``.
        """
        check_str(tenant, "tenant")
        keys = await self._asked(self._store.of_tenant(tenant))
        kid = await self._made(tenant, keys[0].kid if keys else None)
        self._newest.pop(tenant, None)
        error = await self.ready((), (tenant,))
        if error is not None:
            raise error
        return kid

    def _lacks(self, kid: str, now: float) -> bool:
        if not kid.startswith(PREFIX) or kid in self._ring.keys:
            return False
        held = self._held.get(kid)
        return (held is None or now >= held.until) and now >= self._gone.get(kid, float("-inf"))

    def _lacks_tenant(self, tenant: str, now: float) -> bool:
        found = self._newest.get(tenant)
        return found is None or now >= found[1] or self._lacks(found[0], now)

    async def _shared(
        self, name: str, work: Callable[[], Awaitable[None]], gate: asyncio.Semaphore
    ) -> PersistenceError | None:
        """Do what others may be doing already; who is cancelled leaves it to them."""
        key = (id(asyncio.get_running_loop()), name)
        task = self._fetching.get(key)
        if task is None:
            task = asyncio.create_task(self._gated(work, gate))
            self._fetching[key] = task
            task.add_done_callback(lambda _: self._fetching.pop(key, None))
        try:
            await asyncio.shield(task)
        except PersistenceError as error:
            return error
        return None

    async def _gated(self, work: Callable[[], Awaitable[None]], gate: asyncio.Semaphore) -> None:
        async with gate:
            await work()

    def _fetch_kid(self, kid: str) -> Callable[[], Awaitable[None]]:
        async def fetch() -> None:
            tenant = await self._asked(self._store.tenant_of(kid))
            if tenant is not None:
                await self._unwrapped(await self._asked(self._store.of_tenant(tenant)))
            if self._lacks(kid, self._monotonic()):
                self._forgotten(kid)

        return fetch

    def _fetch_tenant(self, tenant: str) -> Callable[[], Awaitable[None]]:
        async def fetch() -> None:
            keys = await self._asked(self._store.of_tenant(tenant))
            if not keys:
                await self._made(tenant, None)
                keys = await self._asked(self._store.of_tenant(tenant))
            await self._unwrapped(keys)
            if keys:
                self._newest[tenant] = (keys[0].kid, self._monotonic() + self._cache)
                _bounded(self._newest, self._most)

        return fetch

    async def _made(self, tenant: str, after: str | None) -> str:
        """A new key of a tenant. Where another process was first, that one's serves as well."""
        kid, key = PREFIX + self._entropy(12).hex(), self._entropy(KEY_BYTES)
        wrapped = await self._asked(self._service.wrap(key, context=context_of(kid, tenant)))
        await self._asked(self._store.add(WrappedKey(kid, tenant, wrapped), after=after), changes=True)
        return kid

    async def _unwrapped(self, keys: Sequence[WrappedKey]) -> None:
        """All keys of a tenant: what is sealed within a head may need an older one."""
        for one in keys:
            if not self._lacks(one.kid, self._monotonic()):
                continue
            key = await self._asked(self._service.unwrap(one.wrapped, context=context_of(one.kid, one.tenant)))
            if len(key) != KEY_BYTES:
                message = f"the {NAME} unwrapped data key {one.kid!r} to {len(key)} bytes, not {KEY_BYTES}"
                raise UnknownKey(message)
            self._held[one.kid] = _Held(RingKey.of_root(key), one.tenant, self._monotonic() + self._cache)
            _bounded(self._held, self._most)

    def _forgotten(self, kid: str) -> None:
        self._held.pop(kid, None)
        self._gone[kid] = self._monotonic() + self._cache
        _bounded(self._gone, self._most)

    async def _asked(self, request: Awaitable[T], *, changes: bool = False) -> T:
        """The reply to a request, in time. One that ``changes`` the store may go on there after that."""
        remedy = (
            "the request may still be carried out there: do it again" if changes else "nothing was changed, try again"
        )
        try:
            async with asyncio.timeout(self._timeout):
                return await request
        except PersistenceError:
            raise
        except TimeoutError as error:
            message = f"the {NAME} did not reply within {self._timeout:g} s; {remedy}"
            raise BackendUnavailable(message, NAME, retryable=True) from error
        except Exception as error:
            # Its message is not ours, and may hold anything.
            message = f"the {NAME} can't be used ({type(error).__name__}); {remedy}"
            raise BackendUnavailable(message, NAME, retryable=True) from error

    def __repr__(self) -> str:
        return f"<TenantKeys beside {self._ring!r}>"


def context_of(kid: str, tenant: str) -> bytes:
    """What a wrapped key is bound to."""
    parts = (b"flowpersist/v1/data-key", kid.encode(), tenant.encode("utf-8", "surrogatepass"))
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _bounded(cache: OrderedDict[str, T], most: int) -> None:
    while len(cache) > most:
        cache.popitem(last=False)
