"""pydantic-ai's messages in a state: ``register(types)``. Needs the extra ``pydantic-ai``."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from flowpersist.codec import TypeRegistry
from flowpersist.codec.remedies import plan_if_any
from flowpersist.integrations._packages import modules

__all__ = ["register"]

#: What a tool call has besides its fields, and pydantic-ai's own adapter for messages leaves out.
ATTRIBUTES: Final = ("otel_metadata",)
#: Classes outside the module of messages that runs give or take.
FURTHER: Final = (
    "DeferredToolRequests",
    "DeferredToolResults",
    "ToolApproved",
    "ToolDenied",
    "RunUsage",
    "UsageLimits",
)


def register(types: TypeRegistry) -> TypeRegistry:
    """Add pydantic-ai's messages, their parts and events, usage, deferred tool calls and errors to a registry.

    The registry is given back. Objects in tool results stay what they are, which their way through
    ``ModelMessagesTypeAdapter`` would change; their classes are to be registered too. ``ConfigurationError`` where
    pydantic-ai is missing, or one of these classes is registered with other arguments.
    """
    pydantic_ai, messages, exceptions = modules(
        "pydantic_ai", "pydantic_ai", "pydantic_ai.messages", "pydantic_ai.exceptions"
    )
    roots = [*_defined(messages), *(getattr(pydantic_ai, name) for name in FURTHER if hasattr(pydantic_ai, name))]
    found = TypeRegistry.tree(*filter(dataclasses.is_dataclass, roots), attributes=ATTRIBUTES, fields="tolerant")
    own = frozenset(_defined(exceptions))
    for name, error in vars(exceptions).items():
        # Some of the classes have the name of another one, and none but its variable's is its own.
        if isinstance(error, type) and error in own and issubclass(error, Exception) and plan_if_any(error) is not None:
            found.register(error, name=f"{exceptions.__name__}.{name}")
    types |= found
    return types


def _defined(module: Any) -> list[type]:  # noqa: ANN401 - a module's contents
    return [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__]
