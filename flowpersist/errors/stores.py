"""What a verb of a store is refused with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

from flowpersist.errors.base import PersistenceError

__all__ = ["LockBusy"]


class LockBusy(PersistenceError):
    """Another agent holds the lock, or waits for it in front: ``holder`` is its id, and ``retry_at`` when its lease or
    place ends unless it is renewed. Neither the message nor the problem document holds the id.
    """

    code = "lock-busy"
    http_status = 423

    def __init__(self, message: str, retry_at: datetime | None = None, holder: str | None = None) -> None:
        # The id is no argument of the exception, since repr shows these. It pickles as an attribute.
        super().__init__(message, retry_at)
        self.retry_at = retry_at
        self.holder = holder

    def _members(self) -> dict[str, object]:
        return {"retryAt": None if self.retry_at is None else self.retry_at.isoformat()}
