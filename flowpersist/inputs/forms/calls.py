"""A model's call of a question's tool, and the message that its provider expects as the result.

Each provider's call is read from a mapping, or from an object of its SDK.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Generic, TypeVar

from attrs import field, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import InputValidationError, PersistenceError, Problem
from flowpersist.errors.arguments import check_optional, check_str
from flowpersist.inputs.forms.narrowing import narrow
from flowpersist.inputs.forms.providers import READERS, Outcome, RawCall
from flowpersist.inputs.forms.question import call_members
from flowpersist.inputs.forms.tools import dialect_of
from flowpersist.inputs.json_schema import MAX_TEXT, check_json

__all__ = ["ToolCall", "call_of", "read_call"]

Q = TypeVar("Q")
_MAX_ID: Final = 512
#: Providers whose strict forms have null where a property may be left out.
_NULLS: Final = ("openai",)


@frozen
class ToolCall(Generic[Q]):
    """A model's call of a question's tool.

    - ``id``: the provider's id of the call; None where it has none.
    - ``name``: of the tool that is called.
    - ``arguments``: as the model wrote them, a mapping or JSON text.
    """

    id: str | None
    name: str
    arguments: Mapping[str, object] | str = field(repr=False)
    _asked: Any = field(repr=False)
    _provider: str = field(repr=False)
    _raw: RawCall = field(repr=False)

    def filled(self) -> Result[Q, PersistenceError]:
        """The question with the model's arguments; ``InputValidationError`` where they break ``parameters``."""
        if self._asked is None:
            return Failure(_unreadable("the tool call", f"is of {self.name[:100]!r}, which has no question"))
        arguments: Any = self.arguments
        if self._provider in _NULLS and self._asked.parameters is not None:
            read = _decoded(arguments, self._asked.id)
            if isinstance(read, Failure):
                return Failure(read.failure())
            try:
                arguments = narrow(self._asked.parameters, dialect_of(self._provider)).restore(read.unwrap())
            except InputValidationError as error:
                return Failure(error)
        filled: Result[Q, PersistenceError] = self._asked.fill(arguments)
        return filled

    def result(self, answer: object) -> dict[str, Any]:
        """The message with the answer.

        - ``answer``: JSON data, as ``Receipt`` and ``Resumption`` have it.
        """
        text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
        return self._raw.reply(self._raw, Outcome(text, answer, is_error=False))

    def failure(self, error: PersistenceError | str) -> dict[str, Any]:
        """The message that says why there is no answer, for the model to try again or go on without.

        - ``error``: why: a text, or an error, whose message has no secrets.
        """
        text = str(error)
        return self._raw.reply(self._raw, Outcome(text, None, is_error=True))


def _decoded(arguments: object, name: str) -> Result[object, PersistenceError]:
    if not isinstance(arguments, str):
        return Success(arguments)
    try:
        return Success(json.loads(arguments) if len(arguments) <= MAX_TEXT else None)
    except (ValueError, RecursionError):
        return Failure(_unreadable(f"the arguments of {name!r}", "are not valid JSON"))


def read_call(asked: Q, provider: str, call: object, name: str | None) -> Result[ToolCall[Q], PersistenceError]:
    """A call of a provider; ``InputValidationError`` where it is not one, or is of another tool.

    - ``asked``: the question.
    - ``provider``: one of ``READERS``.
    - ``call``: a mapping, or an object of the SDK.
    - ``name``: the name that the tool was given; None: the question's id.
    """
    check_optional(name, "name", check_str)
    expected = getattr(asked, "id", None) if name is None else name
    read: Result[ToolCall[Q], PersistenceError] = call_of(provider, call, {expected: asked})
    if isinstance(read, Success) and read.unwrap().name != expected:
        return Failure(_unreadable("the tool call", f"is not of the tool {expected!r}"))
    return read


def call_of(provider: str, call: object, asked: Mapping[Any, object]) -> Result[ToolCall[Any], PersistenceError]:
    """A call of any tool, with its question if it has one; ``InputValidationError`` where it is not a call.

    - ``provider``: one of ``READERS``.
    - ``call``: a mapping, or an object of the SDK.
    - ``asked``: the questions by the names of their tools.
    """
    data = call_members(call)
    if data is None:
        return Failure(_unreadable("the tool call", "is neither a mapping nor an object of the SDK"))
    found = READERS[provider](data)
    if found is None:
        return Failure(_unreadable("the tool call", f"is not in the form of {provider}"))
    problem = _problem(found)
    if problem is not None:
        return Failure(_unreadable(*problem))
    return Success(ToolCall(found.id, found.name, found.arguments, asked.get(found.name), provider, found))


def _problem(call: RawCall) -> tuple[str, str] | None:
    if call.id is not None and (not isinstance(call.id, str) or not 0 < len(call.id) <= _MAX_ID):
        return "the id of the tool call", f"is not a text of 1 to {_MAX_ID} characters"
    if not isinstance(call.name, str):
        return "the name of the tool call", "is not a text"
    if isinstance(call.arguments, Mapping) and isinstance(check_json(dict(call.arguments)), Failure):
        return "the arguments of the tool call", "are not JSON data"
    if not isinstance(call.arguments, Mapping | str):
        return "the arguments of the tool call", "are neither an object nor JSON text"
    return None


def _unreadable(subject: str, what: str) -> PersistenceError:
    return InputValidationError(f"{subject} {what}", [Problem("", what)])
