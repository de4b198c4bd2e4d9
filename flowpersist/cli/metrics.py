"""The metrics of a worker, for Prometheus to scrape, by the exporter of OpenTelemetry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from typing import Any, Final

import click
from returns.result import Success

from flowpersist.cli.session import note
from flowpersist.errors import ConfigurationError
from flowpersist.hub.telemetry import measure_pool, measure_queue
from flowpersist.hub.verbs import PersistenceHub
from flowpersist.sealed.telemetry import telemetry

__all__ = ["ADDRESS", "measured", "served"]

#: Seconds between two looks at the queue, as often as Prometheus scrapes by default.
EVERY: Final = 15.0


class Address(click.ParamType[tuple[str, int]]):
    """``PORT``, ``HOST:PORT`` or ``[IPv6]:PORT``."""

    name = "[HOST:]PORT"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """The host, without which only this machine can scrape, and the port."""
        if isinstance(value, tuple):
            return value
        host, _, port = str(value).rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not (port.isascii() and port.isdecimal() and int(port) < 2**16):
            self.fail("expected a port such as 9464, or host:port such as 0.0.0.0:9464", param, ctx)
        return host or "127.0.0.1", int(port)


ADDRESS: Final = Address()


@contextmanager
def served(address: tuple[str, int]) -> Iterator[str]:
    """Serve the metrics of this process at the address while the block runs, which gets their URL.

    ``ConfigurationError`` without the extra, where another part of the process exports metrics already, and where the
    address can't be served.
    """
    try:
        api: Any = import_module("opentelemetry.metrics")
        sdk: Any = import_module("opentelemetry.sdk.metrics")
        exporter: Any = import_module("opentelemetry.exporter.prometheus")
        client: Any = import_module("prometheus_client")
    except ImportError:
        message = "Missing the Prometheus exporter, which --metrics needs: pip install 'flowpersist[prometheus]'"
        raise ConfigurationError(message, "--metrics") from None
    found = telemetry()
    if found is not None and found.measures:
        message = "this process has a provider of metrics already: leave out --metrics, and configure that one"
        raise ConfigurationError(message, "--metrics")
    registry = client.CollectorRegistry()
    host, port = address
    try:
        server, thread = client.start_http_server(port, host, registry)
    except OSError as error:
        message = f"metrics can't be served at {host}:{port} ({error.strerror}): choose a free port of this machine"
        raise ConfigurationError(message, "--metrics") from error
    provider = sdk.MeterProvider([exporter.PrometheusMetricReader(registry=registry)])
    api.set_meter_provider(provider)
    try:
        yield f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        provider.shutdown()


@asynccontextmanager
async def measured(hub: PersistenceHub, address: tuple[str, int]) -> AsyncIterator[None]:
    """Serve the metrics of this process while the block runs, the queue's age among them."""
    with served(address) as url:
        note(f"metrics are at {url}")
        measuring = asyncio.create_task(_keep_measuring(hub))
        try:
            yield
        finally:
            measuring.cancel()
            await asyncio.wait([measuring])


async def _keep_measuring(hub: PersistenceHub) -> None:
    while True:
        await measure_queue(hub.suspensions.records)
        pinged = await hub.suspensions.records.health()
        if isinstance(pinged, Success):
            measure_pool(pinged.unwrap())
        await asyncio.sleep(EVERY)
