"""OpenAI's chat completions, responses and errors in a state: ``register(types)``. Needs the extra ``openai``."""

from __future__ import annotations

from flowpersist.codec import TypeRegistry
from flowpersist.integrations._http import add_http
from flowpersist.integrations._packages import classes_of, modules

__all__ = ["register"]

#: What the client sets on what an API call returns.
ATTRIBUTES = ("_request_id",)

PACKAGES = (
    "openai.types.chat",
    "openai.types.responses",
    "openai.types.conversations",
    "openai.types.shared",
)


def register(types: TypeRegistry) -> TypeRegistry:
    """Add the classes of OpenAI's chat completions, responses, conversations and streams, and of its errors.

    The registry is given back. Classes of the other APIs: ``TypeRegistry.package("openai.types.beta",
    base=BaseModel)``. An error keeps its response, and of the request method and URL alone. ``ConfigurationError``
    where openai is missing, or one of these classes is registered with other arguments.
    """
    pydantic, openai = modules("openai", "pydantic", "openai")
    found = classes_of(pydantic.BaseModel, *PACKAGES, attributes=ATTRIBUTES) | TypeRegistry.subclasses(
        openai.OpenAIError
    )
    types |= add_http(found)
    return types
