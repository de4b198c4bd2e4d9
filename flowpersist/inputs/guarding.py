"""What guards a tool in a flow: it says which calls wait for an approval, and what the answer allows."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, Protocol, TypeAlias

from attrs import field, frozen
from returns.result import Result

from flowpersist.errors import PersistenceError
from flowpersist.inputs.await_input import AwaitInput

__all__ = ["Approved", "Asking", "Refused", "Responded", "Settled", "ToolGuard"]


@frozen
class Asking:
    """A person is to be asked the ``question``. ``content`` is JSON data that ``settle`` is given with the answer."""

    question: AwaitInput[Any]
    content: Mapping[str, object] = field(repr=False)


@frozen
class Approved:
    """The call with these arguments is approved."""

    arguments: Mapping[str, object] = field(repr=False)


@frozen
class Responded:
    """A person gave this text in the place of the result."""

    text: str = field(repr=False)


@frozen
class Refused:
    """A person has rejected the call."""

    comment: str | None = field(repr=False)


#: What an answer leads to; ``Asking`` where the approval no longer holds.
Settled: TypeAlias = Approved | Responded | Refused | Asking


class ToolGuard(Protocol):
    """The guard of one tool."""

    async def begin(self, arguments: Mapping[str, object], *, scope: str) -> Result[Asking | None, PersistenceError]:
        """Whether the call waits; None where it may be made. ``scope``: the run."""
        ...

    async def settle(
        self, content: Mapping[str, Any], answer: object, *, by: str | None, digest: str | None
    ) -> Result[Settled, PersistenceError]:
        """What an answer leads to. ``by``: who gave it; ``digest``: of what they were shown; None: not known."""
        ...

    def called(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Awaitable[Any]:
        """A call outside a flow."""
        ...

    def rehearsed(self) -> ToolGuard:
        """A guard without effects, for a dry run: each call waits, and rules, checks and standing approvals are not
        asked.
        """
        ...
