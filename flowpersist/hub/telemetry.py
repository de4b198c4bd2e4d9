"""Spans and metrics of a hub's verbs, of the runs that workers handle, and of the steps of flows.

The context of the span in which a run is paused is stored in its sealed head. Whoever answers or takes the run, in any
process, links their span to it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from time import perf_counter
from typing import Any, Final, TypeVar

from returns.result import Failure, Success

from flowpersist.backends.base import BackendHealth, Where
from flowpersist.errors import LeaseLost, PersistenceError
from flowpersist.lifecycle.changes import present
from flowpersist.lifecycle.model import Head, Status, WaitStatus, replace
from flowpersist.lifecycle.views import Resumption
from flowpersist.sealed.measured import system_of
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.telemetry import Telemetry, active, error_type, telemetry

__all__ = [
    "HubTelemetry",
    "failed",
    "hub_telemetry",
    "measure_pool",
    "measure_queue",
    "paused_in",
    "record_change",
    "span",
    "span_of_run",
]

T = TypeVar("T")
#: The verbs that go on with what was paused.
_LINKED: Final = frozenset({"answer", "claim", "resume"})
#: It runs until it is cancelled, and a span is exported when it has ended.
_ENDLESS: Final = frozenset({"work"})
_NO_SPAN: Final = nullcontext(None)


class HubTelemetry:
    """Observes the verbs of one hub."""

    def __init__(self, telemetry: Telemetry, namespace: str) -> None:
        self._telemetry = telemetry
        self._namespace = namespace

    async def verb(self, name: str, called: Awaitable[T]) -> T:
        """Await a verb that was called, as a span, and measure it. A verb that gives a ``Failure`` has failed."""
        if name in _ENDLESS or self._telemetry.idle:
            return await called
        started = perf_counter()
        attributes = {"flowpersist.verb": name, "flowpersist.namespace": self._namespace}
        failed: BaseException | None = None
        try:
            with self._telemetry.span(f"flowpersist.{name}", attributes) as current:
                result = await called
                if isinstance(result, Failure):
                    refusal: PersistenceError = result.failure()
                    failed = refusal
                    self._telemetry.failed(current, refusal)
        except BaseException as error:
            failed = error
            raise
        finally:
            self._ended(name, perf_counter() - started, failed)
        return result

    def _ended(self, verb: str, took: float, failed: BaseException | None) -> None:
        attributes = {"flowpersist.verb": verb}
        if failed is not None:
            attributes["error.type"] = error_type(failed)
        self._telemetry.record("flowpersist.verb.duration", took, attributes)
        if isinstance(failed, LeaseLost):
            self._telemetry.count("flowpersist.lease.losses", 1, {"flowpersist.verb": verb})


def hub_telemetry(namespace: str) -> HubTelemetry | None:
    """What observes the verbs of a hub; None where the API of OpenTelemetry is not installed."""
    found = telemetry()
    return None if found is None else HubTelemetry(found, namespace)


def paused_in(head: Head, before: Head | None) -> Head:
    """The head with the context of the current span, if the run is paused by it."""
    found = active()
    if found is None or not _is_paused(head, before):
        return head
    trace = found.current()
    return head if trace == head.trace else replace(head, trace=trace)


def _is_paused(head: Head, before: Head | None) -> bool:
    if before is None or head.sequence != before.sequence:
        return True
    return before.status is Status.RESERVED and head.status in {Status.WAITING, Status.ANSWERED}


def record_change(verb: str, before: Head | None, after: Head | None, now: datetime) -> None:
    """Link the verb's span to the one that paused the run, and count what became durable (``after``; None: nothing)."""
    found = active()
    if found is None:
        return
    current = found.api.get_current_span()
    if before is not None and verb in _LINKED:
        found.link(before.trace)
    head = after or before
    if head is not None and current.is_recording():
        current.set_attribute("flowpersist.suspension.id", str(head.id))
        current.set_attribute("flowpersist.status", head.status.value)
    if after is not None:
        _count(found, before, after, now)


def _count(found: Telemetry, before: Head | None, after: Head, now: datetime) -> None:
    if _is_paused(after, before) and after.status in {Status.WAITING, Status.ANSWERED}:
        found.count("flowpersist.suspended")
    if _is_taken(after, before):
        found.count("flowpersist.resumed")
        queued = None if before is None else present(before, now).claimable_at
        found.record("flowpersist.queue.age", 0.0 if queued is None else (now - queued).total_seconds())
    if after.status.closed and not (before and before.status.closed):
        found.count("flowpersist.closed", 1, {"flowpersist.status": after.status.value})
    _count_answers(found, before, after)


def _is_taken(head: Head, before: Head | None) -> bool:
    if before is None:
        return False
    return head.fence > before.fence or (head.taken is not None and before.taken is None)


def _count_answers(found: Telemetry, before: Head | None, after: Head) -> None:
    answered = set() if before is None else {w.secret for w in before.waits if w.status is WaitStatus.ANSWERED}
    for wait in after.waits:
        if wait.status is not WaitStatus.ANSWERED or wait.secret in answered:
            continue
        found.count("flowpersist.answered")
        opened = after.created_at if wait.sequence == 1 else after.paused_at
        # Of a wait of an earlier pause the head does not say when it was opened.
        if wait.closed_at is not None and opened is not None and wait.sequence in {1, after.sequence}:
            found.record("flowpersist.wait.duration", (wait.closed_at - opened).total_seconds())


async def measure_queue(records: SealedRecords[Head]) -> None:
    """Set the age of the first run in the queue of answered ones, 0 where that is empty, if metrics are exported."""
    found = active()
    if found is None or not found.measures:
        return
    listed = await records.listed(Where({"status": str(Status.ANSWERED)}), order="due", limit=1)
    if not isinstance(listed, Success):
        return
    page = listed.unwrap()
    ages = [(page.now - one.due_at).total_seconds() for one in page.items if one.due_at is not None]
    found.set("flowpersist.queue.oldest", max([0.0, *ages]))


def measure_pool(seen: BackendHealth) -> None:
    """Set the use of the pool of connections, if metrics are exported and the backend tells it."""
    found, use = active(), seen.pool
    if found is None or not found.measures or use is None:
        return
    named = {"db.system.name": system_of(seen.backend)}
    found.set("db.client.connection.count", use.in_use, {**named, "db.client.connection.state": "used"})
    found.set("db.client.connection.max", use.size, named)
    if use.waiting is not None:
        found.set("db.client.connection.pending_requests", use.waiting, named)


def span(name: str, attributes: Mapping[str, str | int]) -> AbstractContextManager[Any]:
    """A span of a part of a flow; a block that is given None where nothing is traced or measured."""
    found = active()
    return _NO_SPAN if found is None else found.span(name, attributes)


def span_of_run(name: str, run: Resumption[Any], *, kind: str = "INTERNAL") -> AbstractContextManager[Any]:
    """A span of work on a claimed run, linked to the span in which the run was paused."""
    found = active()
    if found is None:
        return _NO_SPAN
    attributes: dict[str, str | int] = {
        "flowpersist.suspension.id": str(run.suspension.id),
        "flowpersist.attempt": run.attempt,
    }
    return found.span(name, attributes, kind=kind, linked=run.trace)


def failed(current: Any, error: BaseException) -> None:  # noqa: ANN401 - of the API, or None
    """Mark a span that ``span`` gave as failed."""
    found = active()
    if found is not None and current is not None:
        found.failed(current, error)
