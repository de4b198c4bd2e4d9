"""The records that this process can't read: retried with back-off, logged once for each reason, and counted.

A record whose key or class this process lacks is left unchanged: another process may read it. This process tries it
again after a delay that doubles, so that a thousand of them cost a worker no more than one.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from attrs import frozen

from flowpersist.errors import (
    CompressionError,
    EncryptionError,
    FlowError,
    IntegrityError,
    PermissionDenied,
    PersistenceError,
    SerializationError,
    UnexpectedType,
    UnknownType,
)

__all__ = ["LASTING", "UnreadableRecords"]

log = logging.getLogger("flowpersist.sealed")
#: How many records are remembered. Beyond that, those that were met longest ago are forgotten, and so tried again.
MOST: Final = 10_000
#: How many reasons are logged apart, since their number depends on what is stored.
REASONS: Final = 64
#: Seconds until a record is tried again, at first and at most.
FIRST: Final = 1.0
LONGEST: Final = 300.0
#: Seconds until the same reason is logged again.
SILENCE: Final = 3600.0
#: Errors that stay until somebody changes the data, the keys or the code.
LASTING: Final = (SerializationError, IntegrityError, EncryptionError, CompressionError, FlowError, PermissionDenied)
#: The messages of these name what is missing (a key, a class), not the record.
_TELLING: Final = (EncryptionError, UnknownType, UnexpectedType, FlowError)


@frozen
class _Met:
    """One record: its revision (None: not known), the reason, how often it failed, and until when it is skipped."""

    revision: int | None
    reason: str
    times: int
    until: float


class UnreadableRecords:
    """The records that this process can't read or claim, by scope and key.

    ``scope`` is what the failure depends on, such as the class that a caller expects; None where no caller in this
    process can read the record.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._met: OrderedDict[tuple[object, str], _Met] = OrderedDict()
        self._told: dict[str, float] = {}

    def meet(self, key: str | None, revision: int | None, error: PersistenceError, *, scope: object = None) -> None:
        """Remember a record that can't be read, and log the reason unless it was logged lately."""
        reason = self._reason(error)
        self._tell(reason, key, error)
        if key is None:
            return
        if self._left(scope, key, revision):
            return
        before = self._met.pop((scope, key), None)
        times = 1 if before is None or before.revision != revision else before.times + 1
        until = self._monotonic() + min(LONGEST, FIRST * 2.0 ** min(times - 1, 32))
        self._met[scope, key] = _Met(revision, reason, times, until)
        if len(self._met) > MOST:
            self._met.popitem(last=False)

    def passes(self, key: str, revision: int | None, *, scope: object = None) -> bool:
        """Whether to skip a record for now. One that has changed since it failed is not skipped."""
        return any(self._left(one, key, revision) for one in {None, scope})

    def _left(self, scope: object, key: str, revision: int | None) -> bool:
        met = self._met.get((scope, key))
        return met is not None and met.revision == revision and self._monotonic() < met.until

    def clear(self, key: str, *, scope: object = None) -> None:
        """Forget a record, since it could be read."""
        for one in {None, scope}:
            self._met.pop((one, key), None)

    def forget(self) -> None:
        """Forget all of them, since a change such as a new keyring may have made them readable."""
        self._met.clear()
        self._told.clear()

    def counts(self) -> Mapping[str, int]:
        """How many records failed lately and are still unread, by reason."""
        since = self._monotonic() - SILENCE
        return Counter(met.reason for met in self._met.values() if met.until > since)

    def _reason(self, error: PersistenceError) -> str:
        kind = type(error).__name__
        reason = f"{kind}: {error.message}" if isinstance(error, _TELLING) else kind
        return reason if reason in self._told or len(self._told) < REASONS else kind

    def _tell(self, reason: str, key: str | None, error: PersistenceError) -> None:
        now, told = self._monotonic(), self._told.get(reason)
        if told is not None and now < told + SILENCE:
            return
        self._told[reason] = now
        level = logging.ERROR if isinstance(error, IntegrityError) else logging.WARNING
        record = "with an unreadable key" if key is None else key
        log.log(
            level,
            "record %s is left out: %s; Maintenance.health counts further ones, they are not logged",
            record,
            error,
        )
