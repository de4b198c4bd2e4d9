"""Authorization: the hub's authorizer is asked before each verb."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeAlias, cast

from attrs import frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import PermissionDenied, PersistenceError
from flowpersist.errors.tracebacks import Tracebacks
from flowpersist.hub.cancellation import is_cancelled, is_fault
from flowpersist.hub.overdue import overdue
from flowpersist.inputs.people import By, Principal, subject_of
from flowpersist.lifecycle.model import Head, WaitState
from flowpersist.lifecycle.refusals import Target
from flowpersist.lifecycle.verbs import wanted
from flowpersist.lifecycle.views import Suspension, Wait, suspension_of, wait_of

__all__ = ["AnyAuthorizer", "Authorizer", "Question", "authorized"]

log = logging.getLogger("flowpersist.hub")
#: The arguments of an ``Authorizer``. A function that takes fewer has the short form.
_ARGUMENTS: Final = 4


class Authorizer(Protocol):
    """Asked before each verb. Anything but a true answer is a refusal, and so is an exception."""

    def __call__(
        self, verb: str, suspension: Suspension, wait: Wait | None, principal: Principal | None, /
    ) -> bool | Awaitable[bool]:
        """Whether the principal may do this to that suspension.

        - ``verb``: the verb's name, such as ``answer``.
        - ``suspension``: as of now; for ``suspend`` and ``reserve`` as it would be made.
        - ``wait``: the wait whose key was given, or that an answer without a key is for; None where the suspension is
          named by its id, or the wait is of an earlier pause.
        - ``principal``: who acts; a ``str`` that a verb was given is the subject of a person. None where nobody is
          named, as when a worker claims.
        """
        ...


#: The short form takes the verb, the suspension, and the subject of who acts.
BriefAuthorizer: TypeAlias = Callable[[str, Suspension, str | None], bool | Awaitable[bool]]
AnyAuthorizer: TypeAlias = Authorizer | BriefAuthorizer


@frozen
class Question:
    """What an authorizer is asked: the verb, the head as of now, what the key opens, and who acts.

    ``answers`` says that the verb brings an answer, which by id is for the only open wait.
    """

    verb: str
    head: Head
    target: Target
    by: By | None
    answers: bool = False

    @property
    def wait(self) -> Wait | None:
        """The wait that it is about."""
        target = wanted(self.head, None) if self.target is None and self.answers else self.target
        return wait_of(target) if isinstance(target, WaitState) else None

    @property
    def principal(self) -> Principal | None:
        """Who acts; None where nobody is named."""
        if isinstance(self.by, Principal):
            return self.by
        return Principal(self.by) if self.by else None


async def authorized(
    authorizer: AnyAuthorizer, question: Question, tracebacks: Tracebacks
) -> Result[None, PersistenceError]:
    """Ask the authorizer. If it raises, the exception is the cause of the refusal."""
    verb, head = question.verb, question.head
    denied = PermissionDenied(f"{verb} on suspension {head.id} is not allowed; ask whoever runs this service")
    asked, ask = _arguments(authorizer, question), cast("Callable[..., Any]", authorizer)
    try:
        answer = ask(*asked)
        if inspect.isawaitable(answer):
            with overdue("the authorizer for %s on suspension %s", verb, head.id):
                answer = await answer
        if answer:
            return Success(None)
    except BaseException as error:
        if not is_fault(error, cancelled=is_cancelled()):
            raise
        denied.__cause__ = error
        tracebacks.log(log, error, "the authorizer raised for %s on suspension %s", verb, head.id)
    else:
        log.warning("%s on suspension %s was refused by the authorizer", verb, head.id)
    return Failure(denied)


def _arguments(authorizer: AnyAuthorizer, question: Question) -> tuple[object, ...]:
    suspension = suspension_of(question.head)
    if takes_waits(authorizer):
        return question.verb, suspension, question.wait, question.principal
    return question.verb, suspension, subject_of(question.by)


def takes_waits(authorizer: AnyAuthorizer) -> bool:
    """Whether it takes the four arguments of an ``Authorizer``; else it has the short form."""
    try:
        signature = inspect.signature(authorizer)
        signature.bind(*range(_ARGUMENTS))
    except TypeError:
        return False
    except ValueError:
        # Of some functions in C nobody knows the arguments.
        return True
    return True
