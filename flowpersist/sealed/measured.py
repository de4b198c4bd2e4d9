"""A backend whose operations are measured, and are spans of the caller's trace."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Final, TypeVar

from flowpersist.backends.base import StorageBackend
from flowpersist.backends.kit import DelegatingBackend
from flowpersist.errors import DeadlinePassed, RevisionConflict
from flowpersist.sealed.telemetry import Telemetry, error_type, telemetry

__all__ = ["measured", "system_of"]

T = TypeVar("T")
#: The names of systems in the semantic conventions, where they are not ours.
_SYSTEMS: Final = {"postgres": "postgresql"}


def system_of(name: str) -> str:
    """What OpenTelemetry calls the database of a backend of that name."""
    return _SYSTEMS.get(name, name)


def measured(backend: StorageBackend) -> StorageBackend:
    """The backend with telemetry; the backend itself where the API of OpenTelemetry is not installed."""
    found = telemetry()
    return backend if found is None else _MeasuredBackend(backend, found)


class _MeasuredBackend(DelegatingBackend):
    """Forwards to ``inner``. An operation is a span only within a recorded one: polling makes no traces."""

    def __init__(self, inner: StorageBackend, telemetry: Telemetry) -> None:
        super().__init__(inner)
        self._telemetry = telemetry
        self._system = system_of(inner.name)

    async def around(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        """Measure an operation."""
        if self._telemetry.idle:
            return await call()
        attributes = {"db.system.name": self._system, "db.operation.name": operation}
        if not self._telemetry.traced:
            return await self._timed(call, attributes)
        with self._telemetry.span(f"{operation} {self._system}", attributes, kind="CLIENT"):
            return await self._timed(call, attributes)

    async def _timed(self, call: Callable[[], Awaitable[T]], attributes: dict[str, str]) -> T:
        started = perf_counter()
        try:
            result = await call()
        except BaseException as error:
            self._count_conflicts((error,))
            self._record(started, {**attributes, "error.type": error_type(error)})
            raise
        if isinstance(result, tuple):
            # Of put_many, which gives the errors of single puts.
            self._count_conflicts(result)
        self._record(started, attributes)
        return result

    def _record(self, started: float, attributes: dict[str, str]) -> None:
        self._telemetry.record("db.client.operation.duration", perf_counter() - started, attributes)

    def _count_conflicts(self, results: tuple[object, ...]) -> None:
        for one in results:
            if isinstance(one, RevisionConflict | DeadlinePassed):
                told = {"db.system.name": self._system, "error.type": one.code}
                self._telemetry.count("flowpersist.conflicts", 1, told)
