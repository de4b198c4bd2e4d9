"""How often a write was sent, and the deadline for sending it.

Seconds may pass between calling a driver's method and sending the command: the driver selects a server, waits for or
opens a connection, and repeats all of that after a failover. The driver encodes a command once it has the connection,
each time that it sends it, so an object that is encoded then runs at that moment: a record's token is a ``Sending``,
which refuses if the deadline has passed, and counts its transmissions.

The driver's own limits (``pymongo.timeout``) also end the wait for the reply: near a deadline they would turn a write
that succeeded in time into an unknown outcome, and they cannot recall a command that was sent either.
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
    """The deadline passed before the command was sent."""


@define(eq=False)
class Sending:
    """The token of one put, as it is sent."""

    token: bytes = field(factory=lambda: os.urandom(8))
    #: The number of transmissions; after one, the write may have been made.
    times: int = 0
    _latest: float | None = None

    def expect(self, now: datetime, not_after: datetime | None) -> None:
        """Count from ``now`` by the store's clock until ``not_after``."""
        left = None if not_after is None else (not_after - now).total_seconds()
        # Measured by this machine's clock, which may run slower.
        self._latest = None if left is None else time.monotonic() + left * (1 - DRIFT / 1e6)

    def stamp(self) -> bytes:
        """Encode the token for a command that is sent now."""
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
