"""Tables, record batches and schemas of pyarrow come back as they were, or are refused; bytes do no harm."""

from __future__ import annotations

import datetime as dt
import tracemalloc
from decimal import Decimal
from typing import Any

import attrs
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc
from returns.result import Failure, Success

from flowpersist.codec import Codec, TypeRegistry
from flowpersist.errors import MalformedPayload, PersistenceError, UnsupportedType
from flowpersist.integrations import arrow

CODEC = Codec(types=arrow.register(TypeRegistry()))


def copied(value: Any) -> Any:
    return CODEC.decode(CODEC.encode(value).unwrap()).unwrap()


def layout(table: Any) -> Any:
    return [[len(chunk) for chunk in column.chunks] for column in table.columns]


def assert_same_table(copy: Any, table: Any) -> None:
    assert type(copy) is pa.Table
    assert copy.schema.equals(table.schema, check_metadata=True)
    assert copy.equals(table)
    assert layout(copy) == layout(table)


def keyed(*texts: str) -> Any:
    return pa.array(texts).dictionary_encode()


CHUNKED = pa.table(
    {
        "a": pa.chunked_array([[1, 2], [3]]),
        "b": pa.chunked_array([["x"], ["y", None]]),
        "c": pa.chunked_array([[], [True], [False, None]], pa.bool_()),
        "d": pa.chunked_array([[1.5, -0.0], [None]]),
    }
).replace_schema_metadata({"of": "the table", b"\xff": b"\x00"})
UNIONS = [
    pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])]),
    pa.UnionArray.from_dense(
        pa.array([0, 1], pa.int8()), pa.array([0, 0], pa.int32()), [pa.array([1]), pa.array(["b"])]
    ),
]
TABLES = {
    "chunks of several lengths": CHUNKED,
    "a slice": CHUNKED.slice(1, 2),
    "nothing": pa.table({}),
    "metadata alone": pa.table({}).replace_schema_metadata({"a": "b"}),
    "no rows": CHUNKED.slice(0, 0),
    "no chunks": pa.table({"a": pa.chunked_array([], pa.list_(pa.int64()))}),
    "names twice": pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]),
    "fields' metadata": pa.table(
        {"a": [1]}, schema=pa.schema([pa.field("a", pa.int8(), nullable=False, metadata={"k": "v"})])
    ),
    "a dictionary for each chunk": pa.table({"a": pa.chunked_array([keyed("a", "b"), keyed("c")])}),
    "dictionaries within": pa.table({"a": pa.ListArray.from_arrays([0, 1, 2], keyed("a", "b"))}),
    "nulls": pa.table({"a": pa.nulls(5), "b": [[None], None, [], [None, None], []]}),
    "nested": pa.table(
        {
            "struct": [{"a": 1, "b": [1, 2]}, None],
            "map": pa.array([[(1, "x")], []], pa.map_(pa.int8(), pa.string())),
            "pair": pa.array([[1, 2], None], pa.list_(pa.int8(), 2)),
            "large": pa.array([["x"], None], pa.large_list(pa.large_string())),
        }
    ),
    "unions": pa.table({"sparse": UNIONS[0], "dense": UNIONS[1]}),
    "leaves": pa.table(
        {
            "decimal": [Decimal("1.20")],
            "moment": pa.array([0], pa.timestamp("ns", "Europe/Berlin")),
            "date": [dt.date(2020, 1, 1)],
            "time": [dt.time(1)],
            "span": [dt.timedelta(1)],
            "binary": [b"\0"],
            "fixed": pa.array([b"ab"], pa.binary(2)),
            "half": pa.array([np.float16(1)]),
            "interval": pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
        }
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_come_back_with_types_metadata_and_chunks(name):
    assert_same_table(copied([TABLES[name]])[0], TABLES[name])


def test_batches_and_schemas_come_back():
    batch = CHUNKED.combine_chunks().to_batches()[0]
    copy, schema, again = copied([batch, CHUNKED.schema, batch])
    assert type(copy) is pa.RecordBatch
    assert copy.equals(batch, check_metadata=True)
    assert schema.equals(CHUNKED.schema, check_metadata=True)
    assert again is copy


def test_the_same_table_gives_the_same_bytes_and_is_one_again():
    one, other = copied([CHUNKED, {"again": CHUNKED}])
    assert other["again"] is one
    assert CODEC.encode(one) == CODEC.encode(CHUNKED)


REFUSED = {
    "rows without columns": pa.table({"a": [1]}).select([]),
    "a batch of rows without columns": pa.record_batch({"a": [1]}).select([]),
    "views": pa.table({"a": pa.array(["x"], pa.string_view())}),
    "views within": pa.table({"a": pa.array([["x"]], pa.list_(pa.binary_view()))}),
    "runs": pa.table({"a": pa.RunEndEncodedArray.from_arrays([2**30], [1])}),
    "an extension": pa.schema([("a", pa.uuid())]),
    "an extension in disguise": pa.schema([pa.field("a", pa.int8(), metadata={"ARROW:extension:name": "mine"})]),
    "millions of nulls": pa.table({"a": pa.nulls(2**21)}),
    "millions of nulls within": pa.table({"a": pa.DictionaryArray.from_arrays(pa.array([0]), pa.nulls(2**21))}),
    "too deep": pa.schema([("a", eval("pa.list_(" * 40 + "pa.int8()" + ")" * 40))]),  # noqa: S307 - our own
    "text that is none": pa.table(
        {"a": pa.StringArray.from_buffers(1, pa.py_buffer(bytes([0, 0, 0, 0, 1, 0, 0, 0])), pa.py_buffer(b"\xff"))}
    ),
    "chunks that share a dictionary": pa.table(
        {"a": pa.chunked_array([pa.DictionaryArray.from_arrays(pa.array([0]), pa.array([b"x" * 1_000_000]))] * 40)}
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_not_come_back_is_refused(name):
    error = CODEC.encode({"data": REFUSED[name]}).failure()
    assert isinstance(error, UnsupportedType)
    assert error.path == "state['data']"


@attrs.frozen
class Forged:
    """What stands for a table in bytes that no encoder has written."""

    cell: Any


def forged(cell: Any, name: str = "pyarrow.Table") -> Any:
    types = TypeRegistry()
    types.register(Forged, name=name, encode=lambda one: one.cell, decode=Forged)
    return Codec(types=types).encode([Forged(cell)]).unwrap()


def stream(table: Any, compression: Any = None) -> bytes:
    sink = pa.BufferOutputStream()
    with ipc.new_stream(
        sink, table.schema, options=ipc.IpcWriteOptions(compression=compression, allow_64bit=True)
    ) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def table_cell(*groups: Any) -> Any:
    return (bytearray(b"1"), *groups)


ONE = stream(pa.table({"a": [1]}))
ZEROS = pa.table({"a": np.zeros(2**22)})
HOSTILE = {
    "no tuple": 5,
    "no token": (((0,), ONE),),
    "no stream": table_cell(((0,), None)),
    "no bytes": table_cell(((0,), b"")),
    "noise": table_cell(((0,), b"\xff" * 64)),
    "compressed": table_cell(((0,), stream(ZEROS, "zstd"))),
    "compressed otherwise": table_cell(((0,), stream(ZEROS, "lz4"))),
    "a compressed dictionary": table_cell(((0,), stream(pa.table({"a": keyed("x" * 10_000)}), "zstd"))),
    "an extension": table_cell(((0,), stream(pa.table({"a": pa.array([b"1" * 16], pa.uuid())})))),
    "views": table_cell(((0,), stream(REFUSED["views"]))),
    "nulls without end": table_cell(((0,), stream(pa.table({"a": pa.Array.from_buffers(pa.null(), 2**40, [None])})))),
    "one place twice": table_cell(((0,), ONE), ((0,), ONE)),
    "a place left out": table_cell(((1,), ONE)),
    "a place that is none": table_cell((("0",), ONE)),
    "a place too many": table_cell(((0, 1), ONE)),
    "lengths that differ": table_cell(((0,), ONE), ((1,), stream(pa.table({"b": [1, 2]})))),
    "text that is none": table_cell(((0,), stream(REFUSED["text that is none"]))),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_tables_from_anywhere_are_checked(name):
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    error = CODEC.decode(forged(HOSTILE[name])).failure()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(error, MalformedPayload)
    assert peak < 8 * 2**20
    assert pa.total_allocated_bytes() - before < 2**20


def test_a_compressed_stream_is_not_even_begun():
    data = forged(table_cell(((0,), stream(ZEROS, "zstd"))))
    pool = pa.default_memory_pool()
    before, most = pool.bytes_allocated(), pool.max_memory()
    assert isinstance(CODEC.decode(data).failure(), MalformedPayload)
    assert pool.max_memory() <= max(most, before + 2**20)


def test_batches_from_anywhere_are_one_batch():
    for cell in (b"", ONE[:-8] * 2, stream(pa.table({"a": pa.chunked_array([[1], [2]])})), stream(pa.table({})), 5):
        assert isinstance(CODEC.decode(forged(cell, "pyarrow.RecordBatch")), (Success, Failure))
    two = stream(pa.table({"a": pa.chunked_array([[1], [2]])}))
    assert isinstance(CODEC.decode(forged(two, "pyarrow.RecordBatch")).failure(), MalformedPayload)


class Registered(pa.ExtensionType):
    """An extension type that a process knows."""

    made: list[Any] = []  # noqa: RUF012 - counts what Arrow calls

    def __init__(self) -> None:
        super().__init__(pa.int64(), "flowpersist.test")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage, serialized):
        cls.made.append(storage)
        return cls()


def test_a_registered_extension_type_is_not_called_by_bytes():
    pa.register_extension_type(Registered())
    try:
        table = pa.table({"a": pa.ExtensionArray.from_storage(Registered(), pa.array([1]))})
        assert isinstance(CODEC.encode(table).failure(), UnsupportedType)
        data = forged(table_cell(((0,), stream(table))))
        Registered.made.clear()
        assert isinstance(CODEC.decode(data).failure(), MalformedPayload)
        assert Registered.made == []
    finally:
        pa.unregister_extension_type("flowpersist.test")


@pytest.mark.parametrize("name", ["chunks of several lengths", "a dictionary for each chunk", "nested", "unions"])
def test_every_few_bytes_changed_give_a_table_or_a_typed_error(name):
    data = CODEC.encode(TABLES[name]).unwrap()
    most = pa.default_memory_pool().bytes_allocated() + 2**26
    for place in range(0, len(data), 5):
        for byte in (0, 0x7F, 0xFF, data[place] ^ 1):
            match CODEC.decode(data[:place] + bytes([byte]) + data[place + 1 :]):
                case Failure(error):
                    assert isinstance(error, PersistenceError)
                case Success(value):
                    assert isinstance(CODEC.encode(value), (Success, Failure))
    assert pa.default_memory_pool().bytes_allocated() < most
