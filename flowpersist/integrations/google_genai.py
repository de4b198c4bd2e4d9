"""Google's Gen AI contents, responses and errors in a state: ``register(types)``. Needs the extra ``google-genai``."""

from __future__ import annotations

from flowpersist.codec import TypeRegistry
from flowpersist.integrations._http import add_http
from flowpersist.integrations._packages import classes_of, modules

__all__ = ["register"]


def register(types: TypeRegistry) -> TypeRegistry:
    """Add the classes of ``google.genai.types`` and the package's errors to a registry, which is given back.

    An error keeps its response, and of the request method and URL alone. ``ConfigurationError`` where google-genai is
    missing, or one of these classes is registered with other arguments.
    """
    pydantic, errors, _ = modules("google_genai", "pydantic", "google.genai.errors", "google.genai.types")
    found = classes_of(pydantic.BaseModel, "google.genai.types") | TypeRegistry.subclasses(errors.APIError)
    types |= add_http(found)
    return types
