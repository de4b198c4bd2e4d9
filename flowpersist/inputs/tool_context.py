"""What a tool is told beside its arguments: where it is called from, and the key of its effects."""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, Protocol, TypeVar, overload

from attrs import Factory, field, frozen

from flowpersist.errors import ConfigurationError
from flowpersist.inputs.await_input import AwaitInput

__all__ = ["Cancellation", "ToolContext"]

_log = logging.getLogger("flowpersist.dynamicflow.tools")
A = TypeVar("A")
T = TypeVar("T")


class Asker(Protocol):
    """Who asks for a tool in a flow."""

    async def ask(self, question: AwaitInput[A]) -> A:
        """See ``ToolContext``."""
        ...

    async def memo(self, name: str, function: Callable[[], Any]) -> Any:  # noqa: ANN401 - the function's own
        """See ``ToolContext``."""
        ...

    async def link(self, question: AwaitInput[Any]) -> str:
        """See ``ToolContext``."""
        ...


class Cancellation:
    """Whether a tool should stop. For work in threads, since work on the event loop is cancelled directly."""

    def __init__(self) -> None:
        self._event = threading.Event()

    @property
    def requested(self) -> bool:
        """Whether the run was cancelled, its lease was lost, or the attempt took too long."""
        return self._event.is_set()

    def request(self) -> None:
        """Ask the tool to stop. Twice: a no-op."""
        self._event.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Block the thread until the tool should stop, at most this many seconds; gives whether it should."""
        return self._event.wait(timeout)


class _NoCancellation(Cancellation):
    """Of a tool in another process, which nobody can tell."""

    @property
    def requested(self) -> bool:
        """Raises ``ConfigurationError``."""
        _refuse()

    def request(self) -> None:
        """See ``requested``."""
        _refuse()

    def wait(self, timeout: float | None = None) -> bool:
        """See ``requested``."""
        del timeout
        _refuse()


def _refuse() -> NoReturn:
    message = (
        "a tool in another process is not told that it should stop: "
        "give its step a timeout of the function's own, or run it in a thread"
    )
    raise ConfigurationError(message, "executor")


@frozen
class ToolContext:
    """Where a tool is called from. ``path`` distinguishes iterations of one step; ``attempt`` counts from 1.

    ``key`` is the same for the same attempt, also when it is repeated after a crash, and differs for each attempt of
    the step or of an enclosing step: use it as the idempotency key of external effects.

    In another process it has all of it but the ``cancellation``, which raises ``ConfigurationError`` there.
    """

    run_id: str
    step_id: str
    path: str
    attempt: int
    key: str = field(
        default=Factory(lambda self: f"{self.run_id}/{self.path}/{self.attempt}", takes_self=True), kw_only=True
    )
    logger: logging.Logger = field(default=_log, repr=False)
    cancellation: Cancellation = field(factory=Cancellation, repr=False)
    _asker: Asker | None = field(default=None, kw_only=True, repr=False, eq=False, alias="asker")

    def ask(self, question: AwaitInput[A]) -> Awaitable[A]:
        """Await the answer to a question, as an object of its schema's class.

        Without an answer, the attempt ends here and the run is stored; with the answer the tool is called again from
        its beginning, and this call returns. Questions are told apart by their ids, and those of one id by their order.
        ``TimeoutError`` if the time is over and there is no default; ``ConfigurationError`` for a plain function, and
        outside a flow.
        """
        return self._asked("ask").ask(question)

    @overload
    def memo(self, name: str, function: Callable[[], Awaitable[T]]) -> Awaitable[T]: ...

    @overload
    def memo(self, name: str, function: Callable[[], T]) -> Awaitable[T]: ...

    def memo(self, name: str, function: Callable[[], Any]) -> Awaitable[Any]:
        """Await what the function gives, or gave when this attempt was made before a pause.

        The function takes no arguments and may be async. ``SerializationError`` if its result can't be stored,
        ``ConfigurationError`` as for ``ask``.
        """
        return self._asked("memo").memo(name, function)

    def link(self, question: AwaitInput[Any]) -> Awaitable[str]:
        """Await the link under which a question can be answered that the tool is about to ask; it is stored first.

        As secret as a key. ``ConfigurationError`` if the hub has no ``public_url``, and as for ``ask``. The link has no
        key if the question was answered before the tool was given the link.
        """
        return self._asked("link").link(question)

    def _asked(self, what: str) -> Asker:
        if self._asker is None:
            message = f"only an async tool that is called by a flow can use {what}: make it an async function"
            raise ConfigurationError(message, "tool")
        return self._asker

    def __reduce__(self) -> tuple[Any, ...]:
        return _elsewhere, (self.run_id, self.step_id, self.path, self.attempt, self.key, self.logger)


def _elsewhere(run_id: str, step_id: str, path: str, attempt: int, key: str, logger: logging.Logger) -> ToolContext:
    """The context as another process gets it."""
    return ToolContext(run_id, step_id, path, attempt, key=key, logger=logger, cancellation=_NoCancellation())
