"""Parts of subjects' records as objects of classes, and pages of these."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any, ClassVar, Generic, Self, TypeVar

from attrs import field, fields, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Page
from flowpersist.errors import MalformedPayload, PersistenceError
from flowpersist.errors.arguments import (
    check_aware,
    check_instance,
    check_optional,
    check_size,
    check_str,
    check_whole,
    mistyped,
)
from flowpersist.sealed.naming import Parts
from flowpersist.sealed.subjects import Parted, SubjectRecords
from flowpersist.sealed.walking import Pages

__all__ = ["PartRecord", "PartView"]

T = TypeVar("T")
PAGE = 100


@frozen
class PartRecord:
    """What stands in a part. ``version`` counts the saves, 0 before the first; the times are the store's."""

    #: What the record is of, the part's name in it, and the fields that make its key, first that of the subject.
    kind: ClassVar[str]
    part: ClassVar[str]
    ids: ClassVar[tuple[str, ...]]

    version: int = field(default=0, kw_only=True)
    created_at: datetime | None = field(default=None, kw_only=True)
    updated_at: datetime | None = field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        check_size(self.version, "version")
        check_optional(self.created_at, "created_at", check_aware)
        check_optional(self.updated_at, "updated_at", check_aware)
        for one in fields(type(self)):
            if one.type in ("str", str):
                check_instance(getattr(self, one.name), one.name, str, "a str")

    @property
    def key(self) -> tuple[str, ...]:
        """The parts of its record's key."""
        return (self.kind, *(getattr(self, name) for name in self.ids))

    @property
    def content(self) -> dict[str, Any]:
        """What is stored beside the key."""
        return {one.name: getattr(self, one.name) for one in fields(type(self)) if one.name not in self.ids}

    @classmethod
    def found(cls, key: Parts, parts: Parted) -> Self | None:
        """What of it stands in a record of that key."""
        ids: dict[str, Any] = dict(zip(cls.ids, key[1:], strict=True))
        return cls(**ids, **parts[cls.part]) if cls.part in parts else None


class PartView(Generic[T]):
    """The records in which ``of`` is a part, each as what ``made`` makes of its key and its parts."""

    def __init__(
        self, records: SubjectRecords, of: type[PartRecord], made: Callable[[Parts, Parted], T | None]
    ) -> None:
        self._records = records
        self._of = of
        self._made = made

    def key(self, *ids: str) -> tuple[str, ...]:
        """The key of a record, of its first ids the beginning."""
        for name, one in zip(self._of.ids, ids, strict=False):
            check_instance(one, name, str, "a str")
        return (self._of.kind, *ids)

    async def get(self, *ids: str) -> Result[T | None, PersistenceError]:
        """One of them, or None."""
        key = self.key(*ids)
        return (await self._records.load(key)).bind(lambda parts: self._shown(key, parts))

    async def save(self, record: T) -> Result[T, PersistenceError]:
        """Put one part; gives it as it was saved."""
        if not isinstance(record, self._of):
            mistyped(self._of.part, f"a {self._of.__name__}", record)
        return (await self.save_parts(record)).map(lambda saved: record if saved is None else saved)

    async def save_parts(self, *given: PartRecord) -> Result[T | None, PersistenceError]:
        """Put parts of one record, all or none; gives them as they were saved."""
        key = given[0].key
        saved = await self._records.save(key, {one.part: one.content for one in given})
        return saved.bind(lambda parts: self._shown(key, parts))

    async def drop(self, *ids: str) -> Result[bool, PersistenceError]:
        """Remove the part."""
        return await self._records.drop(self.key(*ids), self._of.part)

    async def delete(self, *ids: str) -> Result[bool, PersistenceError]:
        """Remove the whole record."""
        return await self._records.delete(self.key(*ids))

    async def page(self, limit: int, after: str | None, *subject: str) -> Result[Page[T], PersistenceError]:
        """A page of them, of one subject or of all."""
        check_whole(limit, "limit", most=10_000)
        check_optional(after, "after", check_str)
        kind, *who = self.key(*subject)
        listed = await self._records.page(kind, who[0] if who else None, limit=limit, after=after)
        if not isinstance(listed, Success):
            return Failure(listed.failure())
        page: Page[tuple[Parts, Parted]] = listed.unwrap()
        items: list[T] = []
        for key, parts in page.items:
            shown = self._shown(key, parts)
            if isinstance(shown, Failure):
                return Failure(shown.failure())
            items += [] if (one := shown.unwrap()) is None else [one]
        return Success(Page(tuple(items), page.next, page.now))

    def _shown(self, key: Parts, parts: Parted) -> Result[T | None, PersistenceError]:
        try:
            return Success(self._made(key, parts))
        except (TypeError, ValueError):
            name = self._of.__name__
            return Failure(
                MalformedPayload(f"Invalid record: expected a {name} of this release; restore it from a backup")
            )

    async def each(self, subject: str) -> AsyncIterator[T]:
        """All of a subject. What fails is raised."""
        async for listed in Pages(lambda after: self.page(PAGE, after, subject)):
            if isinstance(listed, Failure):
                raise listed.failure()
            page: Page[T] = listed.unwrap()
            for one in page.items:
                yield one

    async def largest(self, subject: str, by: Callable[[T], datetime]) -> T | None:
        """The one of a subject that is the last by a time; None where there is none. What fails is raised."""
        found: T | None = None
        async for one in self.each(subject):
            if found is None or by(one) > by(found):
                found = one
        return found
