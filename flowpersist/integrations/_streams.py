"""Streams of Arrow IPC: written without compression, and looked at before they are read.

Arrow takes the length of a compressed buffer from the bytes, and calls a class of this process for a field that names
an extension type. Neither is to be had here: both are told by the headers of the messages, which are FlatBuffers
(https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import ipc, types

from flowpersist.integrations._refusals import malformed, unsupported

__all__ = ["read", "write"]

#: Rows without bytes, as of the type null, cost nothing to claim: no more of them are kept.
MOST_EMPTY_ROWS = 2**20
#: A dictionary counts for each chunk that refers to it, and so do bytes for each column: no more than this together.
MOST_SHARED = 16
DEEPEST = 32

EXTENSION = b"ARROW:extension:name"
DICTIONARY_BATCH, RECORD_BATCH = 2, 3
#: Places of fields in the tables Message, DictionaryBatch and RecordBatch.
HEADER_TYPE, HEADER, DICTIONARY_DATA, COMPRESSION = 1, 2, 1, 3

KNOWN = (
    types.is_null,
    types.is_boolean,
    types.is_integer,
    types.is_floating,
    types.is_decimal,
    types.is_temporal,
    types.is_string,
    types.is_large_string,
    types.is_binary,
    types.is_large_binary,
    types.is_fixed_size_binary,
)


def write(schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> bytes:
    """The stream of these batches; ``UnsupportedType`` where ``read`` would not give them back."""
    for field in schema:
        _check_type(field.type, DEEPEST)
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, schema, options=ipc.IpcWriteOptions(compression=None)) as writer:
        for batch in batches:
            writer.write_batch(batch)
    stream = sink.getvalue()
    _read(stream)
    return stream.to_pybytes()


def read(stream: object) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    """What was written; an error for all else. The batches refer to the bytes, which are not copied."""
    if type(stream) is not bytes:
        raise malformed("expected the bytes of a stream of Arrow")
    return _read(pa.py_buffer(stream))


def _read(stream: pa.Buffer) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    _check_headers(stream)
    with ipc.open_stream(stream) as reader:
        schema = reader.schema
        for field in schema:
            _check_type(field.type, DEEPEST)
        batches = list(reader)
    _check_batches(batches, stream.size)
    return schema, batches


def _check_headers(stream: pa.Buffer) -> None:
    for message in ipc.MessageReader.open_stream(stream):
        header = message.metadata.to_pybytes()
        if message.type == "schema" and EXTENSION in header:
            raise unsupported("a field of an extension type", "cast it to its storage type")
        if _is_compressed(header):
            raise malformed("a batch of Arrow is compressed")


def _is_compressed(message: bytes) -> bool:
    """Whether the record batch of this message, which Arrow has verified, has compressed buffers."""
    (root,) = struct.unpack_from("<I", message)
    kind, batch = _field(message, root, HEADER_TYPE), _target(message, root, HEADER)
    if kind and message[kind] == DICTIONARY_BATCH:
        batch = _target(message, batch, DICTIONARY_DATA)
    elif not kind or message[kind] != RECORD_BATCH:
        return False
    return bool(_field(message, batch, COMPRESSION))


def _field(message: bytes, table: int, number: int) -> int:
    """Where this field of a FlatBuffers table lies; 0 where it is not there."""
    fields = table - int(struct.unpack_from("<i", message, table)[0])
    if fields < 0:
        raise malformed("the header of a message of Arrow is broken")
    (size,) = struct.unpack_from("<H", message, fields)
    place = 4 + 2 * number
    (offset,) = struct.unpack_from("<H", message, fields + place) if place < size else (0,)
    return table + int(offset) if offset else 0


def _target(message: bytes, table: int, number: int) -> int:
    """Where the table lies that this field refers to."""
    place = _field(message, table, number)
    if not place:
        raise malformed("the header of a message of Arrow is broken")
    return place + int(struct.unpack_from("<I", message, place)[0])


def _check_type(kind: pa.DataType, deepest: int) -> None:
    if any(is_kind(kind) for is_kind in KNOWN):
        return
    for part in _parts_of_type(kind) if deepest else [None]:
        if part is None:
            raise unsupported(f"the Arrow type {kind}", "cast the column to one without views, runs or extensions")
        _check_type(part, deepest - 1)


def _parts_of_type(kind: Any) -> list[pa.DataType | None]:  # noqa: ANN401 - its attributes depend on its class
    """The types within a type; None within one that is not kept."""
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return [kind.value_type]
    if types.is_map(kind):
        return [kind.key_type, kind.item_type]
    if types.is_dictionary(kind):
        return [kind.index_type, kind.value_type]
    if types.is_struct(kind) or types.is_union(kind):
        return [kind.field(number).type for number in range(kind.num_fields)]
    return [None]


def _check_batches(batches: Sequence[pa.RecordBatch], size: int) -> None:
    """Hold what the batches claim against the bytes that are there.

    Only the last step looks at what the buffers hold. Until it is done, nothing else may: Arrow takes offsets on trust.
    """
    most_rows = max(8 * size, MOST_EMPTY_ROWS)
    shared = 0
    for batch in batches:
        batch.validate()
        if batch.num_rows and not batch.num_columns:
            raise unsupported("a table with rows and no columns", "leave it out")
        for column in batch.columns:
            parts = list(_parts(column))
            if any(len(part) > most_rows for part in parts):
                raise unsupported(f"a column with over {MOST_EMPTY_ROWS} rows that take no bytes", "leave it out")
            dictionaries = [part.dictionary for part in parts if types.is_dictionary(part.type)]
            shared += sum(map(_size_of_buffers, [column, *dictionaries]))
    if shared > MOST_SHARED * size + MOST_EMPTY_ROWS:
        raise unsupported("a table whose chunks share large dictionaries", "combine its chunks")
    for batch in batches:
        batch.validate(full=True)


def _size_of_buffers(array: Any) -> int:  # noqa: ANN401 - an array of any type
    return sum([buffer.size for buffer in array.buffers() if buffer is not None])


def _parts(array: Any) -> Iterator[Any]:  # noqa: ANN401 - its attributes depend on its class
    """An array and all within it. Nothing in pyarrow gives these for every type."""
    yield array
    kind = array.type
    within: list[Any] = []
    if types.is_map(kind):
        within = [array.keys, array.items]
    elif types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        within = [array.values]
    elif types.is_dictionary(kind):
        within = [array.dictionary]
    elif types.is_struct(kind) or types.is_union(kind):
        within = [array.field(number) for number in range(kind.num_fields)]
    for part in within:
        yield from _parts(part)
