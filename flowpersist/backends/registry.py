"""URLs to backends. A backend's module, and so its driver, is imported only when a URL asks for it.

::

    memory://            a store of this backend's own        memory://name    shared within the process
    sqlite:///flows.db   relative to the working directory    sqlite:////var/flows.db   absolute
    file:flows           relative to the working directory    file:///var/flows         absolute

``sqlite`` takes the options ``synchronous`` (full, extra, normal, off), ``busy_timeout`` (seconds) and ``prefix`` (of
its tables' names), ``file`` the second of them. The modules of the servers name theirs. Further packages register
a scheme by an entry point of the group ``flowpersist.backends``: its name is the scheme, its object takes the URL as a
str and gives a ``StorageBackend``.

URLs hold passwords. An error names the scheme and the option, never a value or any other part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Final, TypeAlias

from attrs import frozen

from flowpersist.backends._url import SETTING, BackendUrl, parse_url
from flowpersist.backends.base import StorageBackend
from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import check_instance

__all__ = ["ENTRY_POINTS", "BackendFactory", "BackendUrl", "backend_from_url", "backend_of", "schemes", "schemes_of"]

ENTRY_POINTS: Final = "flowpersist.backends"
_PACKAGE: Final = "flowpersist.backends"


@frozen
class _BuiltIn:
    """A module of ours whose ``from_url`` makes the backend, and the extra that brings its driver."""

    module: str
    extra: str | None = None

    def load(self) -> BackendFactory:
        try:
            factory: BackendFactory = import_module(f"{_PACKAGE}.{self.module}").from_url
        except ImportError as error:
            if self.extra is None:
                raise
            message = f"the driver for {self.module} can't be imported; pip install 'flowpersist[{self.extra}]'"
            raise ConfigurationError(message, SETTING) from error
        return factory


#: What makes a backend of a URL. Raises ``ConfigurationError`` for a URL that makes no sense; does no I/O.
BackendFactory: TypeAlias = Callable[[BackendUrl], StorageBackend]
_BUILT_IN: Final[Mapping[str, _BuiltIn]] = MappingProxyType(
    {
        "memory": _BuiltIn("memory"),
        "sqlite": _BuiltIn("sqlite"),
        "file": _BuiltIn("filesystem"),
        "postgresql": _BuiltIn("postgres", "postgres"),
        "postgres": _BuiltIn("postgres", "postgres"),
        "redis": _BuiltIn("redis", "redis"),
        "rediss": _BuiltIn("redis", "redis"),
        "neo4j": _BuiltIn("neo4j", "neo4j"),
        "neo4j+s": _BuiltIn("neo4j", "neo4j"),
        "neo4j+ssc": _BuiltIn("neo4j", "neo4j"),
        "bolt": _BuiltIn("neo4j", "neo4j"),
        "bolt+s": _BuiltIn("neo4j", "neo4j"),
        "bolt+ssc": _BuiltIn("neo4j", "neo4j"),
        "mongodb": _BuiltIn("mongodb", "mongodb"),
        "mongodb+srv": _BuiltIn("mongodb", "mongodb"),
    }
)


def _registered() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def schemes() -> tuple[str, ...]:
    """The schemes that this installation knows, sorted."""
    return tuple(sorted({*_BUILT_IN, *_registered()}))


def schemes_of(module: str) -> tuple[str, ...]:
    """The schemes of a backend of this package, by its module's name; the usual one is the first."""
    return tuple(scheme for scheme, built_in in _BUILT_IN.items() if built_in.module == module)


def backend_from_url(url: str, *, clock_offset: timedelta = timedelta(0)) -> StorageBackend:
    """The backend that a URL names, not yet open. ``clock_offset`` is added to the store's clock.

    Raises ``ConfigurationError`` for an unknown scheme, a malformed URL, unknown options, and a backend whose package
    can't be imported.
    """
    check_instance(clock_offset, "clock_offset", timedelta, "a timedelta")
    parsed = parse_url(url)
    built_in = _BUILT_IN.get(parsed.scheme)
    factory = _loaded(parsed.scheme) if built_in is None else built_in.load()
    backend = factory(parsed)
    backend.clock_offset += clock_offset
    return backend


def backend_of(module: str, source: object) -> StorageBackend:
    """A backend of this package by its module's name, not yet open: that of a server by a URL or by what its driver
    connects with, another one by its path or name.

    Raises ``ConfigurationError`` for a URL of another backend.
    """
    schemes = schemes_of(module)
    if not isinstance(source, str) or _BUILT_IN[schemes[0]].extra is None:
        made: StorageBackend = getattr(import_module(f"{_PACKAGE}.{module}"), f"{module.capitalize()}Backend")(source)
        return made
    if source.partition(":")[0] not in schemes:
        raise ConfigurationError(f"Invalid source: expected a URL that begins with {schemes[0]}://", "source")
    return backend_from_url(source)


def _loaded(scheme: str) -> BackendFactory:
    point = _registered().get(scheme)
    if point is None:
        message = f"no backend is known for the scheme {scheme!r}; known are {', '.join(schemes())}"
        raise ConfigurationError(message, SETTING)
    try:
        factory = point.load()
    except (ImportError, AttributeError) as error:
        package = f"the package {point.dist.name}" if point.dist is not None else "its package"
        message = f"the backend of {scheme!r} can't be imported; install {package} anew, with the extra for its driver"
        raise ConfigurationError(message, SETTING) from error
    return lambda url: _made(scheme, factory(url.text))


def _made(scheme: str, backend: object) -> StorageBackend:
    if not isinstance(backend, StorageBackend):
        raise ConfigurationError(f"the entry point of {scheme!r} gives no backend; update its package", SETTING)
    return backend
