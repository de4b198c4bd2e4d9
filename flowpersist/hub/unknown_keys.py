"""Refusing unknown keys takes as much work as refusing a wrong secret.

Ids that are derived from idempotency keys can be guessed. Whoever tries one with a secret of their own must not learn
from the time whether a suspension of that id exists, or has many waits: so for an id that is not there a head is opened
all the same, and its receipts are asked for; and where no waits stand on pages, a page is opened and asked for as well.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from returns.result import Failure, Success

from flowpersist.backends.base import Record
from flowpersist.errors import PersistenceError, StorageError
from flowpersist.hub.paged_heads import PagedHeads, page_key
from flowpersist.hub.side_records import SideRecords
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.keys.suspension_key import SECRET_BYTES, SuspensionId, SuspensionKey
from flowpersist.lifecycle.indexing import attributes_of
from flowpersist.lifecycle.model import Head, Status, WaitPage, WaitState, find, replace, secret_digest
from flowpersist.lifecycle.pages import PageContent
from flowpersist.lifecycle.paging import NAME_BYTES, read_page
from flowpersist.lifecycle.refusals import not_found
from flowpersist.sealed.drafts import Draft
from flowpersist.sealed.envelope import Sealer
from flowpersist.sealed.heads import packed

__all__ = ["UnknownKeys"]

#: The waits of a typical page.
ON_PAGE: Final = 48


class UnknownKeys:
    """Refuses keys of suspensions that do not exist."""

    def __init__(self, records: PagedHeads, side_records: SideRecords) -> None:
        self._records = records
        self._side_records = side_records
        self._made: tuple[Sealer, Record, Record, Head] | None = None

    async def refuse(self, key: SuspensionKey | SuspensionId, now: datetime) -> PersistenceError:
        """The error for the holder of this key, after the work that a wrong secret takes; of an id, which code of this
        process has, at once.
        """
        if isinstance(key, SuspensionId):
            return not_found(key)
        self.work(key, now)
        failure = await self.page(key, now)
        if failure is not None:
            return failure
        receipt = await self._side_records.receipt(key.id, now, secret_digest(key.secret))
        failed = isinstance(receipt, Failure) and isinstance(receipt.failure(), StorageError)
        return receipt.failure() if failed else not_found(key)

    def work(self, key: SuspensionKey, now: datetime) -> None:
        """What opening a head and comparing its secrets takes."""
        made = self._stand_ins(key, now)
        opened = None if made is None else self._records.loaded(made[0], now)
        if isinstance(opened, Success):
            find(opened.unwrap().head, key)

    async def page(self, key: SuspensionKey, now: datetime) -> PersistenceError | None:
        """What reading the page of a key takes; gives why the store fails."""
        made = self._stand_ins(key, now)
        if made is not None:
            _, page, head = made
            content = self._records.pages.loaded(page, now).bind(lambda opened: read_page(opened.head.content))
            content.map(lambda read: find(replace(head, waits=read.waits), key))
        name = self._records.runtime.entropy(NAME_BYTES)
        read = await self._records.pages.read(page_key(key.id, name))
        return read.failure() if isinstance(read, Failure) else None

    def _stand_ins(self, key: SuspensionKey, now: datetime) -> tuple[Record, Record, Head] | None:
        """The records of a typical head and of a typical page, sealed once for each sealer and never stored, and that
        head.
        """
        sealer = self._records.sealer
        if self._made is None or self._made[0] is not sealer:
            secrets = [self._records.runtime.entropy(SECRET_BYTES) for _ in range(ON_PAGE)]
            head = _usual(key, secrets[0], now)
            content = packed(PageContent(tuple(map(_wait, secrets)), ()))
            page = content.bind(lambda data: self._records.pages.sealed(Draft(WaitPage(data), {}, None), now))
            sealed = self._records.sealed(Draft(head, attributes_of(head), None), now)
            if not isinstance(sealed, Success) or not isinstance(page, Success):
                return None
            self._made = (sealer, sealed.unwrap(), page.unwrap(), head)
        return self._made[1:]


def _wait(secret: bytes) -> WaitState:
    awaiting = AwaitInput[bool](id="answer", prompt="Is that right?", schema=bool)
    return WaitState("answer", secret, 1, awaiting.to_data(), None)


def _usual(key: SuspensionKey, secret: bytes, now: datetime) -> Head:
    return Head(
        id=key.id,
        tenant=None,
        metadata={},
        created_at=now,
        updated_at=now,
        retention=timedelta(days=7),
        status=Status.WAITING,
        until="all",
        waits=(_wait(secret),),
    )
