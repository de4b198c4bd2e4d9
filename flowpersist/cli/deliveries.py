"""``audit deliver``: copy audit entries to where whoever can write the store can't take them back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from flowpersist.cli.inputs import load_tools
from flowpersist.cli.session import Command, Store, store_options, with_hub
from flowpersist.errors import ConfigurationError
from flowpersist.hub.delivering import AuditDelivery
from flowpersist.hub.outcome import or_raise
from flowpersist.hub.sinks import SINK, AuditSink, FileSink

if TYPE_CHECKING:
    from flowpersist.hub.verbs import PersistenceHub

__all__ = ["deliver"]

FILE: Final = "file:"


@click.command(cls=Command)
@click.option("--to", "places", metavar="file:PATH", multiple=True, help="A file that lines of JSON are appended to.")
@click.option(
    "--sinks",
    "modules",
    metavar="MODULE[:NAME]",
    multiple=True,
    help="Sinks of your own: a module or a .py file, and a name in it ('sinks' where none is given); repeat it.",
)
@click.option("--values", is_flag=True, help="Write answers to the files too, as far as the entries have them.")
@store_options
def deliver(*, store: Store, places: tuple[str, ...], modules: tuple[str, ...], values: bool) -> None:
    """Give sinks all audit entries that they have not been given, each at least once.

    Run it from a timer. The store has each sink's position, so the next call goes on there, also after a crash.
    """
    if not places and not modules:
        msg = "name where to: --to file:PATH, or --sinks MODULE[:NAME]"
        raise click.UsageError(msg)
    sinks = [*(_file_sink(place, values=values) for place in places), *map(_checked, load_tools(modules, "--sinks"))]

    async def verb(hub: PersistenceHub) -> dict[str, int]:
        return {sink.name: await _delivered(hub, sink) for sink in sinks}

    counts = with_hub(store, verb)
    store.show({"delivered": counts}, [f"delivered {count} entries to {name}" for name, count in counts.items()])


async def _delivered(hub: PersistenceHub, sink: AuditSink) -> int:
    delivery = AuditDelivery(hub.suspensions, sink)
    try:
        return or_raise(await delivery.deliver())
    finally:
        # The next call is another process, which should not wait for this one's hold to end.
        await delivery.release()


def _file_sink(place: str, *, values: bool) -> AuditSink:
    path = place.removeprefix(FILE)
    if path == place or not path:
        msg = f"expected {FILE}PATH, such as {FILE}/var/log/flowpersist/audit.jsonl"
        raise click.BadParameter(msg, param_hint="--to")
    return FileSink(path, values=values)


def _checked(sink: object) -> AuditSink:
    if not isinstance(sink, AuditSink):
        raise ConfigurationError(f"--sinks: expected {SINK}, and found {type(sink).__name__}", "--sinks")
    return sink
