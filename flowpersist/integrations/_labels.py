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

import numpy as np
import pandas as pd

from flowpersist.integrations._arrays import SCALARS
from flowpersist.integrations._refusals import unsupported

__all__ = ["checked_labels", "checked_name"]

SIMPLE: frozenset[type] = frozenset(
    {
        *(NoneType, bool, int, float, complex, str, bytes, Decimal, UUID),
        *(dt.date, dt.datetime, dt.time, dt.timedelta),
        *(pd.Timestamp, pd.Timedelta, pd.Period, type(pd.NaT), type(pd.NA)),
        *SCALARS,
    }
).difference({np.void})
MOST_COLLISIONS = 256


def checked_name(name: Any) -> Any:  # noqa: ANN401 - any cell
    """The name of a series or index: a simple value, or a tuple of them."""
    parts = name if type(name) is tuple else (name,)
    if not SIMPLE.issuperset(map(type, parts)):
        raise unsupported("a name that is no simple value, and no tuple of them", "use a text")
    return name


def checked_labels(labels: pd.Index[Any]) -> pd.Index[Any]:
    """Labels that pandas will hash, all of them."""
    for level in labels.levels if isinstance(labels, pd.MultiIndex) else [labels]:
        if level.dtype == np.dtype(object):
            _check_objects(level.tolist())
    return labels


def _check_objects(labels: list[Any]) -> None:
    if not SIMPLE.issuperset(map(type, labels)):
        raise unsupported("an index of objects that pandas must hash", "use texts, numbers or times")
    if len(labels) > MOST_COLLISIONS and max(Counter(map(hash, labels)).values()) > MOST_COLLISIONS:
        raise unsupported(f"an index of which over {MOST_COLLISIONS} labels share a hash", "use texts or numbers")
