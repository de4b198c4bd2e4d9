"""From a URL to its backend: by scheme, imported only when it is asked for.

Third parties add a scheme by an entry point of the group ``flowpersist.backends``: its name is the scheme, its object a
callable that takes the URL and gives a ``StorageBackend``.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Final, cast

from flowpersist.backends.base import StorageBackend
from flowpersist.errors import ConfigurationError

__all__ = ["backend_from_url", "schemes"]

GROUP: Final = "flowpersist.backends"
#: Scheme to the module and the class whose ``from_url`` makes a backend.
BUILT_IN: Final = {
    "memory": ("flowpersist.backends.memory", "MemoryBackend"),
    "sqlite": ("flowpersist.backends.sqlite", "SQLiteBackend"),
    "file": ("flowpersist.backends.filesystem", "FilesystemBackend"),
}


def schemes() -> tuple[str, ...]:
    """The schemes that can be opened here, in order."""
    return tuple(sorted({*BUILT_IN, *entry_points(group=GROUP).names}))


def backend_from_url(url: str) -> StorageBackend:
    """The backend of a URL, not opened yet. ``ConfigurationError`` names the scheme, and never the rest of the URL."""
    scheme, colon, _ = url.partition(":")
    if not colon:
        raise _unusable("it has no scheme")
    return _maker(scheme)(url)


def _maker(scheme: str) -> Callable[[str], StorageBackend]:
    if scheme in BUILT_IN:
        module, name = BUILT_IN[scheme]
        return cast("Callable[[str], StorageBackend]", getattr(import_module(module), name).from_url)
    for entry in entry_points(group=GROUP, name=scheme):
        return cast("Callable[[str], StorageBackend]", entry.load())
    # What stands before the colon may be a whole secret where the URL is none.
    shown = repr(scheme) if scheme.isascii() and scheme.isalpha() and len(scheme) <= 20 else "in it"  # noqa: PLR2004
    raise _unusable(f"no backend has the scheme {shown}")


def _unusable(what: str) -> ConfigurationError:
    message = f"the store's URL is not usable: {what}; known schemes are {', '.join(schemes())}, as in sqlite:///flows.db"
    return ConfigurationError(message, "FLOWPERSIST_URL")
