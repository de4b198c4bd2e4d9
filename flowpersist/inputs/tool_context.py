"""What a tool is told beside its arguments: where it is called from, and the key of its effects."""

from __future__ import annotations

import logging
import threading
from typing import Any, NoReturn

from attrs import Factory, field, frozen

from flowpersist.errors import ConfigurationError

__all__ = ["Cancellation", "ToolContext"]

_log = logging.getLogger("flowpersist.dynamicflow.tools")


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

    def __reduce__(self) -> tuple[Any, ...]:
        return _elsewhere, (self.run_id, self.step_id, self.path, self.attempt, self.key, self.logger)


def _elsewhere(run_id: str, step_id: str, path: str, attempt: int, key: str, logger: logging.Logger) -> ToolContext:
    """The context as another process gets it."""
    return ToolContext(run_id, step_id, path, attempt, key=key, logger=logger, cancellation=_NoCancellation())
