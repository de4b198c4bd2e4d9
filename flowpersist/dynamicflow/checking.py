"""What is wrong with a document, found before it runs: by itself, and with the tools that it will run with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from returns.result import Failure

from flowpersist.dynamicflow.compile import compile as compile_flow
from flowpersist.dynamicflow.document import Source
from flowpersist.dynamicflow.ir import Flow, ToolCall
from flowpersist.dynamicflow.problems import Problems
from flowpersist.dynamicflow.tools import Join, Tool, Toolbox
from flowpersist.errors import FlowError, FlowProblem
from flowpersist.inputs.await_input import AwaitInput

__all__ = ["check", "check_calls", "misfit"]


def check(
    document: Source,
    *,
    tools: Iterable[Tool | AwaitInput[Any]] | None = None,
    joins: Iterable[Join] = (),
) -> tuple[FlowProblem, ...]:
    """Everything that is wrong with a document, given as an object or as its JSON text, at most 100 problems; empty if
    it can run.

    ``tools`` and ``joins`` are those of the runner: what steps pass to tools is checked against them. Without tools,
    the document alone is checked. ``TypeError`` for anything but a document and tools, ``ConfigurationError`` for two
    tools or joins of the same name.
    """
    toolbox = Toolbox.of(() if tools is None else tools, joins)
    compiled = compile_flow(document)
    if isinstance(compiled, Failure):
        error = compiled.failure()
        return error.problems if isinstance(error, FlowError) else ()
    flow = compiled.unwrap()
    problems = Problems(flow.name)
    if tools is not None:
        check_calls(flow, toolbox, problems)
    return tuple(problems.found)


def misfit(flow: Flow, toolbox: Toolbox) -> FlowError | None:
    """The error for a flow that these tools can't run; None if they can."""
    problems = Problems(flow.name)
    check_calls(flow, toolbox, problems)
    return problems.error()


def check_calls(flow: Flow, toolbox: Toolbox, problems: Problems) -> None:
    """Note what is wrong with the calls of tools."""
    lacking = frozenset(toolbox.lacking(flow.tools))
    known = ", ".join(sorted(toolbox.tools)) or "none"
    for node in flow.nodes.values():
        if isinstance(node.operation, ToolCall) and node.operation.tool in lacking:
            name = node.operation.tool
            near = problems.hint([name], toolbox.tools)
            message = (
                f"step {node.id!r}: the tool {name!r} is not registered with this runner{near} (registered: {known})"
            )
            expected = f"one of {known}"[:1000]
            problems.add(node.place.at("tool"), "unknown-tool", message, expected=expected, step=node.id, tool=name)
