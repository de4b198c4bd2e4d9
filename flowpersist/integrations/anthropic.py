"""Anthropic's messages and errors in a state: ``register(types)``. Needs the extra ``anthropic``."""

from __future__ import annotations

from flowpersist.codec import TypeRegistry
from flowpersist.integrations._http import add_http
from flowpersist.integrations._packages import classes_of, modules

__all__ = ["register"]

#: What the client sets on what an API call returns.
ATTRIBUTES = ("_request_id", "_workspace_id")


def register(types: TypeRegistry) -> TypeRegistry:
    """Add the classes of Anthropic's API, those of its beta too, and of its errors to a registry, which is given back.

    An error keeps its response, and of the request method and URL alone. ``ConfigurationError`` where anthropic is
    missing, or one of these classes is registered with other arguments.
    """
    pydantic, anthropic = modules("anthropic", "pydantic", "anthropic")
    found = classes_of(
        pydantic.BaseModel, "anthropic.types", "anthropic.lib", attributes=ATTRIBUTES
    ) | TypeRegistry.subclasses(anthropic.AnthropicError)
    types |= add_http(found)
    return types
