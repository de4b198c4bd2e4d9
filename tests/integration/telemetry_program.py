"""A program that suspends a run within a trace, in a process of its own: ``telemetry_program.py URL``.

Prints, as JSON, the token of the run's key, and the trace and span in which it was paused.
"""

from __future__ import annotations

import asyncio
import json
import sys

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flowpersist import AwaitInput, open_hub, or_raise


async def main() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    async with open_hub(sys.argv[1], keyring=None) as hub:
        with trace.get_tracer("program").start_as_current_span("request"):
            new = or_raise(await hub.suspend({"n": 1}, awaiting=AwaitInput(id="word", prompt="A word?", schema=str)))
    (paused,) = [span for span in exporter.get_finished_spans() if span.name == "flowpersist.suspend"]
    said = {"key": str(new.key), "trace": paused.context.trace_id, "span": paused.context.span_id}
    sys.stdout.write(json.dumps(said) + "\n")


asyncio.run(main())
