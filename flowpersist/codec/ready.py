"""The ready registries of other packages' classes, by the package."""

from __future__ import annotations

from typing import Final

__all__ = ["INTEGRATIONS", "ready_registry"]

#: Packages whose classes a module of flowpersist.integrations registers.
INTEGRATIONS: Final[dict[str, str]] = {
    "agents": "openai_agents",
    "anthropic": "anthropic",
    "dateutil": "dateutil",
    "google.genai": "google_genai",
    "langchain_core": "langchain",
    "mcp": "mcp",
    "mcp_types": "mcp",
    "msgspec": "msgspec",
    "numpy": "numpy",
    "openai": "openai",
    "pandas": "pandas",
    "pyarrow": "arrow",
    "pydantic": "pydantic",
    "pydantic_ai": "pydantic_ai",
    "pydantic_core": "pydantic",
    "pytz": "pytz",
    "sqlmodel": "sqlmodel",
}


def ready_registry(package: str) -> str | None:
    """The line that registers the classes of a package; None where no registry is ready."""
    ready = INTEGRATIONS.get(package)
    return None if ready is None else f"from flowpersist.integrations import {ready}; {ready}.register(types)"
