"""A store's URL in its parts, and how a backend takes its own options out of it.

URLs hold passwords. An error names the scheme and the option, never a value or any other part.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode

from attrs import field, frozen

from flowpersist.errors import ConfigurationError

__all__ = ["PREFIX", "SETTING", "BackendUrl", "check_prefix", "parse_url"]

SETTING: Final = "FLOWPERSIST_URL"
#: What the names of tables, collections, labels and keys begin with.
PREFIX: Final = "flowpersist"
_PREFIX: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]{0,31}")
#: Hosts of a server, each with a port or without: names, addresses, and addresses of IPv6 in brackets.
_HOST: Final = re.compile(r"(?:\[[^\]@]*\]|[^:,@\[\]]+)(?::(?P<port>[0-9]{1,5}))?")
_PORTS: Final = range(1, 65_536)
_PRINTABLE: Final = re.compile(r"[^\x00-\x20\x7f\ud800-\udfff]*")


def check_prefix(prefix: str) -> str:
    """Refuse a prefix that some server could not take as part of a name: it is written into statements."""
    if not _PREFIX.fullmatch(prefix):
        raise ConfigurationError("a prefix is a-z, then up to 31 of a-z, 0-9 and _", "prefix")
    return prefix


@frozen
class BackendUrl:
    """A URL in its parts, as they stand there. ``text`` is the whole, for drivers that parse it themselves; nothing of
    it shows in ``repr``. ``setting`` is where it was said, for errors.
    """

    scheme: str
    text: str = field(repr=False)
    authority: str | None = field(repr=False)
    path: str = field(repr=False)
    options: Mapping[str, str] = field(repr=False)
    setting: str = SETTING

    def expected(self, *forms: str) -> ConfigurationError:
        """An error that gives the forms which the scheme takes."""
        return ConfigurationError(f"Invalid {self.scheme} URL: expected {' or '.join(forms)}", self.setting)

    def check_server(self, example: str, *, hostless: bool = False) -> None:
        """Refuse a URL that names no server, or a port out of range; ``hostless``: the driver has a host of its own."""
        if self.authority is None or (not self.authority and not hostless):
            raise self.expected(example)
        for text in self.authority.rpartition("@")[2].split(",") if self.authority else ():
            found = _HOST.fullmatch(text)
            if found is None or (found["port"] is not None and int(found["port"]) not in _PORTS):
                raise self.expected(f"{example}, with a port from {_PORTS.start} to {_PORTS.stop - 1}")

    def check_ports(self, name: str) -> None:
        """Refuse ports out of range in an option, one for each host."""
        for text in filter(None, self.options.get(name, "").split(",")):
            if not re.fullmatch(r"\d{1,5}", text, re.ASCII) or int(text) not in _PORTS:
                raise self.refuse(f"needs a port from {_PORTS.start} to {_PORTS.stop - 1} for {name}")

    def refuse(self, why: str) -> ConfigurationError:
        """An error that names the scheme alone."""
        return ConfigurationError(f"the {self.scheme} URL {why}", self.setting)

    def check_options(self, known: Collection[str]) -> None:
        """Refuse options that the backend does not know."""
        for name in self.options:
            if name not in known:
                takes = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
                raise self.refuse(f"has an option that is not known; {takes}")

    def check_files(self, names: Collection[str]) -> None:
        """Refuse options that name files, where a file is not there."""
        for name in names:
            if name in self.options and not Path(self.options[name]).is_file():
                raise self.refuse(f"names no file that is there for {name}")

    def seconds(self, name: str, default: timedelta) -> timedelta:
        """An option in seconds."""
        text = self.options.get(name)
        if text is None:
            return default
        if not re.fullmatch(r"\d{1,9}(\.\d{1,6})?", text):
            raise self.refuse(f"needs a number of seconds for {name}")
        return timedelta(seconds=float(text))

    def number(self, name: str, default: int, allowed: range) -> int:
        """An option that is a whole number in a range."""
        text = self.options.get(name)
        if text is None:
            return default
        if not re.fullmatch(r"\d{1,9}", text) or int(text) not in allowed:
            raise self.refuse(f"needs a whole number from {allowed.start} to {allowed.stop - 1} for {name}")
        return int(text)

    def flag(self, name: str, *, default: bool) -> bool:
        """An option that is on or off."""
        text = self.options.get(name, "on" if default else "off").lower()
        if text not in {"on", "off"}:
            raise self.refuse(f"needs on or off for {name}")
        return text == "on"

    def prefix(self) -> str:
        """The option ``prefix``."""
        return check_prefix(self.options.get("prefix", PREFIX))

    def without(self, ours: Collection[str]) -> str:
        """The whole for the driver: without the options that are ours, the others as they were meant."""
        theirs = {name: value for name, value in self.options.items() if name not in ours}
        base = self.text.partition("?")[0]
        return f"{base}?{urlencode(theirs)}" if theirs else base

    def file_path(self, text: str) -> str:
        """A part of the URL as the path of a file."""
        try:
            path = unquote(text, errors="strict")
        except UnicodeDecodeError:
            path = "\0"
        if "\0" in path:
            raise self.refuse("has a path that no file can have")
        return path


def parse_url(url: str, *, setting: str = SETTING, like: str = "sqlite:///flows.db") -> BackendUrl:
    """A URL in its parts; ``ConfigurationError`` for a malformed one, which says what it looks ``like``."""
    if not isinstance(url, str):
        raise TypeError(f"Invalid url: expected a str such as {like}, not {type(url).__name__}")
    scheme, colon, rest = url.partition(":")
    scheme = scheme.lower()
    if not colon or not _SCHEME.fullmatch(scheme) or not _PRINTABLE.fullmatch(rest):
        raise ConfigurationError(f"the store's URL is malformed; it looks like {like}, blanks written as %20", setting)
    rest, _, query = rest.partition("?")
    authority: str | None = None
    if rest.startswith("//"):
        authority, slash, rest = rest[2:].partition("/")
        rest = slash + rest
    return BackendUrl(scheme, url, authority, rest, _options(scheme, query, setting), setting)


def _options(scheme: str, query: str, setting: str) -> Mapping[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        raise ConfigurationError(f"the {scheme} URL has malformed options after the question mark", setting) from None
    options = dict(pairs)
    if len(options) != len(pairs):
        raise ConfigurationError(f"the {scheme} URL has an option twice", setting)
    return MappingProxyType(options)
