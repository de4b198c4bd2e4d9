"""What may follow what in the record of a standing approval: pure functions of the record and the store's clock.

The last uses stand in the record itself, so that to count one down and to record it is one write. Before they become
too many they are copied to the log, and only then dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from attrs import evolve, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import ConfigurationError, MalformedPayload, PersistenceError
from flowpersist.lifecycle.shown import canonical_json
from flowpersist.sealed.steps import Step
from flowpersist.tools.calls import Call
from flowpersist.tools.patterns import Pattern

__all__ = [
    "FULL",
    "Late",
    "PolicyUse",
    "StandingApproval",
    "Status",
    "copied",
    "granted",
    "read_grant",
    "revoked",
    "taken",
]

#: How many uses stand in the record at most.
MOST_RECENT: Final = 16
#: Of the arguments of a use as JSON, in characters; of larger ones only the digest is recorded.
MOST_ARGUMENTS: Final = 2000
VERSION: Final = 1
FULL: Final = "full"
Status = Literal["live", "revoked", "expired", "used up"]


@frozen
class Late:
    """A use that would come too late: what was known of halts has aged, by the store's clock ``now``."""

    now: datetime


@frozen
class PolicyUse:
    """One call that was made by policy: under a standing approval, without asking a person.

    ``number`` counts the uses of the standing approval ``approval`` from 1. ``digest`` is that of the call;
    ``arguments`` are None where they take more than 2,000 characters as JSON.
    """

    approval: str
    number: int
    tool: str
    digest: str
    arguments: Mapping[str, object] | None = field(repr=False)
    requested_by: str | None
    scope: str | None
    at: datetime

    @property
    def by(self) -> str:
        """Who approved it, as an answer has it: ``policy:`` and the standing approval's id."""
        return f"policy:{self.approval}"

    @property
    def key(self) -> str:
        """The stable key of this call, for the idempotency of its effects."""
        return f"{self.approval}/{self.number}"


@frozen
class StandingApproval:
    """A person's approval of all calls of a tool that fit a pattern, until it ends, is used up or is revoked.

    - ``id``: the tool's name, a colon and a random text.
    - ``equal``: the values that arguments must have; ``schema``: the JSON Schema that they must fit; one is None.
    - ``version``, ``policy``: those that the tool must have; None: any.
    - ``until``: the last moment, by the store's clock. ``uses``: how often; None: as often as it takes.
    - ``by``, ``at``, ``why``: who granted it, when and why. ``used``: how often it was used so far.
    - ``revoked_by``, ``revoked_at``: None unless it was revoked.
    """

    id: str
    tool: str
    equal: Mapping[str, object] | None = field(repr=False)
    schema: Mapping[str, object] | None = field(repr=False)
    version: str | None
    policy: str | None
    until: datetime | None
    uses: int | None
    by: str
    at: datetime
    why: str | None = field(default=None, repr=False)
    used: int = 0
    revoked_by: str | None = None
    revoked_at: datetime | None = None
    _recent: tuple[PolicyUse, ...] = field(default=(), repr=False, alias="recent")

    def status(self, now: datetime) -> Status:
        """How it stands at a moment of the store's clock."""
        if self.revoked_at is not None:
            return "revoked"
        if self.until is not None and now > self.until:
            return "expired"
        return "used up" if self.uses is not None and self.used >= self.uses else "live"

    def covers(self, call: Call) -> bool:
        """Whether the call fits, as long as this is live."""
        named = (self.tool, self.version or call.version, self.policy or call.policy)
        return named == (call.tool, call.version, call.policy) and Pattern(self.equal, self.schema).fits(call.arguments)

    @property
    def recent(self) -> tuple[PolicyUse, ...]:
        """The last uses, which need not be in the log yet."""
        return self._recent

    def content(self) -> dict[str, Any]:
        """As the record keeps it."""
        kept = {name: getattr(self, name) for name in _FIELDS}
        return {"format": VERSION, **kept, "recent": [use_content(one) for one in self._recent]}


_FIELDS: Final = (
    *("id", "tool", "equal", "schema", "version", "policy", "until", "uses", "by", "at", "why", "used"),
    *("revoked_by", "revoked_at"),
)
_USE_FIELDS: Final = ("approval", "number", "tool", "digest", "arguments", "requested_by", "scope", "at")


def use_content(use: PolicyUse) -> dict[str, Any]:
    """A use as the log keeps it."""
    return {name: getattr(use, name) for name in _USE_FIELDS}


def read_use(content: Any) -> Result[PolicyUse, PersistenceError]:  # noqa: ANN401 - whatever stands there
    """What ``use_content`` gave."""
    try:
        return Success(PolicyUse(**content))
    except TypeError as error:
        return Failure(_malformed(error))


def read_grant(content: Any, now: datetime) -> Result[StandingApproval | None, PersistenceError]:  # noqa: ANN401 - as above
    """What ``content`` gave; None where nothing stands."""
    del now
    if content is None:
        return Success(None)
    try:
        fields = dict(content)
        if fields.pop("format") != VERSION:
            return Failure(MalformedPayload("the standing approval is of another format; use the version that made it"))
        recent = tuple(PolicyUse(**one) for one in fields.pop("recent"))
        return Success(StandingApproval(**fields, recent=recent))
    except (TypeError, ValueError, KeyError) as error:
        return Failure(_malformed(error))


def _malformed(error: Exception) -> PersistenceError:
    return MalformedPayload(f"the record of a standing approval does not hold one ({type(error).__name__})")


def granted(
    new: StandingApproval, now: datetime, expires_in: timedelta | None
) -> Result[Step[StandingApproval], PersistenceError]:
    """A new one, from now on."""
    until = new.until
    if expires_in is not None:
        until = now + expires_in
    if until is not None and until <= now:
        message = f"Invalid until: expected a moment in the future, not {until.isoformat()}"
        return Failure(ConfigurationError(message, "until"))
    made = evolve(new, until=until, at=now)
    return Success(Step(made, made.content()))


def taken(
    grant: StandingApproval | None, now: datetime, *, call: Call, until: datetime
) -> Result[Step[PolicyUse | Literal["full"] | Late | None], PersistenceError]:
    """One use; None where it is not live or does not cover the call, ``full`` where uses must be copied first, ``Late``
    where it is after ``until``, the moment by which it must be durable.
    """
    if now > until:
        return Success(Step(Late(now)))
    if grant is None or grant.status(now) != "live" or not grant.covers(call):
        return Success(Step(None))
    if len(grant.recent) >= MOST_RECENT:
        return Success(Step("full"))
    arguments = dict(call.arguments)
    small = len(canonical_json(arguments)) <= MOST_ARGUMENTS
    use = PolicyUse(
        approval=grant.id,
        number=grant.used + 1,
        tool=call.tool,
        digest=call.digest,
        arguments=arguments if small else None,
        requested_by=call.requested_by,
        scope=call.scope,
        at=now,
    )
    after = evolve(grant, used=use.number, recent=(*grant.recent, use))
    # The decision holds as long as the approval does, and no halt can have come.
    return Success(Step(use, after.content(), not_after=until if grant.until is None else min(grant.until, until)))


def copied(grant: StandingApproval | None, up_to: int) -> Result[Step[None], PersistenceError]:
    """Drop the uses up to a number, which are in the log."""
    kept = () if grant is None else tuple(use for use in grant.recent if use.number > up_to)
    if grant is None or len(kept) == len(grant.recent):
        return Success(Step(None))
    return Success(Step(None, evolve(grant, recent=kept).content()))


def revoked(
    grant: StandingApproval | None, now: datetime, by: str
) -> Result[Step[StandingApproval | None], PersistenceError]:
    """Revoke it; None if it does not exist. Again: as it was."""
    if grant is None or grant.revoked_at is not None:
        return Success(Step(grant))
    after = evolve(grant, revoked_by=by, revoked_at=now)
    return Success(Step(after, after.content()))
