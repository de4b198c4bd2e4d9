"""The verbs that only read."""

from __future__ import annotations

from collections.abc import Mapping

from returns.result import Failure, Success

from flowpersist.backends.base import Page, check_text
from flowpersist.errors import IntegrityError, KeyDestroyed, PersistenceError, StillWaiting, SuspensionNotFound
from flowpersist.errors.arguments import (
    check_instance,
    check_optional,
    check_str,
    check_whole,
)
from flowpersist.errors.secrecy import discreet
from flowpersist.hub.base import HubBase
from flowpersist.hub.listing import query
from flowpersist.hub.outcome import Outcome, as_outcome
from flowpersist.hub.shredding import shredded_history
from flowpersist.hub.transactions import KeyLike, Snapshot
from flowpersist.inputs.people import By, subject_of
from flowpersist.keys.suspension_key import SuspensionId, SuspensionKey
from flowpersist.lifecycle.criteria import Criteria, check_criteria
from flowpersist.lifecycle.decisions import Decision
from flowpersist.lifecycle.history import AuditEntry, entries_of
from flowpersist.lifecycle.model import Head, Status
from flowpersist.lifecycle.refusals import closed_error
from flowpersist.lifecycle.views import Suspension, suspension_of

__all__ = ["ReadingVerbs"]


class ReadingVerbs(HubBase):
    """``inspect``, ``history``, ``keys``, ``outcome``, ``failure`` and ``query``."""

    @discreet
    async def inspect(self, key: KeyLike, *, by: By | None = None) -> Outcome[Suspension]:
        """The suspension as of now. Nothing is written, and the state is not read.

        - ``key``: the key, its text, or the suspension's id.
        - ``by``: who is acting, for the authorizer and the events.
        """
        return as_outcome(
            (await self.suspensions.look("inspect", key, by=by)).map(lambda seen: suspension_of(seen.head))
        )

    @discreet
    async def history(self, key: KeyLike, *, by: By | None = None) -> Outcome[tuple[AuditEntry, ...]]:
        """The suspension's audit trail: an entry for each change, the first one first, all of them verified.

        ``IntegrityError`` where entries are missing, and ``TamperedEnvelope`` where one was altered, added or moved. A
        keyring for control alone is enough. It outlives the suspension by the ``audit_retention`` of the hub that has
        deleted it, for its keys and its id; a hub with an authorizer gives it for none.

        - ``key``: the key, its text, or the suspension's id.
        - ``by``: who is acting, for the authorizer and the events.
        """
        seen = await self.suspensions.look("history", key, by=by)
        found = seen.map(lambda one: one.record.head)
        if not isinstance(seen, Success):
            found = await self.suspensions.purged(key, seen.failure())
        if not isinstance(found, Success):
            return await self._shredded_history(key, found.failure())
        head = found.unwrap()
        links = await self.suspensions.side_records.trail.verified(head)
        if isinstance(links, Failure) and isinstance(links.failure(), IntegrityError):
            # The suspension may have been removed since, and its entries before it.
            again = await self.suspensions.look("history", key, by=by)
            if isinstance(seen, Success) and isinstance(again, Failure):
                return Failure(again.failure())
        return as_outcome(links.bind(lambda verified: entries_of(head, verified)))

    async def _shredded_history(self, key: KeyLike, error: PersistenceError) -> Outcome[tuple[AuditEntry, ...]]:
        """What was kept of the trail of a shredded suspension, for in-process callers whom no authorizer judges."""
        # Its rows may have been deleted since.
        gone = isinstance(error, KeyDestroyed | SuspensionNotFound)
        if not gone or not isinstance(key, SuspensionId) or not self.suspensions.open_to_all:
            return Failure(error)
        found = await shredded_history(self, key, None)
        if not isinstance(found, Success):
            return Failure(found.failure())
        entries = found.unwrap()
        return Failure(error) if entries is None else Success(entries)

    @discreet
    async def keys(self, id: SuspensionId, *, by: By | None = None) -> Outcome[Mapping[str, SuspensionKey]]:
        """The keys of a suspension's open waits, by name, to send them again or after a worker has paused it.

        It takes the id alone, so that the holder of one key does not get the others. Code of this process can open the
        sealed head, for which the control subkey is enough.

        - ``id``: the suspension's id.
        - ``by``: who is acting, for the authorizer and the events.
        """
        check_instance(id, "id", SuspensionId, "a SuspensionId")
        seen = await self.suspensions.look("keys", id, by=by)
        return as_outcome(seen.map(lambda found: self._new(found.head).keys))

    @discreet
    async def outcome(self, key: KeyLike, *, by: By | None = None) -> Outcome[object]:
        """What ``complete`` stored, None where that was nothing; ``StillWaiting`` before it.

        - ``key``: the key, its text, or the suspension's id.
        - ``by``: who is acting, for the authorizer and the events.
        """

        async def decide(seen: Snapshot) -> Decision[object]:
            if seen.head.status is not Status.COMPLETED or seen.head.taken is not None:
                return Decision(seen.head, Failure(_no_outcome(seen.head)))
            if not seen.record.has_body:
                return Decision(seen.head, Success(None))
            return Decision(seen.head, await self.suspensions.records.open_body(seen.record, purpose="outcome"))

        return as_outcome(await self.suspensions.transact("outcome", key, decide, by=by, body=True))

    @discreet
    async def failure(self, key: KeyLike, *, by: By | None = None) -> Outcome[object]:
        """Why a run has failed: the ``why`` of ``fail``, None without one. Else as ``outcome``.

        - ``key``: the key, its text, or the suspension's id.
        - ``by``: who is acting, for the authorizer and the events.
        """

        async def decide(seen: Snapshot) -> Decision[object]:
            if seen.head.status is not Status.FAILED:
                return Decision(seen.head, Failure(_no_outcome(seen.head)))
            if not seen.head.explained:
                return Decision(seen.head, Success(None))
            return Decision(seen.head, await self.suspensions.records.open_body(seen.record, purpose="outcome"))

        return as_outcome(await self.suspensions.transact("failure", key, decide, by=by, body=True))

    @discreet
    async def query(
        self,
        criteria: Criteria = Criteria(),  # noqa: B008 - frozen
        *,
        limit: int = 100,
        after: str | None = None,
        by: By | None = None,
    ) -> Outcome[Page[Suspension]]:
        """A page of suspensions, the oldest first.

        The page may have fewer items than ``limit`` and a ``next`` all the same. What the authorizer refuses is left
        out. ``unreadable`` names the records that cannot be read; it is empty where an authorizer is set.

        - ``criteria``: which suspensions.
        - ``limit``: how many at most.
        - ``after``: the ``next`` of the page before.
        - ``by``: who is acting, for the authorizer and the events.
        """
        check_criteria(criteria)
        check_whole(limit, "limit")
        check_optional(after, "after", check_str)
        check_optional(subject_of(by), "by", check_text)
        return as_outcome(await query(self.suspensions, criteria, limit=limit, after=after, by=by))


def _no_outcome(head: Head) -> PersistenceError:
    if head.status.closed:
        return closed_error(head, None)
    return StillWaiting(f"run {head.id} is {head.status}: it has no outcome yet", suspension_of(head))
