"""Tools, which steps call, and joins, which convert one tool's output to another's input."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from typing import Any, Final, TypeAlias, cast

from attrs import evolve, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.dynamicflow.deciders import deciders
from flowpersist.dynamicflow.executing import Executors, run_plain
from flowpersist.dynamicflow.ir import Flow, tools_of
from flowpersist.dynamicflow.outcomes import RAISED
from flowpersist.dynamicflow.plain import PLAIN, WALK_ERRORS, WHOLE, finished, walk, walk_problem
from flowpersist.dynamicflow.yielding import driven
from flowpersist.errors import ConfigurationError, FlowError, InputValidationError, PersistenceError, Problem
from flowpersist.errors.arguments import (
    check_callable,
    check_instance,
    check_items,
    check_mapping,
    check_optional,
    check_str,
    mistyped,
)
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.inputs.guarding import ToolGuard
from flowpersist.inputs.json_schema import JsonSchema
from flowpersist.inputs.signatures import Signature, signature_of
from flowpersist.inputs.tool_context import ToolContext

__all__ = ["AWAIT_INPUT", "CHOOSER", "Join", "Tool", "Toolbox", "takes_of", "tool"]

#: The id of the built-in tool.
AWAIT_INPUT: Final = "await_input"
#: The id of the tool that is asked where a document has a prompt and options to choose from.
CHOOSER: Final = "choose"
Function: TypeAlias = Callable[..., Any]


@frozen(eq=False)
class Tool:
    """A function with a name and schemas: its fields are passed by name. ``@tool`` makes one, and
    ``flowpersist.tools.approve`` gives it a ``guard``, which says which calls wait for an approval.

    A plain function runs in its ``executor``; None: in the runner's. ``asks`` are the questions that it may ask by
    itself, which a dry run shows. Raises ``ConfigurationError`` for an invalid schema.
    """

    id: str
    name: str
    description: str
    input_schema: Mapping[str, object] = field(repr=False)
    output_schema: Mapping[str, object] = field(repr=False)
    function: Function = field(repr=False)
    signature: Signature = field(repr=False)
    guard: ToolGuard | None = field(default=None, repr=False)
    executor: Executor | None = field(default=None, repr=False)
    asks: tuple[AwaitInput[Any], ...] = field(default=(), repr=False)
    _input: JsonSchema = field(init=False, repr=False, eq=False)
    _output: JsonSchema = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        for name, schema in (("input", self.input_schema), ("output", self.output_schema)):
            object.__setattr__(self, f"_{name}", JsonSchema.of(schema, what=f"the {name} schema of {self.id!r}"))

    @property
    def takes(self) -> tuple[str, ...] | None:
        """The tool's fields; None: any."""
        return self.signature.takes

    def check_input(self, arguments: Mapping[str, object]) -> Result[dict[str, object], PersistenceError]:
        """Check the arguments and convert them for the function. Failure: ``InputValidationError`` with problems.

        A value of the class that the function's parameter has is passed as it is, any other as plain data.
        """
        try:
            shown = cast("dict[str, object]", finished(walk(dict(arguments), form=PLAIN)).value)
        except WALK_ERRORS as error:
            said = walk_problem(error)
            return Failure(InputValidationError(f"the input of {self.id!r} {said}", [Problem("", said)]))
        checked = _checked(self._input, self.input_schema, shown, f"the input of {self.id!r}")
        try:
            return checked.bind(lambda _: self.signature.structured(shown, arguments))
        except RAISED as error:  # The user's classes validate their fields, and may raise anything.
            said = f"was rejected by the class of a field ({type(error).__name__})"
            return Failure(InputValidationError(f"the input of {self.id!r} {said}", [Problem("", said)]))

    def check_output(self, value: object) -> Result[object, PersistenceError]:
        """The output as plain data, if it matches the schema."""
        try:
            flat = finished(walk(value, form=WHOLE)).value
        except WALK_ERRORS as error:
            return Failure(self.no_output(error))
        return self.check_flat(flat)

    def check_flat(self, value: object) -> Result[object, PersistenceError]:
        """The same for plain data."""
        return _checked(self._output, self.output_schema, value, f"the output of {self.id!r}")

    def no_output(self, error: Exception) -> PersistenceError:
        """The error for an output that can't be passed on, by what its traversal raised."""
        said = walk_problem(error)
        return InputValidationError(f"the output of {self.id!r} {said}", [Problem("", said)])

    @property
    def is_plain(self) -> bool:
        """Whether the function is called in an executor, since it is not async."""
        return not _is_async(self.function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the function's own
        """Call the function without the schemas, for example in its own tests; a guarded one as its guard does."""
        return self.function(*args, **kwargs) if self.guard is None else self.guard.called(args, kwargs)

    def guarded_by(self, guard: ToolGuard) -> Tool:
        """The same tool with a guard."""
        return evolve(self, guard=guard)

    async def call(
        self, arguments: Mapping[str, object], context: ToolContext, executors: Executors | None = None
    ) -> object:
        """Call the function with arguments from ``check_input``, and with the context if it has a parameter for it.

        ``executors``: for a plain function without an executor of its own; None: the event loop's threads.
        """
        given = dict(arguments)
        if self.signature.context is not None:
            given[self.signature.context] = context
        if inspect.isasyncgenfunction(self.function):
            return await driven(self.function(**given), context.ask)
        if not self.is_plain:
            return await self.function(**given)
        executor = executors.get() if self.executor is None and executors is not None else self.executor
        return await run_plain(executor, self.function, given)


def _is_async(function: Function) -> bool:
    """Whether a call runs in the event loop. An object is called as its class says."""
    called = getattr(type(function), "__call__", None)  # noqa: B004 - what it is, and not whether it is there
    return inspect.isasyncgenfunction(function) or any(map(inspect.iscoroutinefunction, (function, called)))


def _checked(
    compiled: JsonSchema, schema: Mapping[str, object], value: object, what: str
) -> Result[object, PersistenceError]:
    if not schema:
        return Success(value)
    try:
        # Not `check`, whose limits are for untrusted data: between tools a run's own data may have any size.
        return compiled.validate(value, what=what)
    except ValueError as error:
        problem = Problem("", f"holds a value that JSON can't represent: {error}")
        return Failure(InputValidationError(f"{what} {problem.message}", [problem]))


@frozen
class Join:
    """Converts one tool's output to another's input, if a step passes it on unchanged. ``transform`` is pure."""

    from_tool: str
    to_tool: str
    transform: Callable[[Any], object] = field(repr=False)

    def __attrs_post_init__(self) -> None:
        check_str(self.from_tool, "from_tool")
        check_str(self.to_tool, "to_tool")
        check_callable(self.transform, "transform")


@frozen
class Toolbox:
    """The tools of a runner, by id, its joins, and where its plain functions run."""

    tools: Mapping[str, Tool | AwaitInput[Any]]
    joins: Mapping[tuple[str, str], Join]
    executors: Executors = field(factory=Executors)

    @classmethod
    def of(
        cls,
        tools: Iterable[object],
        joins: Iterable[Join],
        executors: Executors | None = None,
        chooser: object = None,
    ) -> Toolbox:
        """Collect tools; ``chooser`` is one of them, or the id of one, that has the id ``choose`` as well.

        ``ConfigurationError`` for a duplicate id or an unknown chooser, ``TypeError`` for anything but a tool.
        """
        by_id: dict[str, Tool | AwaitInput[Any]] = {}
        check_items(tools, "tools", "what @tool made, and AwaitInputs")
        for item in tools:
            if not isinstance(item, Tool | AwaitInput):
                mistyped("tools", "what @tool made, and AwaitInputs", item)
            if item.id in by_id or item.id == AWAIT_INPUT:
                msg = f"two tools have the id {item.id!r}: give one of them another"
                raise ConfigurationError(msg, "tools")
            by_id[item.id] = item
        if chooser is not None:
            _add_chooser(by_id, chooser)
        return cls(by_id, _by_pair(joins), executors or Executors())

    def extended(self, tools: Iterable[Tool]) -> Toolbox:
        """The same toolbox with further tools."""
        return evolve(self, tools={**self.tools, **{one.id: one for one in tools}})

    def get(self, name: str) -> Tool | AwaitInput[Any] | None:
        """The tool of this id; None for ``await_input``, which is made at each call."""
        return self.tools.get(name)

    def name_of(self, name: str) -> str:
        """The own id of the tool that has this id."""
        found = self.tools.get(name)
        return name if found is None else found.id

    def join(self, from_tool: str | None, to_tool: str) -> Join | None:
        """The join between two tools, if there is one."""
        return None if from_tool is None else self.joins.get((from_tool, to_tool))

    def lacking(self, needed: Iterable[str]) -> list[str]:
        """The ids, sorted, that are not registered."""
        return sorted(name for name in needed if name not in self.tools and name != AWAIT_INPUT)

    def missing(self, flow: Flow) -> FlowError | None:
        """The error for the first tool of a flow that is not registered; None if all are."""
        lacking = self.lacking(flow.tools)
        if not lacking:
            return None
        calling = (*flow.nodes.values(), *deciders(flow.graph))
        calls = (node.id for node in calling if any(tool == lacking[0] for tool, _ in tools_of(node)))
        step = next(calls, None)
        known = ", ".join(sorted(self.tools)) or "none"
        where = "a sub-flow" if step is None else f"step {step!r}"
        message = f"{where}: the tool {lacking[0]!r} is not registered with this runner (registered: {known})"
        return FlowError(message[:2000], flow.name, step, None, lacking[0])


def _add_chooser(by_id: dict[str, Tool | AwaitInput[Any]], chooser: object) -> None:
    if not isinstance(chooser, str | Tool | AwaitInput):
        mistyped("chooser", "a tool, or the id of one", chooser)
    found = by_id.get(chooser) if isinstance(chooser, str) else chooser
    if found is None:
        known = ", ".join(sorted(by_id)) or "none"
        msg = f"Invalid chooser {chooser!r}: expected a tool, or the id of one of the tools ({known})"
        raise ConfigurationError(msg, "chooser")
    for name in (found.id, CHOOSER):
        if by_id.get(name, found) is not found:
            msg = f"two tools have the id {name!r}: give one of them another"
            raise ConfigurationError(msg, "chooser")
        by_id[name] = found


def takes_of(item: Tool | AwaitInput[Any] | None) -> tuple[str, ...] | None:
    """The fields that a tool takes; None: any that its schema allows."""
    if not isinstance(item, AwaitInput):
        return None if item is None else item.takes
    properties = (item.parameters or {}).get("properties", {})
    return tuple(properties) if isinstance(properties, Mapping) else None


def _by_pair(joins: Iterable[Join]) -> dict[tuple[str, str], Join]:
    by_pair: dict[tuple[str, str], Join] = {}
    check_items(joins, "joins", "Joins")
    for join in joins:
        check_instance(join, "joins", Join, "Joins")
        pair = (join.from_tool, join.to_tool)
        if pair in by_pair:
            msg = f"two joins are registered from {pair[0]!r} to {pair[1]!r}: keep one"
            raise ConfigurationError(msg, "joins")
        by_pair[pair] = join
    return by_pair


def tool(
    *,
    id: str | None = None,
    name: str | None = None,
    description: str | None = None,
    input_schema: Mapping[str, object] | None = None,
    output_schema: Mapping[str, object] | None = None,
    executor: Executor | None = None,
    asks: Iterable[AwaitInput[Any]] = (),
) -> Callable[[Function], Tool]:
    """Make a tool of a function. A plain one runs in ``executor``, any ``concurrent.futures.Executor``; None: in the
    runner's.

    ``id`` and ``name`` default to the function's name, ``description`` to its docstring's first line, and the schemas
    to those of its annotations. A parameter annotated ``ToolContext`` gets the context; the others are the input's
    fields, optional if they have a default. Whoever makes the executor closes it.

    An async generator yields the AwaitInputs that it asks, is sent the answers, and yields its result at last. ``asks``
    are the questions that an async one may ask, in the order in which it asks them, so that a dry run shows them.

    ``TypeError`` if the function is a plain generator, is async and has an executor, is plain and asks, or has a
    parameter that can't be passed by name; ``ConfigurationError`` for an annotation without a schema: give
    ``input_schema`` or ``output_schema`` in that case.
    """
    for what, text in (("id", id), ("name", name), ("description", description)):
        check_optional(text, what, check_str)
    check_optional(input_schema, "input_schema", check_mapping)
    check_optional(output_schema, "output_schema", check_mapping)
    check_optional(executor, "executor", check_executor)
    questions = _questions(asks)

    def made(function: Function) -> Tool:
        _check_function(function, executor, questions)
        signature = signature_of(function, ToolContext)
        own = getattr(function, "__name__", "tool")
        documented = (inspect.getdoc(function) or "").split("\n")[0]
        return Tool(
            id=own if id is None else id,
            name=own if name is None else name,
            description=documented if description is None else description,
            input_schema=signature.input_schema() if input_schema is None else input_schema,
            output_schema=signature.output_schema() if output_schema is None else output_schema,
            function=function,
            signature=signature,
            executor=executor,
            asks=questions,
        )

    return made


def _questions(asks: Iterable[AwaitInput[Any]]) -> tuple[AwaitInput[Any], ...]:
    check_items(asks, "asks", "AwaitInputs")
    questions = tuple(asks)
    for question in questions:
        check_instance(question, "asks", AwaitInput, "AwaitInputs")
    return questions


def check_executor(value: object, name: str) -> None:
    """A ``concurrent.futures.Executor``."""
    check_instance(value, name, Executor, "a concurrent.futures.Executor")


def _check_function(function: Function, executor: Executor | None, asks: tuple[AwaitInput[Any], ...]) -> None:
    name = getattr(function, "__name__", repr(function))
    check_callable(function, "function")
    if isinstance(function, type):
        raise TypeError(f"Invalid function: expected a function or a callable object, not the class {name}")
    if inspect.isgeneratorfunction(function):
        raise TypeError(f"Tool {name!r} must be no generator: to yield questions, make it an async one (async def)")
    if executor is not None and _is_async(function):
        raise TypeError(f"Invalid executor of the tool {name!r}: async functions run in the event loop, leave it out")
    if asks and not _is_async(function):
        raise TypeError(f"Invalid asks of the tool {name!r}: only async functions can ask, make it one (async def)")
