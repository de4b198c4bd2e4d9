"""Halts: what claims are stopped, by whom and why. Pure functions of the record that has all halts of a namespace."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final, cast

from attrs import evolve, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import (
    ClaimsHalted,
    ConfigurationError,
    InputValidationError,
    PersistenceError,
    Problem,
    ValueNotFound,
)
from flowpersist.inputs.people import By, Principal, principal_data, principal_from
from flowpersist.lifecycle.criteria import Criteria
from flowpersist.lifecycle.model import Head, HeadPart, Trail, replace, whole

__all__ = [
    "Halt",
    "HaltFacts",
    "HaltPrivate",
    "HaltRecord",
    "StoredHalt",
    "by_data",
    "check_halted",
    "halted",
    "lifted",
    "refusal",
    "stopping",
    "tools_of",
    "view_of",
]

#: Halts of a namespace at a time.
MOST_HALTS: Final = 100
MAX_REASON: Final = 1000


@frozen
class Halt:
    """A halt: claims of the suspensions of that ``tool`` and ``tenant`` are refused; None: of every one."""

    id: str
    tool: str | None
    tenant: str | None
    reason: str
    by: Principal | None
    at: datetime


class StoredHalt(HeadPart, frozen=True, omit_defaults=True):
    """A halt as it is stored."""

    hidden = frozenset({"reason", "by"})
    id: str
    at: datetime
    reason: str
    tool: str | None = None
    tenant: str | None = None
    by: Mapping[str, object] | None = None


class HaltRecord(HeadPart, frozen=True, omit_defaults=True):
    """All halts of a namespace, the oldest first, and their audit trail, which began at ``made_at``."""

    made_at: datetime
    halts: tuple[StoredHalt, ...] = ()
    trail: Trail = Trail()


class HaltFacts(HeadPart, frozen=True, omit_defaults=True):
    """The facts of an entry of that trail: ``halt`` or ``lift``."""

    at: datetime
    verb: str
    halt: str
    tool: str | None = None
    tenant: str | None = None


class HaltPrivate(HeadPart, frozen=True, omit_defaults=True):
    """What is private in such an entry."""

    hidden = frozenset({"by", "reason"})
    by: Mapping[str, object] | None = None
    reason: str | None = None


def by_data(by: By | None) -> Mapping[str, object] | None:
    """Who acts, as data."""
    if isinstance(by, Principal):
        return principal_data(by)
    return principal_data(Principal(by)) if by else None


def check_halted(criteria: Criteria) -> None:
    """Refuse criteria that say more than a tool and a tenant: whether they fit can change while a run is held."""
    if evolve(criteria, tool=None, tenant=None) != Criteria():
        message = "Invalid criteria: expected a Criteria of a tool, a tenant, both or neither for a halt"
        raise ConfigurationError(message, "criteria")


def view_of(halt: StoredHalt) -> Halt:
    """The public view."""
    by = None if halt.by is None else principal_from(halt.by)
    return Halt(halt.id, halt.tool, halt.tenant, halt.reason, by, halt.at)


def halted(record: HaltRecord, halt: StoredHalt) -> Result[tuple[HaltRecord, StoredHalt], PersistenceError]:
    """The record with a further halt. One that is there already, by all but its id and time, is given again."""
    same = next((one for one in record.halts if replace(one, id=halt.id, at=halt.at) == halt), None)
    if same is not None:
        return Success((record, same))
    if len(record.halts) >= MOST_HALTS:
        problem = Problem("", f"must be at most {MOST_HALTS} halts at a time")
        return Failure(InputValidationError(f"there are {MOST_HALTS} halts already: lift one first", [problem]))
    return Success((replace(record, halts=(*record.halts, halt)), halt))


def lifted(record: HaltRecord | None, id: str) -> Result[tuple[HaltRecord, StoredHalt], PersistenceError]:
    """The record without a halt, and that halt."""
    halts = () if record is None else record.halts
    found = next((one for one in halts if one.id == id), None)
    if record is None or found is None:
        return Failure(ValueNotFound("there is no halt of this id: it was lifted, or never made; list them with halts"))
    return Success((replace(record, halts=tuple(one for one in halts if one is not found)), found))


def stopping(record: HaltRecord | None, tools: Collection[str], tenant: str | None) -> StoredHalt | None:
    """The oldest halt of the suspensions of all these tools and a tenant."""
    halts = () if record is None else record.halts
    return next((one for one in halts if one.tool in (None, *tools) and one.tenant in (None, tenant)), None)


def tools_of(head: Head) -> frozenset[str]:
    """The ids of its questions, and the tools of the actions that they ask about."""
    asked = [wait.awaiting for wait in whole(head).waits if wait.awaiting is not None]
    actions = [one["action"] for one in asked if isinstance(one.get("action"), Mapping)]
    return frozenset(map(str, (*(one["id"] for one in asked), *(cast("Any", one)["tool"] for one in actions))))


def refusal(halt: StoredHalt) -> PersistenceError:
    """The error of a claim that a halt stops."""
    named = [f"{what} {name!r}" for what, name in (("tool", halt.tool), ("tenant", halt.tenant)) if name is not None]
    of = " and ".join(named) or "all suspensions"
    message = (
        f"claims of {of} are halted since {halt.at}: {halt.reason} "
        f"(whoever runs this service lifts it: flowpersist lift {halt.id})"
    )
    return ClaimsHalted(message, halt.id, halt.reason, halt.at)
