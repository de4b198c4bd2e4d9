"""Random arrays of numpy go both ways, and random changes to their bytes do no harm."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as random_arrays
from returns.result import Failure, Success

from flowpersist.codec import Codec, Limits, TypeRegistry
from flowpersist.errors import PersistenceError
from flowpersist.integrations import numpy

CODEC = Codec(types=numpy.register(TypeRegistry()), limits=Limits(max_bytes=2**20, max_nodes=100_000))
BYTE_ORDERS = st.sampled_from("<>")


def by_order(make: Any) -> Any:
    return BYTE_ORDERS.flatmap(lambda order: make(endianness=order))


PLAIN = st.one_of(
    random_arrays.boolean_dtypes(),
    by_order(random_arrays.integer_dtypes),
    by_order(random_arrays.unsigned_integer_dtypes),
    by_order(random_arrays.floating_dtypes),
    by_order(random_arrays.complex_number_dtypes),
    by_order(random_arrays.datetime64_dtypes),
    by_order(random_arrays.timedelta64_dtypes),
    by_order(random_arrays.unicode_string_dtypes),
    random_arrays.byte_string_dtypes(),
).filter(lambda dtype: dtype.char not in "gG")
DTYPES = st.one_of(PLAIN, random_arrays.nested_dtypes(PLAIN, max_leaves=6, max_itemsize=400)).filter(
    lambda dtype: dtype.subdtype is None
)
SHAPES = random_arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)


@st.composite
def arrays(draw: Any) -> Any:
    """An array of any dtype, in any order and with any steps, of random bytes where numpy takes any bytes."""
    shape = draw(SHAPES)
    dtype = draw(DTYPES)
    array = draw(random_arrays.arrays(dtype, shape))
    if draw(st.booleans()):
        array = np.asfortranarray(array)
    if array.ndim and draw(st.booleans()):
        array = array[tuple([slice(None, None, draw(st.sampled_from([1, 2, -1]))) for _ in shape])]
    array.flags.writeable = draw(st.booleans())
    return array


def fields(array: Any) -> list[Any]:
    """The bytes of an array, field by field, without what lies between them."""
    if array.dtype.names is None:
        return [array.tobytes()]
    return [part for name in array.dtype.names for part in fields(array[name])]


@given(arrays())
@settings(max_examples=200, deadline=None)
def test_any_array_goes_both_ways(array):
    copy: Any
    copy, again = CODEC.decode(CODEC.encode([array, {1: array}]).unwrap()).unwrap()  # type: ignore[misc]
    assert again[1] is copy
    assert type(copy) is np.ndarray
    assert copy.dtype == array.dtype
    assert copy.dtype.isalignedstruct == array.dtype.isalignedstruct
    assert copy.shape == array.shape
    assert fields(copy) == fields(array)
    assert copy.flags.writeable == array.flags.writeable
    assert copy.flags.aligned
    if array.flags.c_contiguous or array.flags.f_contiguous:
        assert copy.flags.c_contiguous == array.flags.c_contiguous
        assert copy.flags.f_contiguous == array.flags.f_contiguous
    assert CODEC.encode(copy) == CODEC.encode(array) or not (array.flags.c_contiguous or array.flags.f_contiguous)


@given(PLAIN.flatmap(lambda dtype: random_arrays.arrays(dtype, ())))
@settings(max_examples=200, deadline=None)
def test_any_scalar_goes_both_ways(array):
    scalar = array[()]
    copy: Any = CODEC.decode(CODEC.encode(scalar).unwrap()).unwrap()
    assert type(copy) is type(scalar)
    assert copy.dtype == scalar.dtype
    assert copy.tobytes() == scalar.tobytes()


def structured() -> Any:
    inner = np.dtype([("x", "<U3"), ("y", "?", (2,))])
    return np.zeros(3, np.dtype([(("title", "a"), ">i4"), ("b", inner)], align=True))


def objects() -> Any:
    array = np.empty((2, 2), object)
    array[0, 0], array[1, 1] = [np.float32(1)], {"x": np.arange(2)}
    return np.asfortranarray(array)


SEEDS = [
    CODEC.encode(value).unwrap()
    for value in (
        np.arange(6).reshape(2, 3),
        [np.array(["a", "b"]), np.array(["2020"], "M8[25s]"), np.zeros((0, 3), "?")],
        structured(),
        objects(),
        [np.int8(1), np.float64(2), np.datetime64("2020"), np.str_("x"), np.void(b"abc"), structured()[0]],
    )
]


def decode_harmlessly(data: bytes) -> None:
    match CODEC.decode(data):
        case Failure(error):
            assert isinstance(error, PersistenceError)
        case Success(value):
            repr(value)
            assert isinstance(CODEC.encode(value), (Success, Failure))


@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_changed_bytes_give_a_value_or_a_typed_error(seed, changes):
    data = bytearray(seed)
    for place, byte in changes:
        data[place % len(data)] = byte
    decode_harmlessly(bytes(data))


def test_every_single_byte_changed_stays_within_bounds():
    tracemalloc.start()
    for seed in SEEDS:
        for place in range(len(seed)):
            for byte in (0xFF, seed[place] ^ 1):
                decode_harmlessly(seed[:place] + bytes([byte]) + seed[place + 1 :])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * CODEC.limits.max_bytes
