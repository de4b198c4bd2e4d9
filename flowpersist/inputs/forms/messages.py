"""All tool calls of one message of a model, and the messages with their results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

from attrs import field, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import ConfigurationError, InputValidationError, PersistenceError, Problem
from flowpersist.errors.arguments import check_choice, check_items, check_mapping, check_str
from flowpersist.inputs.forms.calls import ToolCall, call_of
from flowpersist.inputs.forms.question import call_members

__all__ = ["CallBatch", "CallFailure", "Provider", "read_calls"]

Q = TypeVar("Q")
Provider: TypeAlias = Literal["openai", "anthropic", "google", "langchain", "pydantic_ai"]
Data: TypeAlias = dict[str, Any]
#: Calls of one message; a model makes a few dozen at most.
MAX_CALLS: Final = 1000


@frozen
class _Place:
    """Where a message of a provider holds its calls: the member, and which of its items are calls."""

    member: str
    is_call: Callable[[Mapping[str, Any]], bool]


def _any(_: Mapping[str, Any]) -> bool:
    return True


def _has_function_call(item: Mapping[str, Any]) -> bool:
    return item.get("functionCall", item.get("function_call")) is not None


_PLACES: Final[Mapping[str, tuple[_Place, ...]]] = {
    "openai": (
        _Place("tool_calls", _any),
        _Place("output", lambda item: item.get("type") == "function_call"),
    ),
    "anthropic": (_Place("content", lambda item: item.get("type") == "tool_use"),),
    "google": (_Place("parts", _has_function_call),),
    "langchain": (_Place("tool_calls", _any),),
    "pydantic_ai": (_Place("parts", lambda item: item.get("part_kind") == "tool-call"),),
}
_WRAPPED: Final[Mapping[str, Callable[[list[Data]], list[Data]]]] = {
    "anthropic": lambda blocks: [{"role": "user", "content": blocks}],
    "google": lambda parts: [{"role": "user", "parts": parts}],
    "pydantic_ai": lambda parts: [{"kind": "request", "parts": parts}],
}


@frozen
class CallFailure:
    """An outcome of a call that failed or was refused.

    - ``text``: why, for the model.
    """

    text: str

    def __attrs_post_init__(self) -> None:
        check_str(self.text, "text")


@frozen
class CallBatch(Generic[Q]):
    """The tool calls of one message. Providers want a result of each before the model goes on.

    - ``calls``: those of the questions, by id, in the message's order.
    - ``others``: those of other tools, which have no question.

    A call without an id, as Gemini may send it, is named by its place among the calls: ``"0"``, ``"1"`` and so on.
    """

    calls: Mapping[str, ToolCall[Q]]
    others: Mapping[str, ToolCall[None]]
    _order: tuple[str, ...] = field(repr=False)
    _provider: str = field(repr=False)

    def results(self, outcomes: Mapping[str, object]) -> Result[list[Data], PersistenceError]:
        """The messages to append to the conversation, with one result for each call.

        ``InputValidationError`` where an id is unknown, or a call has no outcome; it names each.

        - ``outcomes``: by id: the answer as JSON data; a ``CallFailure`` or a ``PersistenceError`` is told as a failed
          call.
        """
        check_mapping(outcomes, "outcomes")
        unknown = [(f"/{name}", "is not the id of a tool call") for name in outcomes if name not in self._order]
        missing = [(f"/{name}", "has no outcome") for name in self._order if name not in outcomes]
        if unknown or missing:
            return Failure(_invalid("the outcomes of tool calls", [*unknown, *missing]))
        made = []
        for name in self._order:
            call: ToolCall[Any] = self.calls[name] if name in self.calls else self.others[name]
            outcome = outcomes[name]
            if isinstance(outcome, CallFailure):
                made.append(call.failure(outcome.text))
            elif isinstance(outcome, PersistenceError):
                made.append(call.failure(outcome))
            else:
                made.append(call.result(outcome))
        wrapped = _WRAPPED.get(self._provider)
        return Success(made if wrapped is None else wrapped(made))


def read_calls(
    provider: Provider, message: object, asked: Mapping[str, Q] | Iterable[Q]
) -> Result[CallBatch[Q], PersistenceError]:
    """The tool calls of a model's message. ``InputValidationError`` where it is not in the provider's form, or two of
    its calls have the same id; it names each place by its JSON pointer.

    - ``provider``: whose form the message has.
    - ``message``: the assistant's message, or the list of its items, as mappings or objects of the SDK.
    - ``asked``: the questions, by the names that their tools were given, or in any order where those are their ids.
    """
    check_choice(provider, "provider", tuple(_PLACES))
    questions = dict(asked) if isinstance(asked, Mapping) else _by_id(asked)
    found = _items(provider, message)
    if found is None:
        return Failure(_invalid("the message", [("", f"is not in the form of {provider}")]))
    calls: dict[str, ToolCall[Q]] = {}
    others: dict[str, ToolCall[None]] = {}
    problems: list[tuple[str, str]] = []
    order: list[str] = []
    for pointer, item in found[:MAX_CALLS]:
        read = call_of(provider, item, questions)
        if isinstance(read, Failure):
            problems.append((pointer, str(read.failure())))
            continue
        call = read.unwrap()
        name = str(len(order)) if call.id is None else call.id
        if name in order:
            problems.append((pointer, f"has the id of another call: {name[:100]!r}"))
        elif call.name in questions:
            calls[name] = call
        else:
            others[name] = call
        order.append(name)
    if len(found) > MAX_CALLS:
        problems.append(("", f"has over {MAX_CALLS} tool calls"))
    if problems:
        return Failure(_invalid("the tool calls of the message", problems))
    return Success(CallBatch(calls, others, tuple(order), provider))


def _by_id(asked: Iterable[Q]) -> dict[str, Q]:
    check_items(asked, "asked", "AwaitInputs")
    questions: dict[str, Q] = {}
    for one in asked:
        name: Any = getattr(one, "id", None)
        if not isinstance(name, str) or name in questions:
            raise ConfigurationError("Invalid asked: expected AwaitInputs with different ids", "asked")
        questions[name] = one
    return questions


def _items(provider: str, message: object) -> list[tuple[str, object]] | None:
    """The items that are calls, each with its JSON pointer; None where the message has another form."""
    if isinstance(message, list | tuple):
        return [(f"/{at}", one) for at, one in enumerate(message) if _is_call(_PLACES[provider][-1], one)]
    data = call_members(message) or {}
    for place in _PLACES[provider]:
        items = data.get(place.member)
        if isinstance(items, list | tuple):
            return [(f"/{place.member}/{at}", one) for at, one in enumerate(items) if _is_call(place, one)]
        if place.member in data and (items is None or isinstance(items, str)):
            return []
    # Chat completions leave the member out where the model makes no call.
    return [] if provider == "openai" and data.get("role") == "assistant" else None


def _is_call(place: _Place, item: object) -> bool:
    return place.is_call(call_members(item) or {})


def _invalid(subject: str, problems: list[tuple[str, str]]) -> PersistenceError:
    told = "; ".join(f"{pointer or '(root)'} {what}" for pointer, what in problems[:5])
    more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""  # noqa: PLR2004 - as many as are told
    return InputValidationError(
        f"{subject} can't be taken: {told}{more}", [Problem(pointer, what) for pointer, what in problems[:100]]
    )
