"""The address in a URL, and a driver for it."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from attrs import field, frozen
from neo4j import AsyncDriver, AsyncGraphDatabase, NotificationMinimumSeverity, basic_auth
from neo4j.exceptions import DriverError

from flowpersist.backends._neo4j.errors import translated
from flowpersist.backends._url import SETTING
from flowpersist.errors import ConfigurationError

__all__ = ["SCHEMES", "ConnectionLimits", "Target", "check_at", "connected", "target_of"]

SCHEMES: Final = ("neo4j", "neo4j+s", "neo4j+ssc", "bolt", "bolt+s", "bolt+ssc")
#: A pooled connection that was idle for this many seconds is tested before it is used.
_IDLE_SECONDS: Final = 15.0
_MARGIN: Final = timedelta(seconds=1)
#: A URL up to the end of its host part.
_TO_HOST: Final = re.compile(r"[^/?#]*(//[^/?#]*)?")
_SHAPE: Final = "must have the form neo4j://user:password@host:7687/database (or bolt://… without routing)"


@frozen
class Target:
    """A URL in the parts that the driver takes separately. ``repr`` shows none of them."""

    uri: str = field(repr=False)
    user: str | None = field(repr=False)
    password: str = field(repr=False)
    database: str | None = field(repr=False)


@frozen
class ConnectionLimits:
    """The limits of the connection pool and of an operation."""

    pool_size: int
    pool: timedelta
    connect: timedelta
    operation: timedelta

    @property
    def grace(self) -> float:
        """Seconds that a statement goes on after its caller was cancelled: longer than connecting takes."""
        return (self.connect + _MARGIN).total_seconds()

    def __attrs_post_init__(self) -> None:
        if type(self.pool_size) is not int or self.pool_size < 1:
            raise ConfigurationError("Invalid pool_size: expected at least 1", "pool_size")
        for name, value in (
            ("pool_timeout", self.pool),
            ("connect_timeout", self.connect),
            ("timeout", self.operation),
        ):
            if not timedelta(0) < value <= timedelta(hours=1):
                raise ConfigurationError(f"Invalid {name}: expected more than 0 and at most 3600 seconds", name)


def check_at(url: str) -> None:
    """Refuse an @ after the host part. The text before it is probably the rest of a password with an unescaped ``/``,
    ``?`` or ``#``, whose beginning would be read as host and port, which errors name.
    """
    if "@" in _TO_HOST.sub("", url, count=1):
        raise ConfigurationError(
            f"the neo4j URL {_SHAPE}; escape / as %2F, ? as %3F and # as %23 in user and password", SETTING
        )


def target_of(url: str) -> Target:
    """Parse a URL; an invalid one is a ``ConfigurationError`` that quotes none of its parts."""
    check_at(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigurationError(f"the neo4j URL {_SHAPE}", SETTING) from None
    database = unquote(parts.path.strip("/"))
    if parts.scheme not in SCHEMES or not parts.hostname or "/" in database or parts.fragment:
        raise ConfigurationError(f"the neo4j URL {_SHAPE}", SETTING)
    # As written in the URL: `hostname` is lower case and lacks the brackets of IPv6.
    host = parts.netloc.rpartition("@")[2] if port is not None else parts.netloc.rpartition("@")[2].rstrip(":")
    return Target(
        uri=urlunsplit((parts.scheme, host, "", parts.query, "")),
        user=None if parts.username is None else unquote(parts.username),
        password=unquote(parts.password or ""),
        database=database or None,
    )


def connected(target: Target, limits: ConnectionLimits) -> AsyncDriver:
    """Make a driver. It connects when it is first used."""
    try:
        return AsyncGraphDatabase.driver(
            target.uri,
            auth=None if target.user is None else basic_auth(target.user, target.password),
            max_connection_pool_size=limits.pool_size,
            connection_acquisition_timeout=limits.pool.total_seconds(),
            connection_timeout=limits.connect.total_seconds(),
            liveness_check_timeout=_IDLE_SECONDS,
            notifications_min_severity=NotificationMinimumSeverity.OFF,
            telemetry_disabled=True,
        )
    except DriverError as error:
        raise translated(error, writes=False) from error
