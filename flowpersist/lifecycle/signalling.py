"""Which signals are set, and what follows when several are set and cleared in one step: pure functions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

from attrs import astuple, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.codec import Codec
from flowpersist.errors import ConfigurationError, MalformedPayload, PersistenceError, StateTooLarge, UnsupportedVersion
from flowpersist.errors.arguments import check_items, check_mapping
from flowpersist.sealed.naming import check_id
from flowpersist.sealed.steps import Step

__all__ = ["Signal", "SignalSet", "applied", "bounded", "checked_keys", "live_signals", "shown"]

VERSION: Final = 1
MOST_SIGNALS: Final = 1000
#: All are written whenever one changes, so that a value is no place for data.
MOST_VALUE_BYTES: Final = 64 * 1024


@frozen
class SetSignal:
    """A signal that is set: its value as the codec encodes it, so that who lacks its class can still set others; and
    when it expires, None for one that is critical.
    """

    value: bytes = field(repr=False)
    set_at: datetime
    expires_at: datetime | None


SignalSet: TypeAlias = Mapping[str, SetSignal]


@frozen
class Signal:
    """A signal that is set. ``expires_at`` is None for one that is ``critical``: it stays until it is cleared."""

    key: str = field(repr=False)
    value: Any = field(repr=False)
    critical: bool
    set_at: datetime
    expires_at: datetime | None


def live_signals(
    content: Any,  # noqa: ANN401 - whatever stands there
    now: datetime,
) -> Result[SignalSet, PersistenceError]:
    """The signals of a record's content that have not expired."""
    if content is None:
        return Success({})
    try:
        version, signals = content
        if version != VERSION:
            return Failure(UnsupportedVersion("the signals were written by a later release; upgrade flowpersist"))
        found = ((key, SetSignal(*fields)) for key, fields in signals.items())
        return Success({key: one for key, one in found if one.expires_at is None or now < one.expires_at})
    except (TypeError, ValueError, AttributeError):
        return Failure(MalformedPayload("the signals can't be read; restore the record from a backup"))


def applied(
    before: SignalSet, now: datetime, values: Mapping[str, bytes], cleared: Collection[str], ttl: timedelta | None
) -> Result[Step[tuple[SignalSet, bool]], PersistenceError]:
    """What is set once these values are set and those keys are cleared, and whether any of those was set.

    ``ttl``: of the new ones; None: they stay until they are cleared. The record goes when the last has expired.
    """
    expires_at = None if ttl is None else now + ttl
    after = {key: one for key, one in before.items() if key not in cleared}
    gone = len(after) < len(before)
    after |= {key: SetSignal(value, now, expires_at) for key, value in values.items()}
    if len(after) > MOST_SIGNALS:
        return Failure(
            StateTooLarge(f"there would be {len(after)} signals, over the limit of {MOST_SIGNALS}; clear some")
        )
    if not gone and not values:
        return Success(Step((after, False)))
    ends = [one.expires_at for one in after.values()]
    last = max((end for end in ends if end is not None), default=now)
    content: Any = [VERSION, {key: list(astuple(one)) for key, one in after.items()}]
    return Success(Step((after, gone), content, None if None in ends else last))


def bounded(value: bytes) -> Result[bytes, PersistenceError]:
    """An encoded value, if it is small enough for a signal."""
    if len(value) <= MOST_VALUE_BYTES:
        return Success(value)
    message = f"the value takes {len(value)} bytes, over the {MOST_VALUE_BYTES} of a signal; keep it in a ValueStore"
    return Failure(StateTooLarge(message))


def shown(key: str, one: SetSignal, codec: Codec) -> Result[Signal, PersistenceError]:
    """A signal with its value."""
    decoded = codec.decode(one.value)
    return decoded.map(lambda value: Signal(key, value, one.expires_at is None, one.set_at, one.expires_at))


def checked_keys(values: Mapping[str, object], clear: Iterable[str]) -> frozenset[str]:
    """The keys to clear, where values are set in the same step."""
    check_mapping(values, "set")
    check_items(clear, "clear", "keys")
    cleared = [*clear]
    for key in (*values, *cleared):
        check_id(key, "key")
    if not values.keys().isdisjoint(cleared):
        raise ConfigurationError("Invalid clear: expected keys that are not set in the same call", "clear")
    return frozenset(cleared)
