"""What this process can't read: remembered with back-off, told once for each reason, and counted.

A record whose key or class this process lacks stays what it is: another process may read it. Here it is tried again
after a while that doubles, so that a thousand of them cost a worker no more than one.
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

__all__ = ["LASTING", "Unread"]

log = logging.getLogger("flowpersist.sealed")
#: How many records are remembered; of more, those that were met longest ago are tried again.
MOST: Final = 10_000
#: Different reasons that are told apart; what is stored decides how many there are.
REASONS: Final = 64
#: Seconds until a record is tried again, at first and at most.
FIRST: Final = 1.0
LONGEST: Final = 300.0
#: Seconds until the same reason is told again.
SILENCE: Final = 3600.0
#: What trying again changes only where somebody has mended something.
LASTING: Final = (SerializationError, IntegrityError, EncryptionError, CompressionError, FlowError, PermissionDenied)
#: The messages of these name what is missing, and no record.
_TELLING: Final = (EncryptionError, UnknownType, UnexpectedType, FlowError)


@frozen
class _Met:
    """A record as it was met: its revision (None: not known), the reason, how often, and until when it is left."""

    revision: int | None
    reason: str
    times: int
    until: float


class Unread:
    """The records that could not be read or may not be claimed here, by scope and key.

    ``scope`` tells apart who asks: None where nobody in this process can read a record, else whatever the refusal
    depends on, as the class that a caller expects.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._met: OrderedDict[tuple[object, str], _Met] = OrderedDict()
        self._told: dict[str, float] = {}

    def meet(self, key: str | None, revision: int | None, error: PersistenceError, *, scope: object = None) -> None:
        """A record can't be read: remember it, and tell the reason unless that was told lately."""
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
        """Whether a record is passed over for now. One that was changed since is not."""
        return any(self._left(one, key, revision) for one in {None, scope})

    def _left(self, scope: object, key: str, revision: int | None) -> bool:
        met = self._met.get((scope, key))
        return met is not None and met.revision == revision and self._monotonic() < met.until

    def clear(self, key: str, *, scope: object = None) -> None:
        """A record was read after all."""
        for one in {None, scope}:
            self._met.pop((one, key), None)

    def forget(self) -> None:
        """Something was mended that may concern all of them, as the keyring."""
        self._met.clear()
        self._told.clear()

    def counts(self) -> Mapping[str, int]:
        """How many records were met lately and are not read yet, by reason."""
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
        record = "of an unreadable key" if key is None else key
        log.log(
            level,
            "record %s is left out here: %s; health counts others of this reason, the log does not",
            record,
            error,
        )
