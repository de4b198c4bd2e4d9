# ruff: noqa: S608 - the tables of a test
"""How a stored record can be damaged on each server: by its own client, past everything of ours."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

import asyncpg
import neo4j
from bson import Binary, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex
from bson.datetime_ms import DatetimeMS
from bson.errors import InvalidBSON
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError
from redis.asyncio import Redis

from flowpersist.testing.suite.damage import Damage, Refused


def redis_damages(url, prefix):  # noqa: C901 - ways of damage, and what each is given
    """Each field of the hash is gone or holds something else; another kind of value stands in its place; and indexes
    name what there is not.
    """

    async def command(ref, make):
        async with Redis.from_url(url) as client:
            key = next(iter([key async for key in client.scan_iter(f"*{prefix}*r:{ref.key}", count=10_000)]))
            await make(client, key)

    async def set_field(field, value, ref):
        await command(ref, lambda client, key: client.hset(key, field, value))

    async def drop_field(field, ref):
        await command(ref, lambda client, key: client.hdel(key, field))

    async def other_kind(kind, ref):
        async def exchange(client, key):
            await client.delete(key)
            kinds = {"list": client.rpush, "string": client.set, "set": client.sadd}
            await kinds[kind](key, "x")

        await command(ref, exchange)

    async def other_body(kind, ref):
        async def exchange(client, key):
            body = key.replace(b"r:", b"b:")
            await client.delete(body)
            kinds = {"list": client.rpush, "string": client.set, "gone": client.delete}
            await kinds[kind](*(body, "other")[: 1 if kind == "gone" else 2])

        await command(ref, exchange)

    async def foreign(index, member, ref):
        async def add(client, key):
            tag = key.partition(b"r:")[0]
            await client.zadd(tag + index, {member(key.partition(b"r:")[2]): 0})

        await command(ref, add)

    wrong = {
        "v": ["", "0", "-1", "01", "1.5", "1_0", "nan", " 1", "9" * 30, str(2**63 - 1), str(2**53), b"\xff",
              "9" * 5000],
        "w": ["", b"\xff", "w" * 65, "\0", "w" * 1_000_000],
        "a": ["[]", "7", "null", "{", '{"status":1}', '{"status":true}', '{"status":null}', '{"status":["sx"]}',
              '{"status":{"a":1}}', '{"status":"q"}', b"\xff", "[" * 100_000, '{"a":' * 900 + "1" + "}" * 900,
              '{"status":"s' + "x" * 600 + '"}', '{"a":"' + "s" * 1_000_000 + '"}'],
        "h": [bytes(256 * 1024 + 1), bytes(2_000_000)],
        "s": ["-1", "x", "1.5", b"\xff", "9" * 30],
        "c": ["", "x", "1" * 17, "1" * 19, "9" * 18, b"\xff" * 18, "-" + "1" * 17],
        "u": ["", "x", "9" * 18],
        "d": ["x", "9" * 18, "0" * 17],
    }  # fmt: skip
    for field, values in wrong.items():
        for value in values:
            yield Damage(f"{field} {value!r:.40}", partial(set_field, field, value))
    for field in "vwcu":
        yield Damage(f"{field} is gone", partial(drop_field, field))
    for field in "ahsd":
        yield Damage(f"{field} is gone", partial(drop_field, field), readable=True)
    for size in ("0", "5", str(2**40)):
        yield Damage(f"s {size}", partial(set_field, "s", size), readable=True)
    for kind in ("list", "string", "set"):
        yield Damage(f"a {kind} in its place", partial(other_kind, kind))
    for kind in ("list", "string", "gone"):
        yield Damage(f"a body that is a {kind}", partial(other_body, kind), readable=True)
    members = {
        "no UTF-8": lambda key: b"\xff" + key,
        "another key": lambda key: b"0" * 18 + b"nobody",
        "a short one": lambda _: b"1",
        "an empty one": lambda _: b"",
        "another time": lambda key: b"0" * 18 + key,
        "no time": lambda key: b"x" * 18 + key,
        "a long one": lambda key: b"0" * 18 + key * 1000,
    }
    for index in (b"key", b"created", b"updated", b"due", b"due:status=sx", b"key:status=sx"):
        for name, member in members.items():
            yield Damage(f"{name} in {index.decode()}", partial(foreign, index, member), readable=True, listed=False)


def postgres_damages(url, prefix):
    """Each column holds what it can: other numbers, other JSON, too much, and nothing once that is allowed."""

    async def update(sql, value, ref):
        connection = await asyncpg.connect(url)
        try:
            for column in ("revision", "write_id", "created_at", "updated_at", "attributes", "head"):
                await connection.execute(f"alter table {prefix}_records alter {column} drop not null")
            await connection.execute(sql.format(prefix=prefix), ref.namespace, ref.key, *value)
        except asyncpg.PostgresError as error:
            raise Refused from error
        finally:
            await connection.close()

    year = 365 * 86_400_000_000
    times = [146_000_000_000 * 365 * 86_400 // 1000 * 1000, 2**63 - 1, -(2**63), -3000 * year, 8100 * year]
    wrong = {
        "revision": ["bigint", 0, -1, 2**63 - 1, -(2**63), None],
        "write_id": ["text", "", "w" * 65, "w" * 1_000_000, None],
        "created_at": ["bigint", *times, None],
        "updated_at": ["bigint", *times, None],
        "due_at": ["bigint", *times],
        "body_size": ["bigint", -1, -(2**63), 2**63 - 1],
        "head": ["bytea", bytes(256 * 1024 + 1), bytes(2_000_000), None],
        "attributes": ["text::jsonb", "[]", "7", "null", '"status"', '{"status":1}', '{"status":null}',
                       '{"status":["sx"]}', '{"status":{"a":1}}', '{"status":"q"}', '{"count":"i01"}',
                       '{"share":"fnan"}', '{"share":"f1e999"}', '{"count":"i' + "9" * 5000 + '"}',
                       '{"status":"s' + "x" * 600 + '"}', "[" * 100_000 + "]" * 100_000,
                       "[" * 3000 + "]" * 3000, '{"a":' * 2000 + "1" + "}" * 2000, '{"a":"s' + "x" * 3_000_000 + '"}',
                       "{" + ",".join(f'"n{number}":"sx"' for number in range(65)) + "}", None],
    }  # fmt: skip
    for column, (kind, *values) in wrong.items():
        for value in values:
            sql = "update {prefix}_records set " + f"{column} = $3::{kind} where namespace = $1 and key = $2"
            yield Damage(f"{column} {value!r:.40}", partial(update, sql, (value,)))
    for key in ("", "0" * 2000, "\x01"):
        sql = "update {prefix}_records set key = $3::text || key where namespace = $1 and key = $2"
        yield Damage(f"key {key!r:.40}", partial(update, sql, ("0" + key,)), listed=False)
    for size in (None, 0, 5, 2**40):
        sql = "update {prefix}_records set body_size = $3 where namespace = $1 and key = $2"
        yield Damage(f"body_size {size}", partial(update, sql, (size,)), readable=True)
    held = "where record = (select id from {prefix}_records where namespace = $1 and key = $2)"
    yield Damage("no body", partial(update, "delete from {prefix}_bodies " + held, ()), readable=True)
    yield Damage(
        "a longer body", partial(update, "update {prefix}_bodies set data = data || data " + held, ()), readable=True
    )


def mongodb_damages(url, prefix):  # noqa: C901 - ways of damage, and what each is given
    """Each field is of another type, or of none that was written, or gone."""

    async def change(change, ref):
        async with AsyncMongoClient(url) as client:
            records = client.get_default_database("flowpersist")[f"{prefix}_records"]
            try:
                done = await records.update_one({"_id": f"{ref.namespace}\0{ref.key}"}, change)
            except (PyMongoError, InvalidBSON) as error:
                raise Refused from error
            assert done.matched_count == 1

    deep = []
    for _ in range(90):
        deep = [deep]
    others = [None, "text", 7, 1.5, True, [], {"a": 1}, DatetimeMS(2**62), deep]
    numbers = [float("nan"), float("inf"), Decimal128("1"), Int64(2**63 - 1), 1e300, MaxKey()]
    wrong = {
        "v": [*(other for other in others if other != 7), *numbers, 0, -1, Int64(-(2**63)), "1", [1]],
        "w": [*(other for other in others if other != "text"), "", "w" * 65, "w" * 1_000_000],
        "a": [*(other for other in others if other != []), [1], [None], ["x"], ['"status":"q"'], ['"status":1'],
              ['"a":"sx"}'],
              ["[" * 100_000], ['"status":"s' + "x" * 600 + '"'], ['"a":"s' + "x" * 2_000_000 + '"'],
              [f'"n{number}":"sx"' for number in range(65)]],
        "h": [*others, Binary(b"x", 4), ObjectId(), Regex("x"), MinKey(), bytes(256 * 1024 + 1), bytes(2_000_000)],
        "c": [*others, "", "2026-01-01T00:00:00.000000Z other", "2026-13-01T00:00:00.000000Z 0", "9999", "\x7f"],
        "u": [7, "", "2026-01-01T00:00:00.000000Z other"],
        "d": [7, datetime(2026, 1, 1, tzinfo=UTC), "", "2026-01-01T00:00:00.000000Z other"],
        "s": ["4", 4.5, -1, deep],
        "i": ["body", 7, deep],
    }  # fmt: skip
    for field, values in wrong.items():
        for value in values:
            yield Damage(f"{field} {value!r:.40}", partial(change, {"$set": {field: value}}), readable=field == "i")
    for field in "vwhcuan":
        yield Damage(f"{field} is gone", partial(change, {"$unset": {field: ""}}), listed=field != "n")
    for field in "dsi":
        yield Damage(f"{field} is gone", partial(change, {"$unset": {field: ""}}), readable=True)
    for value in (None, "other", 7, DatetimeMS(2**62), deep):
        yield Damage(f"n {value!r:.40}", partial(change, {"$set": {"n": value}}), listed=False)
        yield Damage(f"x {value!r:.40}", partial(change, {"$set": {"x": value, "m": 1}}), readable=True)
        yield Damage(f"m {value!r:.40}", partial(change, {"$set": {"x": "2026", "m": value}}), readable=True)
    yield Damage("something more", partial(change, {"$set": {"zzz": "x" * 1_000_000}}), readable=True)


def neo4j_damages(driver, prefix):  # noqa: C901 - ways of damage, and what each is given
    """Each property is of another type, or of none that was written, or gone; so are the nodes of the body."""

    async def change(clause, value, ref):
        match = f"MATCH (r:{prefix.capitalize()}Record {{namespace: $namespace, key: $key}})"
        async with driver.session() as session:
            try:
                found = await session.run(f"{match} {clause}", namespace=ref.namespace, key=ref.key, value=value)
                await found.consume()
            except neo4j.exceptions.Neo4jError as error:
                raise Refused from error

    others = [7, 1.5, True, "text", [1], b"bytes", datetime(2026, 1, 1, tzinfo=UTC), 2**63 - 1, float("nan")]
    lines = "1\n1\n1\n\n{}\n{}\n{}\n"
    wrong = {
        "snapshot": [*others, "", "\n" * 7, lines, lines * 2, "x" * 2_000_000, "\n" * 100_000,
                     '9\n1\n1\n\n"w"\n' + "[" * 100_000 + "\nx\n"],
        "head": [*others, b"", b"other tag and head", bytes(300_000)],
    }  # fmt: skip
    for name, values in wrong.items():
        for value in values:
            yield Damage(f"{name} {value!r:.40}", partial(change, f"SET r.{name} = $value", value))
        yield Damage(f"{name} is gone", partial(change, f"REMOVE r.{name}", None))
    numbers = {"revision": 0, "created": 1, "updated": 2, "due": 3, "write id": 4, "attributes": 5}
    texts = [
        "",
        "x",
        "-1",
        "01",
        "1.5",
        " 1",
        "9" * 30,
        "9" * 5000,
        "[]",
        "{",
        '{"status":1}',
        "null",
        '"' + "w" * 65 + '"',
    ]
    for name, number in numbers.items():
        for text in texts:
            harmless = (name == "due" and text in {"", "-1"}) or (name in {"created", "updated"} and text == "-1")
            clause = (
                "WITH r, split(r.snapshot, '\\n') AS old SET r.snapshot = "
                f"reduce(all = '', i IN range(0, 7) | all + CASE i WHEN {number} THEN $value ELSE old[i] END "
                "+ CASE i WHEN 7 THEN '' ELSE '\\n' END)"
            )
            yield Damage(f"{name} {text!r:.40}", partial(change, clause, text), readable=harmless)
    for value in [0, -1, *others]:
        yield Damage(
            f"revision {value!r:.40} of the node", partial(change, "SET r.revision = $value", value), readable=True
        )
    yield Damage("no revision of the node", partial(change, "REMOVE r.revision", None), readable=True)
    for name in ("by_created", "by_updated", "by_due", "shard", "tag", "lock", "attr_status"):
        for value in (7, "2000000000000000000other", "0"):
            clause = f"SET r.{name} = $value"
            yield Damage(f"{name} {value!r:.40}", partial(change, clause, value), readable=True, listed=False)
    for name in ("key", "namespace"):
        for value in (7, "\ue000"):
            clause = f"SET r.{name} = $value"
            yield Damage(f"{name} {value!r:.40}", partial(change, clause, value), listed=False)
    parts = {"gone": "DETACH DELETE b", "a text": "SET b.data = 'text'", "of another tag": "SET b.tag = 7",
             "longer": "SET b.data = r.head", "of another number": "SET b.part = 'one'"}  # fmt: skip
    for name, action in parts.items():
        clause = f"MATCH (r)--(b) WHERE b.data IS NOT NULL {action}"
        yield Damage(f"a body that is {name}", partial(change, clause, None), readable=True)
