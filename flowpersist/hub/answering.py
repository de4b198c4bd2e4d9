"""The checks of a value before it is an answer: its JSON form, its wait's schema, and the rules of the schema's class.

All of it happens before anything is decided or written, in a thread where the value is not small or a class's own code
runs, so that the event loop goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from attrs import evolve, field, frozen
from returns.result import Result, Success

from flowpersist.errors import PersistenceError
from flowpersist.hub.answer_checks import AnswerChecks
from flowpersist.inputs.answer_types import AnswerTypes
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.inputs.json_schema import MAX_DEPTH, MAX_NODES
from flowpersist.inputs.json_types import Kind, json_form, structure
from flowpersist.lifecycle import verbs
from flowpersist.lifecycle.decisions import Offer
from flowpersist.lifecycle.giving import answers_of
from flowpersist.lifecycle.model import Head, WaitState
from flowpersist.lifecycle.refusals import Target

__all__ = ["Given", "delivered", "own_copy"]

#: At most so many values and characters of text are checked in the event loop.
FEW: Final = 200
SHORT: Final = 8 * 1024
_NUMBERS: Final = frozenset({int, float, bool, type(None)})


@frozen
class Given:
    """A value as a caller gave it. ``by`` and the answer's id are checked when it is made."""

    offer: Offer
    types: AnswerTypes
    checks: AnswerChecks
    #: The most characters of all its texts together.
    max_text: int
    #: What the hub's checks said, by their names: a decision that is made again does not ask them again.
    _said: dict[tuple[str, ...], Result[object, PersistenceError]] = field(factory=dict, init=False, repr=False)

    async def examined(self, head: Head, target: Target) -> Offer:
        """The offer in its JSON form, checked against the wait that it would answer."""
        wait = verbs.wanted(head, target)
        kind = None if wait is None or wait.awaiting is None else self.types.of(wait.awaiting)
        # The schema of what is awaited may have to be compiled, so its size counts too.
        small = _is_small(self.offer.value) and (wait is None or _is_small(wait.awaiting))
        if kind is None and small:
            offer = _examined(self.offer, wait, None, self.max_text)
        else:
            offer = await asyncio.to_thread(_examined, self.offer, wait, kind, self.max_text)
        return await self._checked(offer, wait)

    async def _checked(self, offer: Offer, wait: WaitState | None) -> Offer:
        """The offer after the hub's checks that its wait names."""
        named = {} if wait is None or wait.awaiting is None else wait.awaiting
        names = tuple(cast("Sequence[str]", named.get("checks", ())))
        if not names or not isinstance(offer.checked, Success):
            return offer
        if names not in self._said:
            self._said[names] = await self.checks.asked(names, offer.checked.unwrap())
        return evolve(offer, checked=self._said[names])


def _examined(offer: Offer, wait: WaitState | None, kind: Kind, max_text: int) -> Offer:
    form = json_form(offer.value)
    if wait is None:
        return evolve(offer, value=form, digest=verbs.digest_of(form))
    typed = wait.awaiting is not None and "schema" in wait.awaiting
    # Without a schema the given value itself must be JSON data.
    checked = verbs.checked(wait, form if typed else offer.value, max_text=max_text)
    if kind is not None:
        # The same value, if its type's own rules let it through.
        checked = checked.bind(lambda value: structure(value, kind).map(lambda _: value))
    return evolve(offer, value=form, checked=checked)


async def delivered(
    head: Head, stored: Mapping[bytes, object], awaiting: AwaitInput[Any] | None
) -> Result[Mapping[str, object], PersistenceError]:
    """The answers for the holder of the run; instances of a class are made in a thread, where its own code runs."""
    if awaiting is None:
        return answers_of(head, stored, None)
    return await asyncio.to_thread(answers_of, head, stored, awaiting)


def own_copy(value: object) -> object:
    """JSON data as it is now, apart from what the caller goes on with: it is checked at one moment and stored at
    another. What is over the limits of an answer, and instances of classes, stay the same objects.
    """
    if type(value) is not dict and type(value) is not list and type(value) is not tuple:
        return value
    left = MAX_NODES

    def copied(item: Any, depth: int) -> object:  # noqa: ANN401 - as given
        nonlocal left
        kind = type(item)
        if depth > MAX_DEPTH or left < 0 or (kind is not dict and kind is not list and kind is not tuple):
            return item
        left -= len(item)
        if left < 0:
            return item
        if kind is dict:
            return {key: copied(one, depth + 1) for key, one in item.items()}
        parts = [copied(one, depth + 1) for one in item]
        return parts if kind is list else tuple(parts)

    return copied(value, 0)


def _is_small(value: object) -> bool:
    """Whether a value is small, by a bounded check; an object of a class is not, since its encoder may do anything."""
    pending: list[Any] = [value]
    nodes = text = 0
    while pending:
        item = pending.pop()
        nodes += 1
        if type(item) is dict or type(item) is list:
            nodes += len(item)
            if nodes <= FEW:
                pending.extend(item)
                pending.extend(item.values() if type(item) is dict else ())
        elif type(item) is str:
            text += len(item)
        elif type(item) not in _NUMBERS:
            return False
        if nodes > FEW or text > SHORT:
            return False
    return True
