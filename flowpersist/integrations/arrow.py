"""pyarrow's tables, record batches and schemas in a state: ``register(types)``. Needs the extra ``arrow``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowpersist.integrations._refusals import missing

if TYPE_CHECKING:
    from flowpersist.codec import TypeRegistry

__all__ = ["register"]


def register(types: TypeRegistry) -> TypeRegistry:
    """Add ``pyarrow.Table``, ``RecordBatch`` and ``Schema`` to a registry, which is given back.

    They come back with their types, metadata and chunks. ``ConfigurationError`` where pyarrow is missing, or one of
    these classes is registered with other arguments.
    """
    try:
        from flowpersist.integrations import _tables  # noqa: PLC0415 - pyarrow is an extra
    except ModuleNotFoundError as error:
        raise missing("arrow", "pyarrow", error=error) from error
    return _tables.register(types)
