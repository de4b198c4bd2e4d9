"""How many connections of a client are in use, by the events that the driver tells of its pools."""

from __future__ import annotations

from typing import Final

from pymongo import monitoring

from flowpersist.backends.base import PoolUse

__all__ = ["PoolWatch"]

#: The driver's own limit, which its events leave out.
_DEFAULT: Final = 100


class PoolWatch(monitoring.ConnectionPoolListener):
    """Counts what one client checks out of its pools, and who waits for that."""

    def __init__(self) -> None:
        self._used = self._waiting = 0
        self._size = _DEFAULT

    def use(self) -> PoolUse:
        """How many connections are in use."""
        return PoolUse(self._used, self._size, self._waiting)

    def pool_created(self, event: monitoring.PoolCreatedEvent) -> None:
        """See ``ConnectionPoolListener``."""
        self._size = event.options.get("maxPoolSize") or _DEFAULT

    def connection_check_out_started(self, event: monitoring.ConnectionCheckOutStartedEvent) -> None:  # noqa: ARG002
        """See ``ConnectionPoolListener``."""
        self._waiting += 1

    def connection_check_out_failed(self, event: monitoring.ConnectionCheckOutFailedEvent) -> None:  # noqa: ARG002
        """See ``ConnectionPoolListener``."""
        self._waiting -= 1

    def connection_checked_out(self, event: monitoring.ConnectionCheckedOutEvent) -> None:  # noqa: ARG002
        """See ``ConnectionPoolListener``."""
        self._waiting -= 1
        self._used += 1

    def connection_checked_in(self, event: monitoring.ConnectionCheckedInEvent) -> None:  # noqa: ARG002
        """See ``ConnectionPoolListener``."""
        self._used -= 1

    def pool_ready(self, event: monitoring.PoolReadyEvent) -> None:
        """See ``ConnectionPoolListener``."""

    def pool_cleared(self, event: monitoring.PoolClearedEvent) -> None:
        """See ``ConnectionPoolListener``."""

    def pool_closed(self, event: monitoring.PoolClosedEvent) -> None:
        """See ``ConnectionPoolListener``."""

    def connection_created(self, event: monitoring.ConnectionCreatedEvent) -> None:
        """See ``ConnectionPoolListener``."""

    def connection_ready(self, event: monitoring.ConnectionReadyEvent) -> None:
        """See ``ConnectionPoolListener``."""

    def connection_closed(self, event: monitoring.ConnectionClosedEvent) -> None:
        """See ``ConnectionPoolListener``."""
