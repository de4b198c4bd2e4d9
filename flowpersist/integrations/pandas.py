"""pandas' frames, series and indexes in a state, by way of Arrow: ``register(types)``. Needs the extra ``pandas``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowpersist.integrations._refusals import missing

if TYPE_CHECKING:
    from flowpersist.codec import TypeRegistry

__all__ = ["register"]


def register(types: TypeRegistry) -> TypeRegistry:
    """Add ``DataFrame``, ``Series``, all kinds of ``Index`` and pandas' scalars to a registry, which is given back.

    They come back with their dtypes, labels, names, frequencies, flags and attributes. ``ConfigurationError`` where
    pandas or pyarrow is missing, or one of these classes is registered with other arguments.
    """
    try:
        from flowpersist.integrations import _frames  # noqa: PLC0415 - pandas is an extra
    except ModuleNotFoundError as error:
        raise missing("pandas", "pandas", "pyarrow", "numpy", error=error) from error
    return _frames.register(types)
