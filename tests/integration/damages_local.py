"""How a stored record can be damaged where the store is on this machine: past everything of ours."""

from __future__ import annotations

import json
import sqlite3
import struct
import zlib
from contextlib import closing
from datetime import UTC, datetime
from functools import partial

from attrs import evolve

from flowpersist.backends._filesystem.record_file import digest_of
from flowpersist.backends.base import RecordRef, Where
from flowpersist.testing.suite.damage import Damage, Refused

RECORD_START = struct.Struct(">4sIIq32s")
NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001 - what must be refused


def memory_damages(backend):
    """The object is exchanged, or what it holds."""

    async def exchange(how, ref):
        held = backend._store.namespaces[ref.namespace].records
        held[ref.key] = how(held[ref.key])

    fields = {
        "ref": [None, RecordRef("other", "key"), ("conformance", "key")],
        "revision": [None, "1", 0, -1, 1.5, 2**63 - 1, 2**200, True, float("nan")],
        "write_id": [None, b"w", "", "w" * 65, "\0", "\ud800", 7],
        "attributes": [None, [], "status", {"status": object()}, {1: "x"}, {"status": float("inf")}, {"a": 2**70},
                       {str(number): 1 for number in range(65)}, {"status": "\ud800"}],
        "head": [None, "head", bytearray(b"head"), bytes(256 * 1024 + 1)],
        "body": ["body", b"longer than it was", None],
        "body_size": [None, -1, "4", 4.0, 2**63],
        "created_at": [None, 0, "2026", NAIVE],
        "updated_at": [None, 0.5, NAIVE],
        "due_at": [0, "never", NAIVE],
    }  # fmt: skip
    for kind in ("garbage", 7, object(), {}):
        yield Damage(f"{kind!r:.20} in its place", partial(exchange, lambda _, kind=kind: kind))
    for name, values in fields.items():
        for value in values:
            how = partial(lambda held, name, value: evolve(held, **{name: value}), name=name, value=value)
            yield Damage(f"{name} {value!r:.40}", partial(exchange, how))
    yield Damage(
        "due in the year 1",
        partial(exchange, lambda held: evolve(held, due_at=datetime(1, 1, 1, tzinfo=UTC))),
        readable=True,
    )


INFINITE = float("inf")
#: What no 64-bit integer of ours is, in a store that takes any number.
WRONG_NUMBERS = [-1, 1.5, 2**63 - 1, -(2**63), 0]
DEEP = '{"status":' + '{"a":' * 900 + "1" + "}" * 901


def sqlite_damages(path):  # noqa: C901 - ways of damage, and what each is given
    """Each column holds something of another type, or of none that was written."""

    async def update(sql, ref, *values):
        with closing(sqlite3.connect(path, timeout=30)) as connection:
            try:
                connection.execute(sql, (*values, ref.namespace, ref.key))
                connection.commit()
            except sqlite3.Error as error:
                raise Refused from error

    wrong = {
        "revision": ["1; drop", b"\x01", None, *WRONG_NUMBERS],
        "write_id": [b"w", None, "", "w" * 65, "w" * 1_000_000],
        "created_at": ["never", b"\0", None, 1.5, 2**63 - 1, -(2**63), 1e300, INFINITE],
        "updated_at": ["", b"\0", 1.5, 2**62, -(2**62)],
        "due_at": ["tomorrow", b"\0", 1.5, 2**63 - 1, -(2**63)],
        "body_size": ["four", b"4", -1, 1.5],
        "attributes": ["", "[]", "7", "null", '"status"', '{"status":1}', '{"status":["sx"]}', '{"status":"q1"}',
                       '{"count":"i01"}', '{"share":"fnan"}', '{"share":"finf"}', '{"count":"i' + "9" * 30 + '"}',
                       '{"count":"i' + "9" * 5000 + '"}', '{"status":"s' + "x" * 600 + '"}', '{"a\\u0000":"sx"}',
                       '{"status":"s\\ud800"}', DEEP, b"{}", '{"a":"' + "x" * 500_000 + '"}',
                       "{" + ",".join(f'"n{number}":"sx"' for number in range(65)) + "}"],
        "head": ["head", 7, None, bytes(256 * 1024 + 1), bytes(1_000_000)],
    }  # fmt: skip
    for column, values in wrong.items():
        for value in values:
            sql = f"update flowpersist_records set {column} = ? where namespace = ? and key = ?"  # noqa: S608
            yield Damage(f"{column} {value!r:.40}", partial(_with, update, sql, value))
    for column in ("write_id", "attributes"):
        sql = f"update flowpersist_records set {column} = cast(x'fffe' as text) where namespace = ? and key = ?"  # noqa: S608
        yield Damage(f"{column} no UTF-8", partial(_with, update, sql))
    for value in (
        "cast(x'303033ff' as text)",
        "x'303033'",
        "''",
        "key || 'a' || char(0)",
        "key || printf('%.1000c', 'k')",
    ):
        sql = f"update flowpersist_records set key = {value} || substr(key, 5) where namespace = ? and key = ?"  # noqa: S608
        yield Damage(f"key {value}", partial(_with, update, sql), listed=False)
    body = "(select id from flowpersist_records where namespace = ? and key = ?)"
    bodies = {
        "gone": "delete from flowpersist_bodies",
        "a text": "update flowpersist_bodies set data = 'body'",
        "longer": "update flowpersist_bodies set data = zeroblob(100000)",
    }
    for size in (None, 0, 5, 2**40):
        sql = "update flowpersist_records set body_size = ? where namespace = ? and key = ?"
        yield Damage(f"body_size {size}", partial(_with, update, sql, size), readable=True)
    for name, sql in bodies.items():
        yield Damage(f"body {name}", partial(_with, update, f"{sql} where record = {body}"), readable=True)


async def _with(action, sql, *values_and_ref):
    *values, ref = values_and_ref
    await action(sql, ref, *values)


def filesystem_damages(directory, backend):  # noqa: C901 - ways of damage, and what each is given
    """A record's file holds other bytes, also ones whose checksums are right; so do the entries of the index."""

    def path_of(ref):
        digest = digest_of(ref)
        return directory / "records" / digest[:2] / f"{digest}.record"

    async def rewrite(how, ref):
        path = path_of(ref)
        path.write_bytes(how(path.read_bytes()))

    async def forge(how, ref):
        path = path_of(ref)
        data = path.read_bytes()
        magic, length, head_length, revision, digest = RECORD_START.unpack_from(data)
        header = json.loads(data[RECORD_START.size + 4 :][:length])
        head = data[RECORD_START.size + 4 + length :][:head_length]
        rest = data[RECORD_START.size + 4 + length + head_length :]
        header, head, revision = how(header, head, revision)
        header = header if isinstance(header, bytes) else json.dumps(header).encode()
        fixed = RECORD_START.pack(magic, len(header), len(head), revision, digest)
        checksum = struct.pack(">I", zlib.crc32(head, zlib.crc32(header, zlib.crc32(fixed))))
        path.write_bytes(fixed + checksum + header + head + rest)

    def header_with(name, value, header, head, revision):
        return {**header, name: value}, head, revision

    async def exchange(ref):
        path_of(ref).unlink()
        path_of(ref).mkdir()

    async def enter(sql, ref):
        # What was noted is entered when somebody asks.
        await backend.query(ref.namespace, Where(), limit=1)
        with closing(sqlite3.connect(directory / "index.sqlite", timeout=30)) as connection:
            try:
                assert connection.execute(sql, (digest_of(ref),)).rowcount == 1
                connection.commit()
            except sqlite3.Error as error:
                raise Refused from error

    files = {
        "nothing": lambda _: b"",
        "a byte": lambda data: data[:1],
        "half": lambda data: data[: len(data) // 2],
        "more": lambda data: data + b"more",
        "zeros": lambda data: bytes(len(data)),
        "other magic": lambda data: b"XXXX" + data[4:],
        "the format before": lambda data: b"FPR1" + data[4:],
        "a huge header": lambda data: data[:4] + b"\xff" * 4 + data[8:],
        "a huge head": lambda data: data[:8] + b"\xff" * 4 + data[12:],
        "a flipped revision": lambda data: data[:19] + bytes([data[19] ^ 1]) + data[20:],
        "a flipped header": lambda data: data[:70] + bytes([data[70] ^ 1]) + data[71:],
        "a flipped body": lambda data: data[:-6] + bytes([data[-6] ^ 1]) + data[-5:],
    }
    for name, how in files.items():
        yield Damage(f"{name} in the file", partial(rewrite, how))
    yield Damage("a directory in its place", exchange)
    wrong = {
        "namespace": [None, 7, "", "other"],
        "key": [None, "", "other", "\0"],
        "write_id": [None, 7, "", "w" * 65],
        "created": [None, "never", 1.5, 2**62, -(2**62), True],
        "updated": [None, [], 2**200],
        "due": ["never", 1.5, 2**62],
        "attributes": [None, {}, "[]", "{", '{"status":1}', '{"status":{"a":"sx"}}'],
        "body": ["4", -1, 1.5, 10**12, 2**63],
        "nonce": [7, "../../x", "n" * 300, "é"],
        "offset": ["x", -1],
    }
    for name, values in wrong.items():
        for value in values:
            how = partial(header_with, name, value)
            yield Damage(f"{name} {value!r:.40}, forged", partial(forge, how))
    for revision in (0, -1, 2**63 - 1, -(2**63)):
        how = partial(lambda header, head, _, revision: (header, head, revision), revision=revision)
        yield Damage(f"revision {revision}, forged", partial(forge, how))
    for header in (b"", b"[]", b"7", b"{", b"\xff", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 5000):
        how = partial(lambda _, head, revision, header: (header, head, revision), header=header)
        yield Damage(f"header {header!r:.40}", partial(forge, how))
    for column in ("created_at", "updated_at", "due_at", "key", "revision"):
        for value in ("'never'", "x'00'", "1.5", "cast(x'ff' as text)"):
            sql = f"update entries set {column} = {value} where digest = ?"  # noqa: S608
            yield Damage(f"{column} {value} in the index", partial(enter, sql), readable=True, listed=False)
