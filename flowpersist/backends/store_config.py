"""Which store a configuration names: a type, and where it is."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Self
from urllib.parse import quote

from attrs import field, frozen

from flowpersist.backends.registry import schemes_of
from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import check_instance, check_mapping, check_str

__all__ = ["StoreConfig", "store_url"]

#: The URL where none is given. A server has none.
_DEFAULTS: Final[Mapping[str, str]] = MappingProxyType(
    {"file": "file:.flowpersist", "memory": "memory://", "sqlite": "sqlite:///flowpersist.db"}
)
_TYPES: Final = tuple(sorted((*_DEFAULTS, "mongodb", "neo4j", "postgres", "redis")))
#: What stands before a path in a URL, for the types that take a path in its place.
_PATHS: Final[Mapping[str, str]] = MappingProxyType({"file": "file:", "sqlite": "sqlite:///"})
_SCHEMED: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_FIELDS: Final = ("type", "connection_string")


def store_url(kind: str, text: str, *, names: tuple[str, str] = _FIELDS) -> str:
    """The URL of a store of that type; ``names`` are what the user calls the two, for the errors."""
    if kind not in _TYPES:
        raise ConfigurationError(f"Invalid {names[0]}: expected one of {', '.join(_TYPES)}", names[0])
    schemes, text = schemes_of("filesystem" if kind == "file" else kind), text.strip()
    usual = f"{schemes[0]}:, or a path" if kind in _PATHS else f"{schemes[0]}://"
    if not text and kind not in _DEFAULTS:
        raise ConfigurationError(f"Missing {names[1]}: set it to a URL that begins with {usual}", names[1])
    if text and kind in _PATHS and not _SCHEMED.match(text):
        return _PATHS[kind] + quote(text, errors="surrogatepass")
    if text and text.partition(":")[0].lower() not in schemes:
        message = f"Invalid {names[1]}: expected a URL that begins with {usual}, because {names[0]} is {kind}"
        raise ConfigurationError(message, names[1])
    return text or _DEFAULTS[kind]


@frozen
class StoreConfig:
    """A store as an application's configuration names it. ``open_stores`` opens it.

    - ``type``: file, memory, mongodb, neo4j, postgres, redis or sqlite.
    - ``connection_string``: a URL of that type, or a path for file and sqlite. Empty: ``flowpersist.db`` in the working
      directory for sqlite, ``.flowpersist`` for file, a store of its own for memory.

    Raises ``ConfigurationError`` for an unknown type, a URL of another one, and a server without a URL.
    """

    type: str = "sqlite"
    connection_string: str = field(default="", repr=False)

    def __attrs_post_init__(self) -> None:
        check_str(self.type, "type")
        check_instance(self.connection_string, "connection_string", str, "a str")
        store_url(self.type, self.connection_string)

    @property
    def url(self) -> str:
        """The store's URL."""
        return store_url(self.type, self.connection_string)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, object]) -> Self:
        """What a parsed configuration file has under ``store``. What it leaves out has its default.

        - ``mapping``: such as ``{"store": {"type": "postgres", "connection_string": "postgresql://127.0.0.1/agents"}}``.

        Raises ``ConfigurationError`` as the class does, and for another field and a value that is not a text.
        """
        check_mapping(mapping, "mapping")
        given = mapping.get("store", {})
        if not isinstance(given, Mapping) or not all(
            name in _FIELDS and isinstance(given[name], str) for name in given
        ):
            raise ConfigurationError(
                "Invalid store: expected an object with the texts type, connection_string", "store"
            )
        return cls._read(given, _FIELDS, "store.")

    @classmethod
    def from_env(cls, prefix: str, environ: Mapping[str, str] = os.environ) -> Self:
        """What the environment says. What it leaves out has its default.

        - ``prefix``: ``RECAC`` reads ``RECAC_STORE_TYPE`` and ``RECAC_DB_URL``.
        - ``environ``: the variables.

        Raises ``ConfigurationError`` as the class does.
        """
        check_str(prefix, "prefix")
        check_mapping(environ, "environ")
        return cls._read(environ, (f"{prefix}_STORE_TYPE", f"{prefix}_DB_URL"))

    @classmethod
    def _read(cls, given: Mapping[str, str], names: tuple[str, str], within: str = "") -> Self:
        kind, text = given.get(names[0], "").strip().lower() or "sqlite", given.get(names[1], "")
        store_url(kind, text, names=(within + names[0], within + names[1]))
        return cls(kind, text)
