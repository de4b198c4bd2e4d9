"""Which suspensions a query, a worker or a clean-up is about."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from attrs import Attribute, field, frozen

from flowpersist.backends.base import Scalar, check_text
from flowpersist.errors.arguments import check_choice, check_instance, check_moment, check_optional
from flowpersist.lifecycle.model import Status, check_metadata

__all__ = ["Criteria", "check_criteria"]


def _status(value: str | None) -> Status | None:
    check_optional(value, "status", _check_status)
    return None if value is None else Status(value)


def _check_status(value: object, name: str) -> None:
    check_choice(value, name, tuple(Status))


def _named(_: object, attribute: Attribute[str | None], value: str | None) -> None:
    if value is not None:
        check_text(value, attribute.name)


def _timed(_: object, attribute: Attribute[datetime | None], value: datetime | None) -> None:
    check_optional(value, attribute.name, check_moment)


@frozen
class Criteria:
    """Which suspensions: every condition that is given must hold.

    Usage::

        page = await hub.query(Criteria(status=Status.WAITING, tool="approve", metadata={"team": "ops"}))

    - ``status``: its status as of now.
    - ``tool``: the id of its AwaitInput, of the first wait where there are several.
    - ``run``: its ``metadata["run"]``, or its id where that is unset.
    - ``tenant``: its tenant.
    - ``metadata``: names and values that it has.
    - ``created_after``, ``created_before``: the bounds of its creation.
    - ``due_before``: it is due before that moment.
    """

    status: Status | None = field(default=None, converter=_status)
    tool: str | None = field(default=None, validator=_named)
    run: str | None = field(default=None, validator=_named)
    tenant: str | None = field(default=None, validator=_named)
    metadata: Mapping[str, Scalar] = field(factory=dict, converter=check_metadata)
    created_after: datetime | None = field(default=None, validator=_timed)
    created_before: datetime | None = field(default=None, validator=_timed)
    due_before: datetime | None = field(default=None, validator=_timed)


def check_criteria(criteria: object) -> None:
    """Refuse anything but a Criteria."""
    check_instance(criteria, "criteria", Criteria, "a Criteria")
