"""How often a write was given to a connection, and until when it may be.

Between the call of a driver's method and the moment when its command is on the wire there may lie seconds: a server is
selected, a connection waited for or made, and after a failure all of that is done again. The driver encodes a command
once it has the connection for it, each time that it sends it, and so what is encoded then sees that moment: a record's
token is a ``Sending``, which refuses where the deadline has passed, and counts how often it went out.

The limits that the driver has itself (``pymongo.timeout``) also end the wait for the reply: near a deadline they would
make an unknown outcome of a write that was done in time, and they can't call back what is on the wire either.
"""

from __future__ import annotations

import os
import time
from datetime import datetime
from typing import Final

from attrs import define, field
from bson.codec_options import TypeEncoder, TypeRegistry

from flowpersist.backends._mongodb.clock import DRIFT

__all__ = ["REGISTRY", "Sending", "TooLate"]


class TooLate(Exception):
    """The deadline passed before the command could be sent."""


@define(eq=False)
class Sending:
    """The token of one put, as it is sent."""

    token: bytes = field(factory=lambda: os.urandom(8))
    #: How often it went out; one that went out may have been done.
    times: int = 0
    _latest: float | None = None

    def expect(self, now: datetime, not_after: datetime | None) -> None:
        """From ``now`` on by the store's clock, until ``not_after``."""
        left = None if not_after is None else (not_after - now).total_seconds()
        # Measured by this machine's clock, which may go slower.
        self._latest = None if left is None else time.monotonic() + left * (1 - DRIFT / 1e6)

    def stamp(self) -> bytes:
        """The token, for a command that goes out now."""
        if self._latest is not None and time.monotonic() > self._latest:
            raise TooLate
        self.times += 1
        return self.token


class _Stamper(TypeEncoder):
    @property
    def python_type(self) -> type[Sending]:
        return Sending

    def transform_python(self, value: Sending) -> bytes:
        return value.stamp()


REGISTRY: Final = TypeRegistry([_Stamper()])
