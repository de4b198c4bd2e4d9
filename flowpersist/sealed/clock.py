"""The store's clock as this process knows it: what the last reply said, and how long ago that was."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from attrs import frozen

__all__ = ["Reading"]

#: How far two clocks may drift apart between two readings.
TOLERANCE: Final = timedelta(milliseconds=50)
#: By how much what is reckoned may be too early, which is as long as the reply took.
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
        """Whether to reckon by it: not where the reply took long, on its way or waiting for a busy event loop."""
        return timedelta(seconds=self.received - self.sent) <= DOUBT

    def reckoned(self, at: float) -> datetime:
        """The store's present when this process's clock says ``at``; it is later by no more than the reply took."""
        return self.now + timedelta(seconds=at - self.received)

    def fits(self, later: Reading) -> bool:
        """Whether both can be of one clock that nobody has moved in between."""
        latest = self.now + timedelta(seconds=later.received - self.sent)
        return self.reckoned(later.sent) - TOLERANCE <= later.now <= latest + TOLERANCE
