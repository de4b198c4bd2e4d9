"""Settings from the environment: ``FLOWPERSIST_…``. What code says wins over them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final, TypeVar

import environ as environ_config

from flowpersist.errors import ConfigurationError
from flowpersist.keys.suspension_key import DEFAULT_PREFIX
from flowpersist.stages.compress import COMPRESSIONS

__all__ = ["PUBLIC_URL", "PUBLIC_URL_TAKES", "Settings", "parse_duration"]

T = TypeVar("T")
#: How long laws on accounts and records ask for who approved what, in most places.
SEVEN_YEARS: Final = timedelta(days=2557)
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZES: Final = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_DURATION: Final = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)([smhd]?)")
_SIZE: Final = re.compile(r"(\d{1,15})\s*([A-Za-z]*)")
_PREFIX: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")
#: A key's text is put behind it as the last part of the path.
PUBLIC_URL: Final = re.compile(r"https?://[^\s/?#]+(/[^\s?#]*)?")
PUBLIC_URL_TAKES: Final = "a URL that begins with https:// or http://, without ? and #"
_SECRET: Final = frozenset({"audit_key", "blobs_url", "keys", "ledger_url", "url"})


def _setting(name: str, default: object, parse: Callable[[str], T | None], expected: str) -> Any:  # noqa: ANN401
    """A variable: its text is parsed, and a text that makes no sense is an error that names it, never repeats it."""
    variable = f"FLOWPERSIST_{name}"

    def convert(value: object) -> object:
        if not isinstance(value, str):
            return value
        parsed = parse(value.strip())
        if parsed is None:
            raise ConfigurationError(f"{variable} makes no sense: it must be {expected}", variable)
        return parsed

    return environ_config.var(default=default, converter=convert, name=variable)


def _text(value: str) -> str | None:
    return value or None


def parse_duration(value: str) -> timedelta | None:
    """A length of time such as ``90s``, ``30m``, ``12h`` or ``7d``; None for another text."""
    found = _DURATION.fullmatch(value)
    if found is None or float(found[1]) <= 0:
        return None
    try:
        return timedelta(seconds=float(found[1]) * _UNITS[found[2]])
    except OverflowError:
        return None


def _kept_for(value: str) -> timedelta | None:
    named = {"0": timedelta(0), "forever": timedelta.max}
    return named[value] if value in named else parse_duration(value)


def _bytes(value: str) -> int | None:
    found = _SIZE.fullmatch(value)
    unit = None if found is None else _SIZES.get(found[2].upper())
    return None if found is None or unit is None else int(found[1]) * unit or None


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None


# The library would put its own reader and help in the place of ours.
@environ_config.config(prefix="", from_environ="_read", generate_help="_help", frozen=True)
class Settings:
    """What the environment says. A variable that is unset has the default that is given here.

    Sizes are bytes or such as ``100MiB``, durations seconds or such as ``90s``, ``30m``, ``12h``, ``7d``.
    """

    url: str | None = _setting("URL", None, _text, "the store's URL, as sqlite:///flows.db")
    blobs_url: str | None = _setting(
        "BLOBS_URL", None, _text, "a blob store's URL, as file:///dir or s3://bucket/prefix"
    )
    blobs_from: int = _setting("BLOBS_FROM", 8 * 2**20, _bytes, "a size such as 8388608 or 8MiB")
    ledger_url: str | None = _setting("LEDGER_URL", None, _text, "the URL of another store, as sqlite:///ledger.db")
    keys: str | None = _setting("KEYS", None, _text, "kid:base64url,… as flowpersist keygen makes it")
    keys_file: str | None = _setting("KEYS_FILE", None, _text, "the path of a file of keys")
    key_prefix: str = _setting(
        "KEY_PREFIX",
        DEFAULT_PREFIX,
        lambda v: v if _PREFIX.fullmatch(v) else None,
        "1 to 32 characters of A-Z a-z 0-9 _ -",
    )
    compression: str = _setting(
        "COMPRESSION", "auto", lambda v: v if v in COMPRESSIONS else None, f"one of {', '.join(COMPRESSIONS)}"
    )
    dictionaries: bool = _setting("DICTIONARIES", False, {"on": True, "off": False}.get, "on or off")
    max_state_bytes: int = _setting("MAX_STATE_BYTES", 100 * 2**20, _bytes, "a size such as 104857600 or 100MiB")
    default_timeout: timedelta | None = _setting(
        "DEFAULT_TIMEOUT", None, parse_duration, "a duration as 90s, 30m or 7d"
    )
    retention: timedelta = _setting("RETENTION", timedelta(days=7), parse_duration, "a duration such as 12h or 7d")
    audit_retention: timedelta = _setting(
        "AUDIT_RETENTION", SEVEN_YEARS, _kept_for, "a duration such as 30d, 0 or forever"
    )
    public_url: str | None = _setting(
        "PUBLIC_URL",
        None,
        lambda v: v if PUBLIC_URL.fullmatch(v) else None,
        PUBLIC_URL_TAKES,
    )
    slow_ms: float = _setting("SLOW_MS", 200.0, _number, "a number of milliseconds")
    audit_key: str | None = _setting("AUDIT_KEY", None, _text, "PRIVATE+KEY+… as flowpersist audit keygen makes it")
    audit_key_file: str | None = _setting("AUDIT_KEY_FILE", None, _text, "the path of a file with that key")
    debug: bool = _setting("DEBUG", False, {"on": True, "1": True, "off": False, "0": False}.get, "on or off")

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read them; ``ConfigurationError`` names the variable that makes no sense, and what it must be."""
        return environ_config.to_config(cls, environ=dict(environ))

    def _items(self) -> list[tuple[str, object]]:
        return [(name, getattr(self, name)) for name in type(self).__annotations__]

    def __repr__(self) -> str:
        # Keys are secret, and URLs may hold passwords: which of them are set says enough.
        shown = (
            f"{name}={'…' if name in _SECRET and value is not None else repr(value)}" for name, value in self._items()
        )
        return f"<Settings {', '.join(shown)}>"
