"""What the operations on an open backend share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

from attrs import Factory, define, field, frozen

from flowpersist.backends._mongodb.bodies import Stored, remove
from flowpersist.backends._mongodb.client import Collections
from flowpersist.backends._mongodb.errors import NAME
from flowpersist.backends._mongodb.underway import Underway
from flowpersist.backends._mongodb.watching import Watch
from flowpersist.backends.base import RecordRef
from flowpersist.errors import StorageError

__all__ = ["Abilities", "StoreContext"]

_ATTEMPTS: Final = 64


@define(eq=False)
class Abilities:
    """What not every server of the protocol can."""

    #: findAndModify takes a projection; else it gives back the whole document.
    projects: bool = True
    #: ``$lookup``; not with a sharded collection before MongoDB 5.1.
    looks_up: bool = True
    #: It finds several ids by its index.
    finds_lists: bool = True


def _watch(context: StoreContext) -> Watch:
    return Watch(context.store, context.underway, context.abilities.finds_lists)


@frozen(eq=False)
class StoreContext:
    """An open store, its clock and what is under way in it."""

    store: Collections
    now: Callable[[], Awaitable[datetime]]
    underway: Underway
    abilities: Abilities = field(factory=Abilities)
    watch: Watch = field(init=False, default=Factory(_watch, takes_self=True))

    @property
    def held(self) -> dict[str, int] | None:
        """What findAndModify is to give back."""
        return {"x": 1, "m": 1} if self.abilities.projects else None

    def check_attempt(self, ref: RecordRef, attempt: int) -> None:
        """Refuse to compare again and again what always stands as expected, and never matches."""
        if attempt >= _ATTEMPTS:
            message = (
                f"record {ref.key} is at the expected revision, but the mongodb server does not change it; try again"
            )
            raise StorageError(message, NAME, True)

    def let_go(self, *bodies: Stored | None) -> None:
        """Remove bodies that no record names any more, beside the work. What fails here the sweeper does."""
        gone = [stored for stored in bodies if stored is not None]
        if gone:
            _ = self.underway.background(remove(self.store, gone))
