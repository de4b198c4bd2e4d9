"""The arguments that transitions share, and what they decide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from attrs import field, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import KEEP, Keep, check_text
from flowpersist.errors import (
    PersistenceError,
)
from flowpersist.inputs.people import Principal, Via
from flowpersist.lifecycle.model import Head

__all__ = ["Decision", "Holder", "Offer", "refused"]

T = TypeVar("T")
U = TypeVar("U")


@frozen
class Decision(Generic[T]):
    """What a transition, and the verb around it, decide: the head to put (the same object where nothing changes), the
    result, and what becomes of the body where the head changes.
    """

    head: Head
    result: Result[T, PersistenceError]
    body: bytes | Keep | None = field(default=KEEP, repr=False)

    def map(self, shown: Callable[[T], U], *, body: bytes | Keep | None = KEEP) -> Decision[U]:
        """The same, with a successful result replaced by what the verb gives; then this is what becomes of the body."""
        if not isinstance(self.result, Success):
            return Decision(self.head, Failure(self.result.failure()), self.body)
        return Decision(self.head, Success(shown(self.result.unwrap())), body)


@frozen
class Offer:
    """An answer as it comes in. Who gives it and its id are texts of at most 512 bytes.

    ``checked`` is what was found of its value for the wait that ``wanted`` names; None: it is not yet checked.
    ``digest`` is that of the value, where it is known. ``shown`` is the digest of the question that it was given to, as
    callers see it; None: the caller does not say. ``principal`` is who gives it, where more than ``by`` was said;
    ``via`` is how it came.
    """

    value: object = field(repr=False)
    by: str | None
    answer_id: str | None
    checked: Result[object, PersistenceError] | None = field(default=None, repr=False)
    digest: bytes | None = field(default=None, repr=False)
    shown: str | None = None
    principal: Principal | None = None
    via: Via | None = None

    def __attrs_post_init__(self) -> None:
        for what, text in (("by", self.by), ("answer_id", self.answer_id)):
            if text is not None:
                check_text(text, what)

    @property
    def who(self) -> Principal | None:
        """Who gives it; None where nobody is named."""
        return Principal(self.by) if self.principal is None and self.by else self.principal


@frozen
class Holder:
    """The fence and claim id of a caller that claims to hold the run."""

    fence: int
    claim_id: str | None


def refused(head: Head, error: PersistenceError) -> Decision[Any]:
    """A decision that changes nothing and has an error as its result."""
    return Decision(head, Failure(error))
