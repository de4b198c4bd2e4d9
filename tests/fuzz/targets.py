"""What is fuzzed: bytes from anywhere go to the codec or to a sealer without a keyring, and what must hold is asserted.

The tests that replay the corpus use these functions too. ``TARGETS`` has them by name.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import struct
import sys
import zlib
from collections import Counter, OrderedDict, defaultdict, deque
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from zoneinfo import TZPATH, ZoneInfo

import attrs
import pydantic
from returns.result import Failure, Success

import fragile
import kinds
from flowpersist import Sealer
from flowpersist.codec import Codec, Limits, TypeRegistry
from flowpersist.codec.decoder import decode_graph
from flowpersist.codec.encoder import encode_graph
from flowpersist.codec.typed_reading import decode_typed
from flowpersist.codec.typed_writing import encode_typed
from flowpersist.errors import PersistenceError
from flowpersist.testing import same_graph

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from returns.result import Result

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
VECTORS = HERE.parents[1] / "specs" / "codec" / "vectors"
#: Patterns are short, since compiling one of the greatest length takes seconds.
LIMITS = Limits(max_bytes=2**18, max_nodes=20_000, max_str=2**16, max_pattern=256)
CONTEXT = b"fuzz"

#: Code of the classes below that ran though decoding must not run it.
ran: list[str] = []


class Guarded:
    """Its subclasses' own code must never run while bytes are decoded."""

    def __setattr__(self, name: str, value: object) -> None:
        ran.append(f"{type(self).__name__}.__setattr__")
        object.__setattr__(self, name, value)


@dataclasses.dataclass(eq=False)
class Node(Guarded):
    first: Any = None
    second: Any = None

    def __post_init__(self) -> None:
        ran.append("Node.__post_init__")


@dataclasses.dataclass(frozen=True)
class Valued:
    first: Any = None
    second: Any = None


@attrs.define(eq=False)
class Slotted:
    first: Any = attrs.field(default=None, converter=lambda value: ran.append("Slotted.first") or value)


class Pair(NamedTuple):
    first: Any
    second: Any


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Right(enum.IntFlag):
    READ = 1
    WRITE = 2


class Model(pydantic.BaseModel):
    name: Any = None
    child: Any = None

    def model_post_init(self, _: object) -> None:
        ran.append("Model.model_post_init")


class Failed(Exception):
    def __init__(self, reason: str) -> None:
        ran.append("Failed.__init__")
        super().__init__(reason)


class Vector:
    def __init__(self, parts: tuple[Any, ...]) -> None:
        self.parts = parts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vector) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(self.parts)


class Renamed(NamedTuple):
    full: Any


class Listed(list[Any]):
    """Subclasses of Python's own classes, whose own methods must not run."""

    def append(self, _: object) -> None:
        ran.append("Listed.append")

    def extend(self, _: object) -> None:
        ran.append("Listed.extend")


class Keyed(dict[Any, Any]):
    def __setitem__(self, key: object, value: object) -> None:
        ran.append("Keyed.__setitem__")


class Arranged(OrderedDict[Any, Any]):
    pass


class Pile(set[Any]):
    def add(self, _: object) -> None:
        ran.append("Pile.add")


class Packed(frozenset[Any]):
    def __new__(cls, *_: object) -> Self:
        ran.append("Packed.__new__")
        return super().__new__(cls)


class Row(tuple[Any, ...]):
    __slots__ = ()


class Queue(deque[Any]):
    pass


class Buffer(bytearray):
    pass


class Text(str):  # noqa: SLOT000 - it has attributes
    def __init__(self, *_: object) -> None:
        ran.append("Text.__init__")


class Whole(int):
    pass


class Real(float):
    __slots__ = ("unit",)


SUBCLASSES = (Listed, Keyed, Arranged, Pile, Packed, Row, Queue, Buffer, Text, Whole, Real)


class Stateful:
    """Its own code is run with what a state holds, and may refuse it."""

    def __init__(self, held: object) -> None:
        self.held = held

    def __getstate__(self) -> object:
        return (self.held,)

    def __setstate__(self, state: Any) -> None:
        (self.held,) = state


class Before(NamedTuple):
    """What Renamed was in its first version."""

    name: Any


@dataclasses.dataclass(eq=False)
class Small:
    """What Grown was."""

    name: Any
    more: Any = None


@dataclasses.dataclass(eq=False)
class Grown(Guarded):
    title: Any
    more: Any
    size: Any


def _older() -> TypeRegistry:
    types = TypeRegistry()
    types.register(Before, name="fuzz.Renamed")
    types.register(Small, name="fuzz.Grown")
    return types


def _old_value() -> list[Any]:
    many = [Small("z", Before(())) for _ in range(18)]
    return [Before("x"), {Before(("y", Before(None)))}, Small("a", [Small("b")]), many, [Before(n) for n in range(18)]]


def _grow(fields: dict[str, Any]) -> dict[str, Any]:
    return {"title": fields["name"], "more": fields["more"], "size": None}


def _registry() -> TypeRegistry:
    types = TypeRegistry()
    for cls in (Node, Valued, Slotted, Pair, Colour, Right, Model, Failed, Stateful, *SUBCLASSES):
        types.register(cls, name=f"fuzz.{cls.__name__}")
    types.register(
        Vector, name="fuzz.Vector", encode=lambda one: list(one.parts), decode=lambda parts: Vector(tuple(parts))
    )
    kinds.register(types)
    fragile.register(types)
    types.register(Renamed, name="fuzz.Renamed", version=2, upgrades={1: lambda fields: {"full": fields["name"]}})
    types.register(Grown, name="fuzz.Grown", version=2, upgrades={1: _grow})
    return types


CODEC = Codec(types=_registry(), limits=LIMITS)
SEALER = Sealer(codec=CODEC, keyring=None)


# What decoding must not do.

FORBIDDEN = (
    "import",
    "exec",
    "compile",
    "open",
    "os.",
    "subprocess.",
    "socket.",
    "shutil.",
    "tempfile.",
    "ctypes.",
    "marshal.",
    "pickle.",
)
seen: list[str] = []
watching: list[bool] = []


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if watching and event.startswith(FORBIDDEN) and not _of_zones(event, arguments[0]):
        seen.append(f"{event} {arguments[0]!r:.100}")


def _of_zones(event: str, path: object) -> bool:
    """Whether a file of the time zones that are installed is read."""
    is_path = event == "open" and isinstance(path, str)
    return is_path and (path.startswith(tuple(TZPATH)) or "tzdata" in Path(path).parts)


sys.addaudithook(_hook)
# The names of the zones are listed once in a process, for which the tz database's own package is imported.
CODEC.decode(CODEC.encode(ZoneInfo("Europe/Berlin")).unwrap()).unwrap()


@contextmanager
def watched() -> Iterator[None]:
    """Within, nothing may be imported, run or opened, nor any code of the guarded classes."""
    seen.clear()
    ran.clear()
    watching.append(True)
    try:
        yield
    finally:
        watching.clear()
    assert not seen, seen
    assert not ran, ran


# The targets.


def _harmless(outcome: Result[object, PersistenceError]) -> None:
    match outcome:
        case Failure(error):
            assert isinstance(error, PersistenceError), error
        case Success(value):
            _writes_again(value)


def _writes_again(value: object) -> None:
    """What was decoded is a value like any other: it is encoded within the limits, or refused."""
    match CODEC.encode(value):
        case Failure(error):
            assert isinstance(error, PersistenceError), error
        case Success(data):
            # It is decoded again, and compared.
            again = CODEC.verifying().encode(value)
            assert again == Success(data), again


def codec(data: bytes) -> None:
    """Any bytes to the codec."""
    with watched():
        outcome = CODEC.decode(data)
    _harmless(outcome)
    _has_one_meaning(outcome)


def _has_one_meaning(outcome: Result[object, PersistenceError]) -> None:
    """What a typed tree holds, a table of objects holds too."""
    value = outcome.value_or(None)
    typed = encode_typed(value, CODEC.types, LIMITS)
    if typed is not None:
        whole, _ = decode_graph(encode_graph(value, CODEC.types, LIMITS), CODEC.types, LIMITS)
        assert same_graph(decode_typed(typed, CODEC.types, LIMITS), whole, types=CODEC.types)


def sealer(data: bytes) -> None:
    """Any bytes to the sealer: as they are, and with length, digest and checksum made right, which hide the rest."""
    for envelope in (data, mended(data)):
        with watched():
            outcome = SEALER.open(envelope, context=CONTEXT)
        _harmless(outcome)


TARGETS: dict[str, Callable[[bytes], None]] = {"codec": codec, "sealer": sealer}

# An envelope of suite 1: specs/persistence/envelope.md.
HEADER = struct.Struct(">4sBBHI32s32s12sQ")
DIGEST = 32


def mended(data: bytes) -> bytes:
    """These bytes as an envelope whose length, digest and checksum are right, whatever its frame says."""
    frame = data[HEADER.size : -DIGEST - 4]
    frame += sha256(frame).digest()
    header = HEADER.pack(b"FPE1", 1, 0, 1, 0, bytes(32), bytes(32), bytes(12), len(frame))
    return header + frame + struct.pack(">I", zlib.crc32(header + frame))


# What changes begin from.


def values() -> list[Any]:
    """Values in which each class of this module occurs, in cycles, as keys, and in numbers that make blocks."""
    ring, other = Node("a"), Node("b")
    ring.first, other.first = other, ring
    ring.second = {ring, Valued((ring, "x"))}
    model = Model(name="m")
    model.child = [model, frozenset({Valued(1, frozenset({Valued(2)}))})]
    failed = Failed.__new__(Failed, "no")
    failed.__cause__ = UnicodeDecodeError("utf-8", b"x", 0, 1, "y")
    pair = Pair([], (Vector((1, (2,))),))
    pair.first.append(pair)
    return [
        ring,
        model,
        pair,
        [failed, ExceptionGroup("many", [failed, OSError(1, "x", "y")])],
        {Valued(("k",)): Colour.RED, Right.READ | Right.WRITE: Vector(([],)), Colour.BLUE: {Right.READ}},
        [
            [Node(n), Valued(n), Slotted([n]), Pair(n, (n,)), Model(name=n), {"a": Colour.RED, "b": n}]
            for n in range(18)
        ],
        [[(n,), {n}, frozenset({n}), {n: ()}, deque([n]), slice(n, ()), bytearray([n]), Slotted()] for n in range(18)],
        [defaultdict(Node, {"a": Colour.RED, "b": 1.5}) for _ in range(18)],
        [{Vector((1,)), Vector((2,))}, {Valued(Vector((3,))): 1}, slice(Valued(1), [Slotted()])],
        [Renamed("x"), Renamed(("y", []))],
        subclasses(),
        kinds.values(Node("held")),
        fragile.values(),
        {"state": (stateful := Stateful([ring])), "again": {stateful}, "of": Stateful((stateful, Valued(1)))},
        [deque([defaultdict(list, {"a": slice(1)}), OrderedDict(a=bytearray(b"x"))], maxlen=3), Counter("abc")],
    ]


def subclasses() -> list[Any]:
    """One of each, some with attributes, as elements and as keys."""
    packed = frozenset.__new__(Packed, [1, Valued("x")])
    text = str.__new__(Text, "a")
    text.of = [text]
    listed = Listed([1, (2,)])
    listed.colour = "red"
    queue = Queue([listed, text], 4)
    queue.append(queue)
    real = Real(1.5)
    real.unit = "m"
    keyed = Keyed()
    dict.__setitem__(keyed, text, {packed: real})
    return [
        listed,
        queue,
        keyed,
        Arranged(a=[packed]),
        Pile([text, (1,)]),
        Row((1, Row(()))),
        Buffer(b"x"),
        real,
        Whole(2**70),
    ]


def seeds() -> list[bytes]:
    """Valid documents: of the values above, and the specification's vectors, whose own classes are not known here."""
    documents = [CODEC.encode(value).unwrap() for value in values()]
    documents.append(Codec(types=_older()).encode(_old_value()).unwrap())
    for file in sorted(VECTORS.glob("*.json")):
        documents += [bytes.fromhex(one["document"]) for one in json.loads(file.read_text(encoding="utf-8"))["vectors"]]
    return documents


def kept(target: str) -> list[bytes]:
    """The corpus of a target."""
    return [file.read_bytes() for file in sorted((CORPUS / target).iterdir())]
