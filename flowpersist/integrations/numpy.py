"""numpy's arrays and scalars in a state, without pickle: ``register(types)``. Needs the extra ``numpy``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowpersist.integrations._refusals import missing

if TYPE_CHECKING:
    from flowpersist.codec import TypeRegistry

__all__ = ["register"]


def register(types: TypeRegistry) -> TypeRegistry:
    """Add ``numpy.ndarray`` and numpy's scalar types to a registry, which is given back.

    An array comes back with its dtype (byte order, units, fields and their places), shape, writability, and the order
    of C or Fortran; a view, as an array of its own. ``ConfigurationError`` where numpy is missing, or one of its
    classes is registered with other arguments.
    """
    try:
        from flowpersist.integrations import _arrays  # noqa: PLC0415 - numpy is an extra
    except ModuleNotFoundError as error:
        raise missing("numpy", "numpy", error=error) from error
    return _arrays.register(types)
