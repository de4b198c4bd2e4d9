"""Authorization: the hub's authorizer is asked before each verb."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable
from typing import Protocol

from returns.result import Failure, Result, Success

from flowpersist.errors import PermissionDenied, PersistenceError
from flowpersist.errors.tracebacks import Tracebacks
from flowpersist.hub.cancellation import is_cancelled, is_fault
from flowpersist.lifecycle.model import Head
from flowpersist.lifecycle.views import Suspension, suspension_of

__all__ = ["Authorizer", "authorized"]

log = logging.getLogger("flowpersist.hub")


class Authorizer(Protocol):
    """Asked before each verb. Anything but a true answer is a refusal, and so is an exception."""

    def __call__(self, verb: str, suspension: Suspension, by: str | None) -> bool | Awaitable[bool]:
        """Whether ``by`` may do this to that suspension."""
        ...


async def authorized(
    authorizer: Authorizer, verb: str, head: Head, by: str | None, tracebacks: Tracebacks
) -> Result[None, PersistenceError]:
    """Ask the authorizer. If it raises, the exception is the cause of the refusal."""
    denied = PermissionDenied(f"{verb} on suspension {head.id} is not allowed; ask whoever runs this service")
    try:
        answer = authorizer(verb, suspension_of(head), by)
        if (await answer) if inspect.isawaitable(answer) else answer:
            return Success(None)
    except BaseException as error:
        if not is_fault(error, cancelled=is_cancelled()):
            raise
        denied.__cause__ = error
        tracebacks.log(log, error, "the authorizer raised for %s on suspension %s", verb, head.id)
    else:
        log.warning("%s on suspension %s was refused by the authorizer", verb, head.id)
    return Failure(denied)
