"""The tools of a dry run: each stands in for a real one, records its calls, and gives an output without doing
anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from attrs import define, evolve, field, frozen
from returns.result import Failure

from flowpersist.dynamicflow.budgets import Size
from flowpersist.dynamicflow.deciding import option_of
from flowpersist.dynamicflow.ir import Decision, Loop, Node, decisions_of
from flowpersist.dynamicflow.plain import PLAIN, WALK_ERRORS, finished, walk, walk_problem
from flowpersist.dynamicflow.recording import Recorded, Recording, step_in
from flowpersist.dynamicflow.tools import CHOOSER, Tool, tool
from flowpersist.errors import FlowError, PersistenceError
from flowpersist.inputs.sampling import sample

if TYPE_CHECKING:
    from flowpersist.inputs.await_input import AwaitInput
    from flowpersist.inputs.tool_context import ToolContext

__all__ = ["Book", "DryCall", "Origin", "stand_ins", "unknown_tool"]

#: Where an output or an answer came from: a recording (by path, step or tool), the question's default, the schema, or
#: the options of a choice.
Origin: TypeAlias = Recorded | Literal["default", "schema", "options"]

#: The most values and characters that are recorded of all calls and answers of a dry run.
MAX_VALUES: Final = 200_000
MAX_TEXT: Final = 16 * 1024 * 1024
#: The stand-in's parameter for the context; no field has this name.
_CONTEXT: Final = "$context"


@frozen
class DryCall:
    """One call that a tool would have got: of ``step`` at ``path``, the ``arguments``, the ``output`` that the stand-in
    gave, and its ``origin``.
    """

    path: str
    step: str
    tool: str
    attempt: int
    arguments: Mapping[str, object] = field(repr=False)
    output: object = field(repr=False)
    origin: Origin


@define
class Book:
    """What is recorded of a dry run. ``refused`` is why it can't go on: then it is stopped, whatever it does."""

    recording: Recording
    nodes: Mapping[str, list[Node]]
    calls: list[DryCall] = field(factory=list, init=False)
    #: The tools that have been called, by their paths.
    asking: dict[str, str] = field(factory=dict, init=False)
    refused: PersistenceError | None = field(default=None, init=False)
    bound: asyncio.Timeout | None = field(default=None, init=False)
    _values: int = field(default=0, init=False)
    _text: int = field(default=0, init=False)

    def refuse(self, error: PersistenceError) -> None:
        """End the dry run at the next moment at which anything waits."""
        self.refused = self.refused or error
        if self.bound is not None:
            self.bound.reschedule(asyncio.get_running_loop().time())

    def noted(self, value: object) -> Any:  # noqa: ANN401 - any value
        """A value as plain data, which is counted; what is too much is refused."""
        left = Size(MAX_VALUES - self._values, MAX_TEXT - self._text)
        try:
            flat = finished(walk(value, form=PLAIN, most=left))
        except WALK_ERRORS as error:
            limits = f"{MAX_VALUES} values and {MAX_TEXT} characters of all calls and answers"
            self.refuse(FlowError(f"the dry run can't record more ({walk_problem(error)}; at most {limits})"))
            return None
        self._values += flat.size.values
        self._text += flat.size.text
        return flat.value

    def called(self, own: Tool, context: ToolContext, given: Mapping[str, object]) -> object:
        """Record a call, and give its output."""
        arguments = self.noted(dict(given))
        found = self.recording.output(context.path, step_in(context.path), own.id) or self._made(own, context)
        if found is None:
            return None
        output, origin = found
        shown = self.noted(output)
        self.calls.append(
            DryCall(context.path, step_in(context.path), own.id, context.attempt, arguments, shown, origin)
        )
        return output

    def _made(self, own: Tool, context: ToolContext) -> tuple[object, Origin] | None:
        made = sample(own.output_schema, what=f"the output schema of {own.id!r}")
        value = None if isinstance(made, Failure) else made.unwrap()
        options = self.options(step_in(context.path), own.id)
        if options and option_of(value) not in options:
            for choice in _choices(options[0]):
                if not isinstance(own.check_output(choice), Failure):
                    return choice, "options"
        if isinstance(made, Failure):
            named = f"step {context.path!r}: {made.failure()}, in the recording's 'steps' or 'tools'"
            error = FlowError(named, None, context.step_id, None, own.id)
            error.__cause__ = made.failure()
            self.refuse(error)
            return None
        return value, "schema"

    def options(self, step: str, tool: str) -> tuple[str, ...]:
        """What a tool may choose from in a step, the most useful one first; empty if it chooses nothing there."""
        for node in self.nodes.get(step, ()):
            for decision in decisions_of(node):
                if decision.tool in {tool, CHOOSER}:
                    return _ordered(node, decision)
        return ()


def _ordered(node: Node, decision: Decision) -> tuple[str, ...]:
    # A loop whose condition always holds would run up to its bound.
    return decision.options[::-1] if isinstance(node.operation, Loop) else decision.options


def _choices(option: str) -> list[object]:
    """The forms in which a tool may give an option."""
    truths: list[object] = [option == "true"] if option in {"true", "false"} else []
    return [*truths, option, {"choice": option}]


def stand_ins(tools: Iterable[Tool | AwaitInput[Any]], book: Book) -> list[Tool | AwaitInput[Any]]:
    """The tools with stand-ins in the place of their functions and guards. Questions stay as they are."""
    return [_stand_in(one, book) if isinstance(one, Tool) else one for one in tools]


def _stand_in(own: Tool, book: Book) -> Tool:
    async def stands_in(**given: Any) -> object:  # noqa: ANN401 - a tool's fields
        context = given.pop(_CONTEXT)
        book.asking[context.path] = own.id
        for question in own.asks:
            await context.ask(question)
        return book.called(own, context, given)

    guard = None if own.guard is None else own.guard.rehearsed()
    signature = evolve(own.signature, context=_CONTEXT)
    return evolve(own, function=stands_in, signature=signature, guard=guard, executor=None)


def unknown_tool(name: str) -> Tool:
    """A tool of which only the id is known: it takes and gives anything."""

    async def unknown(**fields: object) -> object:
        return fields

    return tool(id=name, input_schema={}, output_schema={})(unknown)
