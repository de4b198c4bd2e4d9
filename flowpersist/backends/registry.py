"""URLs to backends. A backend's module, and so its driver, is imported only when a URL asks for it.

::

    memory://            a store of this backend's own        memory://name    shared within the process
    sqlite:///flows.db   relative to the working directory    sqlite:////var/flows.db   absolute
    file:flows           relative to the working directory    file:///var/flows         absolute

``sqlite`` takes the options ``synchronous`` (full, extra, normal, off) and ``busy_timeout`` (seconds), ``file`` the
latter. Further packages register a scheme by an entry point of the group ``flowpersist.backends``: its name is the
scheme, its object takes the URL as a str and gives a ``StorageBackend``.

URLs hold passwords. An error names the scheme and the option, never a value or any other part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Final, TypeAlias
from urllib.parse import parse_qsl, unquote

from attrs import field, frozen

from flowpersist.backends.base import StorageBackend
from flowpersist.errors import ConfigurationError

__all__ = ["ENTRY_POINTS", "BackendFactory", "BackendUrl", "backend_from_url", "schemes"]

ENTRY_POINTS: Final = "flowpersist.backends"
SETTING: Final = "FLOWPERSIST_URL"
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]{0,31}")
_PRINTABLE: Final = re.compile(r"[^\x00-\x20\x7f\ud800-\udfff]*")


@frozen
class BackendUrl:
    """A URL in its parts, as they stand there. ``text`` is the whole, for drivers that parse it themselves; nothing of
    it shows in ``repr``.
    """

    scheme: str
    text: str = field(repr=False)
    authority: str | None = field(repr=False)
    path: str = field(repr=False)
    options: Mapping[str, str] = field(repr=False)

    def refuse(self, why: str) -> ConfigurationError:
        """An error that names the scheme alone."""
        return ConfigurationError(f"the {self.scheme} URL {why}", SETTING)

    def check_options(self, known: Collection[str]) -> None:
        """Refuse options that the backend does not know."""
        for name in self.options:
            if name not in known:
                takes = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
                raise self.refuse(f"has an option that is not known; {takes}")

    def seconds(self, name: str, default: timedelta) -> timedelta:
        """An option in seconds."""
        text = self.options.get(name)
        if text is None:
            return default
        if not re.fullmatch(r"\d{1,9}(\.\d{1,6})?", text):
            raise self.refuse(f"needs a number of seconds for {name}")
        return timedelta(seconds=float(text))


#: What makes a backend of a URL. Raises ``ConfigurationError`` for a URL that makes no sense; does no I/O.
BackendFactory: TypeAlias = Callable[[BackendUrl], StorageBackend]


def _memory(url: BackendUrl) -> StorageBackend:
    from flowpersist.backends.memory import MemoryBackend  # noqa: PLC0415

    url.check_options(())
    if url.authority is None or url.path not in {"", "/"}:
        raise url.refuse("is memory:// or memory://name")
    return MemoryBackend(unquote(url.authority))


def _sqlite(url: BackendUrl) -> StorageBackend:
    from flowpersist.backends.sqlite import SqliteBackend  # noqa: PLC0415

    url.check_options({"synchronous", "busy_timeout"})
    if url.authority or len(url.path) < len("/x"):
        raise url.refuse("is sqlite:///relative.db or sqlite:////absolute.db")
    path = _file_path(url, url.path[1:])
    if path == ":memory:":
        raise url.refuse("names no file; for a store in memory use memory://")
    return SqliteBackend(
        path,
        synchronous=url.options.get("synchronous", "full").lower(),
        busy_timeout=url.seconds("busy_timeout", timedelta(seconds=10)),
    )


def _file(url: BackendUrl) -> StorageBackend:
    from flowpersist.backends.filesystem import FilesystemBackend  # noqa: PLC0415

    url.check_options({"busy_timeout"})
    if url.authority or not url.path.strip("/"):
        raise url.refuse("is file:relative/directory or file:///absolute/directory")
    return FilesystemBackend(
        _file_path(url, url.path),
        busy_timeout=url.seconds("busy_timeout", timedelta(seconds=10)),
    )


def _file_path(url: BackendUrl, text: str) -> str:
    try:
        path = unquote(text, errors="strict")
    except UnicodeDecodeError:
        path = "\0"
    if "\0" in path:
        raise url.refuse("has a path that no file can have")
    return path


_BUILT_IN: Final[Mapping[str, BackendFactory]] = MappingProxyType({"memory": _memory, "sqlite": _sqlite, "file": _file})


def _registered() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def schemes() -> tuple[str, ...]:
    """The schemes that this installation knows, sorted."""
    return tuple(sorted({*_BUILT_IN, *_registered()}))


def backend_from_url(url: str, *, clock_offset: timedelta = timedelta(0)) -> StorageBackend:
    """The backend that a URL names, not yet open. ``clock_offset`` is added to the store's clock.

    Raises ``ConfigurationError`` for an unknown scheme, a malformed URL, unknown options, and a backend whose package
    can't be imported.
    """
    parsed = _parsed(url)
    factory = _BUILT_IN.get(parsed.scheme) or _loaded(parsed.scheme)
    backend = factory(parsed)
    backend.clock_offset += clock_offset
    return backend


def _parsed(url: str) -> BackendUrl:
    if not isinstance(url, str):
        raise TypeError(f"a URL is a str, not {type(url).__name__}")
    scheme, colon, rest = url.partition(":")
    scheme = scheme.lower()
    if not colon or not _SCHEME.fullmatch(scheme) or not _PRINTABLE.fullmatch(rest):
        message = "the store's URL is malformed; it looks like sqlite:///flows.db, blanks written as %20"
        raise ConfigurationError(message, SETTING)
    rest, _, query = rest.partition("?")
    authority: str | None = None
    if rest.startswith("//"):
        authority, slash, rest = rest[2:].partition("/")
        rest = slash + rest
    return BackendUrl(scheme, url, authority, rest, _options(scheme, query))


def _options(scheme: str, query: str) -> Mapping[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        raise ConfigurationError(f"the {scheme} URL has malformed options after the question mark", SETTING) from None
    options = dict(pairs)
    if len(options) != len(pairs):
        raise ConfigurationError(f"the {scheme} URL has an option twice", SETTING)
    return MappingProxyType(options)


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
