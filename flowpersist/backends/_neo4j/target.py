"""Where a URL points to, and the driver for it."""

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
#: A pooled connection that was idle for so many seconds is tried before it is used.
_IDLE_SECONDS: Final = 15.0
_MARGIN: Final = timedelta(seconds=1)
#: A URL up to the end of its host's part.
_TO_HOST: Final = re.compile(r"[^/?#]*(//[^/?#]*)?")
_SHAPE: Final = "is neo4j://user:password@host:7687/database, with bolt in its place where nothing is to be routed"


@frozen
class Target:
    """A URL in the parts that the driver wants apart. None of them shows in ``repr``."""

    uri: str = field(repr=False)
    user: str | None = field(repr=False)
    password: str = field(repr=False)
    database: str | None = field(repr=False)


@frozen
class ConnectionLimits:
    """Of a pool and of an operation."""

    pool_size: int
    pool: timedelta
    connect: timedelta
    operation: timedelta

    @property
    def grace(self) -> float:
        """Seconds that a statement goes on whose caller was cancelled: longer than connecting takes."""
        return (self.connect + _MARGIN).total_seconds()

    def __attrs_post_init__(self) -> None:
        if type(self.pool_size) is not int or self.pool_size < 1:
            raise ConfigurationError("a pool has at least one connection", "pool_size")
        for name, value in (
            ("pool_timeout", self.pool),
            ("connect_timeout", self.connect),
            ("timeout", self.operation),
        ):
            if not timedelta(0) < value <= timedelta(hours=1):
                raise ConfigurationError(f"{name} is more than no time, and at most an hour", name)


def check_at(url: str) -> None:
    """Refuse an @ after the host's part. What stands before it is most likely the rest of a password with an unescaped
    ``/``, ``?`` or ``#``, and its beginning would be taken for host and port, which errors name.
    """
    if "@" in _TO_HOST.sub("", url, count=1):
        raise ConfigurationError(f"the neo4j URL {_SHAPE}; in user and password / is %2F, ? %3F, # %23", SETTING)


def target_of(url: str) -> Target:
    """The parts of a URL; ``ConfigurationError``, which names none of them, for an invalid one."""
    check_at(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigurationError(f"the neo4j URL {_SHAPE}", SETTING) from None
    database = unquote(parts.path.strip("/"))
    if parts.scheme not in SCHEMES or not parts.hostname or "/" in database or parts.fragment:
        raise ConfigurationError(f"the neo4j URL {_SHAPE}", SETTING)
    # As it stands there: `hostname` is lower case and without the brackets of IPv6.
    host = parts.netloc.rpartition("@")[2] if port is not None else parts.netloc.rpartition("@")[2].rstrip(":")
    return Target(
        uri=urlunsplit((parts.scheme, host, "", parts.query, "")),
        user=None if parts.username is None else unquote(parts.username),
        password=unquote(parts.password or ""),
        database=database or None,
    )


def connected(target: Target, limits: ConnectionLimits) -> AsyncDriver:
    """A driver. It does not connect before it is used."""
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
