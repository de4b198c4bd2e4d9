"""What an approval makes of a call that was not made: it waits for a person, or was rejected."""

from __future__ import annotations

from datetime import datetime

from attrs import field, frozen

from flowpersist.keys.suspension_key import SuspensionId, SuspensionKey
from flowpersist.lifecycle.views import NewSuspension

__all__ = ["ApprovalNeeded", "Rejected"]


@frozen
class ApprovalNeeded:
    """The call was not made: it waits until a person has decided. As text it says so to a model, without the key.

    - ``tool``: the tool's name.
    - ``suspension``: what waits, with its key.
    - ``stale``: None, or why an earlier approval of this call no longer holds, so that it is asked anew.
    """

    tool: str
    suspension: NewSuspension = field(repr=False)
    stale: str | None = None

    @property
    def id(self) -> SuspensionId:
        """The id of what waits, which may be logged."""
        return self.suspension.id

    @property
    def key(self) -> SuspensionKey:
        """The key that answers and resumes it: for the person who decides."""
        return self.suspension.key

    @property
    def link(self) -> str:
        """Where it is decided; as secret as the key. ``ConfigurationError`` where the hub has no ``public_url``."""
        return self.suspension.link

    @property
    def digest(self) -> str | None:
        """The digest of what the person is shown, for ``shown_digest``."""
        return next((wait.digest for wait in self.suspension.open_waits), None)

    @property
    def deadline(self) -> datetime | None:
        """Until when it waits."""
        return self.suspension.deadline

    def __str__(self) -> str:
        again = "" if self.stale is None else f" An earlier approval no longer holds: {self.stale}."
        return f"The call of {self.tool!r} was not made: it waits for a person's approval (request {self.id}).{again}"


@frozen
class Rejected:
    """A person has rejected the call, and it was not made. As text it says so to a model.

    - ``tool``: the tool's name. ``id``: the suspension's id.
    - ``comment``: what the person said, if anything. ``by``: who it was.
    """

    tool: str
    id: SuspensionId
    comment: str | None = field(default=None, repr=False)
    by: str | None = None

    def __str__(self) -> str:
        said = "" if not self.comment else f": {self.comment}"
        return f"A person has rejected the call of {self.tool!r}{said}"
