"""Iterations that have finished or only wait for answers, apart from the rest of a run's state.

A step with thousands of iterations that wait would else have all of them read, walked and written at each answer. So
when the run pauses they are encoded in groups, and an answer brings back the group of its iteration alone. In the
state::

    "dormant": {path of the step: {"count": its iterations, "per_group": 64, "groups": bytes, "data": bytes}, …}
    "open": {path: size}      the open waits of the steps that are not dormant

``data`` has the groups one after another, ``groups`` six numbers of 32 bits for each. A group encodes iterations that
follow each other, {"frames": [FRAME, …], "open": [{end of the path: size}, …], "items": [[item, its giver], …]}, with
None for the item of one that has finished, and ``same`` in its frame: {step: "result"} where that is the step's too.
They are bytes, so that the state is read and written in no time.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

from attrs import define, field
from returns.result import Failure

from flowpersist.codec import Codec, Limits
from flowpersist.dynamicflow.state import Frame, State, is_within, sub_frame
from flowpersist.errors import FlowError
from flowpersist.stages.compress import decompress

if TYPE_CHECKING:
    from flowpersist.dynamicflow.positions import Tally

__all__ = [
    "CODEC",
    "COLUMNS",
    "DORMANT",
    "OPEN",
    "PARTS",
    "SAME",
    "Dormant",
    "Fan",
    "Group",
    "Paused",
    "frame_at",
    "index_of",
    "labels_of",
    "marked",
    "merged",
    "wake",
    "with_dormant",
]

#: The fields of the state.
DORMANT: Final = "dormant"
OPEN: Final = "open"
#: Any codec reads plain data, so this one needs nothing of the hub's. A group of more bytes costs less beside the rest.
CODEC: Final = Codec(limits=Limits(max_bytes=256 * 1024))
#: The columns of a group.
COLUMNS: Final = ("frames", "open", "items")
#: The field of a finished frame in a group: of which steps the results are these parts of the frame itself.
SAME: Final = "same"
PARTS: Final = ("result", "given")
#: In the index: a group's number and the length of its bytes; then as in ``Group``.
_GROUP: Final = struct.Struct(">6I")
_LABELS: Final = re.compile(r"\[[^\]]*\]|[^.\[\]]+")


class Paused(Protocol):
    """A step that paused with iterations that wait: how many it has, which of them wait, and each one's item with its
    giver.
    """

    count: int
    item: Callable[[int], tuple[object, object]]

    @property
    def waiting(self) -> AbstractSet[int]:
        """Those that wait, of which the dormant ones are left out."""
        ...


class Leg(Protocol):
    """What of a leg changes when iterations are brought back: see ``Context``."""

    root: Frame
    dormant: Dormant
    answers: dict[str, object]
    expired: set[str]
    open: dict[str, int]
    carried: set[str]
    waiting: set[str]
    tally: Tally


class Group(NamedTuple):
    """Iterations as they are stored: their bytes, how many these are before they are compressed, how many of their
    waits are open, the size of these, and how many iterations have finished.
    """

    data: bytes
    plain: int
    waits: int
    size: int
    finished: int


@define
class Fan:
    """The dormant iterations of one step, in groups of ``per_group`` by their numbers.

    ``whole``: all ``count`` of them were dormant when the leg began, so that the step needs nothing but ``items``, the
    items with their givers of those that were brought back.
    """

    count: int
    per_group: int
    groups: dict[int, Group] = field(factory=dict, repr=False)
    items: dict[int, tuple[object, object]] = field(factory=dict, init=False, repr=False)
    whole: bool = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.whole = len(self.groups) == -(-self.count // self.per_group)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Fan:
        """That of a stored state."""
        groups: dict[int, Group] = {}
        data, start = memoryview(stored["data"]), 0
        for number, length, *numbers in _GROUP.iter_unpack(stored["groups"]):
            groups[number] = Group(bytes(data[start : start + length]), *numbers)
            start += length
        return cls(stored["count"], stored["per_group"], groups)

    def in_state(self) -> dict[str, object]:
        """Its form in the state."""
        index = [_GROUP.pack(at, len(one.data), *one[1:]) for at, one in self.groups.items()]
        data = b"".join([one.data for one in self.groups.values()])
        return {"count": self.count, "per_group": self.per_group, "groups": b"".join(index), "data": data}

    def numbers(self, group: int) -> range:
        """The numbers of a group's iterations."""
        return range(group * self.per_group, min(self.count, (group + 1) * self.per_group))

    @property
    def waiting(self) -> int:
        """How many dormant iterations wait."""
        last = (self.count - 1) // self.per_group
        missing = (last + 1) * self.per_group - self.count if last in self.groups else 0
        return len(self.groups) * self.per_group - missing - sum([one.finished for one in self.groups.values()])


@define
class Dormant:
    """What is dormant in the state of a run, by the paths of the steps."""

    fans: dict[str, Fan] = field(factory=dict)
    #: Of all groups: the open waits, their size, and the bytes before they are compressed.
    waits: int = field(default=0, init=False)
    size: int = field(default=0, init=False)
    plain: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        for fan in self.fans.values():
            self._count(fan.groups.values(), 1)

    @classmethod
    def of(cls, state: State) -> Dormant:
        """That of a stored state. ``FlowError`` if it is damaged, which only a migration can have done."""
        stored: Mapping[str, Any] = state.get(DORMANT, {})
        try:
            return cls({path: Fan.of(fan) for path, fan in stored.items()})
        except (KeyError, TypeError, struct.error) as error:
            raise _damaged() from error

    def in_state(self) -> dict[str, object]:
        """Its form in the state."""
        return {path: fan.in_state() for path, fan in self.fans.items() if fan.groups}

    def has(self, wait: str) -> bool:
        """Whether a wait is that of a dormant iteration."""
        for path, fan in self.fans.items():
            if wait.startswith(path) and wait.startswith("[", len(path)):
                number = int(wait[len(path) + 1 : wait.index("]", len(path))])
                if number // fan.per_group in fan.groups:
                    return True
        return False

    def is_whole(self, path: str) -> bool:
        """Whether all iterations of a step were dormant when the leg began, with their items."""
        fan = self.fans.get(path)
        return fan is not None and fan.whole

    def add(self, path: str, fan: Fan, groups: Mapping[int, Group]) -> None:
        """Add groups of a step."""
        self.fans.setdefault(path, fan).groups.update(groups)
        self._count(groups.values(), 1)

    def take(self, path: str, group: int) -> Mapping[str, Any]:
        """Take a group out, decoded. ``FlowError`` if it is damaged, which only a migration can have done."""
        taken = self.fans[path].groups.pop(group)
        self._count((taken,), -1)
        return _decoded(taken)

    def within(self, path: str | None) -> list[tuple[str, int]]:
        """The groups of a step and of all within it, or of all steps, those of outer ones first."""
        names = sorted((name for name in self.fans if path is None or is_within(name, path)), key=len)
        return [(name, group) for name in names for group in self.fans[name].groups]

    def forget(self, path: str) -> None:
        """Leave out a step and all within it, whose groups were taken out: they begin anew."""
        for name in [name for name in self.fans if is_within(name, path)]:
            del self.fans[name]

    def _count(self, groups: Collection[Group], sign: int) -> None:
        self.waits += sign * sum([one.waits for one in groups])
        self.size += sign * sum([one.size for one in groups])
        self.plain += sign * sum([one.plain for one in groups])


def wake(leg: Leg, path: str, group: int, come: Collection[int] = ()) -> set[int]:
    """Bring a group back; gives the numbers of its iterations that still wait. ``come`` are the iterations of the step
    for which something has come.
    """
    fan = leg.dormant.fans[path]
    content = leg.dormant.take(path, group)
    frames = sub_frames(leg.root, path)
    waiting: set[int] = set()
    for at, frame, opened, item in zip(fan.numbers(group), *(content[name] for name in COLUMNS), strict=True):
        frames[f"[{at}]"] = frame
        if item is not None:
            fan.items[at] = (item[0], item[1])
            # One that goes on says for itself what it still waits for.
            waiting |= {at} if at not in come else set()
        for suffix, size in opened.items():
            name = f"{path}[{at}]{suffix}"
            if name in leg.answers or name in leg.expired:
                leg.tally.room += size
                leg.tally.freed = True
                continue
            leg.open[name] = size
            leg.carried.add(name)
            if at in waiting:
                leg.waiting.add(name)
    return waiting


def sub_frames(root: Frame, path: str) -> dict[str, Frame]:
    """The frames within the step at a path."""
    frames: dict[str, Frame] = frame_at(root, path).setdefault("sub", {})
    return frames


def with_dormant(state: State, leg: Leg) -> State:
    """The state as it is to be stored while its run goes on."""
    return marked(state, leg.dormant, leg.open)


def marked(state: State, dormant: Dormant, opened: Mapping[str, int]) -> State:
    """The state with what is dormant, and the waits that are open beside that; unchanged where nothing is."""
    data = dormant.in_state()
    return {**state, DORMANT: data, OPEN: dict(opened)} if data else state


def frame_at(root: Frame, path: str) -> Frame:
    """The frame of the step at a path, created where it is missing."""
    frame = root
    for name in labels_of(path):
        frame = sub_frame(frame, name)
    return frame


def labels_of(path: str) -> list[str]:
    """The names of the frames on the way to the step at a path."""
    return _LABELS.findall(path)


def merged(state: State) -> None:
    """Bring all that is dormant back into a stored state. ``FlowError`` as for ``Dormant.take``."""
    dormant = Dormant.of(state)
    for path, group in dormant.within(None):
        numbers = dormant.fans[path].numbers(group)
        frames = dormant.take(path, group)["frames"]
        sub_frames(state["frame"], path).update({f"[{at}]": frame for at, frame in zip(numbers, frames, strict=True)})
    for path in dormant.fans:
        frames = sub_frames(state["frame"], path)
        ordered = dict(sorted(frames.items(), key=lambda one: index_of(one[0])))
        frames.clear()
        frames.update(ordered)
    state.pop(DORMANT, None)
    state.pop(OPEN, None)


def index_of(text: str, start: int = 0) -> int:
    """The number in brackets that begin there."""
    return int(text[start + 1 : text.index("]", start)])


def _decoded(group: Group) -> Mapping[str, Any]:
    plain = decompress(group.data, limit=CODEC.limits.max_bytes).bind(CODEC.decode)
    if isinstance(plain, Failure):
        raise _damaged() from plain.failure()
    content = cast("Mapping[str, Any]", plain.unwrap())
    for frame in content["frames"]:
        for name, part in frame.pop(SAME, {}).items():
            frame["steps"][name] = frame[part]
    return content


def _damaged() -> FlowError:
    return FlowError("the run's state lacks iterations of its steps: a migration has damaged it")
