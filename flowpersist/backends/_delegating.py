"""A backend round another one: every call goes on to the inner backend, and a subclass overrides what it does
differently.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

from flowpersist.backends.base import (
    BackendHealth,
    BodyLimited,
    Capability,
    Joining,
    Migrating,
    NamespaceSchema,
    Notifying,
    Order,
    Page,
    Put,
    Read,
    Reads,
    Record,
    RecordChange,
    RecordRef,
    StorageBackend,
    Sweeping,
    Where,
    Written,
)
from flowpersist.errors import PersistenceError

__all__ = ["DelegatingBackend"]

T = TypeVar("T")
#: For each optional protocol its member, and the capability that announces it.
_OPTIONAL: Final[Mapping[type, tuple[str, Capability | None]]] = {
    Notifying: ("changes", Capability.NOTIFICATIONS),
    Joining: ("within", Capability.TRANSACTIONS),
    Migrating: ("plan", Capability.MIGRATIONS),
    Sweeping: ("sweep", None),
    BodyLimited: ("largest_body", Capability.BODY_LIMIT),
}


class DelegatingBackend:
    """Forwards ``StorageBackend`` to ``inner``, and the optional protocols that ``inner`` implements.

    ``forwarded`` names the optional protocols to forward; a subclass may name fewer, or implement one itself.
    ``capabilities`` and ``isinstance`` tell of those alone. Override ``around`` to act on every operation. The backend
    that a forwarded ``within`` returns is the inner one's, without this wrapper.
    """

    forwarded: ClassVar[frozenset[type]] = frozenset(_OPTIONAL)

    def __init__(self, inner: StorageBackend) -> None:
        self.inner = inner
        self.name = inner.name
        for protocol, (member, _) in _OPTIONAL.items():
            # On the instance, since isinstance asks whether the member is there.
            if protocol in self.forwarded and isinstance(inner, protocol) and not hasattr(type(self), member):
                setattr(self, member, getattr(inner, member))

    if TYPE_CHECKING:
        # The protocol declares attributes, and type checkers don't accept a property for one.
        capabilities: frozenset[Capability]
        clock_offset: timedelta
    else:

        @property
        def capabilities(self) -> frozenset[Capability]:
            """The inner backend's, some of which it may know only when it is open, without those not offered here."""
            return self.inner.capabilities - {
                capability
                for protocol, (member, capability) in _OPTIONAL.items()
                if protocol not in self.forwarded and not hasattr(type(self), member)
            }

        @property
        def clock_offset(self) -> timedelta:
            """The inner backend's."""
            return self.inner.clock_offset

        @clock_offset.setter
        def clock_offset(self, offset: timedelta) -> None:
            self.inner.clock_offset = offset

    async def around(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:  # noqa: ARG002 - for subclasses
        """Run one operation, named as its method is; ``call`` may be awaited any number of times."""
        return await call()

    async def open(self, schema: Sequence[NamespaceSchema]) -> None:
        """See ``StorageBackend``."""
        await self.around("open", lambda: self.inner.open(schema))

    async def close(self) -> None:
        """See ``StorageBackend``."""
        await self.around("close", self.inner.close)

    async def get(self, ref: RecordRef, *, body: bool = True) -> Read:
        """See ``StorageBackend``."""
        return await self.around("get", lambda: self.inner.get(ref, body=body))

    async def get_many(self, refs: Sequence[RecordRef], *, body: bool = True) -> Reads:
        """See ``StorageBackend``."""
        return await self.around("get_many", lambda: self.inner.get_many(refs, body=body))

    async def put(
        self,
        ref: RecordRef,
        change: RecordChange,
        *,
        if_revision: int | None = None,
        not_after: datetime | None = None,
    ) -> Written:
        """See ``StorageBackend``."""
        return await self.around(
            "put", lambda: self.inner.put(ref, change, if_revision=if_revision, not_after=not_after)
        )

    async def put_many(self, puts: Sequence[Put]) -> tuple[Written | PersistenceError, ...]:
        """See ``StorageBackend``."""
        return await self.around("put_many", lambda: self.inner.put_many(puts))

    async def delete(self, ref: RecordRef, *, if_revision: int | None = None) -> bool:
        """See ``StorageBackend``."""
        return await self.around("delete", lambda: self.inner.delete(ref, if_revision=if_revision))

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
        return await self.around(
            "query",
            lambda: self.inner.query(
                namespace, where, order=order, limit=limit, after=after, descending=descending, bodies=bodies
            ),
        )

    async def purge(self, namespace: str, where: Where, *, limit: int) -> int:
        """See ``StorageBackend``."""
        return await self.around("purge", lambda: self.inner.purge(namespace, where, limit=limit))

    async def ping(self) -> BackendHealth:
        """See ``StorageBackend``."""
        return await self.around("ping", self.inner.ping)
