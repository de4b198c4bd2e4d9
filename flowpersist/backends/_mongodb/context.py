"""What all operations on an open backend share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

from attrs import Factory, define, field, frozen

from flowpersist.backends._mongodb.bodies import Stored, remove
from flowpersist.backends._mongodb.client import Collections
from flowpersist.backends._mongodb.errors import NAME
from flowpersist.backends._mongodb.revisions import Lives
from flowpersist.backends._mongodb.underway import Underway
from flowpersist.backends._mongodb.watching import Watch
from flowpersist.backends.base import RecordRef
from flowpersist.errors import StorageError

__all__ = ["Abilities", "StoreContext"]

_ATTEMPTS: Final = 64


@define(eq=False)
class Abilities:
    """Features that not every server with this protocol has."""

    #: findAndModify accepts a projection; without one it returns the whole document.
    projects: bool = True
    #: ``$lookup`` works; MongoDB before 5.1 refuses it on sharded collections.
    looks_up: bool = True
    #: A filter by several ids uses the index.
    finds_lists: bool = True


def _lives(context: StoreContext) -> Lives:
    return Lives(context.store)


def _watch(context: StoreContext) -> Watch:
    return Watch(context.store, context.underway, context.abilities.finds_lists)


@frozen(eq=False)
class StoreContext:
    """An open store, its clock and its running operations."""

    store: Collections
    now: Callable[[], Awaitable[datetime]]
    underway: Underway
    abilities: Abilities = field(factory=Abilities)
    watch: Watch = field(init=False, default=Factory(_watch, takes_self=True))
    lives: Lives = field(init=False, default=Factory(_lives, takes_self=True))
    #: The namespaces where the last put without a revision found no record, so that the next one inserts at once.
    growing: set[str] = field(init=False, factory=set)

    @property
    def held(self) -> dict[str, int] | None:
        """The fields that findAndModify is to return."""
        return {"x": 1, "m": 1} if self.abilities.projects else None

    def check_attempt(self, ref: RecordRef, attempt: int) -> None:
        """Stop repeating a comparison whose record always has the expected revision but never matches."""
        if attempt >= _ATTEMPTS:
            message = (
                f"the mongodb server did not change record {ref.key} although its revision is the expected one; "
                "try again"
            )
            raise StorageError(message, NAME, True)

    def let_go(self, *bodies: Stored | None) -> None:
        """Remove bodies that no record names, in the background; after a failure the sweeper removes them."""
        gone = [stored for stored in bodies if stored is not None]
        if gone:
            _ = self.underway.background(remove(self.store, gone))
