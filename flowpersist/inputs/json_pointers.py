"""The tokens of JSON pointers (RFC 6901)."""

from __future__ import annotations

__all__ = ["escaped", "unescaped"]


def escaped(key: str) -> str:
    """A key as a token of a pointer."""
    return key.replace("~", "~0").replace("/", "~1")


def unescaped(token: str) -> str:
    """The key that a token means."""
    return token.replace("~1", "/").replace("~0", "~")
