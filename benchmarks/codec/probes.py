"""Small values, each with one thing in it that codecs lose or refuse, and what becomes of it."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import PurePosixPath
from uuid import UUID
from zoneinfo import ZoneInfo

from losses import losses
from peers import Peer
from states import Edge, Node, Role, Source, Tool

__all__ = ["PROBES", "PROBE_TYPES", "outcome", "runs_code"]

PROBE_TYPES = (Edge, Node, Role, Source, Tool)


def _cycle() -> object:
    cycle: list[object] = [1]
    cycle.append(cycle)
    return cycle


def _tuple_cycle() -> object:
    inside: list[object] = []
    outside = (inside, 1)
    inside.append(outside)
    return outside


def _objects_cycle() -> object:
    source = Source("s", {})
    parent = Node(1, "parent", 0.5, source, None)
    parent.children.append(Node(2, "child", 0.5, source, parent))
    return parent


def _shared() -> object:
    shared = [1]
    return [shared, shared]


def _deep() -> object:
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    return value


def _slotted() -> object:
    source = Source("s", {})
    return Edge(Node(1, "tail", 0.5, source, None), Node(2, "head", 0.5, source, None), "kind", 1.0)


def _caused() -> object:
    error = ValueError("wrong", 7)
    error.__cause__ = KeyError("why")
    return error


PROBES: Mapping[str, Callable[[], object]] = {
    "a shared list": _shared,
    "a list that holds itself": _cycle,
    "a cycle through a tuple": _tuple_cycle,
    "parent and child": _objects_cycle,
    "100,000 lists deep": _deep,
    "tuple": lambda: (1, 2),
    "set": lambda: {1, 2},
    "bytes, bytearray": lambda: [b"\x00\xff", bytearray(b"\x00\xff")],
    "dict with int keys": lambda: {1: "a", 2: "b"},
    "dict with tuples as keys": lambda: {(1, 2): "a"},
    "OrderedDict, defaultdict, deque": lambda: [OrderedDict(a=1), defaultdict(list, a=[1]), deque([1], maxlen=3)],
    "int of 70 bits": lambda: 2**70,
    "NaN, infinity, -0.0": lambda: [float("nan"), float("-inf"), -0.0],
    "datetime in UTC": lambda: datetime(2026, 1, 1, microsecond=1, tzinfo=UTC),
    "datetime with zone and fold": lambda: datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    "Decimal": lambda: Decimal("1.10"),
    "UUID": lambda: UUID(int=7),
    "Path": lambda: PurePosixPath("/tmp/x"),  # noqa: S108 - a value, not a file
    "Enum member": lambda: Role.TOOL,
    "dataclass": lambda: Tool("t", "tool", {"type": "object"}),
    "slotted attrs": _slotted,
    "exception with a cause": _caused,
    "a function": lambda: lambda: 7,
}


def outcome(make: Callable[[], object], peer: Peer) -> str:
    """In a word or some: kept, what was lost, or what was raised."""
    value = make()
    try:
        lost = losses(value, peer.decode(peer.encode(value)))
    except Exception as error:  # noqa: BLE001 - what a codec raises is what is asked
        return type(error).__name__
    return "; ".join(lost) or "kept"


_ran: list[str] = []


def trap(word: str) -> None:
    """What the bytes name."""
    _ran.append(word)


class _Trapped:
    """What is encoded as a call of a function of its own choosing."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return trap, ("ran",)


def runs_code(peer: Peer) -> str:
    """Whether decoding calls what the value has named."""
    _ran.clear()
    try:
        peer.decode(peer.encode(_Trapped()))
    except Exception as error:  # noqa: BLE001 - what a codec raises is what is asked
        return "**runs**" if _ran else type(error).__name__
    return "**runs**" if _ran else "no"
