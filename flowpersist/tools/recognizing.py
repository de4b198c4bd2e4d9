"""Which kind of tool it is that ``approve`` was given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flowpersist.errors.arguments import mistyped
from flowpersist.tools.described import AnyTool, function_tool

__all__ = ["described"]

_TAKES: Final = "an async function"


def described(
    tool: Any,  # noqa: ANN401 - of any ecosystem
    name: str | None,
    description: str | None,
    schema: Mapping[str, object] | None,
) -> AnyTool:
    """The tool as ``approve`` sees it. ``TypeError`` where it is none."""
    if not hasattr(tool, "__code__"):
        mistyped("tool", _TAKES, tool)
    return function_tool(tool, name, description, schema)
