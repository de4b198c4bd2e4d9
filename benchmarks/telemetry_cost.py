"""What telemetry costs: CPU time of suspend, answer, claim and complete on the memory backend, in three processes.

Run with ``python benchmarks/telemetry_cost.py [ROUNDS]``. ``absent`` hides the API of OpenTelemetry, ``api`` has it
without a provider, ``sdk`` has the SDK with exporters to memory. The processes take turns of 100 cycles, so that all
meet the same load of the machine. Figures are microseconds of the process's CPU time for one cycle of four verbs: the
median of the turns, and the lowest.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

MODES = ("absent", "api", "sdk")
TURN = 100


def _set_up(mode: str) -> list[object]:
    """Bring this process into a mode; gives what is to be emptied after each turn."""
    if mode == "absent":
        sys.modules["opentelemetry.trace"] = None  # type: ignore[assignment]
    if mode != "sdk":
        return []
    from opentelemetry import metrics, trace  # noqa: PLC0415 - of this mode alone
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: PLC0415

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))
    return [exporter]


async def work(mode: str) -> None:
    """One mode's process: at each line of the input a turn, whose figure is one line of the output."""
    exporters = _set_up(mode)
    from flowpersist import AwaitInput, KeyRing, open_hub, or_raise  # noqa: PLC0415 - after the set-up

    question = AwaitInput(id="ok", prompt="Go on?", schema=bool)
    async with open_hub("memory://", keyring=KeyRing.generate()) as hub:
        print("ready", flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            started = time.process_time()
            for _ in range(TURN):
                new = or_raise(await hub.suspend({"n": 1}, awaiting=question))
                or_raise(await hub.answer(new.key, True))
                or_raise(await hub.complete(or_raise(await hub.claim(new.key))))
            print(json.dumps((time.process_time() - started) / TURN * 1e6), flush=True)
            for exporter in exporters:
                exporter.clear()  # type: ignore[attr-defined]


def main(rounds: int) -> None:
    """All modes in turns, and the table."""
    command = [sys.executable, str(Path(__file__)), "--work"]
    processes = {
        mode: subprocess.Popen([*command, mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for mode in MODES
    }
    turns: dict[str, list[float]] = {mode: [] for mode in MODES}
    try:
        for process in processes.values():
            assert process.stdout is not None  # noqa: S101 - a pipe was asked for
            process.stdout.readline()
        for number in range(rounds + 1):
            for mode, process in processes.items():
                assert process.stdin is not None  # noqa: S101 - as above
                assert process.stdout is not None  # noqa: S101 - as above
                process.stdin.write("go\n")
                process.stdin.flush()
                figure = float(process.stdout.readline())
                # The first turn warms up.
                turns[mode] += [figure] if number else []
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    for mode, figures in turns.items():
        print(f"{mode:>8}: median {statistics.median(figures):7.0f} us, lowest {min(figures):7.0f} us a cycle")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        asyncio.run(work(sys.argv[2]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
