"""Large results of finished steps, and large parts of the input, apart from the rest of a run's state.

A run that pauses often would else read and write all of them at each pause. So they are encoded by themselves once,
when a run first pauses with them. Its state then holds the bytes, which nothing decodes before a step refers to what is
in them. In the state::

    "apart": {"0": bytes, …}       each encodes {"frames": {step id: {"result": …, …}}, "input": {field: …}, "whole": …}
    "input_apart": {field: "0"}    the fields of the input that are apart, which are None in the input
    "whole_apart": "0"             the input as a whole is apart

A frame of an outermost step has ``apart``, the key of its bytes, and ``exports``, what can be found there: a list of
pairs, ``["result"]``, ``["given"]``, ``["steps", name]`` or ``["variables", name]``.

What is shared stays shared: values with a common part stand in the same bytes, and those that have one with the rest of
the state stay in it. Only plain data is set apart, so that to decode it needs none of the user's classes.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import FunctionType, ModuleType
from typing import Any, Final, TypeAlias, TypeVar, cast

from attrs import define, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.codec import Codec
from flowpersist.dynamicflow.dormant import merged
from flowpersist.dynamicflow.later import Later
from flowpersist.dynamicflow.leaves import ATOMS
from flowpersist.dynamicflow.state import Frame, State, check_state, kept_frame
from flowpersist.errors import FlowError, PersistenceError
from flowpersist.sealed.encoding import encoded
from flowpersist.stages.compress import compress, decompress, plain_size

__all__ = ["Parts", "held", "set_apart", "unshared", "whole"]

#: A value with fewer items costs less beside the rest than apart.
_LARGE: Final = 200
#: What of a finished step's frame is set apart.
_CONTENT: Final = ("result", "given", "steps", "variables")
#: Any codec reads plain data, so this one needs nothing of the hub's.
_CODEC: Final = Codec()
_NAMES: Final = frozenset({str})
#: What has no parts that something else could have too; bytes are what a tool has kept by ``memo``.
_LEAVES: Final = ATOMS | {bytes}
#: What belongs to the program, and is no part of a value.
_OF_PROGRAM: Final = (type, ModuleType, FunctionType)

#: Where a value stands: ``("frames", step id)``, ``("input", field)`` or ``("whole", "")``.
_Spot: TypeAlias = tuple[str, str]
Spot = TypeVar("Spot")


@define
class Parts:
    """The state of a run, into which what is apart is put back in place."""

    state: State = field(repr=False)

    @property
    def keys(self) -> Collection[str]:
        """The keys of what is apart now."""
        apart: Mapping[str, bytes] = self.state.get("apart", {})
        return apart.keys()

    @property
    def input(self) -> object:
        """The run's input."""
        return Input(self) if self.keys else self.state["input"]

    def open(self, key: str) -> None:
        """Put back what has this key. ``FlowError`` if it is damaged, which only a migration can have done."""
        self._put_back(key, _decoded(self.state["apart"][key]))

    async def ready(self, keys: Iterable[str]) -> None:
        """Put back what has these keys, decoded in a thread. ``FlowError`` as above."""
        for key in dict.fromkeys(keys):
            if key not in self.keys:
                continue
            found = await asyncio.to_thread(_decoded, self.state["apart"][key])
            # A branch beside this one may have put it back meanwhile.
            if key in self.keys:
                self._put_back(key, found)

    def _put_back(self, key: str, found: Mapping[str, Any]) -> None:
        # Nothing is changed that a snapshot of the state may share.
        state = self.state
        frames = state["frame"].get("sub", {})
        for name, content in found.get("frames", {}).items():
            frame = frames.get(name, {})
            if frame.get("apart") == key:
                del frame["apart"], frame["exports"]
                frame.update(content)
        given = {name: value for name, value in found.get("input", {}).items() if _input_keys(state).get(name) == key}
        if given:
            state["input"] = {**state["input"], **given}
            state["input_apart"] = {name: at for name, at in state["input_apart"].items() if at != key}
        if state.get("whole_apart") == key:
            state["input"] = found["whole"]
            del state["whole_apart"]
        state["apart"] = {name: data for name, data in state["apart"].items() if name != key}


@frozen
class InFrame(Later):
    """A value of a frame that may be apart."""

    parts: Parts = field(repr=False)
    frame: Frame = field(repr=False)
    place: tuple[str, ...]

    def needs(self, path: Sequence[str | int] = ()) -> Collection[str]:  # noqa: ARG002 - all of a frame stands together
        """See ``Later``."""
        return (self.frame["apart"],) if "apart" in self.frame else ()

    def get(self, path: Sequence[str | int] = ()) -> object:
        """See ``Later``."""
        for key in self.needs(path):
            self.parts.open(key)
        found: Any = self.frame
        for name in self.place:
            found = found[name]
        return found


@frozen
class Input(Later):
    """The input of a run, of which parts may be apart."""

    parts: Parts = field(repr=False)

    def needs(self, path: Sequence[str | int] = ()) -> Collection[str]:
        """See ``Later``."""
        state = self.parts.state
        if "whole_apart" in state:
            return (state["whole_apart"],)
        return {key for name, key in _input_keys(state).items() if not path or name == path[0]}

    def get(self, path: Sequence[str | int] = ()) -> object:
        """See ``Later``."""
        for key in self.needs(path):
            self.parts.open(key)
        return self.parts.state["input"]


def held(parts: Parts, frame: Frame) -> dict[tuple[str, ...], InFrame]:
    """What a finished step has apart, by where it stands in its frame otherwise."""
    return {tuple(place): InFrame(parts, frame, tuple(place)) for place in frame["exports"]}


async def whole(value: object) -> Result[State, PersistenceError]:
    """The state of a run, checked as by ``check_state``, with nothing apart: for all but the run itself."""
    checked = check_state(value)
    if isinstance(checked, Failure):
        return checked
    state = checked.unwrap()
    parts = Parts(dict(state))
    parts.state["frame"] = kept_frame(state["frame"])
    try:
        await asyncio.to_thread(merged, parts.state)
        await parts.ready(list(parts.keys))
    except FlowError as error:
        return Failure(error)
    return Success({name: value for name, value in parts.state.items() if name not in {"apart", "input_apart"}})


async def set_apart(state: State, most: int) -> State:
    """The state with what is large apart. It is as it was where anything stands against that.

    At most so many bytes stand apart, before they are compressed, so that the whole state has a bound too.
    """
    try:
        found = dict(_candidates(state))
        if not found:
            return state
        groups = await asyncio.to_thread(unshared, found, partial(_rest, state))
    except RuntimeError:
        # A task changes a dict or a list meanwhile: storing the state reports it.
        return state
    for group in groups:
        content: dict[str, Any] = {}
        for kind, name in group:
            content.setdefault(kind, {})[name] = found[kind, name]
        if "whole" in content:
            content["whole"] = content["whole"][""]
        made = await encoded(_CODEC, content, compress)
        if isinstance(made, Success):
            data = made.unwrap()
            if plain_size(data) + sum(map(plain_size, state.get("apart", {}).values())) <= most:
                state = _without(state, group, data)
    return state


def _decoded(data: bytes) -> Mapping[str, Any]:
    plain = decompress(data, limit=_CODEC.limits.max_bytes).bind(_CODEC.decode)
    if isinstance(plain, Failure):
        message = "the run's state lacks results of its steps: a migration has damaged it"
        raise FlowError(message) from plain.failure()
    return cast("Mapping[str, Any]", plain.unwrap())


def _input_keys(state: State) -> Mapping[str, str]:
    return cast("Mapping[str, str]", state.get("input_apart", {}))


def _candidates(state: State) -> Iterator[tuple[_Spot, Any]]:
    for name, frame in state["frame"].get("sub", {}).items():
        if "result" in frame:
            content = {part: frame[part] for part in _CONTENT if part in frame}
            inner = [*content.get("steps", {}).values(), *content.get("variables", {}).values()]
            if any(map(_is_large, [content["result"], *inner])):
                yield ("frames", name), content
    given = state["input"]
    if type(given) is dict and len(given) < _LARGE:
        yield from ((("input", name), value) for name, value in given.items() if type(name) is str and _is_large(value))
    elif _is_large(given):
        yield ("whole", ""), given


def _is_large(value: object) -> bool:
    """Whether it has many items, or one of them has. What is nested deeper is not looked for at each pause."""
    if type(value) is not list and type(value) is not dict:
        return False
    items = value.values() if type(value) is dict else cast("list[Any]", value)
    return len(items) >= _LARGE or any(type(item) in {list, dict} and len(item) >= _LARGE for item in items)


def unshared(found: Mapping[Spot, object], rest: Callable[[Collection[Spot]], Iterable[object]]) -> list[list[Spot]]:
    """The values that can be apart, by where they stand; those that share something together. ``rest`` gives what is
    beside these.
    """
    spots = list(found)
    owners: dict[int, int] = {}
    leaders = list(range(len(spots)))
    refused = {at for at, spot in enumerate(spots) if not _own(found[spot], at, owners, leaders)}
    stay = {spots[at] for at in refused}
    owners = {one: at for one, at in owners.items() if at not in refused}
    refused |= _reached(list(rest(found.keys() - stay)), owners)
    out = {_leader(leaders, at) for at in refused}
    groups: dict[int, list[Spot]] = {}
    for at, spot in enumerate(spots):
        leader = _leader(leaders, at)
        if leader not in out:
            groups.setdefault(leader, []).append(spot)
    return list(groups.values())


def _leader(leaders: list[int], at: int) -> int:
    while leaders[at] != at:
        at = leaders[at]
    return at


def _own(value: object, at: int, owners: dict[int, int], leaders: list[int]) -> bool:
    """Note whose the dicts and lists of a value are, and join it with those that have them too; False: it is not plain
    data.
    """
    pending: list[Any] = [value]
    while pending:
        one = pending.pop()
        kind = type(one)
        if kind in _LEAVES:
            continue
        if kind is not dict and kind is not list:
            return False
        if id(one) in owners:
            leaders[_leader(leaders, owners[id(one)])] = _leader(leaders, at)
            continue
        owners[id(one)] = at
        if kind is dict and not _NAMES.issuperset(map(type, one)):
            return False
        pending.extend(one.values() if kind is dict else one)
    return True


def _rest(state: State, apart: Collection[_Spot]) -> Iterator[object]:
    """What stays in the state beside these."""
    for name, frame in state["frame"].get("sub", {}).items():
        if ("frames", name) not in apart:
            yield frame
    yield from (value for name, value in state["frame"].items() if name != "sub")
    given = state["input"]
    if type(given) is not dict:
        yield from () if ("whole", "") in apart else (given,)
    elif ("whole", "") not in apart:
        yield from (value for name, value in given.items() if ("input", name) not in apart)


def _reached(roots: list[object], owners: Mapping[int, int]) -> set[int]:
    """Whose dicts and lists these values lead to, whatever objects they have."""
    found: set[int] = set()
    seen: set[int] = set()
    pending = roots
    while pending:
        one = pending.pop()
        if type(one) in _LEAVES or isinstance(one, _OF_PROGRAM) or id(one) in seen:
            continue
        if id(one) in owners:
            found.add(owners[id(one)])
            continue
        seen.add(id(one))
        pending.extend(gc.get_referents(one))
    return found


def _without(state: State, group: Sequence[_Spot], data: bytes) -> State:
    apart: dict[str, bytes] = state.get("apart", {})
    key = str(1 + max(map(int, apart), default=-1))
    made = {**state, "apart": {**apart, key: data}}
    frames = dict(state["frame"].get("sub", {}))
    for kind, name in group:
        if kind == "frames":
            frames[name] = _emptied(frames[name], key)
        elif kind == "input":
            made["input"] = {**made["input"], name: None}
            made["input_apart"] = {**made.get("input_apart", {}), name: key}
        else:
            made |= {"input": None, "whole_apart": key}
    return {**made, "frame": {**state["frame"], "sub": frames}} if frames else made


def _emptied(frame: Frame, key: str) -> Frame:
    exports: list[list[str]] = [[part] for part in _CONTENT[:2] if part in frame]
    exports += [[part, name] for part in ("steps", "variables") for name in frame.get(part, {})]
    kept = {name: value for name, value in frame.items() if name not in _CONTENT}
    return {**kept, "apart": key, "exports": exports}
