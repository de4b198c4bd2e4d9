"""Directories that are foreign, damaged, behind, of a later release; orphans; locks; what a failing disk leaves."""

import asyncio
import errno
import fcntl
import json
import os
import shutil
import stat
import threading
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from flowpersist.backends._filesystem import files as plain_files
from flowpersist.backends._filesystem import index as file_index
from flowpersist.backends._filesystem import shards
from flowpersist.backends._filesystem.record_file import INLINE_BYTES, digest_of, encode, header_of
from flowpersist.backends.base import KEEP, NamespaceSchema, RecordChange, RecordRef, Where, Written
from flowpersist.backends.filesystem import FilesystemBackend
from flowpersist.errors import (
    BackendUnavailable,
    DeadlinePassed,
    IntegrityError,
    RevisionConflict,
    StorageFull,
    UnknownOutcome,
    UnsupportedVersion,
)

SCHEMA = [NamespaceSchema("n", {"status": str})]
REF = RecordRef("n", "k")
DIGEST = digest_of(REF)
LARGE = bytes(INLINE_BYTES + 1)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "store"


@pytest.fixture
async def backend(root):
    backend = FilesystemBackend(root, busy_timeout=timedelta(seconds=0.05))
    await backend.open(SCHEMA)
    yield backend
    await backend.close()


def put(backend, **parts):
    revision = parts.pop("if_revision", 0)
    return backend.put(REF, RecordChange("w", **parts), if_revision=revision)


async def keys(backend, where=Where()):  # noqa: B008
    return [record.ref.key for record in (await backend.query("n", where, limit=100)).items]


def files(root):
    return sorted(path.name.partition(".")[2] for path in (root / "records" / DIGEST[:2]).glob(f"{DIGEST}.*"))


async def reopened(backend):
    await backend.close()
    await backend.open(SCHEMA)


async def test_files_are_for_their_owner_alone_and_never_named_by_the_user(backend, root):
    await put(backend, body=LARGE)
    for path in root.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert files(root) == [files(root)[0], "record"]
    assert files(root)[0].endswith(".body")


async def test_a_large_body_is_neither_read_nor_written_by_a_change(backend, root):
    written = await put(backend, body=LARGE)
    before = files(root)
    await put(backend, head=b"new", if_revision=written.revision)
    assert files(root) == before
    assert (await backend.get(REF)).record.body == LARGE


async def test_an_old_body_goes_with_the_write_that_replaces_it(backend, root):
    revision = (await put(backend, body=LARGE)).revision
    revision = (await put(backend, body=LARGE[::-1], if_revision=revision)).revision
    assert len(files(root)) == 2
    revision = (await put(backend, body=b"small", if_revision=revision)).revision
    assert files(root) == ["record"]
    await backend.delete(REF, if_revision=revision)
    assert files(root) == []


async def test_a_directory_with_other_files_is_refused(root):
    root.mkdir()
    (root / "letter.txt").write_text("dear")
    with pytest.raises(BackendUnavailable, match="other files"):
        await FilesystemBackend(root).open(SCHEMA)
    assert [path.name for path in root.iterdir()] == ["letter.txt"]


async def test_a_file_in_place_of_the_directory(root):
    root.write_text("x")
    with pytest.raises(BackendUnavailable):
        await FilesystemBackend(root).open(SCHEMA)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"format":1}', UnsupportedVersion),
        ('{"format":3}', UnsupportedVersion),
        ('{"format":true}', UnsupportedVersion),
        ("{", IntegrityError),
        ("[]", IntegrityError),
        ("{}", IntegrityError),
    ],
)
async def test_a_format_of_a_later_release_or_none(backend, root, text, error):
    await backend.close()
    (root / "format.json").write_text(text)
    with pytest.raises(error):
        await backend.open(SCHEMA)


@pytest.mark.parametrize("damage", ["delete", "garbage", "columns", "rows", "boot", "no boot id"])
async def test_an_index_that_is_missing_damaged_or_behind_is_rebuilt(backend, root, damage, monkeypatch):
    await put(backend, attributes={"status": "x"}, body=LARGE)
    index = backend._opened.shards.index
    if damage == "rows":
        with index._transaction() as connection:
            connection.execute("delete from entries")
    elif damage == "columns":
        with index._transaction() as connection:
            connection.execute("drop table entries")
            connection.execute("create table entries (x)")
    elif damage == "boot":
        with index._transaction() as connection:
            connection.execute("update meta set value = '1 another'")
            connection.execute("delete from entries")
    elif damage == "no boot id":
        monkeypatch.setattr(file_index, "BOOT_ID", root / "nowhere")
    await backend.close()
    if damage in {"delete", "garbage"}:
        for path in root.glob("index.sqlite*"):
            path.unlink()
    if damage == "garbage":
        (root / "index.sqlite").write_bytes(b"no database at all" * 100)
    await backend.open(SCHEMA)
    assert await keys(backend, Where({"status": "x"})) == ["k"]
    assert (await backend.get(REF)).record.body == LARGE


@pytest.mark.parametrize("part", [DIGEST.encode(), b"namespace", b'"n"', b"status", b"sx"])
async def test_a_damaged_log_of_the_index_harms_no_query_for_long(backend, root, part):
    await backend.put(RecordRef("n", "other"), RecordChange("w"), if_revision=0)
    await put(backend, attributes={"status": "x"})
    log = root / "index.log"
    place = log.read_bytes().rindex(part)
    log.write_bytes(log.read_bytes()[:place] + bytes([part[0] ^ 1]) + log.read_bytes()[place + 1 :])
    assert "other" in await keys(backend)
    await reopened(backend)
    assert await keys(backend, Where({"status": "x"})) == ["k"]


@pytest.mark.parametrize("size", [0, 20, 32, 100])
async def test_a_log_of_the_index_that_was_cut_short(backend, root, size):
    for key in "ab":
        await backend.put(RecordRef("n", key), RecordChange("w"), if_revision=0)
        assert key in await keys(backend)
    await backend.close()
    os.truncate(root / "index.log", size)
    await backend.open(SCHEMA)
    assert (await put(backend, attributes={"status": "x"})).revision == 1
    assert await keys(backend, Where({"status": "x"})) == ["k"]
    assert await keys(backend) == ["a", "b", "k"]


async def test_what_another_reads_while_the_log_of_the_index_is_emptied_is_not_taken_for_the_new_one(
    backend, root, monkeypatch
):
    another = FilesystemBackend(root, busy_timeout=timedelta(seconds=0.05))
    await another.open(SCHEMA)
    for number in range(10):
        await backend.put(RecordRef("n", f"a{number}"), RecordChange("w"), if_revision=0)
    truncate = os.ftruncate

    def truncated(handle, size):
        with suppress(BackendUnavailable):
            another._opened.shards.index.enter()
        truncate(handle, size)

    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", truncated)
        patch.setattr(file_index, "LONG", 1000)
        await keys(backend)
    assert (root / "index.log").stat().st_size < 1000
    await put(backend)
    assert "k" in await keys(another)
    await another.close()


async def test_entries_without_a_record_are_passed_over_and_removed(backend, root):
    await put(backend, attributes={"status": "x"})
    (root / "records" / DIGEST[:2] / f"{DIGEST}.record").unlink()
    assert await keys(backend) == []
    await reopened(backend)
    assert backend._opened.shards.index.bodies() == {}


async def test_orphans_of_a_crash_are_removed_when_the_store_is_opened(backend, root):
    await put(backend, body=LARGE)
    shard = root / "records" / DIGEST[:2]
    named = files(root)
    for kind in ("00ff.body", "00ff.new"):
        (shard / f"{DIGEST}.{kind}").write_bytes(b"x")
    stray = shard / f"{DIGEST[:2]}{'0' * 62}.aa.body"
    stray.write_bytes(b"x")
    (shard / "letter.txt").write_text("not ours")
    await reopened(backend)
    assert files(root) == named
    assert not stray.exists()
    assert (shard / "letter.txt").exists()
    assert (await backend.get(REF)).record.body == LARGE


@pytest.mark.parametrize("damage", ["missing", "short", "long"])
async def test_a_body_that_is_missing_or_of_another_length(backend, root, damage):
    await put(backend, body=LARGE)
    await put(backend, head=b"claimed", if_revision=1)
    (body,) = root.rglob("*.body")
    if damage == "missing":
        body.unlink()
    else:
        body.write_bytes(body.read_bytes()[:-1] if damage == "short" else body.read_bytes() + b"x")
    with pytest.raises(IntegrityError, match="body"):
        await backend.get(REF)
    assert (await backend.get(REF, body=False)).record is not None


@pytest.mark.parametrize("damage", ["short", "long"])
async def test_a_body_of_another_length_that_lies_with_its_record(backend, root, damage):
    await put(backend, body=LARGE)
    (body,) = root.rglob("*.body")
    body.write_bytes(body.read_bytes()[:-1] if damage == "short" else body.read_bytes() + b"x")
    with pytest.raises(IntegrityError, match="body"):
        await backend.get(REF)
    assert (await backend.get(REF, body=False)).record is not None


async def test_a_large_body_is_written_once_and_has_two_names(backend, root):
    revision = (await put(backend, head=b"one", body=LARGE)).revision
    (body,) = root.rglob("*.body")
    assert body.samefile(root / "records" / DIGEST[:2] / f"{DIGEST}.record")
    revision = (await put(backend, head=b"two", body=LARGE[::-1], if_revision=revision)).revision
    (body,) = root.rglob("*.body")
    assert body.samefile(root / "records" / DIGEST[:2] / f"{DIGEST}.record")
    await put(backend, head=b"three", if_revision=revision)
    assert body.stat().st_nlink == 1
    assert (await backend.get(REF)).record.body == LARGE[::-1]


async def test_the_name_of_a_body_that_was_lost_is_made_again_before_its_record_changes(backend, root):
    revision = (await put(backend, body=LARGE)).revision
    (body,) = root.rglob("*.body")
    body.unlink()
    assert (await backend.get(REF)).record.body == LARGE
    await put(backend, head=b"claimed", if_revision=revision)
    assert list(root.rglob("*.body")) == [body]
    assert (await backend.get(REF)).record.body == LARGE


async def test_what_another_is_writing_is_not_swept_away(backend, root):
    await put(backend, body=b"old")
    path = backend._opened.shards.path(DIGEST, "00ff.new")
    with plain_files.made(path, [b"under way"]):
        other = FilesystemBackend(root)
        await other.open(SCHEMA)
        await other.close()
        assert files(root) == ["00ff.new", "record"]
    await reopened(backend)
    assert files(root) == ["record"]


async def test_who_is_behind_needs_no_lock_to_be_told_so(backend, root):
    await put(backend)
    handle = os.open(root / "records" / DIGEST[:2] / "lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    for revision in (0, 2):
        with pytest.raises(RevisionConflict):
            await put(backend, if_revision=revision)
    os.close(handle)


async def test_of_those_that_have_read_the_same_revision_one_wins(backend, monkeypatch):
    """All have written what they want to rename before the first of them gets the lock."""
    everybody, real = threading.Barrier(4), shards.made

    @contextmanager
    def together(path, parts):
        with real(path, parts):
            everybody.wait(5)
            yield

    for revision, large in ((0, False), (1, True), (2, False)):
        monkeypatch.setattr(shards, "made", together)
        body = LARGE if large else KEEP
        tries = [put(backend, head=b"%d" % n, body=body, if_revision=revision) for n in range(4)]
        found = await asyncio.gather(*tries, return_exceptions=True)
        assert sorted(type(one).__name__ for one in found) == ["RevisionConflict"] * 3 + ["Written"]
        monkeypatch.undo()
        record = (await backend.get(REF)).record
        assert (record.revision, record.head) == (revision + 1, b"%d" % [type(one) for one in found].index(Written))


async def test_a_record_that_came_and_went_meanwhile_leaves_its_revisions_used(backend, monkeypatch):
    real, seen = shards.made, []

    @contextmanager
    def meanwhile(path, parts):
        with real(path, parts):
            if not seen:
                seen.append(path)
                store = backend._opened.shards
                written = store.put(REF, RecordChange("other"), 0, None)
                assert store.delete(REF, written.revision)
            yield

    monkeypatch.setattr(shards, "made", meanwhile)
    assert (await put(backend)).revision == 2
    assert files(backend._opened.shards.directory.parent) == ["record"]


async def test_every_flipped_byte_and_every_truncation_of_a_record_is_found(backend, root):
    await put(backend, attributes={"status": "x"}, head=b"head", body=b"body")
    path, shards = root / "records" / DIGEST[:2] / f"{DIGEST}.record", backend._opened.shards
    data = path.read_bytes()
    assert shards.stored(DIGEST).inline == b"body"
    for position in range(len(data)):
        for bit in range(8):
            path.write_bytes(data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :])
            with pytest.raises(IntegrityError):
                shards.stored(DIGEST)
    for altered in (*(data[:length] for length in range(len(data))), data + b"x", data + bytes(20_000)):
        path.write_bytes(altered)
        with pytest.raises(IntegrityError):
            shards.stored(DIGEST)


async def test_a_damaged_record_is_an_error_and_the_store_still_opens(backend, root):
    await put(backend, body=LARGE)
    path = root / "records" / DIGEST[:2] / f"{DIGEST}.record"
    path.write_bytes(b"rot")
    for attempt in (backend.get(REF), put(backend), backend.delete(REF, if_revision=1)):
        with pytest.raises(IntegrityError, match="can't be read"):
            await attempt
    await backend.put(RecordRef("n", "sound"), RecordChange("w", head=b"h"), if_revision=0)
    await reopened(backend)
    assert await keys(backend) == ["sound"]
    for path in root.glob("index.sqlite*"):
        path.unlink()
    await reopened(backend)
    assert await keys(backend) == ["sound"]
    assert len(list(root.rglob("*.body"))) == 1


async def test_a_damaged_record_does_not_keep_others_from_being_purged(backend, root):
    names = [f"k{number}" for number in range(1000)]
    neighbour = next(name for name in names if digest_of(RecordRef("n", name))[:2] == DIGEST[:2])
    await put(backend)
    await backend.put(RecordRef("n", neighbour), RecordChange("w"), if_revision=0)
    path = root / "records" / DIGEST[:2] / f"{DIGEST}.record"
    path.write_bytes(path.read_bytes()[:-1])
    assert await backend.purge("n", Where(), limit=9) == 1
    assert (await backend.get(RecordRef("n", neighbour))).record is None
    assert path.exists()


async def test_a_record_under_another_s_name_is_found(backend, root):
    await put(backend)
    other = RecordRef("n", "other")
    data = (root / "records" / DIGEST[:2] / f"{DIGEST}.record").read_bytes()
    (root / "records" / digest_of(other)[:2] / f"{digest_of(other)}.record").write_bytes(data)
    with pytest.raises(IntegrityError):
        await backend.get(other)


@pytest.mark.parametrize("body", [b"small", LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    "change", [{"body": 1.5}, {"body": "x"}, {"body": -1}, {"body": 2**40}, {"body": 2**63}, {"offset": -1}]
)
async def test_a_header_of_wrong_values_whose_checksum_holds(backend, root, body, change):
    await put(backend, body=body)
    stored = backend._opened.shards.stored(DIGEST)
    header = json.dumps(json.loads(header_of(stored)) | change).encode()
    parts = [*encode(stored, DIGEST, header), body if stored.whole else b""]
    (root / "records" / DIGEST[:2] / f"{DIGEST}.record").write_bytes(b"".join(parts))
    with pytest.raises(IntegrityError):
        await backend.get(REF)


async def test_a_damaged_counter_is_an_error(backend, root):
    (root / "records" / DIGEST[:2] / "floor").write_bytes(b"x")
    with pytest.raises(IntegrityError, match="counter"):
        await put(backend)


async def test_a_shard_that_another_process_locks(backend, root):
    handle = os.open(root / "records" / DIGEST[:2] / "lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(BackendUnavailable, match="locked") as refused:
        await put(backend)
    assert refused.value.retryable
    os.close(handle)
    with backend._opened.shards._mutexes[DIGEST[:2]], pytest.raises(BackendUnavailable, match="locked"):
        await put(backend)
    assert (await put(backend)).revision == 1


@pytest.mark.parametrize(
    ("code", "error", "retryable"),
    [
        (errno.ENOSPC, StorageFull, False),
        (errno.EDQUOT, StorageFull, False),
        (errno.EROFS, BackendUnavailable, False),
        (errno.EACCES, BackendUnavailable, False),
        (errno.EIO, BackendUnavailable, False),
        (errno.EMFILE, BackendUnavailable, True),
    ],
)
@pytest.mark.parametrize("call", ["open", "writev", "fdatasync", "link", "rename"])
async def test_a_failing_disk_leaves_the_old_record_and_nothing_else(
    backend, root, monkeypatch, code, error, retryable, call
):
    revision = (await put(backend, body=b"old")).revision
    where = plain_files if call == "fdatasync" else os
    call = "flush" if call == "fdatasync" else call
    real, failing = getattr(where, call), [True]

    def fail(*arguments, **options):
        if failing and (call != "open" or str(arguments[0]).endswith((".body", ".new"))):
            failing.pop()
            raise OSError(code, "the disk says no")
        return real(*arguments, **options)

    monkeypatch.setattr(where, call, fail)
    with pytest.raises(error) as refused:
        await put(backend, body=LARGE, if_revision=revision)
    assert refused.value.retryable is retryable
    assert not failing
    assert files(root) == ["record"]
    assert (await backend.get(REF)).record.body == b"old"
    assert (await put(backend, body=LARGE, if_revision=revision)).revision == revision + 1


async def test_a_directory_that_can_not_be_flushed_is_an_unknown_outcome(backend, monkeypatch):
    def fail(path):
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(shards, "flush_directory", fail)
    with pytest.raises(UnknownOutcome):
        await put(backend)
    monkeypatch.undo()
    assert (await backend.get(REF)).record.write_id == "w"


async def test_what_deletions_leave_in_the_index_goes_though_nobody_asks(backend, monkeypatch):
    names = [RecordRef("n", name) for name in "abc"]
    for name in names:
        await backend.put(name, RecordChange("w"), if_revision=0)
    assert await keys(backend) == ["a", "b", "c"]
    monkeypatch.setattr(file_index, "OVERDUE", 3)
    for name in names:
        await backend.delete(name, if_revision=1)
    index = backend._opened.shards.index
    async with asyncio.timeout(5):
        while index._outdated:
            await asyncio.sleep(0.01)


async def test_entries_that_are_outdated_are_passed_over(backend, monkeypatch):
    monkeypatch.setattr(file_index.FileIndex, "remove_below", lambda *_: None)
    revision = (await put(backend, attributes={"status": "x"})).revision
    await put(backend, attributes={"status": "y"}, if_revision=revision)
    assert await keys(backend, Where({"status": "x"})) == []
    assert await keys(backend, Where({"status": "y"})) == ["k"]
    assert await keys(backend) == ["k"]


async def test_a_deadline_that_passes_while_files_are_flushed_still_refuses(backend, root):
    now = (await backend.get(REF)).now
    shards = backend._opened.shards
    moments = iter([now, now + timedelta(hours=1)])
    shards.now = lambda: next(moments)
    with pytest.raises(DeadlinePassed):
        await backend.put(REF, RecordChange("w", body=LARGE), if_revision=0, not_after=now + timedelta(minutes=1))
    assert files(root) == []


async def test_who_was_forked_while_a_shard_was_held_does_not_hold_it_for_good(backend):
    with backend._opened.shards.locked(DIGEST[:2]), backend._opened.shards.index.noting():
        # What a child would have: the same open files, under handles of its own.
        childs = [os.dup(int(path.name)) for path in Path("/proc/self/fd").iterdir() if path.exists()]
    try:
        assert (await put(backend)).revision == 1
    finally:
        for handle in childs:
            os.close(handle)


async def test_a_caller_that_is_cancelled_while_opening_leaks_nothing(root):
    backend = FilesystemBackend(root)
    opening = asyncio.ensure_future(backend.open(SCHEMA))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await backend.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("flowpersist")]


async def test_a_store_of_an_opening_that_was_cut_short_is_made_whole(backend, root):
    await backend.close()
    (root / "format.json").unlink()
    shutil.rmtree(root / "records" / "00")
    (root / "format.json.new").write_text(json.dumps({}))
    await backend.open(SCHEMA)
    assert (root / "records" / "00").is_dir()
    assert (await put(backend)).revision == 1


async def test_what_a_crash_left_of_a_shards_counter_goes_when_the_store_is_opened(backend, root):
    await put(backend)
    rest = root / "records" / DIGEST[:2] / "floor.new"
    rest.write_bytes(b"1")
    await reopened(backend)
    assert not rest.exists()
    assert await keys(backend) == ["k"]


async def test_what_is_acknowledged_was_flushed_in_order(backend, root, monkeypatch):
    """A file's content before it gets its name, and the names before the caller is told."""
    happened = []

    def watched(module, name, said):
        real = getattr(module, name)

        def call(*arguments, **options):
            found = real(*arguments, **options)
            happened.append(said(*arguments))
            return found

        monkeypatch.setattr(module, name, call)

    def kind(path):
        return "directory" if Path(path).is_dir() else str(path).rpartition(".")[2]

    def named(handle):
        return Path(f"/proc/self/fd/{handle}").readlink()

    watched(plain_files, "flush", lambda handle: f"flush {kind(named(handle))}")
    watched(os, "fsync", lambda handle: f"flush {kind(named(handle))}")
    watched(os, "rename", lambda _, new: f"name {kind(new)}")
    watched(os, "link", lambda _, new: f"name {kind(new)}")
    watched(os, "unlink", lambda path: f"unlink {kind(path)}")
    steps = {
        "small": ({"body": b"small"}, ["flush new", "name record", "flush directory"]),
        "small again": ({"body": b"other"}, ["flush new", "name record", "flush directory"]),
        "large": ({"body": LARGE}, ["flush body", "name new", "name record", "flush directory"]),
        "claimed": ({"head": b"claimed"}, ["flush new", "name record", "flush directory"]),
        "another large": (
            {"body": LARGE},
            ["flush body", "name new", "name record", "flush directory", "unlink body"],
        ),
        "dropped": ({"body": None}, ["flush new", "name record", "flush directory", "unlink body"]),
    }
    for revision, (step, (parts, expected)) in enumerate(steps.items()):
        happened.clear()
        await put(backend, if_revision=revision, **parts)
        assert happened == expected, step
    happened.clear()
    await backend.delete(REF, if_revision=len(steps))
    assert happened[-2:] == ["unlink record", "flush directory"]
    happened.clear()
    await put(backend, body=LARGE)
    assert happened == ["flush body", "name record", "flush directory"]
