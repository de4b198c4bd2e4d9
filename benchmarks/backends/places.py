"""The stores that are measured: files of this run, and servers that the environment names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from uuid import uuid4

from attrs import frozen

from flowpersist.backends.base import StorageBackend
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import PersistenceError

__all__ = ["LOCAL", "PLACES", "Place", "places"]

LOCAL = ("memory", "sqlite", "file")
SERVERS = ("postgres", "redis", "mongodb", "ferretdb", "neo4j")
#: What the backend must be told there.
OPTIONS = {"ferretdb": "&allow_unsafe_ferretdb=on"}
PLACES = (*LOCAL, *SERVERS)


@frozen
class Place:
    """A store: its name, the URL without options of ours, and a directory for files of this run."""

    name: str
    url: str
    directory: Path

    def backend(self, prefix: str) -> StorageBackend:
        """A backend with tables, collections or files of its own."""
        if self.name == "memory":
            return backend_from_url(self.url)
        if self.name in LOCAL:
            return backend_from_url(f"{self.url}{prefix}")
        options = f"prefix={prefix}{OPTIONS.get(self.name, '')}"
        return backend_from_url(f"{self.url}{'&' if '?' in self.url else '?'}{options}")

    @staticmethod
    def prefix() -> str:
        """What no run has used before."""
        return f"b{uuid4().hex[:12]}"


def _url(name: str, directory: Path) -> str | None:
    if name == "memory":
        return "memory://"
    if name in LOCAL:
        return f"{name}:///{directory}/{name}-" if name == "sqlite" else f"file://{directory}/{name}-"
    return os.environ.get(f"FLOWPERSIST_TEST_{name.upper()}_URL")


def places(names: Iterable[str], directory: Path) -> Iterator[Place | str]:
    """Those that can be measured, and for each other the reason why not."""
    for name in names:
        url = _url(name, directory)
        if url is None:
            yield f"{name}: FLOWPERSIST_TEST_{name.upper()}_URL is not set (scripts/test-setup.sh env prints it)"
            continue
        place = Place(name, url, directory)
        try:
            place.backend(place.prefix())
        except (PersistenceError, ImportError) as error:
            yield f"{name}: {error}"
        else:
            yield place
