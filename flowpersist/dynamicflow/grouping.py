"""Making groups of iterations at a pause: which of them can be dormant until their answers come."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from attrs import define, field
from returns.result import Success

from flowpersist.dynamicflow.apart import unshared
from flowpersist.dynamicflow.dormant import (
    CODEC,
    COLUMNS,
    PARTS,
    SAME,
    Dormant,
    Fan,
    Group,
    Paused,
    frame_at,
    labels_of,
    marked,
    wake,
    with_dormant,
)
from flowpersist.dynamicflow.state import Frame, State
from flowpersist.stages.compress import compress, plain_size

if TYPE_CHECKING:
    from flowpersist.dynamicflow.context import Context

__all__ = ["grouped"]

#: A step with fewer iterations costs less as it is.
MANY: Final = 32
PER_GROUP: Final = 64
#: So many groups are looked at in the event loop.
FEW: Final = 4
#: The path of a step, and the number of a group of its iterations.
_At: TypeAlias = tuple[str, int]


@define
class _Candidate:
    """A group that may become dormant: its frames, their open waits by the ends of their paths, and the items with
    their givers of those that have not finished.
    """

    frames: dict[str, Frame] = field(repr=False)
    opened: list[Mapping[str, int]]
    items: list[tuple[object, object] | None] = field(repr=False)

    def made(self) -> Group | None:
        """The group; None if it is too large, or not plain data."""
        columns = (
            [_parted(frame) for frame in self.frames.values()],
            self.opened,
            [None if one is None else list(one) for one in self.items],
        )
        # In the event loop, where no task changes it meanwhile, and brief, since a group is small.
        data = CODEC.encode(dict(zip(COLUMNS, columns, strict=True))).bind(compress)
        if not isinstance(data, Success):
            return None
        made = data.unwrap()
        sizes = [size for waits in self.opened for size in waits.values()]
        return Group(made, plain_size(made), len(sizes), sum(sizes), self.items.count(None))


def _parted(frame: Frame) -> Frame:
    """The frame of an iteration, in which a finished one has its result, and who gave that, once: a step's result is
    most often that of its iteration. The codec writes what is met once in a fraction of the time.
    """
    if not frame.keys() >= {"result", "steps"}:
        return frame
    twice = {part: frame[part] for part in PARTS if isinstance(frame.get(part), dict | list)}
    same = {name: part for name, value in frame["steps"].items() for part, one in twice.items() if value is one}
    if not same:
        return frame
    return {**frame, "steps": {name: None if name in same else one for name, one in frame["steps"].items()}, SAME: same}


async def grouped(state: State, context: Context, most: int) -> State:
    """The state of a run that pauses, with the iterations in groups that have finished or only wait. What shares
    something with the rest of the state stays in it, and so does all while a delay is open or a wait does not fit:
    then more than an answer lets the run go on.

    At most so many bytes stand in groups, before they are compressed.
    """
    if context.timed or context.tally.put_off:
        for path, number in context.dormant.within(None):
            wake(context, path, number)
        return state
    found = dict(_candidates(context))
    if not found:
        return with_dormant(state, context)
    try:
        plain = _plain(state, found) if len(found) <= FEW else await asyncio.to_thread(_plain, state, found)
    except RuntimeError:
        # A task changes a dict or a list meanwhile: storing the state reports it.
        plain = []
    left = most - context.dormant.plain
    made: dict[_At, Group] = {}
    for at in plain:
        await context.pace()
        group = found[at].made()
        if group is not None and group.plain <= left:
            left -= group.plain
            made[at] = group
    frame = _without(state["frame"], {at: found[at] for at in made})
    asleep = {
        f"{path}{name}{suffix}"
        for path, number in made
        for name, waits in zip(found[path, number].frames, found[path, number].opened, strict=True)
        for suffix in waits
    }
    opened = {name: size for name, size in context.open.items() if name not in asleep}
    return marked({**state, "frame": frame}, _with(context, made), opened)


def _candidates(context: Context) -> Iterator[tuple[_At, _Candidate]]:
    """The groups of the steps that have paused, those of outer steps first."""
    fans = {path: fan for path, fan in context.paused.items() if fan.count >= MANY}
    if not fans:
        return
    opened = _opened(context.open, fans)
    taken = Dormant()
    for path in sorted(fans, key=len):
        if taken.has(path):
            continue
        fan, known = fans[path], _known(context, path)
        frames: Mapping[str, Frame] = frame_at(context.root, path).get("sub", {})
        for number in range(-(-known.count // known.per_group)):
            if number not in known.groups and (one := _candidate(fan, known.numbers(number), frames, opened[path])):
                taken.add(path, Fan(known.count, known.per_group), {number: Group(b"", 0, 0, 0, 0)})
                yield (path, number), one


def _opened(names: Mapping[str, int], fans: Collection[str]) -> Mapping[str, Mapping[int, dict[str, int]]]:
    """The open waits within each of these steps, by the numbers of iterations and the ends of their paths."""
    found: dict[str, dict[int, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    for name, size in names.items():
        at = name.find("[")
        while at >= 0:
            if name[:at] in fans:
                end = name.index("]", at)
                found[name[:at]][int(name[at + 1 : end])][name[end + 1 :]] = size
            at = name.find("[", at + 1)
    return found


def _candidate(
    fan: Paused, numbers: range, frames: Mapping[str, Frame], opened: Mapping[int, Mapping[str, int]]
) -> _Candidate | None:
    """A group of these iterations; None if one of them has neither finished nor waits."""
    within = {f"[{at}]": at for at in numbers}
    if not frames.keys() >= within.keys():
        return None
    waiting = {name: at for name, at in within.items() if "result" not in frames[name]}
    if not fan.waiting >= set(waiting.values()):
        return None
    items = [fan.item(at) if name in waiting else None for name, at in within.items()]
    return _Candidate({name: frames[name] for name in within}, [opened.get(at, {}) for at in numbers], items)


def _plain(state: State, found: Mapping[_At, _Candidate]) -> list[_At]:
    """Those that share nothing with each other nor with the rest of the state."""
    frames = {at: one.frames for at, one in found.items()}
    groups = unshared(frames, partial(_rest, state, found))
    return [group[0] for group in groups if len(group) == 1]


def _rest(state: State, found: Mapping[_At, _Candidate], apart: Collection[_At]) -> Iterable[object]:
    yield _without(state["frame"], {at: found[at] for at in apart})
    yield state["input"]


def _without(root: Frame, groups: Mapping[_At, _Candidate]) -> Frame:
    """The frames without these groups. Nothing is changed that a snapshot of the state may share."""
    gone: dict[str, set[str]] = defaultdict(set)
    for (path, _), one in groups.items():
        gone[path].update(one.frames)
    for path, labels in gone.items():
        root = _replaced(root, path, labels)
    return root


def _replaced(root: Frame, path: str, labels: Collection[str]) -> Frame:
    names = labels_of(path)
    around = [root]
    for name in names:
        around.append(around[-1]["sub"][name])
    last = around.pop()
    inner = {**last, "sub": {name: frame for name, frame in last["sub"].items() if name not in labels}}
    for frame, name in zip(reversed(around), reversed(names), strict=True):
        inner = {**frame, "sub": {**frame["sub"], name: inner}}
    return inner


def _with(context: Context, made: Mapping[_At, Group]) -> Dormant:
    """What is dormant once these groups are."""
    known = context.dormant.fans.items()
    dormant = Dormant({path: Fan(fan.count, fan.per_group, dict(fan.groups)) for path, fan in known})
    for (path, number), group in made.items():
        fan = _known(context, path)
        dormant.add(path, Fan(fan.count, fan.per_group), {number: group})
    return dormant


def _known(context: Context, path: str) -> Fan:
    """The dormant iterations of a step that has paused, of which there may be none."""
    return context.dormant.fans.get(path) or Fan(context.paused[path].count, PER_GROUP)
