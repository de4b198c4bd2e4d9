"""The same graph gives the same bytes in every process, whatever its seed of hashes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import datetime as dt, enum, json, re
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo
from flowpersist.codec import Codec, TypeRegistry
from flowpersist.keys.suspension_key import SuspensionId

class Colour(enum.Enum):
    RED = 1
    BLUE = "blue"

class Word(enum.StrEnum):
    ONE = "one"
    TWO = "two"

class Right(enum.Flag):
    READ = 1
    WRITE = 2

class Point(NamedTuple):
    x: Any
    y: Any = None

@dataclass(frozen=True)
class Label:
    name: Any
    more: Any = field(default=None, compare=False)

@dataclass(eq=False)
class Node:
    name: Any
    links: Any = None

types = TypeRegistry(Colour, Word, Right, Point, Label, Node)
words = [f"word {number}" for number in range(100)]
berlin = ZoneInfo("Europe/Berlin")
leaves = [
    None, True, 7, 2**70, -(2**64), 1.5, float("inf"), 2j, "one", "\\ud800", b"one", ..., UUID(int=5), Decimal("1.50"),
    Fraction(1, 3), dt.date(2026, 1, 1), dt.datetime(2026, 1, 1),
    dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=berlin),
    dt.time(1, 2), dt.timedelta(3), dt.timezone.utc, dt.timezone(dt.timedelta(hours=1), "one"), berlin, range(3),
    re.compile("a"), re.compile(b"a"), PurePosixPath("/a"), PureWindowsPath("c:/a"), ip_address("1.2.3.4"),
    ip_address("::1"),
    ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"), ip_interface("10.1.2.3/8"), ip_interface("::1/64"),
    SuspensionId(bytes(16)), Colour.RED, Colour.BLUE, Word.ONE, Right.READ, Right.READ | Right.WRITE,
]
labels = {Label(word, [word]) for word in words}
node = Node("a")
node.links = {node}
values = {
    "words": set(words),
    "bytes": {word.encode() for word in words},
    "each leaf": set(leaves),
    "pairs of leaves": {(leaf, word) for leaf in leaves for word in words[:9]},
    "tuples": frozenset({(word, (len(word), word)) for word in words}),
    "frozensets": {frozenset({word, number}) for number, word in enumerate(words)},
    "frozensets of tuples": frozenset({frozenset({(word, "x"), ("y", (word,))}) for word in words}),
    "members": [set(Colour), frozenset(Word), {Right.READ, Right.WRITE, Right(0)}, {Colour.RED: Word.ONE, Word.TWO: 1}],
    "named": {Point(word, (word,)) for word in words},
    "instances by value": [labels, frozenset(labels), {(label, 1) for label in labels}],
    "an instance by identity": node,
    "values of a set in the order of its elements": [{word: [word] for word in sorted(words)}, {Label(words[1]), "x"}],
    "dicts keep their order": [dict.fromkeys(reversed(words)), OrderedDict.fromkeys(words), Counter(words)],
    "keys of any class": {leaf: {leaf} for leaf in leaves},
    "shared": [shared := frozenset(words), {shared: (shared, deque([shared]))}, {shared}],
}
codec = Codec(types=types)
print(json.dumps({name: sha256(codec.encode(value).unwrap()).hexdigest() for name, value in values.items()}))
"""

SEEDS = (0, 1, 2, 77)


@pytest.fixture(scope="module")
def digests() -> list[dict[str, str]]:
    """Of each value, as processes with different seeds of hashes write it."""
    environments = [{**os.environ, "PYTHONHASHSEED": str(seed)} for seed in SEEDS]
    programs = [
        subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE)
        for environment in environments
    ]
    outputs = [program.communicate()[0] for program in programs]
    assert [program.returncode for program in programs] == [0] * len(SEEDS)
    return [json.loads(output) for output in outputs]


def test_bytes_do_not_depend_on_the_process(digests):
    differing = [name for name in digests[0] if len({digest[name] for digest in digests}) > 1]
    assert differing == []
    assert len(digests[0]) == len(set(digests[0].values())) == 15


def test_the_processes_do_differ():
    program = "print(list({f'word {number}' for number in range(100)}))"
    orders = {
        subprocess.check_output([sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": str(seed)})
        for seed in SEEDS
    }
    assert len(orders) == len(SEEDS)


HOSTILE = """
import sys, struct, msgpack
from flowpersist.codec import Codec

depth = 200_000
u32 = lambda *numbers: struct.pack(f"<{len(numbers)}I", *numbers)
plain = lambda cells: [0, msgpack.packb(cells)]
nothing = [b"", plain([])]
down = [2, u32(*range(1, depth))]
lengths = u32(*[1] * (depth - 1), 0)
blocks = {
    "deques": [8, u32(0, depth), lengths, plain([None] * depth), down],
    "defaultdicts": [6, u32(0, depth), 3, msgpack.packb([None]), lengths, plain(["a"] * (depth - 1)), down],
}
root = [2, u32(0)]
document = [2, msgpack.packb([]), depth, [blocks[sys.argv[1]]], nothing, nothing, nothing, root]
print(Codec().decode(msgpack.packb(document)).failure())
"""


@pytest.mark.parametrize("kind", ["deques", "defaultdicts"])
def test_bytes_that_nest_deep_do_not_end_the_process(kind):
    ran = subprocess.run([sys.executable, "-c", HOSTILE, kind], capture_output=True, text=True, check=False)
    assert (ran.returncode, "nested" in ran.stdout) == (0, True), ran.stderr


QUESTIONABLE = """
import re, sys, warnings
from flowpersist.codec import Codec

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    data = Codec().encode(re.compile("[[a]")).unwrap()
re.purge()
opened = []
sys.addaudithook(lambda event, arguments: opened.append(arguments[0]) if event == "open" else None)
print(Codec().decode(data).unwrap().pattern, opened)
"""


@pytest.mark.parametrize("options", [[], ["-W", "error"], ["-W", "always"]])
def test_what_python_thinks_of_a_pattern_is_not_said_of_bytes(options):
    ran = subprocess.run([sys.executable, *options, "-c", QUESTIONABLE], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("[[a] []\n", "")
