"""OpenTelemetry, where its API is installed: one tracer, the instruments, and span contexts as bytes.

Nothing is configured here: a program that sets an OpenTelemetry provider gets spans and metrics, and without a provider
the API does nothing. The names of metrics and attributes are those of docs/how-to/watch-with-opentelemetry.md. Messages
of errors are never recorded, since a user's exception may hold a value: ``error.type`` names the error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final

from attrs import field, frozen

from flowpersist.errors import PersistenceError

__all__ = ["CONTEXT_BYTES", "METRICS", "Telemetry", "active", "error_type", "telemetry"]

#: The bytes of a span context: the trace's id, the span's id, and the trace flags of W3C Trace Context.
CONTEXT_BYTES: Final = 16 + 8 + 1
_SCHEMA: Final = "https://opentelemetry.io/schemas/1.44.0"
#: Seconds: a database's, as the semantic conventions advise.
_QUICK: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
#: Seconds: from an answer of a program to one of a person after holidays.
_PATIENT: Final = (0.1, 1, 10, 60, 600, 3600, 6 * 3600, 86_400, 3 * 86_400, 7 * 86_400, 30 * 86_400)


@frozen
class Metric:
    """A metric: its instrument, its unit in UCUM, what it says, and the bounds of a histogram's buckets."""

    kind: str
    unit: str
    description: str
    bounds: tuple[float, ...] = ()


#: All metrics, by name.
METRICS: Final[Mapping[str, Metric]] = MappingProxyType(
    {
        "flowpersist.suspended": Metric("counter", "{pause}", "Pauses of runs that became durable"),
        "flowpersist.answered": Metric("counter", "{wait}", "Waits that ended with an answer or a default"),
        "flowpersist.resumed": Metric("counter", "{run}", "Runs that were taken, for good or under a lease"),
        "flowpersist.closed": Metric("counter", "{suspension}", "Suspensions that ended, by their status"),
        "flowpersist.conflicts": Metric("counter", "{conflict}", "Writes that lost against another or came too late"),
        "flowpersist.lease.losses": Metric("counter", "{lease}", "Verbs of holders whose lease had ended"),
        "flowpersist.wait.duration": Metric("histogram", "s", "From the pause to the answer", _PATIENT),
        "flowpersist.queue.age": Metric("histogram", "s", "How long a run was claimable until it was taken", _PATIENT),
        "flowpersist.queue.oldest": Metric("gauge", "s", "How long the first run of the queue has been claimable"),
        "flowpersist.verb.duration": Metric("histogram", "s", "Duration of verbs", _QUICK),
        "db.client.connection.count": Metric("gauge", "{connection}", "Connections of the pool, by their state"),
        "db.client.connection.max": Metric("gauge", "{connection}", "Connections that there may be to a server"),
        "db.client.connection.pending_requests": Metric("gauge", "{request}", "Callers that wait for a connection"),
        "db.client.operation.duration": Metric("histogram", "s", "Duration of database client operations.", _QUICK),
    }
)


@frozen
class Telemetry:
    """The tracer and the instruments of this library, and the API's modules: of traces, and of metrics."""

    api: Any
    metrics: Any
    tracer: Any
    instruments: Mapping[str, Any] = field(repr=False)

    @contextmanager
    def span(
        self, name: str, attributes: Mapping[str, str | int], *, kind: str = "INTERNAL", linked: bytes | None = None
    ) -> Iterator[Any]:
        """A span that is the current one while the block runs. An exception that leaves it is recorded by its class.

        - ``kind``: a name of ``SpanKind``.
        - ``linked``: the span context that it is linked to.
        """
        context = self.context_of(linked)
        links = () if context is None else (self.api.Link(context),)
        with self.tracer.start_as_current_span(
            name,
            kind=self.api.SpanKind[kind],
            attributes=attributes,
            links=links,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except BaseException as error:
                self.failed(span, error)
                raise

    def failed(self, span: Any, error: BaseException) -> None:  # noqa: ANN401 - of the API
        """Mark a span as failed, by the error's code or class."""
        span.set_attribute("error.type", error_type(error))
        span.set_status(self.api.StatusCode.ERROR)

    @property
    def measures(self) -> bool:
        """Whether a provider of metrics was set: those of the API itself do nothing."""
        return not type(self.metrics.get_meter_provider()).__module__.startswith("opentelemetry.metrics")

    @property
    def idle(self) -> bool:
        """Whether nothing would come of spans and metrics, so that they need not be made."""
        traces = type(self.api.get_tracer_provider()).__module__ != "opentelemetry.trace"
        return not (traces or self.measures)

    @property
    def traced(self) -> bool:
        """Whether the current span is recorded."""
        return bool(self.api.get_current_span().is_recording())

    def current(self) -> bytes | None:
        """The context of the current span; None without one."""
        context = self.api.get_current_span().get_span_context()
        if not context.is_valid:
            return None
        flags = bytes([context.trace_flags & 0xFF])
        return bytes(context.trace_id.to_bytes(16, "big") + context.span_id.to_bytes(8, "big") + flags)

    def link(self, stored: bytes | None) -> None:
        """Link the current span to a span context that was stored."""
        context = self.context_of(stored)
        if context is not None:
            self.api.get_current_span().add_link(context)

    def context_of(self, stored: bytes | None) -> Any:  # noqa: ANN401 - of the API
        """The span context in bytes; None where there is none in them."""
        if stored is None or len(stored) != CONTEXT_BYTES:
            return None
        trace_id, span_id = int.from_bytes(stored[:16], "big"), int.from_bytes(stored[16:24], "big")
        flags = self.api.TraceFlags(stored[24])
        context = self.api.SpanContext(trace_id=trace_id, span_id=span_id, is_remote=True, trace_flags=flags)
        return context if context.is_valid else None

    def count(self, name: str, number: int = 1, attributes: Mapping[str, str] = MappingProxyType({})) -> None:
        """Add to a counter."""
        self.instruments[name].add(number, attributes)

    def record(self, name: str, seconds: float, attributes: Mapping[str, str] = MappingProxyType({})) -> None:
        """Record a time in a histogram, as none where a clock was moved back."""
        self.instruments[name].record(max(0.0, seconds), attributes)

    def set(self, name: str, value: float, attributes: Mapping[str, str] = MappingProxyType({})) -> None:
        """Set a gauge."""
        self.instruments[name].set(value, attributes)


@cache
def telemetry() -> Telemetry | None:
    """The telemetry of this process; None where the API of OpenTelemetry is not installed."""
    try:
        trace: Any = import_module("opentelemetry.trace")
        metrics: Any = import_module("opentelemetry.metrics")
    except ImportError:
        return None
    meter = metrics.get_meter("flowpersist", schema_url=_SCHEMA)
    instruments = {name: _instrument(meter, name, metric) for name, metric in METRICS.items()}
    return Telemetry(trace, metrics, trace.get_tracer("flowpersist", schema_url=_SCHEMA), instruments)


def active() -> Telemetry | None:
    """The telemetry of this process, if the program has set a provider."""
    found = telemetry()
    return None if found is None or found.idle else found


def _instrument(meter: Any, name: str, metric: Metric) -> Any:  # noqa: ANN401 - of the API
    options = {"explicit_bucket_boundaries_advisory": metric.bounds} if metric.bounds else {}
    return getattr(meter, f"create_{metric.kind}")(name, metric.unit, metric.description, **options)


def error_type(error: BaseException) -> str:
    """What ``error.type`` names an error by: its code, or the class of one that is not ours."""
    return error.code if isinstance(error, PersistenceError) else type(error).__qualname__
