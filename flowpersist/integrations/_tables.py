"""Arrow's tables, record batches and schemas to streams of Arrow IPC, and back from cells that may hold anything.

::

    table  = (token, (positions, stream)…)      columns of one layout together, a batch for each chunk
    batch  = stream of one batch
    schema = stream of none
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flowpersist.integrations._packages import Pair, register_pairs
from flowpersist.integrations._refusals import malformed, once, spend, unsupported
from flowpersist.integrations._streams import read, write

if TYPE_CHECKING:
    from flowpersist.codec import TypeRegistry

__all__ = ["register"]


def _pack_table(table: pa.Table) -> tuple[object, ...]:
    if table.num_rows and not table.num_columns:
        raise unsupported("a table with rows and no columns", "leave it out")
    layouts: dict[tuple[int, ...], list[int]] = {}
    for position, column in enumerate(table.columns):
        layouts.setdefault(tuple([len(chunk) for chunk in column.chunks]), []).append(position)
    groups = layouts or {(): []}
    return (once(), *[_pack_group(table.select(one), one, len(layout)) for layout, one in groups.items()])


def _pack_group(table: pa.Table, positions: list[int], chunks: int) -> tuple[object, bytes]:
    batches = [
        pa.RecordBatch.from_arrays([column.chunks[number] for column in table.columns], schema=table.schema)
        for number in range(chunks)
    ]
    return (tuple(positions), write(table.schema, batches))


def _unpack_table(cell: Any) -> pa.Table:  # noqa: ANN401 - any cell
    token, *groups = cell
    spend(token)
    placed: dict[int, tuple[pa.Field[Any], pa.ChunkedArray[Any]]] = {}
    metadata: Any = None
    for positions, stream in groups:
        schema, batches = read(stream)
        metadata = schema.metadata
        for number, (position, field) in enumerate(zip(positions, schema, strict=True)):
            if position in placed:
                raise malformed("a table has two columns in one place")
            chunks = [batch.column(number) for batch in batches]
            placed[position] = (field, pa.chunked_array(chunks, field.type))
    columns = [placed[position] for position in range(len(placed))]
    schema = pa.schema([field for field, _ in columns]).with_metadata(metadata)
    table = pa.Table.from_arrays([column for _, column in columns], schema=schema)
    table.validate()
    return table


def _unpack_batch(cell: object) -> pa.RecordBatch:
    _, (batch,) = read(cell)
    return batch


PAIRS: tuple[Pair, ...] = (
    (pa.Table, _pack_table, _unpack_table),
    (pa.RecordBatch, lambda batch: write(batch.schema, [batch]), _unpack_batch),
    (pa.Schema, lambda schema: write(schema, []), lambda cell: read(cell)[0]),
)


def register(types: TypeRegistry) -> TypeRegistry:
    """Add tables, record batches and schemas to a registry."""
    return register_pairs(types, "pyarrow", PAIRS)
