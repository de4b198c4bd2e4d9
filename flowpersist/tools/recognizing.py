"""Which kind of tool it is that ``approve`` was given. An ecosystem's package is not imported to tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import mistyped
from flowpersist.tools.described import AnyTool, function_tool
from flowpersist.tools.flows import FlowTool
from flowpersist.tools.natives import LangChainTool, OpenAIAgentsTool, PydanticAITool

__all__ = ["described"]

_TAKES: Final = "an async function, what @tool made, or a tool of the OpenAI Agents SDK, LangChain or pydantic-ai"
#: The attributes that only tools of one kind have.
_NATIVE: Final[Mapping[tuple[str, ...], Callable[[Any], AnyTool]]] = {
    ("guarded_by", "check_input"): FlowTool.of,
    ("on_invoke_tool", "params_json_schema"): OpenAIAgentsTool.of,
    ("ainvoke", "tool_call_schema"): LangChainTool.of,
    ("function_schema", "prepare_tool_def"): PydanticAITool.of,
}


def described(
    tool: Any,  # noqa: ANN401 - of any ecosystem
    name: str | None,
    description: str | None,
    schema: Mapping[str, object] | None,
) -> AnyTool:
    """The tool as ``approve`` sees it. ``TypeError`` for another object."""
    if hasattr(tool, "__code__"):
        return function_tool(tool, name, description, schema)
    for attributes, of in _NATIVE.items():
        if not isinstance(tool, type) and all(hasattr(tool, one) for one in attributes):
            for what, given in (("name", name), ("description", description), ("schema", schema)):
                if given is not None:
                    raise ConfigurationError(f"Invalid {what}: expected none beside a tool that has its own", what)
            return of(tool)
    return mistyped("tool", _TAKES, tool)
