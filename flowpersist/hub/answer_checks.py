"""The checks of answers that an application registers with its hub, by the names that AwaitInputs give."""

from __future__ import annotations

import asyncio
import copy
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from attrs import field, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import ConfigurationError, InputValidationError, PersistenceError, Problem
from flowpersist.errors.tracebacks import Tracebacks
from flowpersist.hub.cancellation import is_cancelled, is_fault

__all__ = ["AnswerChecks", "Check"]

log = logging.getLogger("flowpersist.hub")
#: Given the answer as JSON data, a check returns None, or what is wrong with it: a text, a ``Problem``, or several
#: Problems. It may be a coroutine function.
Check: TypeAlias = Callable[[Any], object]
#: The seconds that the checks of one answer may take together.
PATIENCE: Final = 10.0
MAX_MESSAGE: Final = 1000
MAX_PROBLEMS: Final = 100


@frozen
class AnswerChecks:
    """A hub's checks, by name."""

    registered: Mapping[str, Check] = field(factory=dict)
    tracebacks: Tracebacks = field(factory=Tracebacks)
    patience: float = PATIENCE

    async def asked(self, names: Sequence[str], answer: object) -> Result[object, PersistenceError]:
        """The answer, if all checks of these names let it through. They run at once; plain functions in threads."""
        missing = [name for name in names if name not in self.registered]
        if missing:
            message = (
                f"the check {missing[0]!r} is not registered with this hub, so the answer was not recorded: open the "
                "hub with checks={...}, or answer in a process that does"
            )
            return Failure(ConfigurationError(message, "checks"))
        try:
            async with asyncio.timeout(self.patience), asyncio.TaskGroup() as group:
                # Each has a copy: what one changes is neither recorded nor seen by another.
                tasks = [group.create_task(self._one(name, copy.deepcopy(answer))) for name in names]
        except TimeoutError:
            return Failure(_refused([Problem("", f"could not be checked within {self.patience:g} s: try again later")]))
        problems = [problem for task in tasks for problem in task.result()]
        return Failure(_refused(problems)) if problems else Success(answer)

    async def _one(self, name: str, answer: object) -> list[Problem]:
        check = self.registered[name]
        try:
            if inspect.iscoroutinefunction(check):
                found = await check(answer)
            else:
                found = await asyncio.to_thread(check, answer)
                found = await found if inspect.isawaitable(found) else found
            return _problems(found)
        except BaseException as error:
            if not is_fault(error, cancelled=is_cancelled()):
                raise
            self.tracebacks.log(log, error, "the check %r of an answer raised", name)
            return [Problem("", f"could not be checked by {name!r} ({type(error).__name__}): try again later")]


def _problems(found: object) -> list[Problem]:
    if found is None:
        return []
    if isinstance(found, str):
        return [Problem("", found[:MAX_MESSAGE])]
    given = [found] if isinstance(found, Problem) else found
    if not isinstance(given, Iterable) or isinstance(given, bytes | Mapping):
        msg = f"a check returns None, a text, or Problems, not {type(found).__name__}"
        raise TypeError(msg)
    problems = list(given)
    if not all(isinstance(one, Problem) for one in problems):
        msg = "a check returns None, a text, or Problems, and no list of others"
        raise TypeError(msg)
    return [Problem(one.pointer, one.message[:MAX_MESSAGE]) for one in problems[:MAX_PROBLEMS]]


def _refused(problems: Sequence[Problem]) -> InputValidationError:
    told = "; ".join(f"{one.pointer or '(root)'} {one.message}" for one in problems[:5])
    return InputValidationError(f"the answer does not pass its checks: {told}", list(problems[:MAX_PROBLEMS]))
