"""``Signals``: what agents tell each other by keys. All are one record, so that several change in one step."""

from __future__ import annotations

from collections.abc import AsyncIterator, Container, Iterable, Mapping
from contextlib import aclosing
from datetime import timedelta
from functools import partial
from typing import Final

from flowpersist.errors.arguments import check_duration, check_flag, check_instance, check_pause
from flowpersist.errors.secrecy import discreet, forgetting
from flowpersist.hub.outcome import or_raise
from flowpersist.hub.wakeup import Bell
from flowpersist.lifecycle.signalling import Signal, SignalSet, applied, bounded, checked_keys, live_signals, shown
from flowpersist.sealed.encoding import encoded
from flowpersist.sealed.naming import check_id
from flowpersist.sealed.steps import Steps
from flowpersist.stores.values import ValueStore

__all__ = ["SIGNALS", "Signals"]

SIGNALS: Final = "signals"
DAY: Final = timedelta(hours=24)
POLL: Final = timedelta(milliseconds=250)
MOST_TTL: Final = timedelta(days=3650)
_ALL: Final = ("all",)


class Signals:
    """The signals of a collection. ``Stores.signals`` makes it.

    A key is 1 to 4096 bytes of UTF-8 without NUL, a value what the hub's codec takes, at most 64 KiB of it; at most
    1,000 signals are set. Verbs raise what those of ``ValueStore`` do.

    - ``values``: the collection.
    - ``poll``: how often who waits or watches looks; ten times as long where the backend tells of changes.
    """

    def __init__(self, values: ValueStore[list[object]], *, poll: timedelta = POLL) -> None:
        check_instance(values, "values", ValueStore, "a ValueStore of list")
        check_duration(poll, "poll")
        self._collection = values.collection
        self._steps = Steps(values.collection, live_signals)
        self._look = partial(self._steps.look, _ALL)
        bell = Bell(lambda: values.collection.records)
        self._looks = partial(bell.looks, None, self._look, lambda _: poll)

    @discreet
    async def set(self, key: str, value: object, *, critical: bool = False, ttl: timedelta = DAY) -> Signal:
        """Set a signal, in the place of an earlier one.

        - ``key``: which.
        - ``value``: what it says.
        - ``critical``: it stays until it is cleared.
        - ``ttl``: how long one is set that is not critical, by the store's clock.

        Raises ``SerializationError`` where the value can't be kept.
        """
        check_id(key, "key")
        return (await self.apply({key: value}, critical=critical, ttl=ttl))[key]

    @discreet
    async def clear(self, key: str) -> bool:
        """Clear a signal, also a critical one; False where it is not set.

        - ``key``: which.
        """
        check_id(key, "key")
        return or_raise(await self._steps.step(_ALL, lambda before, now: applied(before, now, {}, {key}, None)))[1]

    @discreet
    async def apply(
        self, set: Mapping[str, object], clear: Iterable[str] = (), *, critical: bool = False, ttl: timedelta = DAY
    ) -> dict[str, Signal]:
        """Set and clear several signals in one step, all or none; gives those that it has set.

        - ``set``: values by key.
        - ``clear``: keys. One that is not set is passed over.
        - ``critical``, ``ttl``: of those that it sets, as ``set`` takes them.

        Raises ``ConfigurationError`` for a key in both, and ``SerializationError``.
        """
        keys = checked_keys(set, clear)
        check_flag(critical, "critical")
        check_duration(ttl, "ttl", most=MOST_TTL)
        codec, lasting = self._collection.records.sealer.codec, None if critical else ttl
        values = {key: or_raise(await encoded(codec, value, bounded)) for key, value in set.items()}
        step = self._steps.step(_ALL, lambda before, now: applied(before, now, values, keys, lasting))
        after, _ = or_raise(await step)
        return self._shown(after, values)

    @discreet
    async def get(self, key: str) -> Signal | None:
        """A signal; None where it is not set, or has expired.

        - ``key``: which.
        """
        check_id(key, "key")
        return self._shown(or_raise(await self._look()), (key,)).get(key)

    @discreet
    async def all(self) -> dict[str, Signal]:
        """The signals that are set, by key."""
        return self._shown(or_raise(await self._look()))

    async def watch(self) -> AsyncIterator[dict[str, Signal]]:
        """The signals that are set, and again when one is set or cleared or has expired. Of several quick changes
        the last state is told.
        """
        told: SignalSet | None = None
        with forgetting():
            async with aclosing(self._looks(timedelta.max)) as looks:
                async for found in looks:
                    if found != told:
                        told = found
                        yield self._shown(found)

    @discreet
    async def wait_for(self, key: str, *, timeout: timedelta) -> Signal | None:
        """Wait until a signal is set, and give it; None where it is not set in time.

        - ``key``: which.
        - ``timeout``: how long to wait at most.
        """
        check_id(key, "key")
        check_pause(timeout, "timeout")
        async with aclosing(self._looks(timeout)) as looks:
            async for found in looks:
                if key in found:
                    return self._shown(found, (key,))[key]
        return None

    def _shown(self, found: SignalSet, keys: Container[str] | None = None) -> dict[str, Signal]:
        codec = self._collection.records.sealer.codec
        meant = {key: one for key, one in found.items() if keys is None or key in keys}
        return {key: or_raise(shown(key, one, codec)) for key, one in meant.items()}
