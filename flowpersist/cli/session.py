"""What all commands share: where the store is, how errors leave, and one event loop with an open hub."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from attrs import define, evolve, field, frozen

from flowpersist.cli.exits import Exit, exit_of
from flowpersist.cli.layout import moment, printable, writable
from flowpersist.cli.views import as_json
from flowpersist.errors import (
    AlreadyResumed,
    AnswerConflict,
    ConfigurationError,
    InputValidationError,
    PersistenceError,
    StorageError,
    WaitSuperseded,
)
from flowpersist.errors.tracebacks import Tracebacks
from flowpersist.hub.opening import HubOptions, open_hub, ring_of
from flowpersist.hub.verbs import PersistenceHub
from flowpersist.keys.keyring import KeyRing
from flowpersist.lifecycle import Receipt
from flowpersist.settings import Settings

__all__ = ["Command", "Store", "awaited", "note", "store_options", "with_hub"]

T = TypeVar("T")
#: What shells give a process that a signal has ended.
ENDED: Final = {signal.SIGINT: 130, signal.SIGTERM: 143}
#: How often Ctrl-C cancels before it leaves at once.
INTERRUPTS: Final = 2


@frozen
class Store:
    """Which store, and how to speak: what is None comes from the environment."""

    url: str | None = None
    keys_file: Path | None = None
    namespace: str | None = None
    json: bool = False
    debug: bool = False

    def show(self, data: object, lines: list[str]) -> None:
        """Print what was asked for: as JSON, or as text."""
        click.echo(writable(as_json(data)) if self.json else printable("\n".join(lines)))


OPTIONS = (
    click.option("--url", help="Where the records are, such as sqlite:///flows.db. [FLOWPERSIST_URL]"),
    click.option(
        "--keys-file",
        type=click.Path(dir_okay=False, path_type=Path),
        help="The keyring's file. [FLOWPERSIST_KEYS, FLOWPERSIST_KEYS_FILE]",
    ),
    click.option("--namespace", help="Which of the store's namespaces; the default is 'default'."),
    click.option("--json", "json", is_flag=True, default=None, help="Print JSON; errors are problem documents."),
    click.option(
        "--debug",
        is_flag=True,
        default=None,
        help="Tell errors with whole tracebacks, which may hold state. [FLOWPERSIST_DEBUG]",
    ),
)


def store_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that may stand before the command's name and after it."""
    for option in reversed(OPTIONS):
        function = option(function)
    return function


class Command(click.Command):
    """A command that gets the ``Store`` as its first argument, and whose errors leave as a line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        """Run it; a ``PersistenceError`` is printed on standard error, never as a traceback."""
        given = {name: ctx.params.pop(name) for name in ("url", "keys_file", "namespace", "json", "debug")}
        store = evolve(ctx.obj or Store(), **{name: value for name, value in given.items() if value is not None})
        ctx.params["store"] = store
        try:
            return super().invoke(ctx)
        except (BrokenPipeError, click.ClickException, click.exceptions.Exit, click.Abort):
            # What click tells by itself; a broken pipe quietly, since whoever read our output has gone.
            raise
        except Exception as error:
            # The library's own speaks of an argument: wrong usage.
            if isinstance(error, ValueError) and not isinstance(error, PersistenceError):
                raise click.UsageError(str(error)) from error
            ctx.exit(failed(error, store))


def failed(error: Exception, store: Store) -> Exit:
    """Tell an error, and give the exit code for it. What is none of ours is told by its frames and class alone."""
    if isinstance(error, OSError):
        problem = ConfigurationError(f"{error.filename or 'input or output'}: {error.strerror}")
        problem.__cause__ = error
        return failed(problem, store)
    whole = store.debug or os.environ.get("FLOWPERSIST_DEBUG") in {"on", "1"}
    if whole or not isinstance(error, PersistenceError):
        click.echo(printable(Tracebacks(whole).text(error)), err=True)
    known = error if isinstance(error, PersistenceError) else PersistenceError(_unknown(error))
    report(known, store)
    return exit_of(known)


def _unknown(error: Exception) -> str:
    return f"{type(error).__name__} was raised; --debug tells all that it says"


def note(text: str) -> None:
    """Print a line for the person at the terminal, on standard error."""
    click.echo(printable(f"flowpersist: {text}"), err=True)


def report(error: PersistenceError, store: Store) -> None:
    """Print an error on standard error: a line and one for each detail, or a problem document (RFC 9457)."""
    if store.json:
        click.echo(writable(as_json(error.to_problem())), err=True)
    else:
        click.echo(printable("\n".join(described(error, store))), err=True)


def described(error: PersistenceError, store: Store) -> list[str]:
    """An error as a person reads it: what failed, and below it what its class carries beside the message."""
    match error:
        case InputValidationError(problems=[_, *_] as problems):
            # The message may repeat the problems behind its first colon.
            heading = error.message.split(": ", 1)[0]
            return [f"flowpersist: {heading}", *(f"  {p.pointer or '(the whole)'}: {p.message}" for p in problems)]
        case WaitSuperseded():
            return [f"flowpersist: {error}"]
        case AlreadyResumed(receipt=Receipt() as receipt) | AnswerConflict(receipt=Receipt() as receipt):
            who = receipt.by or "somebody unnamed"
            return [f"flowpersist: {error}", f"  {receipt.wait} was answered by {who} at {moment(receipt.at)}"]
        case StorageError() | ConfigurationError(setting="FLOWPERSIST_URL"):
            url = store.url or os.environ.get("FLOWPERSIST_URL")
            return [f"flowpersist: {error}", *([] if url is None else [f"  the store is {place(url)}"])]
        case ConfigurationError(setting=str(setting)) if setting not in error.message:
            return [f"flowpersist: {setting}: {error}"]
    return [f"flowpersist: {error}"]


def place(url: str) -> str:
    """What may be shown of a store's URL: a file's path, else the scheme alone, since a password may follow."""
    scheme = url.partition(":")[0]
    return url.partition("?")[0] if scheme in {"sqlite", "file"} else f"{scheme}:…"


def with_hub(
    store: Store, verb: Callable[[PersistenceHub], Awaitable[T]], *, writes: bool = False, creates: bool = False
) -> T:
    """Open the hub, await the verb, close the hub.

    ``writes``: states or answers are stored, so that plain text is worth a warning. ``creates``: a store that is not
    there is made; without it a mistyped URL is an error.
    """
    settings = Settings.from_environ()
    options: HubOptions = {"settings": settings, "keyring": _keyring(store, settings, writes=writes), "create": creates}
    if store.namespace is not None:
        options["namespace"] = store.namespace
    if store.debug:
        options["debug"] = True

    async def session() -> T:
        async with open_hub(store.url, **options) as hub:
            return await verb(hub)

    return awaited(session())


def _keyring(store: Store, settings: Settings, *, writes: bool) -> KeyRing | None:
    if store.keys_file is not None:
        return KeyRing.from_file(store.keys_file)
    ring = ring_of(settings)
    if ring is None and writes:
        note(
            "warning: no keys are set, so states and answers are stored in plain text; "
            "flowpersist keygen --output keys.txt makes a key, FLOWPERSIST_KEYS_FILE=keys.txt uses it"
        )
    return ring


def awaited(session: Coroutine[Any, Any, T]) -> T:
    """Run it in an event loop of its own.

    SIGTERM and Ctrl-C cancel it, which gives back the runs that it holds, and exits with 143 and 130. A second one ends
    the grace of a worker, whose runs are given back too; Ctrl-C once more leaves without that.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    stops = _Stops()

    async def stoppable() -> T:
        with stops.cancelling():
            return await session

    try:
        return asyncio.run(stoppable())
    except asyncio.CancelledError:
        if stops.heard:
            sys.exit(ENDED[stops.heard[0]])
        raise


@define
class _Stops:
    """The signals that have asked the process to end, each of which cancels the task that runs."""

    heard: list[signal.Signals] = field(factory=list)

    @contextmanager
    def cancelling(self) -> Iterator[None]:
        """Cancel this task at each signal until the block ends."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        cancel = (lambda: None) if task is None else task.cancel

        def terminate() -> None:
            self.heard.append(signal.SIGTERM)
            cancel()

        def interrupt(*_: object) -> None:
            self.heard.append(signal.SIGINT)
            if self.heard.count(signal.SIGINT) > INTERRUPTS:
                raise KeyboardInterrupt
            loop.call_soon_threadsafe(cancel)

        loop.add_signal_handler(signal.SIGTERM, terminate)
        # Not by the loop: Ctrl-C must end a tool, too, that blocks it.
        before = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
