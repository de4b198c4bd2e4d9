"""What OpenTelemetry's own SDK exports while a block runs, from providers that are this process's for as long."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager

import opentelemetry.metrics._internal as api_metrics
import pytest
from opentelemetry import trace
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util._once import Once

from flowpersist.sealed.telemetry import telemetry


class Exported:
    """Spans, metrics and logs that were exported."""

    def __init__(self, spans, reader, logs):
        self._spans, self._reader, self._logs = spans, reader, logs

    @property
    def spans(self):
        return self._spans.get_finished_spans()

    def named(self, name):
        return [span for span in self.spans if span.name == name]

    def points(self, name):
        """The data points of a metric, as of now."""
        data = self._reader.get_metrics_data()
        metrics = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics] if data else []
        return [point for metric in metrics if metric.name == name for point in metric.data.data_points]

    def total(self, name, **attributes):
        """The sum of a counter, or the number of a histogram's values, over the points with these attributes."""
        wanted = {name.replace("_", "."): value for name, value in attributes.items()}.items()
        points = [point for point in self.points(name) if wanted <= dict(point.attributes).items()]
        return sum(point.count if hasattr(point, "count") else point.value for point in points)

    @property
    def logs(self):
        return [one.log_record for one in self._logs.get_finished_logs()]

    def text(self):
        """All of it, as an exporter writes it."""
        data = self._reader.get_metrics_data()
        return "\n".join(
            [
                *(span.to_json() for span in self.spans),
                "" if data is None else data.to_json(),
                *(one.to_json() for one in self._logs.get_finished_logs()),
            ]
        )


@contextmanager
def unset():
    """No providers, as in a new process; those that are set within the block end with it."""
    with pytest.MonkeyPatch.context() as patched:
        for module, name in ((trace, "_TRACER_PROVIDER"), (api_metrics, "_METER_PROVIDER")):
            patched.setattr(module, name, None)
            patched.setattr(module, f"{name}_SET_ONCE", Once())
        telemetry.cache_clear()
        yield
        for provider in (trace._TRACER_PROVIDER, api_metrics._METER_PROVIDER):
            if provider is not None:
                provider.shutdown()
    telemetry.cache_clear()


@contextmanager
def exporting(monkeypatch, *readers):
    """Providers of the SDK, which end with the block: the API lets a process set them once."""
    spans, reader, logs = InMemorySpanExporter(), InMemoryMetricReader(), InMemoryLogRecordExporter()
    resource = Resource({"service.name": "test"})
    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    meters = MeterProvider([reader, *readers], resource=resource)
    loggers = LoggerProvider(resource=resource)
    loggers.add_log_record_processor(SimpleLogRecordProcessor(logs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        handler = LoggingHandler(logger_provider=loggers)
    logger = logging.getLogger("flowpersist")
    with monkeypatch.context() as patched:
        patched.setattr(trace, "_TRACER_PROVIDER", tracers)
        patched.setattr(api_metrics, "_METER_PROVIDER", meters)
        patched.setattr(logger, "level", logging.DEBUG)
        telemetry.cache_clear()
        logger.addHandler(handler)
        try:
            yield Exported(spans, reader, logs)
        finally:
            logger.removeHandler(handler)
            for provider in (tracers, meters, loggers):
                provider.shutdown()
    telemetry.cache_clear()
