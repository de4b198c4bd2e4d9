"""Arrays and scalars to tuples, text and bytes, and back from cells that may hold anything.

::

    array = (token, dtype, shape, "C" | "F", is writable, bytes)         in that order, NULs between the fields
          | (token, "|O", shape, "C" | "F", is writable, element…)       the elements as ordinary cells

All is held against the bytes that are there before an array is made, and nothing in it is a pointer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from flowpersist.integrations._dtypes import AnyDtype, describe, fields_of, parse, shape_of
from flowpersist.integrations._packages import Pair, register_pairs
from flowpersist.integrations._refusals import exactly, malformed, once, spend, unsupported

if TYPE_CHECKING:
    from flowpersist.codec import TypeRegistry

__all__ = ["SCALARS", "pack", "register", "unpack"]

AnyArray: TypeAlias = NDArray[Any]
Layout: TypeAlias = Literal["C", "F"]

OBJECTS = "|O"
#: Elements without bytes, as of a dtype without fields, cost nothing to claim: no more of them are kept.
MOST_EMPTY_ELEMENTS = 2**20
#: Fields may lie over each other, and each is looked at: so many times the bytes of an element, together.
MOST_OVERLAP = 8
LAST_CHARACTER = 0x10FFFF
#: numpy's scalar classes that are the same on every machine.
SCALARS: tuple[type[Any], ...] = tuple(
    dict.fromkeys([*(np.dtype(one).type for one in "?bBhHiIlLqQefdFDSUV"), np.datetime64, np.timedelta64])
)


def pack(array: AnyArray) -> tuple[object, ...]:
    """What an array is."""
    layout: Layout = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    if array.dtype == np.dtype(object):
        # A tuple, and no list within it, so that the codec sees an array that holds itself.
        return (once(), OBJECTS, array.shape, layout, array.flags.writeable, *array.ravel(layout).tolist())
    described = describe(array.dtype)
    _check_dtype(array.dtype, array.size)
    _check_elements(array)
    return (once(), described, array.shape, layout, array.flags.writeable, _bytes(array, layout))


def _bytes(array: AnyArray, layout: Layout) -> bytes:
    data = array.tobytes(layout)
    if array.dtype.fields is None or not data:
        return data
    used = np.zeros(array.dtype.itemsize, np.bool_)
    _mark(array.dtype, used)
    if used.all():
        return data
    # What lies between fields is whatever the memory held before.
    cleared: AnyArray = np.frombuffer(data, np.uint8).reshape(-1, used.size) * used
    return cleared.tobytes()


def _mark(dtype: AnyDtype, used: NDArray[np.bool_]) -> None:
    """Set what belongs to a field; ``used`` has a place for each byte of an element."""
    if dtype.subdtype is not None:
        base, _ = dtype.subdtype
        for row in used.reshape(-1, base.itemsize) if base.itemsize else ():
            _mark(base, row)
    elif dtype.fields is not None:
        for field, offset, *_ in fields_of(dtype).values():
            _mark(field, used[offset : offset + field.itemsize])
    else:
        used[...] = True


def _check_dtype(dtype: AnyDtype, size: int) -> None:
    if not dtype.itemsize and (size > MOST_EMPTY_ELEMENTS or dtype.kind in "SU"):
        what = f"an array of {size} elements of the dtype {dtype}, which take no bytes,"
        raise unsupported(what, "use a dtype that has some")
    if _bytes_of_fields(dtype) > MOST_OVERLAP * dtype.itemsize:
        raise unsupported(f"a dtype with over {MOST_OVERLAP} fields in one place", "view the array by fewer")


def _bytes_of_fields(dtype: AnyDtype) -> int:
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return _bytes_of_fields(base) * math.prod(shape)
    if dtype.fields is None:
        return dtype.itemsize
    return sum(_bytes_of_fields(field) for field, *_ in fields_of(dtype).values())


def _leaves(array: AnyArray) -> Iterator[AnyArray]:
    """The array, or the arrays of its fields, of dtypes without fields."""
    names = array.dtype.names
    if names is None:
        yield array
    for name in names or ():
        yield from _leaves(array[name])


def _check_elements(array: AnyArray) -> None:
    """Refuse elements that numpy's own functions take on trust.

    Counting the True of an array whose bytes are others than 0 and 1 gives a wrong count, by which it then allocates.
    """
    for leaf in _leaves(array):
        if not leaf.size or not leaf.itemsize:
            continue
        if leaf.dtype.kind == "b" and leaf.view(np.uint8).max() > 1:
            raise unsupported("a bool that is neither 0 nor 1", "compare the array with 0")
        if leaf.dtype.kind == "U":
            characters = np.dtype((f"{leaf.dtype.str[0]}u4", (leaf.itemsize // 4,)))
            if leaf.view(characters).max() > LAST_CHARACTER:
                raise unsupported("a character beyond the last one of Unicode", "fill the array with text")


def unpack(cell: Any) -> AnyArray:  # noqa: ANN401 - any cell
    """The array that ``pack`` gave this for; an error for all else, in memory bounded by the content."""
    token, described, lengths, layout, writable, *content = cell
    spend(token)
    shape = shape_of(lengths)
    if layout not in {"C", "F"} or type(writable) is not bool:
        raise malformed("an array has no layout, or does not say whether it is writable")
    array = (
        _of_objects(shape, layout, content) if described == OBJECTS else _of_bytes(described, shape, layout, *content)
    )
    array.flags.writeable = writable
    return array


def _of_objects(shape: tuple[int, ...], layout: Layout, elements: list[object]) -> AnyArray:
    if len(elements) != math.prod(shape):
        raise malformed("an array holds another number of elements than its shape")
    array = np.empty(shape, object, layout)
    # A view of one dimension, in the order in which the elements were read. One by one: numpy would look into those
    # that are sequences.
    flat = (array if layout == "C" else array.T).reshape(-1)
    for place, element in enumerate(elements):
        flat[place] = element
    return array


def _of_bytes(described: object, shape: tuple[int, ...], layout: Layout, content: object) -> AnyArray:
    dtype = parse(described)
    size = math.prod(shape)
    if dtype.subdtype is not None or type(content) is not bytes or len(content) != size * dtype.itemsize:
        raise malformed("an array holds another number of bytes than its shape and dtype")
    _check_dtype(dtype, size)
    view: AnyArray = np.ndarray(shape, dtype, content, order=layout)
    _check_elements(view)
    return view.copy(layout)


def _pack_time(scalar: np.datetime64 | np.timedelta64) -> tuple[object, int]:
    return (describe(scalar.dtype), int(scalar.view(np.int64)))


def _time(cls: type[np.generic]) -> Callable[[Any], Any]:
    def load(cell: Any) -> object:  # noqa: ANN401 - any cell
        described, ticks = cell
        scalar = np.array(exactly(int, ticks, "expected a number of ticks"), np.int64).view(parse(described))[()]
        return exactly(cls, scalar, f"expected a {cls.__name__}")

    return load


def _inexact(cls: type[np.generic]) -> tuple[Callable[[Any], object], Callable[[Any], object]]:
    # Bytes, since the way through Python's own float changes some NaNs.
    dtype = np.dtype(cls).newbyteorder("<")

    def load(cell: Any) -> object:  # noqa: ANN401 - any cell
        if len(exactly(bytes, cell, f"expected the bytes of a {cls.__name__}")) != dtype.itemsize:
            raise malformed(f"a {cls.__name__} has another number of bytes")
        return np.frombuffer(cell, dtype).astype(cls)[0]

    return (lambda scalar: np.asarray(scalar, dtype).tobytes()), load


def _pair(cls: type[np.generic]) -> tuple[Callable[[Any], object], Callable[[Any], Any]]:
    """How a scalar class is encoded and decoded."""
    if issubclass(cls, np.integer) and not issubclass(cls, np.timedelta64):
        return int, lambda cell: cls(exactly(int, cell, f"expected a {cls.__name__}"))
    if issubclass(cls, np.inexact):
        return _inexact(cls)
    if issubclass(cls, np.datetime64 | np.timedelta64):
        return _pack_time, _time(cls)
    return _OTHERS[cls]


_OTHERS: dict[type[np.generic], tuple[Callable[[Any], object], Callable[[Any], Any]]] = {
    np.bool_: (bool, lambda cell: np.bool_(exactly(bool, cell, "expected a bool_"))),
    # An element of an array of texts drops trailing NULs when it is made, but a scalar may have some.
    np.str_: (str.__str__, lambda cell: np.str_(exactly(str, cell, "expected a str_"))),
    np.bytes_: (bytes, lambda cell: np.bytes_(exactly(bytes, cell, "expected a bytes_"))),
    np.void: (
        lambda scalar: pack(np.asarray(scalar)),
        lambda cell: exactly(np.void, unpack(cell)[()], "expected a void"),
    ),
}


#: Made once, so that the same registration again is the same.
PAIRS: tuple[Pair, ...] = (
    (np.ndarray, pack, unpack),
    *((cls, *_pair(cls)) for cls in SCALARS),
)


def register(types: TypeRegistry) -> TypeRegistry:
    """Add arrays and scalars to a registry."""
    return register_pairs(types, "numpy", PAIRS)
