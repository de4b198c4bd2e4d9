"""An estimate of the store's clock: by the time in its last reply, and the time since then."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from attrs import frozen

__all__ = ["Reading"]

#: How far two clocks may drift apart between two readings.
TOLERANCE: Final = timedelta(milliseconds=50)
#: The estimate may be too early by as long as the reply took, which may be at most this.
DOUBT: Final = timedelta(milliseconds=500)


@frozen
class Reading:
    """What a reply said of the store's clock; ``sent`` and ``received``, in seconds of this process's monotonic clock,
    are before and after it was asked.
    """

    now: datetime
    sent: float
    received: float

    @property
    def sharp(self) -> bool:
        """Whether it is precise enough for an estimate: the reply came soon, and a busy event loop did not delay it."""
        return timedelta(seconds=self.received - self.sent) <= DOUBT

    def reckoned(self, at: float) -> datetime:
        """The estimate for the moment ``at`` of this process's clock; it is early by at most the time of the reply."""
        return self.now + timedelta(seconds=at - self.received)

    def fits(self, later: Reading) -> bool:
        """Whether both fit one clock that was not moved in between."""
        latest = self.now + timedelta(seconds=later.received - self.sent)
        return self.reckoned(later.sent) - TOLERANCE <= later.now <= latest + TOLERANCE
