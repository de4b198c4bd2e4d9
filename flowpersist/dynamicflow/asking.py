"""What a tool asks for in the middle of its call. A question ends the attempt, and the tool is called again with the
answer; what it has kept by ``memo`` is there again.

The frame of its step has, absent where empty::

    asks     by name: {"open": true}, {"answer": …}, {"expired": true}, or {"question": …} of one that did not fit
    asking   the name of the question that it waits for
    memo     by name: the encoded result; links: by name, the links that the tool was given
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, evolve, field
from returns.result import Failure, Success

from flowpersist.dynamicflow.outcomes import PENDING, Failed, Pending
from flowpersist.errors.arguments import check_callable, check_instance, check_str
from flowpersist.hub.outcome import or_raise
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.lifecycle.views import link_to
from flowpersist.sealed.encoding import encoded, in_thread_if_large

if TYPE_CHECKING:
    from flowpersist.dynamicflow.context import Context, StepPosition
    from flowpersist.dynamicflow.ir import Node

__all__ = ["Asker", "Pausing", "goes_on"]

A = TypeVar("A")
log = logging.getLogger("flowpersist.dynamicflow")


class Pausing(BaseException):
    """Ends an attempt that awaits an answer. Not an ``Exception``, which tools catch; the attempt ends in any case."""


@define
class Asker:
    """One attempt of a tool's step: what ``ToolContext.ask``, ``memo`` and ``link`` do."""

    context: Context
    node: Node
    place: StepPosition
    #: The name of the question that ends the attempt; with it the question, or None where there is no room for it yet.
    paused: tuple[str, AwaitInput[Any] | None] | None = field(default=None, init=False)
    ended: bool = field(default=False, init=False)
    _used: set[str] = field(factory=set, init=False)
    _making: set[str] = field(factory=set, init=False)

    async def ask(self, question: AwaitInput[A]) -> A:
        """See ``ToolContext``."""
        self._check(question)
        name = self._next(question.id)
        self._used.add(name)
        _collect(self.context, self.place)
        known = self.place.frame.get("asks", {}).get(name, {})
        if "answer" in known:
            return or_raise(question.parse(known["answer"]))
        if "expired" in known:
            raise TimeoutError("no answer came before the deadline, and there is no default")
        self.paused = (name, question)
        raise Pausing(name)

    async def memo(self, name: str, function: Callable[[], Any]) -> Any:  # noqa: ANN401 - the function's own
        """See ``ToolContext``."""
        check_str(name, "name")
        check_callable(function, "function")
        self._check_running()
        kept: dict[str, bytes] = self.place.frame.get("memo", {})
        if name in kept:
            return or_raise(await in_thread_if_large(self.context.codec.decode, kept[name]))
        if name in self._making:
            raise RuntimeError(f"the memo {name!r} is being made by another task of this tool: use another name")
        self._making.add(name)
        try:
            made = function()
            value = await made if inspect.isawaitable(made) else made
            data = or_raise(await encoded(self.context.codec, value, Success))
        finally:
            self._making.discard(name)
        self._check_running()
        # Replaced and not changed, since the run may be stored meanwhile.
        self.place.frame["memo"] = {**self.place.frame.get("memo", {}), name: data}
        return value

    async def link(self, question: AwaitInput[Any]) -> str:
        """See ``ToolContext``."""
        self._check(question)
        frame = self.place.frame
        page = link_to(self.context.public_url, None)
        name = self._next(question.id)
        if name in frame.get("links", {}):
            return str(frame["links"][name])
        _collect(self.context, self.place)
        known = frame.get("asks", {}).get(name, {})
        if "answer" in known or "expired" in known:
            return page
        opened = _open(self.context, self.node, self.place, name, question)
        if isinstance(opened, Failed):
            raise opened.error
        if "open" not in frame["asks"][name]:
            # Its link is there once other questions are answered, and then the tool is called again.
            frame["asks"] = {one: state for one, state in frame["asks"].items() if one != name}
            self.paused = (name, None)
            raise Pausing(name)
        key = await self.context.key_of(_path(self.place, name))
        self._check_running()
        frame["links"] = {**frame.get("links", {}), name: link_to(self.context.public_url, key)}
        return str(frame["links"][name])

    def pending(self, name: str, question: AwaitInput[Any] | None) -> Failed | Pending:
        """What the attempt comes to that ``paused`` has ended."""
        if question is None:
            return PENDING
        self.place.frame["asking"] = name
        return _open(self.context, self.node, self.place, name, question)

    def close(self) -> None:
        """Close the questions that the tool had opened by their links and has not asked in the end."""
        if any("open" in state for state in self.place.frame.get("asks", {}).values()):
            self.context.give_up(self.place.path)

    def _check(self, question: object) -> None:
        check_instance(question, "question", AwaitInput, "an AwaitInput")
        self._check_running()
        if self.paused is not None:
            raise Pausing(self.paused[0])

    def _check_running(self) -> None:
        if self.ended:
            raise RuntimeError("the call of the tool has ended: nothing can be asked or kept by it any more")

    def _next(self, id_: str) -> str:
        """The name of the next question with this id: the id, then ``id[1]``, ``id[2]`` and so on."""
        name, number = id_, 0
        while name in self._used:
            number += 1
            name = f"{id_}[{number}]"
        return name


def goes_on(context: Context, node: Node, place: StepPosition) -> Failed | Pending | None:
    """Whether a step that has asked still waits; None where its tool is to be called again."""
    _collect(context, place)
    frame = place.frame
    name = str(frame.get("asking"))
    state = frame["asks"].get(name, {})
    if "question" in state:
        question = AwaitInput.from_data(state["question"])
        if isinstance(question, Failure):
            return context.blamed(node, question.failure())
        return _open(context, node, place, name, question.unwrap())
    # Another document may ask something else: the tool says so.
    return PENDING if "open" in state and _path(place, name) not in context.asked else None


def _collect(context: Context, place: StepPosition) -> None:
    """Note in the frame what has come of the step's questions."""
    asks = place.frame.get("asks", {})
    taken: list[str] = []
    for name in [name for name, state in asks.items() if "open" in state]:
        path = _path(place, name)
        if path in context.answers:
            asks = {**asks, name: {"answer": context.take(path)}}
            taken.append(path)
        elif path in context.expired:
            context.expired.discard(path)
            asks = {**asks, name: {"expired": True}}
        elif path in context.open:
            context.wait(evolve(place, path=path))
        else:
            # It was closed: if the tool needs it, it is asked anew.
            asks = {one: state for one, state in asks.items() if one != name}
    if "asks" in place.frame:
        place.frame["asks"] = asks
    for path in taken:
        context.settled(path)


def _open(context: Context, node: Node, place: StepPosition, name: str, question: AwaitInput[Any]) -> Failed | Pending:
    """Open the wait of a question, unless it is open already."""
    within = evolve(place, path=_path(place, name))
    frame = place.frame
    if within.path in context.open and context.asks_otherwise(within.path, question):
        context.give_up(within.path)
        frame["links"] = {one: link for one, link in frame.get("links", {}).items() if one != name}
    if within.path in context.open:
        context.wait(within)
    else:
        registered = context.register(node, within, question)
        if isinstance(registered, Failed):
            return registered
    opened = within.path in context.open
    frame["asks"] = {**frame.get("asks", {}), name: {"open": True} if opened else {"question": question.to_data()}}
    return PENDING


def _path(place: StepPosition, name: str) -> str:
    return f"{place.path}.{name}"
