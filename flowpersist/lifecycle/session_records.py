"""What is kept of a person. A session's state and context are parts of one sealed record: they are read and changed
together. An identity and a user are records with one part.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from attrs import field, frozen

from flowpersist.errors.arguments import check_instance
from flowpersist.sealed.naming import Parts
from flowpersist.sealed.parts import PartRecord
from flowpersist.sealed.subjects import Parted

__all__ = ["RECORDS", "ContextRecord", "IdentityRecord", "Session", "StateRecord", "UserRecord"]

_NEVER: Final = datetime.min.replace(tzinfo=UTC)


@frozen
class StateRecord(PartRecord):
    """The state of a session: its name, and data."""

    kind, part, ids = "session", "state", ("user_id", "session_id")
    user_id: str = field(repr=False)
    session_id: str = field(repr=False)
    state: str
    data: Any = field(factory=dict, repr=False)


@frozen
class ContextRecord(PartRecord):
    """What was said in a session, and what else its next turn needs."""

    kind, part, ids = "session", "context", ("user_id", "session_id")
    user_id: str = field(repr=False)
    session_id: str = field(repr=False)
    entries: list[Any] = field(factory=list, repr=False)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        check_instance(self.entries, "entries", list, "a list")


@frozen
class IdentityRecord(PartRecord):
    """One of a person's identities."""

    kind, part, ids = "identity", "identity", ("user_id", "identity_id")
    user_id: str = field(repr=False)
    identity_id: str = field(repr=False)
    name: str = field(repr=False)
    category: str = ""
    data: Any = field(factory=dict, repr=False)


@frozen
class UserRecord(PartRecord):
    """A person."""

    kind, part, ids = "user", "user", ("user_id",)
    user_id: str = field(repr=False)
    profile: Any = field(factory=dict, repr=False)


@frozen
class Session:
    """State and context of one session as of one moment. Each is None if it was not saved."""

    state: StateRecord | None = None
    context: ContextRecord | None = None

    @property
    def updated_at(self) -> datetime:
        """When one of them was saved last; where none was, long ago."""
        return max((one and one.updated_at) or _NEVER for one in (self.state, self.context))

    @staticmethod
    def found(key: Parts, parts: Parted) -> Session | None:
        """What of it stands in a record of that key."""
        return Session(StateRecord.found(key, parts), ContextRecord.found(key, parts)) if parts else None


#: By the name of the part.
RECORDS: Final = {one.part: one for one in (StateRecord, ContextRecord, IdentityRecord, UserRecord)}
