"""Whether this process, with its classes, keys, tools and documents, could read and continue all that is stored.

Every record is decoded and nothing is written. What fails is counted by kind, error, class or tool, and flow, so that
a million records of one missing class are one line of the report.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

from attrs import define, evolve, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Page, Record, RecordRef, Scalar
from flowpersist.errors import ConfigurationError, FlowError, PersistenceError, SerializationError, StorageError
from flowpersist.hub.base import HubBase
from flowpersist.hub.outcome import Outcome
from flowpersist.hub.stored import Kind, Place, all_pages
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle.model import Head
from flowpersist.lifecycle.views import suspension_of
from flowpersist.sealed.drafts import Loaded

__all__ = ["RunCheck", "RunChecks", "UpgradeBreak", "UpgradeCheck", "check_upgrade"]

#: Says of the metadata and the state of one run, and of the steps that were kept since, why it could not continue; None
#: where it could.
RunCheck: TypeAlias = Callable[[Mapping[str, Scalar], object, Sequence[object]], Awaitable[PersistenceError | None]]
#: Questions whose data were found readable, so that a question that a thousand runs ask is read once.
MOST_KNOWN: Final = 10_000


@runtime_checkable
class RunChecks(Protocol):
    """What knows how runs continue: a ``FlowRunner``."""

    async def run_check(self, documents: Iterable[Any] = ()) -> Outcome[RunCheck]:
        """The check of runs that would continue with these documents, each of the flow of its name; other runs continue
        with their own.
        """
        ...


@frozen
class UpgradeBreak:
    """Records that fail alike: the ``kind`` of record, the ``code`` of the error, the class or tool that it is about
    and the flow (None where they are of none), the first error's message, how many fail, and which is the first.
    """

    kind: Kind
    code: str
    subject: str | None
    flow: str | None
    message: str
    count: int
    first: RecordRef | None


@frozen
class UpgradeCheck:
    """How many records of each kind were read, and what would break. ``complete`` is False where more differing breaks
    were found than were asked for.
    """

    records: Mapping[str, int]
    breaks: tuple[UpgradeBreak, ...]
    complete: bool = True

    @property
    def passes(self) -> bool:
        """Whether nothing would break."""
        return not self.breaks


@define
class _Breaks:
    most: int
    records: Counter[str] = field(factory=Counter)
    found: dict[tuple[str, str, str | None, str | None], UpgradeBreak] = field(factory=dict)
    complete: bool = True

    def add(self, kind: Kind, error: PersistenceError, flow: str | None, ref: RecordRef | None) -> None:
        alike = (kind, error.code, _subject(error), flow)
        known = self.found.get(alike)
        if known is not None:
            self.found[alike] = evolve(known, count=known.count + 1)
        elif len(self.found) < self.most:
            self.found[alike] = UpgradeBreak(kind, error.code, alike[2], flow, error.message, 1, ref)
        else:
            self.complete = False


def _subject(error: PersistenceError) -> str | None:
    if isinstance(error, SerializationError):
        return error.class_name
    return error.tool if isinstance(error, FlowError) else None


async def check_upgrade(
    hub: HubBase, runner: RunChecks | None, documents: tuple[Any, ...], *, most: int
) -> Result[UpgradeCheck, PersistenceError]:
    """Read everything, in pages. A store that can't be read is the failure; what can't be decoded is in the result."""
    if documents and runner is None:
        raise ConfigurationError("Missing runner: documents are checked with its tools and migrations", "runner")
    runs: RunCheck | None = None
    if runner is not None:
        compiled = await runner.run_check(documents)
        if not isinstance(compiled, Success):
            return Failure(compiled.failure())
        runs = compiled.unwrap()
    made = _Breaks(most)
    reader = _Reader(hub, runs, made)
    async for found in all_pages(hub, bodies=True):
        failed = await reader.page(*found.unwrap()) if isinstance(found, Success) else found.failure()
        if failed is not None:
            return Failure(failed)
    return Success(UpgradeCheck(dict(made.records), tuple(made.found.values()), made.complete))


@define
class _Reader:
    hub: HubBase
    runs: RunCheck | None
    breaks: _Breaks
    _known: set[int] = field(factory=set)

    async def page(self, place: Place, page: Page[Record]) -> PersistenceError | None:
        for left_out in page.unreadable:
            self.breaks.add(place.kind, left_out.error, None, left_out.ref)
        for record in page.items:
            self.breaks.records[place.kind] += 1
            loaded = await place.records.whole(record, page.now)
            error: PersistenceError | None
            if isinstance(loaded, Success):
                error = await self._problem(place, loaded.unwrap())
            else:
                error = loaded.failure()
            if isinstance(error, StorageError):
                return error
            if error is not None:
                head = loaded.unwrap().head if isinstance(loaded, Success) else None
                self.breaks.add(place.kind, error, await self._flow(record, head), record.ref)
            # Each is opened in the event loop unless it is large.
            await asyncio.sleep(0)
        return None

    async def _problem(self, place: Place, record: Loaded[Any]) -> PersistenceError | None:
        content = await place.content(record)
        if not isinstance(content, Success):
            return content.failure()
        if not isinstance(record.head, Head):
            return None
        unread = self._unread_question(record.head)
        is_run = record.head.metadata.get("kind") == "flow" and not record.head.status.closed
        if unread is not None or self.runs is None or not is_run:
            return unread
        kept = await self._kept_steps(record.head)
        if not isinstance(kept, Success):
            # A step that can't be decoded is a break of its own record.
            failed = kept.failure()
            return failed if isinstance(failed, StorageError) else None
        return await self.runs(record.head.metadata, content.unwrap(), kept.unwrap())

    async def _kept_steps(self, head: Head) -> Result[Sequence[object], PersistenceError]:
        """What was kept of a run since its state was stored: whoever continues it begins behind that."""
        if not head.attempt:
            return Success(())
        return await self.hub.suspensions.side_records.steps.read(suspension_of(head))

    def _unread_question(self, head: Head) -> PersistenceError | None:
        for wait in head.waits:
            if wait.awaiting is None or not wait.open:
                continue
            mark = hash(repr(wait.awaiting))
            if mark in self._known:
                continue
            read = AwaitInput.from_data(wait.awaiting)
            if not isinstance(read, Success):
                return read.failure()
            if len(self._known) < MOST_KNOWN:
                self._known.add(mark)
        return None

    async def _flow(self, record: Record, head: object) -> str | None:
        """The flow of a suspension, or of the one that a record stands beside."""
        if not isinstance(head, Head):
            owner = record.attributes.get("suspension")
            parsed = SuspensionId.parse(owner) if isinstance(owner, str) else None
            if not isinstance(parsed, Success):
                return None
            read = await self.hub.suspensions.records.read(str(parsed.unwrap()))
            found = read.unwrap().record if isinstance(read, Success) else None
            head = None if found is None else found.head
        flow = head.metadata.get("flow") if isinstance(head, Head) else None
        return flow if isinstance(flow, str) else None
