"""What seals and opens the records of a namespace: their heads, and the bodies of these. It asks no store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar

from returns.result import Failure, Result, Success

from flowpersist.backends.base import KEEP, MAX_HEAD_BYTES, Put, Record, RecordChange, RecordRef
from flowpersist.errors import IntegrityError, PersistenceError, UnknownDictionary
from flowpersist.sealed.drafts import Draft, Loaded, marked, record_context, tenant_of
from flowpersist.sealed.encoding import Opening, opened_body
from flowpersist.sealed.envelope import Sealer, mark_of
from flowpersist.sealed.heads import MAX_BYTES, NO_BODY, HeadCodec, mark_in
from flowpersist.sealed.moved import is_mark, refusal
from flowpersist.sealed.refusals import exchanged, head_too_large
from flowpersist.sealed.retrying import Runtime
from flowpersist.sealed.tenancy import ready_to_seal, seal_value
from flowpersist.sealed.unreadable import UnreadableRecords

__all__ = ["RecordSeals"]

H = TypeVar("H")
T = TypeVar("T")


class RecordSeals(Generic[H]):
    """The seals of the records of a namespace, of ``tenant`` where no attribute says whose; heads are ``head_type``,
    for ``purpose``.
    """

    def __init__(
        self,
        sealer: Sealer,
        namespace: str,
        head_type: type[H],
        *,
        purpose: str,
        runtime: Runtime,
        tenant: str | None,
    ) -> None:
        self.sealer = sealer
        self.namespace, self.purpose, self.tenant = namespace, purpose, tenant
        self.runtime = runtime
        self.learn: Callable[[int], Awaitable[Result[bool, PersistenceError]]] | None = None
        self.unreadable = UnreadableRecords(runtime.monotonic)
        self._heads = HeadCodec(head_type)

    def sealed_put(
        self, key: str, draft: Draft[H, Any], revision: int | None, mark: bytes = NO_BODY
    ) -> Result[Put, PersistenceError]:
        """A draft as the backend takes it, with the arguments of ``put``."""
        if revision is None and draft.body is KEEP:
            raise ValueError("a put without a revision gives a body, or None: the head would not fit the one there")
        ref = self.ref(key)
        sealed = self._sealed_head(ref, draft, marked(draft.body, mark))
        if not isinstance(sealed, Success):
            return Failure(sealed.failure())
        write_id = self.runtime.entropy(16).hex()
        change = RecordChange(write_id, draft.attributes, sealed.unwrap(), draft.body, draft.due_at)
        return Success(Put(ref, change, revision, draft.not_after))

    def open(self, record: Record, now: datetime) -> Result[Loaded[H], PersistenceError]:
        """A listed record with its head. What can't be opened is remembered, and logged once for each reason."""
        loaded = self.loaded(record, now)
        if isinstance(loaded, Failure):
            self.unreadable.meet(record.ref.key, record.revision, loaded.failure())
        return loaded

    async def seal_body(
        self, key: str, tenant: str | None, value: object, *, purpose: str
    ) -> Result[bytes, PersistenceError]:
        """Seal a value for this record, in a thread unless a bounded look finds it small; ``StateChanged`` where
        another task changes it meanwhile.
        """
        context = record_context(self.ref(key), tenant)
        return await seal_value(self.sealer, tenant or self.tenant, value, context=context, purpose=purpose)

    async def open_body(self, loaded: Loaded[H], *, purpose: str) -> Result[object, PersistenceError]:
        """Open a record's body; one that is missing, or not the head's own, is an ``IntegrityError``."""
        return await self._open_body(loaded, purpose, lambda: self.sealer.open)

    async def open_body_bytes(self, loaded: Loaded[H], *, purpose: str) -> Result[bytes, PersistenceError]:
        """The same as it was encoded."""
        return await self._open_body(loaded, purpose, lambda: self.sealer.open_bytes)

    async def _open_body(
        self, loaded: Loaded[H], purpose: str, opening: Callable[[], Opening[T]]
    ) -> Result[T, PersistenceError]:
        if loaded.body is None:
            return Failure(IntegrityError(f"record {loaded.ref.key} has no {purpose}: it was dropped, or never there"))
        if mark_of(loaded.body) != loaded.mark:
            return Failure(exchanged(loaded.ref.key, purpose))
        context = record_context(loaded.ref, loaded.tenant)
        opened = await opened_body(opening(), loaded.body, context, purpose)
        unknown = opened.failure() if isinstance(opened, Failure) else None
        if not isinstance(unknown, UnknownDictionary) or unknown.id is None or self.learn is None:
            return opened
        learned = await self.learn(unknown.id)
        if not isinstance(learned, Success):
            return Failure(learned.failure())
        return (await opened_body(opening(), loaded.body, context, purpose)) if learned.unwrap() else opened

    async def ready(self, attributes: Mapping[str, Any]) -> PersistenceError | None:
        """Fetch the key that seals a record with these attributes; gives why that failed."""
        return await ready_to_seal(self.sealer, tenant_of(attributes) or self.tenant)

    def ref(self, key: str) -> RecordRef:
        """Where the record of that key stands."""
        return RecordRef(self.namespace, key)

    def _sealed_head(self, ref: RecordRef, draft: Draft[H, Any], mark: bytes) -> Result[bytes, PersistenceError]:
        data = self._heads.encode(draft.head, mark)
        if not isinstance(data, Success):
            return Failure(data.failure())
        context = record_context(ref, tenant_of(draft.attributes))
        sealer = self.sealer.for_tenant(tenant_of(draft.attributes) or self.tenant)
        sealed = sealer.seal_bytes(data.unwrap(), context=context, purpose=self.purpose)
        if not isinstance(sealed, Success) or len(sealed.unwrap()) <= MAX_HEAD_BYTES - draft.room:
            return sealed
        return Failure(head_too_large(len(sealed.unwrap()), MAX_HEAD_BYTES - draft.room))

    def sealed(self, draft: Draft[H, Any], now: datetime) -> Result[Record, PersistenceError]:
        """A record such as a put of this draft would make, which is stored nowhere."""
        ref = self.ref("nowhere")
        attributes = {name: value for name, value in draft.attributes.items() if value is not None}
        head = self._sealed_head(ref, draft, NO_BODY)
        return head.map(lambda data: Record(ref, 1, "", attributes, data, None, None, now, now, draft.due_at))

    def loaded(self, record: Record, now: datetime) -> Result[Loaded[H], PersistenceError]:
        """A record with its head opened."""
        loaded = self._loaded(record, now)
        return Success(loaded) if isinstance(loaded, Loaded) else Failure(loaded)

    def _loaded(self, record: Record, now: datetime) -> Loaded[H] | PersistenceError:
        context = record_context(record.ref, tenant_of(record.attributes))
        opened = self.sealer.opened_bytes(record.head, context, self.purpose, MAX_BYTES)
        if not isinstance(opened, bytes):
            return refusal(record) if is_mark(record.head) else opened
        head = self._heads.decoded(opened)
        return head if isinstance(head, PersistenceError) else Loaded.of(record, head, mark_in(opened), now)
