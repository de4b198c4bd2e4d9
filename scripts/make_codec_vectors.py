"""Make the codec's vectors: values as Python source, and the bytes that they give.

Run by hand, and only where specs/codec/format.md says otherwise than before: what is released must decode for ever.
"""

from __future__ import annotations

import datetime as dt
import enum
import inspect
import json
import re
import weakref
from array import array
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, UserString, defaultdict, deque
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import partial
from hashlib import sha256
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import MappingProxyType, SimpleNamespace
from typing import Any, List, Literal, NamedTuple  # noqa: UP035 - as List below
from uuid import UUID
from zoneinfo import ZoneInfo

from flowpersist.codec import Codec, TypeRegistry
from flowpersist.keys.suspension_key import SuspensionId, SuspensionKey

OUT = Path(__file__).parents[1] / "specs" / "codec" / "vectors"


@dataclass(eq=False)
class Node:
    """Hashed by identity."""

    name: Any
    link: Any = None


@dataclass(frozen=True)
class Label:
    """Hashed by value."""

    name: Any
    more: Any = field(default=None, compare=False)


class Point(NamedTuple):
    """A tuple of a class."""

    x: Any
    y: Any = None


class Colour(enum.Enum):
    """Members go by their names."""

    RED = 1
    BLUE = "b"


class Right(enum.Flag):
    """Combinations without a name go by their value."""

    READ = 1
    WRITE = 2


class Money:
    """Kept by a pair of functions."""

    def __init__(self, amount: object) -> None:
        self.amount = amount

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and self.amount == other.amount

    def __hash__(self) -> int:
        return hash(self.amount)

    def __repr__(self) -> str:
        return f"Money({self.amount!r})"


class Moment(dt.datetime):
    """A datetime with attributes."""


class Groups(defaultdict[Any, Any]):
    """A defaultdict with attributes."""


class Offset(dt.tzinfo):
    """A zone that is kept by a pair of functions."""

    def __init__(self, hours: int) -> None:
        self.hours = hours

    def utcoffset(self, _: object) -> dt.timedelta:
        """The same at all times."""
        return dt.timedelta(hours=self.hours)


def double(number: int) -> int:
    """A function that goes by its name."""
    return 2 * number


CLASSES = (Node, Label, Point, Colour, Right, Moment, Groups, Money)
TYPES = TypeRegistry()
for _cls in CLASSES[:-1]:
    TYPES.register(_cls, name=f"vectors.{_cls.__name__}")
TYPES.register(Money, name="vectors.Money", encode=lambda money: [money.amount], decode=lambda parts: Money(parts[0]))
TYPES.register(Offset, name="vectors.Offset", encode=lambda zone: zone.hours, decode=Offset)
TYPES.reference(double, name="vectors.double")

#: What the sources below may name.
NAMES: dict[str, Any] = {
    **{one.__name__: one for one in (array, ChainMap, UserDict, UserList, UserString, partial, Offset, double)},
    "MappingProxyType": MappingProxyType,
    "SimpleNamespace": SimpleNamespace,
    "weakref": weakref,
    "Any": Any,
    "List": List,  # noqa: UP006 - another expression than list
    "Literal": Literal,
    **{one.__name__: one for one in CLASSES},
    **{one.__name__: one for one in (Counter, OrderedDict, defaultdict, deque, Decimal, Fraction, UUID, ZoneInfo)},
    **{one.__name__: one for one in (ip_address, ip_interface, ip_network, PurePosixPath, PureWindowsPath, Path)},
    **{one.__name__: one for one in (SuspensionId, SuspensionKey)},
    "dt": dt,
    "re": re,
}

#: Files of vectors: each vector by its name, with the Python that leaves it in ``value``.
SOURCES: dict[str, dict[str, str]] = {
    "trees": {
        "nil": "value = None",
        "booleans": "value = [True, False]",
        "integers": "value = [0, -1, 127, 128, -32, -33, 2**16, 2**32, 2**63, 2**64 - 1, -(2**63)]",
        "floats": "value = [0.0, -0.0, 1.5, float('inf'), float('-inf'), float('nan'), 5e-324]",
        "texts": "value = ['', 'a', '\\u00e9', '\\U0001f600', 'a\\0b', 'x' * 40]",
        "an empty list": "value = []",
        "an empty dict": "value = {}",
        "dicts keep their order": "value = [{'b': 1, 'a': 2}, {'1': [], '0': {}, '01': [[]]}, {'': None}]",
        "ten levels": "value = []\nfor number in range(9):\n    value = [value, number]",
        "one level more": "value = []\nfor number in range(10):\n    value = [value, number]",
        "messages": (
            "call = {'id': 'call_1', 'type': 'function', 'function': {'name': 'refund', 'arguments': '{}'}}\n"
            "value = {\n"
            "    'model': 'm',\n"
            "    'messages': [\n"
            "        {'role': 'user', 'content': [{'type': 'text', 'text': 'Refund order 7.'}]},\n"
            "        {'role': 'assistant', 'content': None, 'tool_calls': [call]},\n"
            "        {'role': 'tool', 'tool_call_id': 'call_1', 'content': 'done'},\n"
            "    ],\n"
            "}"
        ),
    },
    "leaves": {
        "nil": "value = (None,)",
        "booleans": "value = (True, False)",
        "small integers": "value = (0, 1, -1, 127, 128, -32, -33, 255, 256, 65535, 65536)",
        "integers of 64 bits": "value = (2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, -(2**63))",
        "integers beyond 64 bits": "value = [2**64, -(2**63) - 1, 2**80, -(2**80), 2**127]",
        "floats": "value = (0.0, -0.0, 1.5, float('inf'), float('-inf'), float('nan'), 5e-324)",
        "a float alone": "value = (0.1,)",
        "a float among others": "value = (1, 2.5)",
        "texts": "value = ('', 'a', '\\u00e9', '\\U0001f600', 'a\\0b', 'x' * 40)",
        "lone surrogates": "value = ['\\ud800', 'a\\udfffb']",
        "bytes": "value = [b'', b'\\xff', bytes(range(40))]",
        "ellipsis": "value = [..., ...]",
        "complex": "value = [1j, complex(-0.0, 2.5)]",
        "datetimes": "value = [dt.datetime(2026, 10, 25, 2, 30), dt.datetime(1, 1, 1), dt.datetime.max]",
        "datetimes with zones": (
            "berlin = ZoneInfo('Europe/Berlin')\n"
            "value = [\n"
            "    dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc),\n"
            "    dt.datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=1),\n"
            "    dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=-5), 'EST')),\n"
            "    dt.datetime(2026, 1, 1, fold=1),\n"
            "]"
        ),
        "dates": "value = [dt.date(2026, 1, 1), dt.date.min]",
        "times": "value = [dt.time(1, 2), dt.time(1, 2, 3, 4, tzinfo=dt.timezone(dt.timedelta(seconds=1)), fold=1)]",
        "timedeltas": "value = [dt.timedelta(0), dt.timedelta.max, dt.timedelta.min, dt.timedelta(microseconds=-1)]",
        "zones": "value = [dt.timezone.utc, dt.timezone(dt.timedelta(hours=1), ''), ZoneInfo('Europe/Berlin')]",
        "uuid": "value = UUID(int=2**127 + 5)",
        "decimals": "value = [Decimal(text) for text in ('1.50', '-0', '1E+999999', 'sNaN7', '-Infinity')]",
        "fractions": "value = [Fraction(-3, 7), Fraction(0), Fraction(2**70, 3)]",
        "ranges": "value = [range(3), range(5, 0, -2), range(2**70, 2**71)]",
        "patterns": "value = [re.compile('a|(?i:b)', re.DOTALL), re.compile(b'\\\\d')]",
        "paths": "value = [PurePosixPath('/a/b'), PurePosixPath('.'), PureWindowsPath('c:\\\\x')]",
        "a path of this system": "value = Path('/a/b')",
        "addresses": "value = [ip_address('1.2.3.4'), ip_address('fe80::1%eth0')]",
        "networks": "value = [ip_network('10.0.0.0/8'), ip_network('2001:db8::/32')]",
        "interfaces": "value = [ip_interface('10.1.2.3/8'), ip_interface('::1/64')]",
        "an id of a suspension": "value = SuspensionId(bytes(range(16)))",
        "a key of a suspension": "value = [SuspensionKey(SuspensionId(bytes(range(16))), bytes(range(32)), 'my_')]",
        "a mixture of leaves": "value = [1, 'two', 3.0, dt.date(2026, 1, 1), None, 4j, b'5', Decimal(6)]",
    },
    "containers": {
        "an empty list": "value = ([],)",
        "an empty tuple": "value = ()",
        "an empty set": "value = set()",
        "an empty frozenset": "value = frozenset()",
        "an empty dict": "value = ({},)",
        "lists within lists": "value = ([[1], [2, [3, []]]],)",
        "tuples within tuples": "value = ((1, (2, (3,))), (4,), ())",
        "sets": "value = [{1, 2, 3}, {'b', 'a'}, {b'x', 'x', 1.5, None, (1, 'y')}]",
        "frozensets": "value = [frozenset({3, 1}), frozenset({frozenset({1}), frozenset()}), frozenset({(1, (2,))})]",
        "dicts keep their order": "value = ([{'b': 1, 'a': 2}, {'a': 2, 'b': 1}],)",
        "keys of any class": "value = {1: 'a', '1': 'b', None: [], (1, ('x',)): {}, frozenset({2}): 2, 1.5: ()}",
        "many dicts of the same keys": (
            "value = [{'id': number, 'text': str(number), 'of': (number,)} for number in range(20)]"
        ),
        "few dicts of the same keys": "value = ([{'id': number} for number in range(3)],)",
        "an ordered dict": "value = OrderedDict([('b', 1), ('a', [2])])",
        "a counter": "value = Counter('abracadabra')",
        "defaultdicts": "value = [defaultdict(list, {'a': [1]}), defaultdict(None, {1: 2}), defaultdict(Node)]",
        "deques": "value = [deque([1, [2]]), deque([1, 2], maxlen=2), deque(maxlen=0)]",
        "bytearrays": "value = [bytearray(), bytearray(b'xy')]",
        "slices": "value = [slice(3), slice(None, [1], 'x'), slice((1,), ((2,),))]",
        "many of each kind": (
            "each = lambda n: [[n], (n,), {n}, frozenset({n}), {n: n}, deque([n]), bytearray([n]), slice(n)]\n"
            "value = [each(number) for number in range(20)]"
        ),
        "tuples in tuples, many": "value = [(n, (n, (n, 'x'))) for n in range(20)]",
    },
    "graphs": {
        "what is shared": "shared = [1]\nvalue = [shared, (shared,), {'a': shared}, shared]",
        "a shared tuple": "shared = (1, 2)\nvalue = [shared, shared, {shared: (shared,)}]",
        "a list that holds itself": "value = []\nvalue.append(value)",
        "a dict that holds itself": "value = {}\nvalue['self'] = value",
        "a deque that holds itself": "value = deque(maxlen=3)\nvalue.append(value)",
        "a tuple that reaches itself": "value = ([], 1)\nvalue[0].append(value)",
        "a slice that reaches itself": "value = slice([], 1)\nvalue.start.append(value)",
        "nodes in a ring": "value, other = Node('a'), Node('b')\nvalue.link, other.link = other, value",
        "a node in its own set": "value = Node('a')\nvalue.link = {value}",
        "a node in its own frozenset": "value = Node('a')\nvalue.link = frozenset({(value, 1)})",
        "a key that holds its dict": (
            "mapped = {}\nkey = Label(('a', ('b',)), mapped)\nmapped[key] = [key]\nvalue = [mapped, {key}]"
        ),
        "a frozenset of values in a key": (
            "inner = frozenset({Label('x'), Label('y')})\n"
            "value = [{Label(inner): 1, Label((inner, 2)): 2}, {'late': inner}, [inner]]"
        ),
        "a namedtuple that reaches itself": "value = Point(1, [])\nvalue.y.append(Point(value, (value,)))",
        "a long chain": "value = None\nfor number in range(30):\n    value = {'number': number, 'next': value}",
        "a long chain of tuples": "value = ()\nfor number in range(30):\n    value = (number, value)",
    },
    "classes": {
        "an instance": "value = Node('a', [1])",
        "many instances": "value = [Node(str(number), Label(number, [number])) for number in range(20)]",
        "a field that is not set": "value = object.__new__(Node)\nvalue.link = 1",
        "namedtuples": "value = [Point(1), Point([2], (3,))]",
        "many namedtuples": "value = [Point(number, number / 2) for number in range(20)]",
        "members": "value = [Colour.RED, Colour.BLUE, Right.READ, Right.READ | Right.WRITE, Right(0)]",
        "members as keys": "value = {Colour.RED: Right.WRITE, Right.READ: 1}",
        "by a pair of functions": "one = Money(1)\nvalue = [one, {one: Money((one,))}, {Money(2)}]",
        "exceptions": (
            "value = ValueError('a', {'b': 1})\nvalue.__cause__ = OSError(2, 'gone', 'file')\nvalue.add_note('a note')"
        ),
        "a group of exceptions": "value = ExceptionGroup('outer', [ValueError(1), KeyError('k')])",
        "values in a set": "value = {Label('b'), Label('a', 1), Label(('c', ('d',)))}",
    },
}


SOURCES["standard"] = {
    "a namespace": "value = SimpleNamespace(a=1)\nvalue.b = [value]",
    "a chain of maps": "value = ChainMap({'a': 1}, {})",
    "mutable wrappers": "value = [UserDict(a=1), UserList([2]), UserString('c')]",
    "a view of a dict": "value = {'a': 1}\nvalue['view'] = MappingProxyType(value)",
    "arrays": "value = [array('d', [1.5]), array('q', [-1]), array('H'), array('u', 'text')]",
    "functions and classes": "value = [double, Node, int, Money, dt.datetime]",
    "aliases": "value = [list[int], dict[str, tuple[Node, list[int]]]]",
    "type expressions": (
        "value = [list[int | None], int | list[Node], Literal['a', 1, True, None, b'x', Colour.RED], list[Any], "
        "dict[str, List[int]], tuple[int, ...], tuple[()]]"
    ),
    "a partial": "held = []\nvalue = partial(double, held, key=held)\nheld.append(value)",
    "weak references": "node = Node('a')\nnode.link = weakref.ref(node)\nvalue = [node, weakref.ref(double)]",
    "factories": "value = [defaultdict(double, a=1), defaultdict(Node), Groups(list, a=1), Groups(double)]",
    "a zone of a registered class": "value = [dt.datetime(2026, 1, 1, tzinfo=Offset(3)), dt.time(1, tzinfo=Offset(1))]",
    "a datetime of a subclass": "value = Moment(2026, 1, 1, tzinfo=dt.timezone.utc)\nvalue.note = [value]",
}

SOURCES["typed"] = {
    "an instance": "value = Node('a', {'b': [Label(1)]})",
    "a shared list": "shared = ['x']\nvalue = [shared, {'a': shared}, Node('b', shared)]",
    "a shared instance": "one = Node('a')\nvalue = {'all': [one, Node('b', one)], 'last': one}",
    "many references": "value = [[[n] for n in range(100)] for _ in range(3)]\nvalue += value[0][:2] + value[2][-2:]",
    "a shared tuple": "shared = ((), 1)\nvalue = [shared, (shared, ())]",
    "texts in a set": "value = [{'b', '', 'ab', '\\u00e9', '\\U0001f600', '\\uffff'}, set()]",
    "members": "value = {'of': (Colour.RED, Colour.BLUE), 'rights': [Right.WRITE, Right.READ | Right.WRITE]}",
    "bytes that look like a timestamp": "value = [b'\\xd6\\xff\\0\\0\\0\\0', UUID(int=0xD6FF << 64), -1]",
    "thirty-two levels": "value = ()\nfor number in range(31):\n    value = [value]",
    "thirty-three levels": "value = ()\nfor number in range(32):\n    value = [value]",
    "messages": (
        "first = Node('user', [Label('text', 'Refund order 7.')])\n"
        "value = {'messages': [first, Node('tool', first)], 'at': dt.datetime(2026, 1, 1), 'cost': Decimal('0.10')}"
    ),
}
#: The same values as tables of objects, which a key that is no text makes of them.
SOURCES["tables"] = {
    f"{kind}, {name}": f"{source}\nvalue = {{0: value}}"
    for kind in ("leaves", "containers")
    for name, source in SOURCES[kind].items()
}


def made(source: str) -> object:
    """The value that a source leaves."""
    names = dict(NAMES)
    exec(source, names)  # noqa: S102 - the sources above
    return names["value"]


def vector(name: str, source: str) -> dict[str, str]:
    """One vector."""
    document = Codec(types=TYPES).encode(made(source)).unwrap()
    return {"name": name, "value": source, "document": document.hex(), "sha256": sha256(document).hexdigest()}


def files() -> dict[str, str]:
    """The text of each file, by its name."""
    classes = {f"vectors.{cls.__name__}": inspect.getsource(cls) for cls in CLASSES}
    return {
        f"{kind}.json": json.dumps(
            {
                "classes": classes if kind == "classes" else list(classes),
                "vectors": [vector(*one) for one in sources.items()],
            },
            indent=1,
        )
        + "\n"
        for kind, sources in SOURCES.items()
    }


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    for file, text in files().items():
        (OUT / file).write_text(text, encoding="utf-8")
