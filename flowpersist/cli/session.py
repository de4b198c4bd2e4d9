"""What all commands share: the store's settings, the reporting of errors, and one event loop with an open hub."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from attrs import define, evolve, field, frozen

from flowpersist.cli.exits import Exit, exit_of
from flowpersist.cli.inputs import load_tools
from flowpersist.cli.layout import moment, one_line, printable, writable
from flowpersist.cli.views import as_json
from flowpersist.codec import TypeRegistry
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
from flowpersist.hub.keyrings import keys_of
from flowpersist.hub.opening import HubOptions, open_hub
from flowpersist.hub.verbs import PersistenceHub
from flowpersist.keys.key_file import KeyFile
from flowpersist.keys.keyring import KeyProvider, KeyRing
from flowpersist.keys.tenant_keys import TenantKeys
from flowpersist.lifecycle import Receipt
from flowpersist.settings import Settings

__all__ = ["Command", "Store", "awaited", "note", "store_options", "tenant_keys_of", "with_hub"]

T = TypeVar("T")
#: The exit code that shells use for a process that a signal has ended.
ENDED: Final = {signal.SIGINT: 130, signal.SIGTERM: 143}
#: The number of Ctrl-C that cancel before the next one leaves at once.
INTERRUPTS: Final = 2


@frozen
class Store:
    """The store and the output format; None means that the environment decides. ``tenant_keys`` names the Python object
    whose keys seal what is of tenants; None: they have none of their own.
    """

    url: str | None = None
    keys_file: Path | None = None
    tenant_keys: str | None = None
    namespace: str | None = None
    json: bool = False
    debug: bool = False

    def show(self, data: object, lines: list[str]) -> None:
        """Print the result as JSON or as text."""
        click.echo(writable(as_json(data)) if self.json else printable("\n".join(lines)))

    def line(self, data: object, text: str) -> None:
        """Print one result of many, as they come: a line of JSON (JSON Lines), or of text."""
        click.echo(writable(as_json(data, indent=None)) if self.json else printable(one_line(text)))


OPTIONS = (
    click.option("--url", help="Where the records are, such as sqlite:///flows.db. [FLOWPERSIST_URL]"),
    click.option(
        "--keys-file",
        type=click.Path(dir_okay=False, path_type=Path),
        help="The keyring's file. [FLOWPERSIST_KEYS, FLOWPERSIST_KEYS_FILE]",
    ),
    click.option(
        "--tenant-keys",
        metavar="MODULE[:NAME]",
        help="The TenantKeys that the store is sealed with: a module or a .py file, and a name in it ('tenant_keys').",
    ),
    click.option("--namespace", help="The store's namespace; the default is 'default'."),
    click.option("--json", "json", is_flag=True, default=None, help="Print JSON; errors are problem documents."),
    click.option(
        "--debug",
        is_flag=True,
        default=None,
        help="Print errors with full tracebacks, which may hold state. [FLOWPERSIST_DEBUG]",
    ),
)


_GIVEN: Final = ("url", "keys_file", "tenant_keys", "namespace", "json", "debug")


def store_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that are allowed before the command's name and after it."""
    for option in reversed(OPTIONS):
        function = option(function)
    return function


class Command(click.Command):
    """A command that gets the ``Store`` as its first argument, and whose errors are printed with an exit code."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        """Run it; a ``PersistenceError`` is printed on standard error, never as a traceback."""
        given = {name: ctx.params.pop(name) for name in _GIVEN}
        store = evolve(ctx.obj or Store(), **{name: value for name, value in given.items() if value is not None})
        ctx.params["store"] = store
        try:
            return super().invoke(ctx)
        except (BrokenPipeError, click.ClickException, click.exceptions.Exit, click.Abort):
            # click reports these itself; a broken pipe ends quietly, since its reader has gone.
            raise
        except Exception as error:
            # The library's own ValueErrors concern an argument, so they are wrong usage.
            if isinstance(error, ValueError) and not isinstance(error, PersistenceError):
                raise click.UsageError(str(error)) from error
            ctx.exit(failed(error, store))


def failed(error: Exception, store: Store) -> Exit:
    """Report an error and give its exit code. An error of another program is reported by its frames and class alone."""
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
    return f"{type(error).__name__} was raised; --debug shows its message"


def note(text: str) -> None:
    """Print a note for the user on standard error."""
    click.echo(printable(f"flowpersist: {text}"), err=True)


def report(error: PersistenceError, store: Store) -> None:
    """Print an error on standard error: a line and one for each detail, or a problem document (RFC 9457)."""
    if store.json:
        click.echo(writable(as_json(error.to_problem())), err=True)
    else:
        click.echo(printable("\n".join(described(error, store))), err=True)


def described(error: PersistenceError, store: Store) -> list[str]:
    """Format an error for a person: its message, then the details that its class carries."""
    match error:
        case InputValidationError(problems=[_, *_] as problems):
            # The message may repeat the problems after its first colon.
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
    """The part of a store's URL that may be shown: a file's path, else only the scheme, since a password may follow."""
    scheme = url.partition(":")[0]
    return url.partition("?")[0] if scheme in {"sqlite", "file"} else f"{scheme}:…"


def with_hub(
    store: Store,
    verb: Callable[[PersistenceHub], Awaitable[T]],
    *,
    writes: bool = False,
    creates: bool = False,
    types: TypeRegistry | Iterable[type] = (),
) -> T:
    """Open the hub, await the verb, close the hub.

    ``writes``: the verb stores states or answers, so plain text deserves a warning. ``creates``: a missing store is
    created; without it a mistyped URL is an error. ``types`` are the classes that states may hold.
    """
    settings = Settings.from_environ()
    options: HubOptions = {
        "settings": settings,
        "keyring": _keyring(store, settings, writes=writes),
        "create": creates,
        "types": types,
    }
    if store.namespace is not None:
        options["namespace"] = store.namespace
    if store.debug:
        options["debug"] = True

    async def session() -> T:
        async with open_hub(store.url, **options) as hub:
            return await verb(hub)

    return awaited(session())


def _keyring(store: Store, settings: Settings, *, writes: bool) -> KeyRing | KeyProvider | None:
    if store.tenant_keys is not None:
        return tenant_keys_of(store)
    if store.keys_file is not None:
        return KeyFile(store.keys_file)
    keys = keys_of(settings)
    if keys is None and writes:
        note(
            "warning: no keys are set, so states and answers are stored in plain text; "
            "run flowpersist keygen --output keys.txt, then set FLOWPERSIST_KEYS_FILE=keys.txt"
        )
    return keys


def tenant_keys_of(store: Store) -> TenantKeys:
    """What ``--tenant-keys`` names: the object, or what a function of no arguments makes."""
    option = "--tenant-keys"
    if store.tenant_keys is None:
        raise ConfigurationError(f"tenants have no keys of their own here: pass {option} MODULE[:NAME]", option)
    if store.keys_file is not None:
        msg = f"{option} and --keys-file exclude each other: the TenantKeys have the keyring too"
        raise click.UsageError(msg)
    (found,) = load_tools([store.tenant_keys], option) or (None,)
    made = found() if callable(found) and not isinstance(found, type) else found
    if not isinstance(made, TenantKeys):
        message = f"{option} {store.tenant_keys}: expected a TenantKeys, or a function that makes one"
        raise ConfigurationError(message, option)
    return made


def awaited(session: Coroutine[Any, Any, T]) -> T:
    """Run it in an event loop of its own.

    SIGTERM and Ctrl-C cancel it, which releases the runs that it holds, and it exits with 143 or 130. A second signal
    ends a worker's grace period, after which its runs are released too; a third Ctrl-C leaves without that.
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
    """The signals that have asked the process to end; each of them cancels the running task."""

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
        # Not a handler of the loop, because Ctrl-C must also end a tool that blocks the loop.
        before = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
