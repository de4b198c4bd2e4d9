"""A directory of the first format is read and written, and from then on its release refuses it."""

import json
from datetime import UTC, datetime

import pytest

from flowpersist.backends.base import NamespaceSchema, RecordChange, RecordRef, Where
from flowpersist.backends.filesystem import FilesystemBackend
from flowpersist.errors import IntegrityError

SCHEMA = [NamespaceSchema("n", {"status": str})]
#: As the release wrote them whose format was 1.
SMALL = (
    "550ca0e7098f3284c9f0703dcac46f2c4ecdc4348fc28f73e113d0994300d44b",
    (
        b'FPR1\x00\x00\x00\xd8{"namespace":"n","key":"small","revision":1,"write_id":"w1","created":1779019200000000,'
        b'"updated":1779019200000000,"due":1798761600000000,"attributes":"{\\"n\\":\\"i3\\",\\"status\\":\\"sx\\"}","head":4,'
        b'"body":4,"nonce":null}headbody6\x99\x8fb'
    ),
)
LARGE = (
    "cb7159c3b058cbba291d75237f37c38244143a1c49f6882d2378212d017cc2d2",
    (
        b'FPR1\x00\x00\x00\xd1{"namespace":"n","key":"large","revision":1,"write_id":"w2","created":1779019200000000,'
        b'"updated":1779019200000000,"due":null,"attributes":"{\\"status\\":\\"sy\\"}","head":1,"body":60000,'
        b'"nonce":"0001020304050607"}h\xe6I<('
    ),
)
BODY = b"large!" * 10_000


def path(root, digest, kind):
    return root / "records" / digest[:2] / f"{digest}.{kind}"


@pytest.fixture
def root(tmp_path):
    """A store of format 1, whose index was lost."""
    for shard in range(256):
        (tmp_path / "records" / f"{shard:02x}").mkdir(parents=True)
    (tmp_path / "format.json").write_text('{"format": 1, "shards": 256}')
    for digest, data in (SMALL, LARGE):
        path(tmp_path, digest, "record").write_bytes(data)
    path(tmp_path, LARGE[0], "0001020304050607.body").write_bytes(BODY)
    return tmp_path


@pytest.fixture
async def backend(root):
    backend = FilesystemBackend(root)
    await backend.open(SCHEMA)
    yield backend
    await backend.close()


async def record(backend, key):
    return (await backend.get(RecordRef("n", key))).record


async def test_what_was_written_is_read_and_found(backend):
    small, large = await record(backend, "small"), await record(backend, "large")
    assert (small.revision, small.write_id, small.head, small.body) == (1, "w1", b"head", b"body")
    assert (small.attributes, small.due_at) == ({"n": 3, "status": "x"}, datetime(2027, 1, 1, tzinfo=UTC))
    assert small.created_at == small.updated_at == datetime(2026, 5, 17, 12, tzinfo=UTC)
    assert (large.head, large.body, large.due_at) == (b"h", BODY, None)
    assert [item.ref.key for item in (await backend.query("n", Where(), limit=9)).items] == ["large", "small"]
    assert [item.ref.key for item in (await backend.query("n", Where({"status": "y"}), limit=9)).items] == ["large"]


async def test_its_release_can_not_open_it_any_more(backend, root):
    assert json.loads((root / "format.json").read_text()) == {"format": 2, "shards": 256}


@pytest.mark.parametrize("key", ["small", "large"])
async def test_a_change_keeps_the_body(backend, key):
    body = (await record(backend, key)).body
    for revision in (1, 2):
        await backend.put(RecordRef("n", key), RecordChange("w", head=b"new"), if_revision=revision)
        changed = await record(backend, key)
        assert (changed.revision, changed.head, changed.body) == (revision + 1, b"new", body)


async def test_a_new_body_replaces_the_old_one_and_a_deletion_leaves_nothing(backend, root):
    ref = RecordRef("n", "large")
    await backend.put(ref, RecordChange("w", body=BODY[::-1]), if_revision=1)
    assert (await record(backend, "large")).body == BODY[::-1]
    assert not path(root, LARGE[0], "0001020304050607.body").exists()
    await backend.delete(ref, if_revision=2)
    assert [found.name for found in root.rglob(f"{LARGE[0]}.*")] == []


async def test_every_flipped_byte_and_every_truncation_is_found(backend, root):
    digest, data = SMALL
    for position in range(len(data)):
        for altered in (data[:position], data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]):
            path(root, digest, "record").write_bytes(altered)
            with pytest.raises(IntegrityError):
                backend._opened.shards.stored(digest)


async def test_a_record_under_another_s_name_is_found(backend, root):
    path(root, SMALL[0], "record").write_bytes(LARGE[1])
    with pytest.raises(IntegrityError):
        await record(backend, "small")
