"""What pandas hashes while it makes an object: names, categories, levels, and labels that must be unique.

Tuples within tuples can take for ever to hash, and a table of objects that share a hash takes quadratic time; the codec
looks at the keys of its own containers only. So labels are held here against what is cheap to hash.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from decimal import Decimal
from types import NoneType
from typing import Any
from uuid import UUID
from weakref import WeakValueDictionary

import numpy as np
import pandas as pd

from flowpersist.integrations._arrays import SCALARS
from flowpersist.integrations._refusals import malformed, unsupported

__all__ = ["checked_labels", "checked_name", "own_level"]

SIMPLE: frozenset[type] = frozenset(
    {
        *(NoneType, bool, int, float, complex, str, bytes, Decimal, UUID),
        *(dt.date, dt.datetime, dt.time, dt.timedelta),
        *(pd.Timestamp, pd.Timedelta, pd.Period, type(pd.NaT), type(pd.NA)),
        *SCALARS,
    }
).difference({np.void})
#: A name is hashed for each object that has it, and a large number is hashed anew each time.
NAMES = SIMPLE.difference({Decimal})
LONGEST_NAME = 64
LARGEST_NUMBER = 2**64
MOST_COLLISIONS = 256

#: Indexes by their id that were looked at: in bytes from anywhere, thousands of objects may refer to one.
_CHECKED: WeakValueDictionary[int, pd.Index[Any]] = WeakValueDictionary()
#: Those that are levels of an index with several.
_LEVELS: WeakValueDictionary[int, pd.Index[Any]] = WeakValueDictionary()


def checked_name(name: Any) -> Any:  # noqa: ANN401 - any cell
    """The name of a series or index: a simple value, or a tuple of them."""
    parts = name if type(name) is tuple else (name,)
    if len(parts) > LONGEST_NAME or not all(map(_is_short, parts)):
        raise unsupported("a name that is neither a simple value nor a tuple of them", "use a text")
    return name


def _is_short(part: Any) -> bool:  # noqa: ANN401 - any cell
    return type(part) in NAMES and (type(part) is not int or -LARGEST_NUMBER < part < LARGEST_NUMBER)


def checked_labels(labels: pd.Index[Any]) -> pd.Index[Any]:
    """Labels that pandas will hash, all of them."""
    if _CHECKED.get(id(labels)) is not labels:
        for level in labels.levels if isinstance(labels, pd.MultiIndex) else [labels]:
            if level.dtype == np.dtype(object):
                _check_objects(level.tolist())
        _CHECKED[id(labels)] = labels
    return labels


def own_level(level: pd.Index[Any]) -> pd.Index[Any]:
    """A level that belongs to one index alone, as pandas gives them: it goes through all of it for each index."""
    if _LEVELS.get(id(level)) is level:
        raise malformed("two indexes have the same level")
    _LEVELS[id(level)] = level
    return checked_labels(level)


def _check_objects(labels: list[Any]) -> None:
    if not SIMPLE.issuperset(map(type, labels)):
        raise unsupported("an index of objects that pandas must hash", "use texts, numbers or times")
    if len(labels) > MOST_COLLISIONS and max(Counter(map(hash, labels)).values()) > MOST_COLLISIONS:
        raise unsupported(f"an index of which over {MOST_COLLISIONS} labels share a hash", "use texts or numbers")
