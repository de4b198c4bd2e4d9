"""Steps of a value whose changes have rules: read it, decide by it and the store's clock, put what follows.

What may follow is a pure function, a ``Rule``; here is the loop around it, which begins again where somebody else came
first.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Generic, TypeAlias, TypeVar

from attrs import evolve, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import PersistenceError
from flowpersist.sealed.cards import Card, live
from flowpersist.sealed.collection import SealedCollection
from flowpersist.sealed.drafts import Decided, Draft, Found
from flowpersist.sealed.naming import Parts

__all__ = ["Rule", "Step", "Steps"]

H = TypeVar("H")
R = TypeVar("R")


@frozen
class Step(Generic[R]):
    """What follows: the ``result``; the new ``content``, None where it stays as it is; until when it is kept (None: for
    ever); and the last moment at which the decision holds.
    """

    result: R = field(repr=False)
    content: Any = field(default=None, repr=False)
    expires_at: datetime | None = None
    not_after: datetime | None = None


#: By what is there and the store's present.
Rule: TypeAlias = Callable[[H, datetime], Result[Step[R], PersistenceError]]


class Steps(Generic[H]):
    """The values of a collection that ``read`` makes an ``H`` of, as of a moment; None is that nothing is there."""

    def __init__(
        self, collection: SealedCollection, read: Callable[[Any, datetime], Result[H, PersistenceError]]
    ) -> None:
        self.collection = collection
        self._read = read

    async def step(self, parts: Parts, rule: Rule[H, R]) -> Result[R, PersistenceError]:
        """Do what the rule says."""
        naming = await self.collection.made_naming()
        if not isinstance(naming, Success):
            return Failure(naming.failure())
        name = naming.unwrap().name(parts)

        async def decide(found: Found[Card]) -> Decided[Card, R]:
            followed = (await self._found(parts, found)).bind(lambda before: rule(before, found.now))
            if not isinstance(followed, Success):
                return Failure(followed.failure())
            step = followed.unwrap()
            if step.content is None:
                return Success(step.result)
            made = await self.collection.content(name, parts, step.content)
            if not isinstance(made, Success):
                return Failure(made.failure())
            draft: Draft[Card] = evolve(made.unwrap().draft({}, step.expires_at), not_after=step.not_after)
            return draft.giving(step.result)

        return self.collection.named(name, (await self.collection.records.update(name, decide, body=True)).result)

    async def look(self, parts: Parts) -> Result[H, PersistenceError]:
        """What is there. Reading a collection that nobody has saved to writes nothing."""
        naming = await self.collection.naming()
        if not isinstance(naming, Success):
            return Failure(naming.failure())
        made = naming.unwrap()
        if made is None:
            return self._read(None, self.collection.records.reckoned())
        name = made.name(parts)
        read = await self.collection.records.read(name, body=True)
        found = Failure(read.failure()) if isinstance(read, Failure) else await self._found(parts, read.unwrap())
        return self.collection.named(name, found)

    async def _found(self, parts: Parts, found: Found[Card]) -> Result[H, PersistenceError]:
        record = live(found)
        if record is None:
            return self._read(None, found.now)
        return (await self.collection.opened(record, parts)).bind(lambda one: self._read(one.value, found.now))
