"""Observations: what agents note, appended in the order of the store's clock, and kept for so many days."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from attrs import field, frozen

from flowpersist.backends.base import Order, Range, Where
from flowpersist.errors.arguments import check_instance, check_moment, check_whole
from flowpersist.errors.secrecy import discreet
from flowpersist.hub.outcome import or_raise
from flowpersist.sealed.collection import Stored
from flowpersist.sealed.listing import Asked, walked
from flowpersist.sealed.naming import Parts, Prefix, parts_of
from flowpersist.sealed.numbered import NumberedLog, trimming
from flowpersist.sealed.upkeep import count_live, register
from flowpersist.stores.values import ValueStore

__all__ = ["Observation", "Observations"]

OBSERVATIONS: Final = "observations"
TRIMMED_EVERY: Final = 100
PAGE: Final = 1000
register(OBSERVATIONS, trimming(OBSERVATIONS))


@frozen
class Observation:
    """What an agent noted, and when, by the store's clock."""

    id: str
    agent_id: str = field(repr=False)
    content: Any = field(repr=False)
    at: datetime


class Observations:
    """The observations of all agents: ``Stores.observations``.

    - ``values``: where they are kept.
    - ``days``: how long each is kept.
    - ``max_entries``: how many of each agent are kept, at every 100th of the agent and after ``Stores.cleanup``.

    Verbs raise ``StorageError``, and where a record can't be opened ``IntegrityError``, ``EncryptionError`` or
    ``SerializationError``.
    """

    def __init__(self, values: ValueStore[Any], *, days: int = 7, max_entries: int = 10_000) -> None:
        check_instance(values, "values", ValueStore, "a ValueStore")
        check_whole(days, "days", most=365_000)
        check_whole(max_entries, "max_entries")
        self._values = values
        self._log = NumberedLog(values.collection, TRIMMED_EVERY)
        self._kept_for, self._keep = timedelta(days=days), max_entries

    def keeping(self, *, days: int = 7, max_entries: int = 10_000) -> Observations:
        """The same observations, for whoever adds with another retention. It holds for what is added by it.

        - ``days``: how long each is kept.
        - ``max_entries``: how many of each agent are kept, as the newest of them says.
        """
        return Observations(self._values, days=days, max_entries=max_entries)

    @discreet
    async def add(self, agent_id: str, content: object) -> str:
        """Append an observation; gives its id. Two round trips, and more where others add for the same agent.

        - ``agent_id``: who noted it: any text.
        - ``content``: any value that the codec takes.

        Raises ``SerializationError`` where the content can't be kept. One that was cancelled may have been added.
        """
        check_instance(agent_id, "agent_id", str, "a str")
        return or_raise(await self._log.append(_of(agent_id), content, keep=self._keep, ttl=self._kept_for)).name

    @discreet
    async def recent(self, agent_id: str | None = None, n: int = 50) -> tuple[Observation, ...]:
        """The newest observations, the newest first. One round trip; a second one where they take over 16 MiB.

        - ``agent_id``: of one agent; None: of all.
        - ``n``: how many at most, up to 10,000.
        """
        check_whole(n, "n", most=10_000)
        order: Order = "created" if agent_id is None else "key"
        wanted = Asked(Prefix(_of(agent_id)), {}, order, n, None, descending=True, values=True, skip=False)
        return tuple(map(_observation, or_raise(await walked(self._values.collection, wanted, n))))

    @discreet
    async def between(self, start: datetime, end: datetime) -> tuple[Observation, ...]:
        """The observations of all agents from one moment on and before another, the oldest first.

        - ``start``: the first moment.
        - ``end``: the moment after the last one.
        """
        check_moment(start, "start")
        check_moment(end, "end")
        if end <= start:
            return ()
        within = Range("created", start.astimezone(UTC), end.astimezone(UTC))
        wanted = Asked(Prefix(), {}, "created", PAGE, None, descending=False, values=True, skip=False, within=within)
        return tuple(map(_observation, or_raise(await walked(self._values.collection, wanted))))

    @discreet
    async def count(self, agent_id: str | None = None) -> int:
        """How many observations there are. It reads the heads of all of them.

        - ``agent_id``: of one agent; None: of all.
        """
        prefix, records = Prefix(_of(agent_id)), self._values.collection.records
        naming = or_raise(await self._values.collection.naming())
        where = Where() if naming is None else Where(range=naming.span(prefix).range)
        return or_raise(await count_live(records, where))[0]


def _of(agent_id: str | None) -> Parts:
    check_instance(agent_id, "agent_id", (str, type(None)), "a str")
    return () if agent_id is None else parts_of(agent_id, "agent_id")


def _observation(stored: Stored) -> Observation:
    record = stored.record
    return Observation(record.ref.key, str(stored.parts[0]), stored.value, record.created_at)
