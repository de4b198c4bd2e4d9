"""The wire format is what its specification says: a program that knows nothing else reads the same graph."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from collections import OrderedDict, deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from flowpersist.codec import Codec, TypeRegistry
from machine import missing

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "specs" / "codec"
PLACE = ROOT / ".cache" / "codec-reader"
FILES = ("package.json", "package-lock.json", "reader.js")
VECTORS = sorted((SPEC / "vectors").glob("*.json"))


@dataclasses.dataclass(eq=False)
class Step:
    name: str
    next: Any = None
    more: Any = dataclasses.field(default_factory=list)


class Pair(NamedTuple):
    first: Any
    second: Any


TYPES = TypeRegistry()
TYPES.register(Step, name="flow.Step")
TYPES.register(Pair, name="flow.Pair")
NAMES = {Step: "flow.Step", Pair: "flow.Pair"}


@pytest.fixture(scope="module")
def reader() -> Path:
    """The reader with its library, which is installed once."""
    if not (shutil.which("node") and shutil.which("npm")):
        missing("node and npm are not installed: NOT SHOWN here is that other languages can read the codec's bytes")
    PLACE.mkdir(parents=True, exist_ok=True)
    before = [(PLACE / name).read_bytes() if (PLACE / name).exists() else None for name in FILES[:2]]
    for name in FILES:
        shutil.copyfile(SPEC / name, PLACE / name)
    if not (PLACE / "node_modules").exists() or before != [(SPEC / name).read_bytes() for name in FILES[:2]]:
        ran = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=PLACE,
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            missing(f"npm could not install what the reader needs ({ran.stderr.strip()[-200:]})")
    return PLACE / "reader.js"


def read(reader: Path, data: bytes, place: Path) -> subprocess.CompletedProcess[str]:
    file = place / "state.msgpack"
    file.write_bytes(data)
    return subprocess.run(["node", reader, file], capture_output=True, text=True, check=False)


def parts(one: Any) -> list[Any]:
    if isinstance(one, dict):
        return [part for item in one.items() for part in item]
    if isinstance(one, slice):
        return [one.start, one.stop, one.step]
    if isinstance(one, Step):
        return [one.name, one.next, one.more]
    return [] if isinstance(one, bytearray) else list(one)


def kind(one: Any) -> str:
    return {Step: "instance", Pair: "namedtuple"}.get(type(one), type(one).__name__)


OBJECTS = (list, tuple, set, frozenset, dict, deque, bytearray, slice, Step)


def assert_same_list(value: Any, lines: list[str]) -> None:
    """Walk both from the root at once: each object has one number, and each number one object."""
    root, *listed = map(json.loads, lines)
    nodes = {number: (kind_, name, references) for number, kind_, name, references in listed}
    assert list(nodes) == list(range(len(nodes)))
    if not isinstance(value, OBJECTS):
        assert (root, nodes) == (None, {})
        return
    objects, numbers, pending = {root: value}, {id(value): root}, [root]
    while pending:
        number = pending.pop()
        one = objects[number]
        kind_, name, references = nodes[number]
        assert (kind_, name) == (kind(one), NAMES.get(type(one)))
        held = [part for part in parts(one) if isinstance(part, OBJECTS)]
        assert len(references) == len(held), one
        for reference, part in zip(references, held, strict=True):
            assert numbers.setdefault(id(part), reference) == reference
            if reference not in objects:
                objects[reference] = part
                pending.append(reference)
            assert objects[reference] is part
    assert len(objects) == len(nodes)


def cyclic_state() -> Any:
    shared = [1, 2.5, None]
    first, second = Step("first"), Step("second")
    first.next, second.next = second, first
    first.more, second.more = shared, (shared, first)
    listed: list[Any] = [shared]
    listed.append(listed)
    mapped: dict[Any, Any] = {"shared": shared, (1, ("a", b"b")): {"inner": second}, 3: 2**80}
    mapped["itself"] = mapped
    held: tuple[Any, ...] = (listed, [], slice(1, (2,)))
    held[1].append(held)
    pair = Pair(held, [])
    pair.second.append(pair)
    queue = deque([pair, "\ud800", 1j], maxlen=5)
    queue.append(queue)
    return [first, mapped, held, pair, queue, {first}, frozenset({(first, 1)}), OrderedDict(a=queue), bytearray(b"x")]


def typed_state() -> Any:
    shared = [1, {"b": b"x", "1": None}]
    last = Step("last", (), [shared])
    steps = [Step(f"step {number}", last, (number, shared)) for number in range(3)]
    return {"steps": steps, "at": datetime(2026, 1, 1, tzinfo=UTC), "texts": {"b", "a"}, "again": [last, shared, 1j]}


def many() -> Any:
    """Enough of each kind for blocks."""
    steps = [Step(f"step {number}") for number in range(40)]
    for number, step in enumerate(steps):
        step.next, step.more = steps[(number + 7) % 40], (number, [step])
    records = [{"id": number, "of": steps[number], "row": [1.5, number, None]} for number in range(40)]
    mixed = [{f"key {number}": (steps[number], number)} for number in range(40)]
    kinds = [
        [Pair(step, 1), deque([step]), {step}, frozenset({step}), slice(step), bytearray(b"xy"), OrderedDict(a=step)]
        for step in steps
    ]
    return {"steps": steps, "records": records, "mixed": mixed, "kinds": kinds}


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        [],
        {"a": [1, {"1": []}]},
        typed_state(),
        {0: typed_state()},
        cyclic_state(),
        [cyclic_state(), cyclic_state()],
        many(),
    ],
    ids=["a leaf", "a text", "an empty list", "a tree", "a typed tree", "a table", "cycles", "cycles twice", "blocks"],
)
def test_a_reader_from_the_specification_alone_lists_the_same_graph(value, reader, tmp_path):
    ran = read(reader, Codec(types=TYPES).encode(value).unwrap(), tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert_same_list(value, ran.stdout.splitlines())


def test_the_comparison_can_fail(reader, tmp_path):
    shared: list[Any] = []
    ran = read(reader, Codec().encode([shared, shared]).unwrap(), tmp_path)
    assert_same_list([shared, shared], ran.stdout.splitlines())
    for other in ([[], []], [shared], [shared, ()], [shared, shared, shared]):
        with pytest.raises(AssertionError):
            assert_same_list(other, ran.stdout.splitlines())


def test_it_reads_every_vector(reader, tmp_path):
    vectors = [one for file in VECTORS for one in json.loads(file.read_text(encoding="utf-8"))["vectors"]]
    files = [tmp_path / f"{number}.msgpack" for number in range(len(vectors))]
    for file, vector in zip(files, vectors, strict=True):
        file.write_bytes(bytes.fromhex(vector["document"]))
    ran = subprocess.run(["node", reader, *files], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    roots = [line for line in ran.stdout.splitlines() if not line.startswith("[")]
    assert len(roots) == len(vectors) > 50


def test_it_refuses_what_is_none(reader, tmp_path):
    data = Codec().encode([[1], {0: ()}]).unwrap()
    typed = Codec().encode([[1], {"a": ()}]).unwrap()
    wrong = [
        b"\x93\x02\xc4\x01\x90" + one
        for one in (b"\x81\xc4\x01\x02\x90", b"\x91\xd4\x03\0", b"\xd4\x05\0", b"\xd6\xff0000")
    ]
    for broken in (
        b"",
        data[:-1],
        data + b"\0",
        data.replace(b"\x98\x02", b"\x98\x03", 1),
        b"\x80",
        typed[:-1],
        *wrong,
    ):
        ran = read(reader, broken, tmp_path)
        assert ran.returncode != 0
        assert "Error" in ran.stderr
