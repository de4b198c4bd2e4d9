"""MCP's messages and errors in a state: ``register(types)``. Needs the extra ``mcp``."""

from __future__ import annotations

from flowpersist.codec import TypeRegistry
from flowpersist.integrations._packages import classes_of, modules

__all__ = ["register"]


def register(types: TypeRegistry) -> TypeRegistry:
    """Add MCP's tools, results, content, resources, prompts, requests and errors to a registry, which is given back.

    ``ConfigurationError`` where mcp is missing, or one of these classes is registered with other arguments.
    """
    pydantic, exceptions, of_mcp = modules("mcp", "pydantic", "mcp.shared.exceptions", "mcp.types")
    packages = {of_mcp.CallToolResult.__module__.partition(".")[0], "mcp.types"} - {"mcp"}
    found = classes_of(pydantic.BaseModel, *sorted(packages))
    for error in vars(exceptions).values():
        if isinstance(error, type) and error.__module__ == exceptions.__name__:
            found |= TypeRegistry.subclasses(error)
    types |= found
    return types
