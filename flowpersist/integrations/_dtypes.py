"""numpy's dtypes as text, and back from text that may hold anything.

::

    dtype  = what PLAIN matches, or JSON of a form
    form   = plain | [form, [length…]] | [item size, is aligned, [field…]]     plain, subarray, structured
    field  = [name, offset, form] | [name, offset, form, title]

A text and no tuples, since many arrays could be given the same tuple, and reading it costs its size each time. No other
text than what PLAIN matches reaches numpy, and none of its dtypes holds a pointer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, TypeAlias, cast

import numpy as np

from flowpersist.errors import MalformedPayload
from flowpersist.integrations._refusals import exactly, malformed, unsupported

__all__ = ["AnyDtype", "describe", "fields_of", "parse", "shape_of"]

AnyDtype: TypeAlias = np.dtype[Any]

PLAIN = re.compile(
    r"\|b1|\|[iu]1|[<>](?:[iuf][248]|[qQ]|c8|c16|[mM]8(?:\[\d{0,9}(?:[YMWDhms]|ms|us|ns|ps|fs|as)\])?|U\d{1,9})|\|[SV]\d{1,9}"
)
#: long long is a class of its own, and equal to one whose name tells its size.
LONGS = "qQ"
DEEPEST = 32
LONGEST_SHAPE = 64
LARGEST_LENGTH = 2**63 - 1


def describe(dtype: AnyDtype) -> str:
    """The dtype as text; ``UnsupportedType`` where it would not come back from it as it is."""
    form = _form(dtype)
    described = form if type(form) is str else json.dumps(form, separators=(",", ":"))
    try:
        told = parse(described) == dtype
    except (MalformedPayload, ValueError):
        told = False
    if not told:
        raise unsupported("a dtype that numpy does not make from its description", "use one that is flatter")
    return described


def _form(dtype: AnyDtype) -> object:
    if dtype.metadata is not None:
        raise unsupported("a dtype with metadata", "keep the metadata beside the array")
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return [_form(base), shape]
    if dtype.fields is not None and dtype.type is np.void:
        return [dtype.itemsize, dtype.isalignedstruct, [_field(*one) for one in fields_of(dtype).items()]]
    return _plain(dtype)


def _plain(dtype: AnyDtype) -> str:
    text = dtype.str[0] + dtype.char if dtype.char in LONGS and dtype.itemsize == np.dtype("q").itemsize else dtype.str
    if PLAIN.fullmatch(text) is None or np.dtype(text).type is not dtype.type or dtype.fields is not None:
        remedy = "use numpy's own dtypes of a fixed size"
        if dtype.char in "gG":
            remedy = "it differs from machine to machine: convert it to float64 or complex128"
        elif dtype.kind == "T":
            remedy = "convert it to object, or to texts of a fixed size"
        elif dtype.hasobject:
            remedy = "keep the field with objects as an array of its own"
        raise unsupported(f"the dtype {dtype}", remedy)
    return text


def fields_of(dtype: AnyDtype) -> dict[str, tuple[Any, ...]]:
    """Dtype, offset, and title where there is one, of each field by its name."""
    fields = cast("Mapping[str, tuple[Any, ...]]", dtype.fields or {})
    return {name: fields[name] for name in dtype.names or ()}


def _field(name: str, parts: tuple[Any, ...]) -> list[object]:
    base, offset, *titles = parts
    if any(type(title) is not str for title in titles):
        raise unsupported("a field whose title is not a str", "give it a title that is one")
    return [name, offset, _form(base), *titles]


def parse(described: object) -> AnyDtype:
    """The dtype that ``describe`` gave this for; an error for all else."""
    if type(described) is not str:
        raise malformed("expected a text as a dtype")
    return _dtype(json.loads(described) if described.startswith("[") else described, DEEPEST)


def whole_numbers(cell: Any) -> tuple[int, ...]:  # noqa: ANN401 - any cell
    """The lengths of a shape, or other numbers of memory."""
    if type(cell) not in {tuple, list}:
        raise malformed("expected a shape")
    for length in cell:
        if type(length) is not int or not 0 <= length <= LARGEST_LENGTH:
            raise malformed("expected a whole number as a length")
    return tuple(cell)


def shape_of(cell: Any) -> tuple[int, ...]:  # noqa: ANN401 - any cell
    """A shape."""
    shape = whole_numbers(cell)
    if len(shape) > LONGEST_SHAPE:
        raise malformed("a shape is too long")
    return shape


def _dtype(form: Any, deepest: int) -> AnyDtype:  # noqa: ANN401 - any JSON
    if type(form) is str and PLAIN.fullmatch(form) is not None:
        return np.dtype(form)
    if type(form) is not list or not deepest:
        raise malformed("a dtype is of no known form, or nested too deep")
    if len(form) == 2:  # noqa: PLR2004 - the form of a subarray
        return np.dtype((_dtype(form[0], deepest - 1), shape_of(form[1])))
    size, aligned, fields = form
    return _structured(size, aligned, fields, deepest - 1)


def _structured(size: object, aligned: object, fields: Any, deepest: int) -> AnyDtype:  # noqa: ANN401 - any JSON
    if type(aligned) is not bool:
        raise malformed("a structured dtype does not say whether it is aligned")
    (item_size,) = whole_numbers([size])
    made: dict[str, Any] = {
        "names": [exactly(str, field[0], "expected a text as the name of a field") for field in fields],
        "offsets": whole_numbers([field[1] for field in fields]),
        "formats": [_dtype(field[2], deepest) for field in fields],
        "itemsize": item_size,
    }
    titles = [exactly(str, field[3], "expected a text as a title") if len(field) > 3 else None for field in fields]  # noqa: PLR2004 - the title
    if any(titles):
        made["titles"] = titles
    return np.dtype(made, align=aligned)  # type: ignore[call-overload,no-any-return]  # its TypedDict lacks None
