"""What is wrong with a document, found before it runs: by itself, and with the tools that it will run with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from returns.result import Failure, Success

from flowpersist.dynamicflow.call_checks import check_calls
from flowpersist.dynamicflow.compile import compile_document
from flowpersist.dynamicflow.document import Source, check_source, load
from flowpersist.dynamicflow.ir import Flow
from flowpersist.dynamicflow.nested import Library
from flowpersist.dynamicflow.problems import Problems
from flowpersist.dynamicflow.tools import Join, Tool, Toolbox
from flowpersist.errors import FlowError, FlowProblem
from flowpersist.inputs.await_input import AwaitInput

__all__ = ["check", "misfit"]


def check(
    document: Source,
    *,
    tools: Iterable[Tool | AwaitInput[Any]] | None = None,
    joins: Iterable[Join] = (),
    chooser: Tool | AwaitInput[Any] | str | None = None,
    flows: Mapping[str, Source] | None = None,
) -> tuple[FlowProblem, ...]:
    """Everything that is wrong with a document, given as an object or as its JSON text, at most 100 problems, warnings
    included; empty if nothing is.

    ``tools``, ``joins`` and ``chooser`` are those of the runner: what steps pass to tools is checked against them.
    Without tools, the document alone is checked. ``flows`` are the registered flows by id. ``TypeError`` for anything
    but a document, tools and documents by id, ``ConfigurationError`` for two tools or joins of the same name, and for a
    flow that can't run.
    """
    check_source(document, "document")
    toolbox = Toolbox.of(() if tools is None else tools, joins, None, chooser)
    loaded = load(document)
    if isinstance(loaded, Failure):
        error = loaded.failure()
        return error.problems if isinstance(error, FlowError) else ()
    read = loaded.unwrap()
    library = Library() if flows is None else Library.of(flows, compile_document)
    compiled = compile_document(read, library)
    if isinstance(compiled, Success) and tools is not None:
        check_calls(compiled.unwrap(), toolbox, read.problems)
    return tuple(read.problems.found)


def misfit(flow: Flow, toolbox: Toolbox) -> FlowError | None:
    """The error for a flow that these tools can't run; None if they can."""
    problems = Problems(flow.name)
    check_calls(flow, toolbox, problems)
    return problems.error()
