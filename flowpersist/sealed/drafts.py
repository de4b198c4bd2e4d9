"""A sealed record as it was read, and as it is to be put."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Generic, TypeAlias, cast

from attrs import evolve, field, frozen
from returns.result import Result, Success
from typing_extensions import TypeVar

from flowpersist.backends.base import KEEP, Keep, Record, RecordRef, Scalar, Written
from flowpersist.errors import PersistenceError
from flowpersist.sealed.envelope import mark_of
from flowpersist.sealed.heads import NO_BODY
from flowpersist.stages.header import framed

__all__ = ["Decided", "Draft", "Found", "Loaded", "Updated", "marked", "record_context", "tenant_of"]

H = TypeVar("H")
T = TypeVar("T", default=None)
U = TypeVar("U")
_DONE: Final[Any] = Success(None)


@frozen
class Loaded(Generic[H]):
    """A record whose head was authenticated. ``body`` is still sealed, None where there is none or it was not read;
    ``body_size`` (bytes, sealed; None without a body) tells which. ``mark`` stands in the head for the body that
    belongs to it.
    """

    ref: RecordRef
    revision: int
    head: H
    attributes: Mapping[str, Scalar]
    due_at: datetime | None
    body: bytes | None = field(repr=False)
    body_size: int | None
    mark: bytes
    created_at: datetime
    updated_at: datetime
    now: datetime

    @classmethod
    def of(cls, record: Record, head: H, mark: bytes, now: datetime) -> Loaded[H]:
        """A record with its head, and the mark that stands in it."""
        return cls(
            ref=record.ref,
            revision=record.revision,
            head=head,
            attributes=record.attributes,
            due_at=record.due_at,
            body=record.body,
            body_size=record.body_size,
            mark=mark,
            created_at=record.created_at,
            updated_at=record.updated_at,
            now=now,
        )

    @property
    def has_body(self) -> bool:
        """Whether the head has a body, or the record has one that does not belong to the head."""
        return self.mark != NO_BODY or self.body is not None

    @property
    def tenant(self) -> str | None:
        """The tenant that the seal binds."""
        return tenant_of(self.attributes)


@frozen
class Found(Generic[H]):
    """What a read found, and the store's clock."""

    record: Loaded[H] | None
    now: datetime


@frozen
class Draft(Generic[H, T]):
    """A record to put. ``body`` is sealed; ``not_after`` the last instant at which the decision holds; ``room`` the
    bytes of a head that must stay free for what follows; ``result`` what is given once the record is durable.
    """

    head: H = field(repr=False)
    attributes: Mapping[str, Scalar | None]
    due_at: datetime | None
    body: bytes | Keep | None = field(default=KEEP, repr=False)
    not_after: datetime | None = None
    room: int = 0
    result: Result[T, PersistenceError] = field(default=_DONE, repr=False)

    def giving(self, value: U) -> Draft[H, U]:
        """The same record, with this result."""
        return cast("Draft[H, U]", evolve(self, result=Success(value)))  # type: ignore[arg-type]


#: What an update decides: a record to put, or, where nothing changes, the result.
Decided: TypeAlias = Draft[H, T] | Result[T, PersistenceError]


@frozen
class Updated(Generic[H, T]):
    """An update that has ended: its result, the draft that became durable (None: none did), what it was decided on,
    and what the store said of the put.
    """

    result: Result[T, PersistenceError]
    draft: Draft[H, T] | None = None
    found: Found[H] | None = None
    written: Written | None = None

    @property
    def before(self) -> Loaded[H] | None:
        """The record that was found."""
        return None if self.found is None else self.found.record

    @property
    def durable(self) -> Written:
        """What the store said of the put, where the result is a success of a draft."""
        if self.written is None:
            raise ValueError("nothing was written")
        return self.written


def record_context(ref: RecordRef, tenant: str | None) -> bytes:
    """The context that a seal is bound to: namespace, key and tenant, each with its length, unique for each record."""
    owner = b"" if tenant is None else b"=" + tenant.encode()
    return framed(ref.namespace.encode()) + framed(ref.key.encode()) + framed(owner)


def tenant_of(attributes: Mapping[str, Scalar | None]) -> str | None:
    """The tenant in a record's attributes. A value that is not a str was never sealed, so it opens nothing."""
    tenant = attributes.get("tenant")
    return None if tenant is None else str(tenant)


def marked(body: bytes | Keep | None, kept: bytes) -> bytes:
    """The mark that a head keeps for its body; ``kept`` is the mark of the present body."""
    if body is None:
        return NO_BODY
    return kept if isinstance(body, Keep) else mark_of(body)
