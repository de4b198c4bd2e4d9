"""A server's version, its clock, and the settings that may lose data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from attrs import frozen
from redis.exceptions import ResponseError

from flowpersist.backends._redis.errors import NAME, mapped
from flowpersist.backends._redis.layout import server_time
from flowpersist.backends._redis.wire import Wire, raised
from flowpersist.errors import BackendUnavailable

__all__ = ["Server", "ask"]

#: From this version on scripts replicate their effects, and UNLINK, BYLEX and ACLs exist.
OLDEST: Final = (6, 2)
_UNKNOWN: Final = "unknown"


@frozen
class Server:
    """A server's clock, and the settings that it let us read."""

    now: datetime
    settings: Mapping[str, str]

    @property
    def durable(self) -> bool:
        """Whether each acknowledged write is on the disk: the append-only file is flushed for each write."""
        return self._setting("aof_enabled") == "1" and self._setting("appendfsync") == "always"

    def check_version(self) -> None:
        """Refuse a server that is too old. A server that hides its version is accepted."""
        version = self._setting("redis_version")
        numbers = re.match(r"(\d+)\.(\d+)", version)
        if numbers and (int(numbers[1]), int(numbers[2])) < OLDEST:
            message = f"the {NAME} server has version {version}; upgrade it to {OLDEST[0]}.{OLDEST[1]} or later"
            raise BackendUnavailable(message, NAME)

    def check_role(self) -> None:
        """Refuse a replica, since its data may be out of date."""
        if self._setting("role") in {"slave", "replica"}:
            raise BackendUnavailable(f"the {NAME} server is a replica; use the primary's address in the URL", NAME)

    def warnings(self) -> tuple[str, ...]:
        """Warnings for the operator."""
        return tuple(text for text in (self._eviction(), self._log(), self._room()) if text)

    def _setting(self, name: str) -> str:
        return self.settings.get(name, _UNKNOWN)

    def _eviction(self) -> str | None:
        policy = self._setting("maxmemory_policy")
        if policy in {"noeviction", _UNKNOWN}:
            return None
        return f"maxmemory-policy={policy}: a full server evicts records; set it to noeviction"

    def _log(self) -> str | None:
        if self._setting("aof_enabled") == "0":
            return "appendonly=no: a crash or restart loses acknowledged writes"
        flush = self._setting("appendfsync")
        if flush == "always" or self._setting("aof_enabled") == _UNKNOWN:
            return None
        if flush == _UNKNOWN:
            return "appendfsync can't be read: unless it is always, a power failure loses acknowledged writes"
        return f"appendfsync={flush}: a power failure loses acknowledged writes"

    def _room(self) -> str | None:
        used, most = self._setting("used_memory"), self._setting("maxmemory")
        if not used.isdigit() or not most.isdigit() or int(most) == 0 or int(used) < 0.9 * int(most):
            return None
        return "the server uses over 90 % of its maxmemory; when it is full, every put fails"


async def ask(wire: Wire, key: bytes, offset: timedelta) -> Server:
    """Ask in one round trip. Settings that the user may not read are left out."""
    with mapped():
        time, info, flush = await wire.exchange(
            key, [("TIME",), ("INFO",), ("CONFIG", "GET", "appendfsync")], writing=False
        )
        now = server_time(raised(time), offset)
    return Server(now, {**_info(info), **_config(flush)})


def _info(reply: Any) -> dict[str, str]:  # noqa: ANN401 - bytes, or the error that the command gave
    if isinstance(reply, ResponseError):
        return {}
    lines = (line.partition(":") for line in reply.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _config(reply: Any) -> dict[str, str]:  # noqa: ANN401 - as above
    if isinstance(reply, ResponseError) or not reply:
        return {}
    return {"appendfsync": reply[1].decode()}
