"""JSON in a thread beside an event loop: long texts are read and written by Python code, which lets the loop go on.

The json module reads and writes by C functions that keep the interpreter's lock until they are done: 100,000 values
take them 30 ms and more, in which no other thread runs, so that a thread alone does not keep the loop free.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from json import decoder as decoding
from json import scanner
from typing import Any, Final, cast

__all__ = ["BRIEF", "TooManyValuesError", "canonical", "parsed"]

#: So many values are read or written by C functions, in a few milliseconds.
BRIEF: Final = 5_000
_TERMS: Final[dict[str, Any]] = {"sort_keys": True, "separators": (",", ":"), "allow_nan": False}


class TooManyValuesError(ValueError):
    """A text has more values than are allowed."""


def parsed(text: str | bytes, most: int, *, unique: bool = True) -> object:
    """The value of a JSON text. ``ValueError`` for one that is not JSON, or is ``unique`` and has a key twice in an
    object; ``TooManyValuesError`` for a long one with more than ``most`` values; ``RecursionError`` for one that is
    nested deep.
    """
    if isinstance(text, bytes):
        text = text.decode(json.detect_encoding(text), "surrogatepass")
    decoder = json.JSONDecoder(object_pairs_hook=_object if unique else None)
    # Commas within strings count too, so a text may look longer than it is, and never shorter.
    if text.count(",") + text.count("[") + text.count("{") >= BRIEF:
        _let_others_run(decoder, most)
    return decoder.decode(text)


def canonical(value: object, values: int) -> str:
    """The canonical JSON (sorted keys, ASCII) of data with so many values. ``ValueError`` for what JSON can't have."""
    if values <= BRIEF:
        return json.dumps(value, **_TERMS)
    # Without `_one_shot` the encoder is written in Python.
    return "".join(json.JSONEncoder(**_TERMS).iterencode(value))


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object whose keys differ: of two equal ones a parser would drop one without a word."""
    made = dict(pairs)
    if len(made) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key in made if counts[key] > 1)
        msg = f"an object has the key {twice[:100]!r} twice: remove one of them"
        raise ValueError(msg)
    return made


def _let_others_run(decoder: json.JSONDecoder, most: int) -> None:
    """Let a decoder read by Python code, which counts the values."""
    reader = cast("Any", decoder)
    # The whole is one of them.
    left = most - 1

    def counted(scan: Callable[[str, int], object]) -> Callable[[str, int], object]:
        def once(text: str, at: int) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise TooManyValuesError(most)
            return scan(text, at)

        return once

    def array(at: object, scan: Any) -> object:  # noqa: ANN401 - the decoder's own
        return cast("Any", decoding).JSONArray(at, counted(scan))

    def mapping(at: object, strict: object, scan: Any, *more: object) -> object:  # noqa: ANN401 - the decoder's own
        return cast("Any", decoding).JSONObject(at, strict, counted(scan), *more)

    reader.parse_array, reader.parse_object = array, mapping
    reader.scan_once = cast("Any", scanner).py_make_scanner(reader)
