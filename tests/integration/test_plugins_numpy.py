"""Arrays and scalars of numpy come back as they were, or are refused; bytes from anywhere harm nobody."""

from __future__ import annotations

import json
import sys
import tracemalloc
from typing import Any

import attrs
import numpy as np
import pytest

from flowpersist.codec import Codec, TypeRegistry
from flowpersist.errors import ConfigurationError, MalformedPayload, UnsupportedType
from flowpersist.integrations import arrow, numpy, pandas

CODEC = Codec(types=numpy.register(TypeRegistry()))


def copied(value: Any) -> Any:
    return CODEC.decode(CODEC.encode(value).unwrap()).unwrap()


def assert_same_array(copy: Any, array: Any) -> None:
    assert type(copy) is type(array) is np.ndarray
    assert (copy.dtype, copy.dtype.char, copy.shape) == (array.dtype, array.dtype.char, array.shape)
    assert copy.dtype.isalignedstruct == array.dtype.isalignedstruct
    assert copy.flags.writeable == array.flags.writeable
    assert copy.flags.owndata
    if array.flags.contiguous or array.flags.f_contiguous:
        assert copy.flags.contiguous == array.flags.contiguous
        assert copy.flags.f_contiguous == array.flags.f_contiguous
    if array.dtype.names is None and array.dtype != object:
        assert copy.tobytes() == array.tobytes()


def read_only(array: Any) -> Any:
    array.flags.writeable = False
    return array


def spaced() -> Any:
    array = np.frombuffer(bytes(range(64)), np.dtype({"names": ["a", "b"], "formats": ["u1", ">i4"], "itemsize": 16}))
    return array.copy()


STRUCTURED = np.dtype([(("title", "a"), "<i4"), ("b", [("c", "<U3"), ("d", "?", (2, 2))]), ("e", ">M8[3ms]")])
UNION = np.dtype({"names": ["whole", "low"], "formats": ["<u4", "<u2"], "offsets": [0, 0]})
ARRAYS = {
    **{f"dtype {character}": np.zeros((2, 3), character) for character in "?bBhHiIlLqQefdFDSUV"},
    **{f"big-endian {code}": np.arange(6).astype(f">{code}").reshape(2, 3) for code in ("i2", "u8", "f4", "c16", "U4")},
    "texts": np.array(["ä", "\U0001f600x", ""]),
    "binary": np.array([b"a", b"\0b"]),
    "moments": np.array(["2020-01-01", "NaT"], "M8[25s]"),
    "moments of any unit": np.zeros(2, "M8[us]"),
    "spans": np.array([1, 2], "m8[as]"),
    "no dimensions": np.array(5.5),
    "empty": np.zeros((0, 4), "<f4"),
    "empty of long elements": np.zeros(0, "V999999999"),
    "Fortran's order": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "every second": np.arange(10)[::2],
    "backwards": np.arange(10)[::-1],
    "repeated": np.broadcast_to(np.arange(3), (4, 3)),
    "read-only": read_only(np.arange(3)),
    "structured": np.zeros(2, STRUCTURED),
    "aligned": np.zeros(2, np.dtype("i1,f8", align=True)),
    "overlapping": np.array([(0x01020304, 0x0304)], UNION),
    "no fields": np.zeros(3, np.dtype([])),
    "no bytes": np.ndarray(3, "V0", b""),
    "longs": np.arange(3, dtype="q"),
    "NaNs": np.array([0x7FC12345, 0xFFA00001], "u4").view("f4"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back(name):
    assert_same_array(copied([ARRAYS[name]])[0], ARRAYS[name])


def test_fields_come_back_and_what_lies_between_them_does_not():
    array = spaced()
    copy = copied(array)
    assert copy.dtype == array.dtype
    assert copy.tolist() == array.tolist()
    assert set(copy.view("u1").reshape(-1, 16)[:, 5:].ravel()) == {0}
    other = array.copy()
    other.view("u1").reshape(-1, 16)[:, 8:] = 255
    assert CODEC.encode(other) == CODEC.encode(array)


def objects(*elements: Any, shape: Any = None) -> Any:
    array = np.empty(len(elements), object)
    for place, element in enumerate(elements):
        array[place] = element
    return array if shape is None else array.reshape(shape)


def test_objects_are_ordinary_cells():
    shared: list[Any] = [1]
    array = objects(shared, (2, "x"), np.arange(3), np.array(7), {"k": shared}, None, shape=(2, 3))
    copy, other = copied([array, shared])
    assert copy.shape == (2, 3)
    assert copy[0, 0] is other
    assert copy[1, 1]["k"] is other
    assert copy[0, 1] == (2, "x")
    assert_same_array(copy[0, 2], array[0, 2])
    assert_same_array(copy[1, 0], array[1, 0])
    fortran = copied(np.asfortranarray(array))
    assert fortran.flags.f_contiguous
    assert fortran[1, 1]["k"] is fortran[0, 0]


def test_an_array_in_two_places_is_one_again_and_cycles_go_through_mutable_objects():
    array = np.arange(3)
    one, other = copied([array, {"again": array}])
    assert other["again"] is one
    looped = objects(None)
    looped[0] = [looped]
    copy = copied(looped)
    assert copy[0][0] is copy


def test_an_array_that_is_its_own_element_is_refused():
    looped = objects(None)
    looped[0] = (looped,)
    assert isinstance(CODEC.encode(looped).failure(), UnsupportedType)


SCALARS = [
    np.bool_(True),
    *(np.dtype(character).type(value) for character in "bhilq" for value in (-1, 127)),
    *(np.dtype(character).type(200) for character in "BHILQ"),
    *(np.dtype(character).type("-nan") for character in "efd"),
    *(np.dtype(character).type(0.1 + 3j) for character in "FD"),
    np.array([0xFFA00001], "u4").view("f4")[0],
    np.float64(-0.0),
    np.datetime64("NaT", "D"),
    np.datetime64("2020-02-03T04:05:06", "25s"),
    np.timedelta64(-(2**62), "as"),
    np.str_("ä\0"),
    np.bytes_(b"a\0"),
    np.void(b"abc"),
    np.zeros(1, STRUCTURED)[0],
    read_only(np.zeros(1, STRUCTURED))[0],
]


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda scalar: f"{type(scalar).__name__} {scalar}")
def test_scalars_come_back_as_the_same_type(scalar):
    copy = copied({"x": scalar})["x"]
    assert type(copy) is type(scalar)
    assert copy.dtype == scalar.dtype
    assert copy.tobytes() == scalar.tobytes()
    assert copy.flags.writeable == scalar.flags.writeable


def test_scalars_are_keys():
    keys = {np.int64(3): 1, np.str_("a"): 2, np.datetime64("2020"): 3}
    copy = copied(keys)
    assert copy == keys
    assert list(map(type, copy)) == list(map(type, keys))


def many(count: int) -> Any:
    return np.dtype({"names": [str(n) for n in range(count)], "formats": ["?"] * count, "offsets": [0] * count})


def deep(depth: int) -> Any:
    return np.dtype("i4") if not depth else np.dtype([("a", deep(depth - 1))])


REFUSED = {
    "nested too deep": np.zeros(2, deep(40)),
    "machine": np.zeros(2, np.longdouble),
    "machine's complex": np.zeros(2, np.clongdouble),
    "texts of any size": np.array(["a"], np.dtypes.StringDType()),
    "objects in fields": np.zeros(2, [("a", "O")]),
    "metadata": np.zeros(2, np.dtype("i4", metadata={"a": 1})),
    "record": np.zeros(2, np.dtype((np.record, [("a", "i4")]))),
    "number with fields": np.zeros(2, np.dtype((np.int32, {"low": (np.int16, 0), "high": (np.int16, 2)}))),
    "title of another class": np.zeros(2, np.dtype({"names": ["a"], "formats": ["i4"], "titles": [5]})),
    "bools of 2": np.array([2], "u1").view("?"),
    "bools of 2 in fields": np.array([2], "u1").view([("a", "?")]),
    "no character": np.array([0x110000], "u4").view("<U1"),
    "millions without bytes": np.ndarray(2**21, "V0", b""),
    "texts without bytes": np.ndarray(3, "U0", b""),
    "too many fields in one place": np.zeros(2, many(9)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_not_come_back_is_refused(name):
    error = CODEC.encode({"array": REFUSED[name]}).failure()
    assert isinstance(error, UnsupportedType)
    assert error.path == "state['array']"
    assert isinstance(error.__cause__, UnsupportedType)
    assert ";" in str(error.__cause__)


@pytest.mark.parametrize(
    "value",
    [
        np.ma.zeros(2),
        np.ma.masked,
        np.zeros((1, 1)).view(np.matrix),
        np.rec.array([(1,)]),
        np.longdouble(1),
        np.dtype("i4"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_classes_that_are_not_kept_are_named(value):
    error = CODEC.encode([value]).failure()
    assert isinstance(error, UnsupportedType)
    assert error.path == "state[0]"
    assert type(value).__name__ in error.message


@attrs.frozen
class Forged:
    """What stands for an array in bytes that no encoder has written."""

    cell: Any


def forged(cell: Any, name: str = "numpy.ndarray") -> Any:
    types = TypeRegistry()
    types.register(Forged, name=name, encode=lambda one: one.cell, decode=Forged)
    return Codec(types=types).encode([Forged(cell)]).unwrap()


def array_cell(dtype: Any = "<i4", shape: Any = (1,), layout: Any = "C", writable: Any = True, *content: Any) -> Any:
    text = dtype if isinstance(dtype, str) else json.dumps(dtype)
    return (bytearray(b"1"), text, shape, layout, writable, *(content or (b"1234",)))


def nested(depth: int) -> Any:
    return "<i4" if not depth else [4, False, [["a", 0, nested(depth - 1)]]]


HOSTILE = {
    "no tuple": 5,
    "too short": (bytearray(b"1"), "<i4"),
    "no token": (None, "<i4", (1,), "C", True, b"1234"),
    "spent token": (bytearray(), "<i4", (1,), "C", True, b"1234"),
    "object pointers": array_cell("|O", (1,), "C", True, *b"12345678"),
    "object pointers by length": array_cell("|O8", (1,), "C", True, b"12345678"),
    "object pointers in fields": array_cell([8, False, [["a", 0, "|O"]]], (1,), "C", True, b"12345678"),
    "object pointers in subarrays": array_cell([[4, False, [["a", 0, "O"]]], [2]], (1,), "C", True, b"12345678"),
    "a name that numpy knows": array_cell("int32"),
    "several in a text": array_cell("<i4,<i4"),
    "a long text": array_cell("<" * 100_000),
    "a unit that is none": array_cell("<M8[h/0]", (1,), "C", True, b"12345678"),
    "a dtype of bytes": (bytearray(b"1"), b"<i4", (1,), "C", True, b"1234"),
    "an enormous element": array_cell("|V999999999"),
    "a machine's float": array_cell("<f16", (1,), "C", True, bytes(16)),
    "brackets": array_cell("[" * 100_000),
    "nested": array_cell(nested(33)),
    "a digit bomb": array_cell("[" + "9" * 50_000),
    "a field outside": array_cell([4, False, [["a", 1, "<i4"]]]),
    "a field before": array_cell([4, False, [["a", -1, "<i2"]]]),
    "a field twice": array_cell([4, False, [["a", 0, "<i2"], ["a", 2, "<i2"]]]),
    "a number for a name": array_cell([4, False, [[5, 0, "<i4"]]]),
    "an element that is too small": array_cell([2, False, [["a", 0, "<i4"]]]),
    "an enormous structured element": array_cell([2**62, False, []]),
    "an enormous subarray": array_cell([4, False, [["a", 0, ["<i4", [2**40]]]]]),
    "a subarray at the top": array_cell(["<i4", [1]]),
    "neither aligned nor not": array_cell([4, None, [["a", 0, "<i4"]]]),
    "many fields in one place": array_cell([1, False, [[str(n), 0, "|b1"] for n in range(9)]], (4,)),
    "negative": array_cell("<i4", (-1,)),
    "negative twice": array_cell("<i4", (-1, -1)),
    "enormous": array_cell("<i4", (2**40,)),
    "beyond 64 bits": array_cell("<i4", (2**70,)),
    "a product that wraps": array_cell("<i4", (2**32, 2**32, 2**32), "C", True, b""),
    "without bytes": array_cell("|V0", (2**40,), "C", True, b""),
    "without fields": array_cell([0, False, []], (2**62,), "C", True, b""),
    "a bool for a length": array_cell("<i4", (True,)),
    "a list for a shape": array_cell("<i4", [1.5]),
    "no shape": array_cell("<i4", None),
    "sixty-five dimensions": array_cell("<i4", (1,) * 65),
    "another layout": array_cell("<i4", (1,), "A"),
    "neither writable nor not": array_cell("<i4", (1,), "C", 1),
    "text for bytes": array_cell("<i4", (1,), "C", True, "1234"),
    "two contents": array_cell("<i4", (1,), "C", True, b"1234", b"1234"),
    "too few bytes": array_cell("<i4", (2,)),
    "too many bytes": array_cell("<i4", (0,)),
    "too few elements": array_cell("|O", (2,), "C", True, 1),
    "enormous of elements": array_cell("|O", (2**40,), "C", True, 1),
    "bools of 255": array_cell("|b1", (4,), "C", True, b"\xff" * 4),
    "bools of 255 in a subarray": array_cell([4, False, [["a", 0, ["|b1", [4]]]]], (1,), "C", True, b"\xff" * 4),
    "no character": array_cell("<U1", (1,), "C", True, b"\xff" * 4),
    "no character of another order": array_cell(">U1", (1,), "C", True, b"\xff" * 4),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_arrays_from_anywhere_are_checked_before_any_is_made(name):
    data = forged(HOSTILE[name])
    tracemalloc.start()
    error = CODEC.decode(data).failure()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(error, MalformedPayload)
    assert peak < 50 * len(data) + 2**20


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("int8", 300),
        ("int64", 1.5),
        ("int64", True),
        ("bool", 1),
        ("float64", b"1234"),
        ("float64", 1.5),
        ("str_", b"x"),
        ("bytes_", "x"),
        ("datetime64", ("<m8[s]", 5)),
        ("datetime64", ("<i8", 5)),
        ("timedelta64", ("<m8[s]", 2**70)),
        ("timedelta64", ("<m8[s]", "5")),
        ("void", array_cell()),
        ("void", array_cell("|V1", (4,))),
    ],
)
def test_scalars_from_anywhere_are_checked(name, cell):
    assert isinstance(CODEC.decode(forged(cell, f"numpy.{name}")).failure(), MalformedPayload)


def test_two_arrays_are_not_made_of_the_same_bytes():
    cell = array_cell("|u1", (2**20,), "C", True, bytes(2**20))
    types = TypeRegistry()
    types.register(Forged, name="numpy.ndarray", encode=lambda one: one.cell, decode=Forged)
    data = Codec(types=types).encode([Forged(cell) for _ in range(1000)]).unwrap()
    tracemalloc.start()
    assert isinstance(CODEC.decode(data).failure(), MalformedPayload)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * 2**20


def test_bytes_are_an_element_and_no_pointer():
    array = CODEC.decode(forged(array_cell("|O", (1,), "C", True, b"12345678"))).unwrap()[0]
    assert array.tolist() == [b"12345678"]


def test_what_is_forged_well_is_read():
    assert CODEC.decode(forged(array_cell())).unwrap()[0].tobytes() == b"1234"


def test_an_array_that_is_registered_otherwise_is_refused():
    types = TypeRegistry()
    types.register(np.ndarray, encode=list, decode=np.array)
    with pytest.raises(ConfigurationError, match="already"):
        numpy.register(types)


@pytest.mark.parametrize(
    ("integration", "extra", "package", "module"),
    [
        (numpy, "numpy", "numpy", "_arrays"),
        (arrow, "arrow", "pyarrow", "_tables"),
        (pandas, "pandas", "pandas", "_frames"),
    ],
)
def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch, integration, extra, package, module):
    full = f"flowpersist.integrations.{module}"
    monkeypatch.delitem(sys.modules, full, raising=False)
    monkeypatch.delattr(sys.modules["flowpersist.integrations"], module, raising=False)
    for name in ("_columns", "_streams", "_labels"):
        monkeypatch.delitem(sys.modules, f"flowpersist.integrations.{name}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigurationError, match=rf"needs {package}: pip install 'flowpersist\[{extra}\]'"):
        integration.register(TypeRegistry())


def test_a_module_that_is_missing_within_a_package_is_not_hidden(monkeypatch):
    monkeypatch.setitem(sys.modules, "flowpersist.integrations._dtypes", None)
    monkeypatch.delitem(sys.modules, "flowpersist.integrations._arrays")
    monkeypatch.delattr(sys.modules["flowpersist.integrations"], "_arrays")
    with pytest.raises(ModuleNotFoundError):
        numpy.register(TypeRegistry())
