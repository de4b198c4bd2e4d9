"""LangChain's messages, documents and outputs in a state: ``register(types)``. Needs the extra ``langchain``."""

from __future__ import annotations

from flowpersist.codec import TypeRegistry
from flowpersist.integrations._packages import classes_of, modules

__all__ = ["register"]

PACKAGES = (
    "langchain_core.messages",
    "langchain_core.documents",
    "langchain_core.outputs",
    "langchain_core.prompt_values",
    "langchain_core.agents",
)


def register(types: TypeRegistry) -> TypeRegistry:
    """Add LangChain's messages and their chunks, documents, outputs, prompt values and agent actions to a registry.

    The registry is given back. ``ConfigurationError`` where langchain-core is missing, or one of these classes is
    registered with other arguments.
    """
    pydantic, base, exceptions = modules(
        "langchain", "pydantic", "langchain_core.messages.base", "langchain_core.exceptions"
    )
    found = classes_of(pydantic.BaseModel, *PACKAGES)
    found |= TypeRegistry.subclasses(base.TextAccessor)
    found |= TypeRegistry.subclasses(exceptions.LangChainException)
    types |= found
    return types
