"""``Approvals``: standing approvals, which people grant and revoke, and the calls that were made under them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from returns.result import Failure

from flowpersist.backends.base import check_text
from flowpersist.errors import ClaimsHalted, ConfigurationError, PermissionDenied, ValueNotFound
from flowpersist.errors.arguments import check_duration, check_instance, check_moment, check_optional, check_whole
from flowpersist.errors.secrecy import discreet, forgetting
from flowpersist.hub.outcome import or_raise
from flowpersist.hub.raising import RaisingHub
from flowpersist.hub.verbs import PersistenceHub
from flowpersist.inputs.people import By, Principal, subject_of
from flowpersist.sealed.naming import Parts
from flowpersist.sealed.steps import Steps
from flowpersist.stores import Stores
from flowpersist.tools import standing_rules as rules
from flowpersist.tools.calls import Call
from flowpersist.tools.patterns import Pattern
from flowpersist.tools.standing_rules import PolicyUse, StandingApproval

__all__ = ["Approvals"]

log = logging.getLogger("flowpersist.tools")
GRANTS: Final = "approvals"
USES: Final = "approval_uses"


class Approvals:
    """The standing approvals of a hub: ``approve`` asks them before it asks a person.

    They are sealed records of their own. All verbs raise ``StorageError``, and where a record can't be opened
    ``IntegrityError`` or ``EncryptionError``. Give none of them to a model: it would grant what a person is asked for.

    - ``hub``: a ``PersistenceHub`` or a ``RaisingHub``.
    - ``tenant``: whose they are; those of one tenant cover no call of another's.
    """

    def __init__(self, hub: PersistenceHub | RaisingHub, *, tenant: str | None = None) -> None:
        check_instance(hub, "hub", (PersistenceHub, RaisingHub), "a PersistenceHub or a RaisingHub")
        check_optional(tenant, "tenant", check_text)
        stores = Stores(hub, tenant=tenant)
        self._runtime = stores.hub.runtime
        self._suspensions = stores.hub.suspensions
        self._tenant = tenant
        self._grants = stores.values(GRANTS, dict)
        self._log = stores.values(USES, dict)
        self._steps = Steps(self._grants.collection, rules.read_grant)
        # The tasks of a process take turns, so that they are not in each other's way at one record.
        self._turn = asyncio.Lock()

    @discreet
    async def grant(
        self,
        tool: str,
        *,
        by: By,
        arguments: Mapping[str, object] | None = None,
        schema: Mapping[str, object] | None = None,
        until: datetime | None = None,
        expires_in: timedelta | None = None,
        uses: int | None = None,
        why: str | None = None,
        version: str | None = None,
        policy: str | None = None,
    ) -> StandingApproval:
        """Approve all calls of a tool that fit, until a moment, for a number of uses, or both.

        - ``tool``: the tool's name.
        - ``by``: the person who grants it: a text, or a ``Principal`` of the kind ``person``.
        - ``arguments``: the values that arguments must have; those that are not named may have any. {} is every call.
        - ``schema``: in the place of ``arguments``, a JSON Schema that they must fit.
        - ``until``: the last moment, by the store's clock; ``expires_in``: as long from now on.
        - ``uses``: how many calls.
        - ``why``: the reason, for the record.
        - ``version``: the tool's version that it is for; None: any.
        - ``policy``: the version of the policy that it is for; None: any.

        Raises ``ConfigurationError`` for an end in the past or none at all, and for a pattern that is not valid;
        ``PermissionDenied`` where another than a person grants it.
        """
        check_text(tool, "tool")
        granter = _person(by)
        for name, text in (("version", version), ("policy", policy), ("why", why)):
            check_optional(text, name, check_text if name != "why" else _check_why)
        check_optional(until, "until", check_moment)
        check_optional(expires_in, "expires_in", check_duration)
        check_optional(uses, "uses", check_whole)
        if until is not None and expires_in is not None:
            raise ConfigurationError("Invalid expires_in: expected no until beside it", "expires_in")
        if until is None and expires_in is None and uses is None:
            message = "Invalid until: expected until, expires_in or uses, since a standing approval must end"
            raise ConfigurationError(message, "until")
        pattern = Pattern.of(arguments, schema)
        id_ = f"{tool}:{self._runtime.entropy(8).hex()}"
        new = StandingApproval(
            id=id_,
            tool=tool,
            equal=pattern.equal,
            schema=pattern.schema,
            version=version,
            policy=policy,
            until=until,
            uses=uses,
            by=granter,
            at=self._runtime.now(),
            why=why,
        )
        return or_raise(await self._steps.step(_parts(id_), lambda _, now: rules.granted(new, now, expires_in)))

    @discreet
    async def get(self, id: str) -> StandingApproval:
        """One standing approval, also one that has ended.

        - ``id``: its id.

        Raises ``ValueNotFound``.
        """
        found = or_raise(await self._steps.look(_parts(id)))
        if found is None:
            raise _unknown(id)
        return found

    @discreet
    async def list(self, tool: str | None = None, *, ended: bool = True) -> tuple[StandingApproval, ...]:
        """All standing approvals.

        - ``tool``: only those of this tool.
        - ``ended``: also those that have expired, are used up or were revoked.
        """
        check_optional(tool, "tool", check_text)
        found = [one async for one in self._of(tool)]
        now = self._grants.collection.records.reckoned()
        return tuple(one for one in found if ended or one.status(now) == "live")

    @discreet
    async def revoke(self, id: str, *, by: By) -> StandingApproval:
        """End a standing approval: no call that begins after this has returned is covered by it. Again: a no-op.

        - ``id``: its id.
        - ``by``: who revokes it.

        Raises ``ValueNotFound``.
        """
        check_instance(by, "by", (str, Principal), "a str or a Principal")
        revoker = check_text(subject_of(by), "by")
        parts = _parts(id)
        if or_raise(await self._steps.look(parts)) is None:
            raise _unknown(id)
        found = or_raise(await self._steps.step(parts, lambda grant, now: rules.revoked(grant, now, revoker)))
        if found is None:
            raise _unknown(id)
        return found

    @discreet
    async def forget(self, id: str) -> int:
        """Delete a standing approval that has ended, and the records of its uses; gives how many uses it had.

        - ``id``: its id.

        Raises ``ValueNotFound``, and ``ConfigurationError`` for one that is live: revoke it first.
        """
        grant = await self.get(id)
        if grant.status(self._grants.collection.records.reckoned()) == "live":
            raise ConfigurationError(f"Invalid id: expected one that has ended, and {id!r:.200} is live", "id")
        parts = _parts(id)
        # The uses go first: those that are left after a crash are found by the same id.
        await self._log.delete_many(parts)
        await self._grants.delete(parts)
        return grant.used

    @discreet
    async def use(self, call: Call) -> PolicyUse | None:
        """Take one use of a standing approval that covers the call, and record it; None where none does, and while
        claims of the tool or the tenant are halted.

        ``approve`` does so itself. The uses of one approval are counted down in one step, whoever else takes them.

        - ``call``: the call.
        """
        check_instance(call, "call", Call, "a Call")
        async with self._turn:
            async for grant in self._of(call.tool):
                if grant.covers(call) and grant.revoked_at is None and grant.used != grant.uses:
                    use = await self._taken(grant.id, call)
                    if use is not None:
                        log.info("a call of %s is made by %s, use %d", call.tool, use.by, use.number)
                        return use
        return None

    async def uses(self, id: str | None = None) -> AsyncIterator[PolicyUse]:
        """The calls that were made by policy, those of each standing approval in their order.

        - ``id``: of one standing approval; None: of all.

        Raises ``ValueNotFound`` for an unknown ``id``.
        """
        with forgetting():
            if id is not None:
                async for use in self._uses_of(await self.get(id)):
                    yield use
                return
            async for grant in self._of(None):
                async for use in self._uses_of(grant):
                    yield use

    async def _of(self, tool: str | None) -> AsyncIterator[StandingApproval]:
        async for loaded in self._grants.iterate(() if tool is None else (tool,)):
            found = or_raise(rules.read_grant(loaded.value, loaded.updated_at))
            if found is not None:
                yield found

    async def _uses_of(self, grant: StandingApproval) -> AsyncIterator[PolicyUse]:
        last = 0
        async for loaded in self._log.iterate(_parts(grant.id)):
            use = or_raise(rules.read_use(loaded.value))
            # What came after the record was read may be incomplete.
            if use.number <= grant.used:
                last = use.number
                yield use
        for use in grant.recent:
            if use.number > last:
                yield use

    async def _taken(self, id: str, call: Call) -> PolicyUse | None:
        parts, now = _parts(id), self._grants.collection.records.reckoned()
        while True:
            allowed = await self._suspensions.halts.until((call.tool,), self._tenant, now)
            if isinstance(allowed, Failure) and isinstance(allowed.failure(), ClaimsHalted):
                return None
            found = or_raise(await self._steps.step(parts, partial(rules.taken, call=call, until=or_raise(allowed))))
            if isinstance(found, rules.Late):
                now = found.now
            elif found == rules.FULL:
                await self._copy(parts)
            else:
                return found

    async def _copy(self, parts: Parts) -> None:
        grant = or_raise(await self._steps.look(parts))
        recent = () if grant is None else grant.recent
        if not recent:
            return
        entries: dict[Any, dict[str, Any]] = {(*parts, use.number): rules.use_content(use) for use in recent}
        await self._log.save_many(entries)
        or_raise(await self._steps.step(parts, lambda found, _: rules.copied(found, recent[-1].number)))


def _person(by: object) -> str:
    """The subject of a person who acts."""
    check_instance(by, "by", (str, Principal), "a str or a Principal")
    if isinstance(by, Principal) and by.kind != "person":
        message = f"a principal of the kind {by.kind!r} can't grant a standing approval: a person must"
        raise PermissionDenied(message)
    subject = by.subject if isinstance(by, Principal) else by
    return check_text(subject, "by")


def _check_why(value: object, name: str) -> None:
    check_instance(value, name, str, "a str")
    if len(str(value)) > 10_000:  # noqa: PLR2004 - as a comment
        raise ConfigurationError(f"Invalid {name}: expected at most 10000 characters", name)


def _parts(id: object) -> Parts:
    check_text(id, "id")
    tool, _, suffix = str(id).rpartition(":")
    if not tool or not suffix:
        raise _unknown(str(id))
    return (tool, suffix)


def _unknown(id: str) -> ValueNotFound:
    return ValueNotFound(f"there is no standing approval {id!r:.200}: list() gives those that there are")
