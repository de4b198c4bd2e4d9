"""``create_database``: sessions on a backend of their own, by its type and a connection string."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AsyncExitStack
from datetime import timedelta
from enum import StrEnum
from typing import Any, Self, Unpack

from flowpersist.backends.store_config import store_url
from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import check_duration, check_optional, check_str
from flowpersist.hub.opening import HubOptions, check_options
from flowpersist.hub.wakeup import hearing
from flowpersist.stores.opening import open_stores
from flowpersist.stores.sessions import SESSIONS, Sessions

__all__ = ["DatabaseType", "SessionDatabase", "create_database"]

#: Where sessions are kept. ``SQL`` is SQLite or PostgreSQL, as the connection string says.
DatabaseType = StrEnum("DatabaseType", "MEMORY SQL SQLITE POSTGRES REDIS MONGODB NEO4J FILE")


class SessionDatabase(Sessions):
    """Sessions on a backend of their own. ``await`` or ``async with`` opens it, once."""

    def __init__(self, url: str, cache: timedelta | None, tenant: str | None, options: HubOptions) -> None:
        self._opening, self._bound = open_stores(url, tenant=tenant, **options), cache
        self._stack: AsyncExitStack | None = None

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            if self._stack is None:
                super().__init__((await stack.enter_async_context(self._opening)).values(SESSIONS, dict))
                if self._bound is not None:
                    of, all_anew = self.records, self.records.keep(self._bound).clear
                    heard = hearing(of.collection.records, begun=all_anew, changed=of.changed, lost=all_anew)
                    await stack.enter_async_context(heard)
                self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the backend. Twice: a no-op."""
        if self._stack is not None:
            await self._stack.aclose()


def create_database(
    type: DatabaseType | str,
    *,
    connection_string: str = "",
    cache: timedelta | None = None,
    tenant: str | None = None,
    **options: Unpack[HubOptions],
) -> SessionDatabase:
    """Sessions on a backend of their own, to be opened by ``await`` and closed by ``close``, or by ``async with``.

    - ``type``: which kind.
    - ``connection_string``: a URL of that kind, or a path for files and SQLite. A server needs one.
    - ``cache``: for so long a record that was read is given again, though another process may have replaced it; where
      the backend sends notifications, until one comes. None: each call reads anew.
    - ``tenant``, ``options``: as ``open_stores`` takes them.

    Raises ``ConfigurationError`` for an unknown type or another one's connection string; opening it ``StorageError``.
    """
    check_str(connection_string, "connection_string")
    check_optional(cache, "cache", check_duration)
    check_options(options)
    if type not in set(DatabaseType):
        raise ConfigurationError(f"Invalid type: expected one of {', '.join(DatabaseType)}", "type")
    sql = "postgres" if connection_string.strip().lower().startswith("postgres") else "sqlite"
    kind = sql if type == DatabaseType.SQL else str(type)
    return SessionDatabase(store_url(kind, connection_string), cache, tenant, options)
