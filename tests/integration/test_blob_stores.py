"""Both blob stores keep the one contract, and their failures are told for what they are; S3 is moto's server."""

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import uuid4

import pytest

from flowpersist.backends.base import KEEP
from flowpersist.backends.blob_files import FileBlobStore
from flowpersist.backends.blob_s3 import PART_BYTES
from flowpersist.backends.blobs import blob_store_from_url
from flowpersist.backends.claim_check import ClaimCheckBackend
from flowpersist.backends.memory import MemoryBackend
from flowpersist.errors import BackendUnavailable, ConfigurationError, StorageFull
from flowpersist.testing.conformance import Parts
from flowpersist.testing.suite.ground import change, make, ref
from machine import free_port

PATIENCE = 20


@contextmanager
def moto(port):
    """The server as a process of its own, until the block ends."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ends = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, "moto's server has ended: is moto[server] installed?"
                assert time.monotonic() < ends
                time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


def make_bucket(port, bucket):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{bucket}", method="PUT")
    urllib.request.urlopen(request, timeout=PATIENCE).close()  # noqa: S310


@pytest.fixture(scope="module")
def s3_port():
    port = free_port()
    with moto(port):
        make_bucket(port, "flows")
        yield port


@pytest.fixture(autouse=True)
def _credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")


def s3_url(port, bucket="flows", prefix=None):
    return f"s3://{bucket}/{prefix or uuid4().hex}?endpoint=http://127.0.0.1:{port}&region=us-east-1&timeout=5"


@pytest.fixture(params=["file", "s3"])
def blobs_url(request, tmp_path):
    if request.param == "file":
        return f"file:{tmp_path}/blobs"
    return s3_url(request.getfixturevalue("s3_port"))


@pytest.fixture
async def blobs(blobs_url):
    store = blob_store_from_url(blobs_url)
    await store.open()
    yield store
    await store.close()


def name():
    return f"{'a' * 32}/{uuid4().hex}"


async def walked(blobs, prefix="a" * 32):
    return {blob.name async for blob in blobs.walk(prefix)}


@pytest.mark.parametrize("size", [0, 1, 100_000])
async def test_what_is_put_is_got(blobs, size):
    one, data = name(), os.urandom(size)
    await blobs.put(one, data)
    assert await blobs.get(one, len(data)) == data
    assert await walked(blobs) == {one}


async def test_a_large_one_goes_up_in_parts_and_comes_back_whole(blobs):
    one, data = name(), os.urandom(1000) * (PART_BYTES // 1000 + 100)
    await blobs.put(one, data)
    assert await blobs.get(one, len(data)) == data


async def test_what_is_missing_is_none_and_may_be_deleted(blobs):
    one = name()
    assert await blobs.get(one, 1) is None
    await blobs.delete(one)
    await blobs.put(one, b"x")
    await blobs.delete(one)
    assert await blobs.get(one, 1) is None
    assert await walked(blobs) == set()


async def test_a_walk_stays_below_its_prefix_and_tells_ages(blobs):
    names = {name() for _ in range(5)}
    before = await blobs.now()
    await asyncio.gather(*(blobs.put(one, b"x") for one in names))
    await blobs.put(f"{'b' * 32}/{uuid4().hex}", b"x")
    assert await walked(blobs) == names
    assert await walked(blobs, "c" * 32) == set()
    assert abs(before - datetime.now(UTC)) < timedelta(seconds=5)
    async for blob in blobs.walk("a" * 32):
        # S3 tells whole seconds.
        assert timedelta(seconds=-1) <= blob.modified - before < timedelta(seconds=5)


async def test_opened_twice_and_asked(blobs_url):
    store = blob_store_from_url(blobs_url)
    await asyncio.gather(*(store.open() for _ in range(3)))
    await store.ping()
    await store.close()
    await store.close()


@pytest.mark.parametrize("bad", ["", "x", "../../etc/passwd", "A" * 32, f"{'a' * 32}/..", "a" * 32 + "/", "a" * 31])
async def test_a_name_that_is_none_of_ours_is_refused(blobs, bad):
    for operation in (blobs.get(bad, 1), blobs.put(bad, b""), blobs.delete(bad)):
        with pytest.raises(ValueError, match="name"):
            await operation
    with pytest.raises(ValueError, match="name"):
        await walked(blobs, bad)


async def test_files_are_for_their_owner_alone(tmp_path):
    store = FileBlobStore(tmp_path / "deep" / "blobs")
    await store.open()
    await store.put(name(), b"x")
    for path in (tmp_path / "deep").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


async def test_an_unfinished_file_is_found_by_walks_alone(tmp_path):
    store = FileBlobStore(tmp_path)
    one = name()
    await store.put(one, b"x")
    (tmp_path / one).rename(tmp_path / f"{one}.new")
    (tmp_path / ("a" * 32) / "README").write_text("none of ours")
    assert await store.get(one, 1) is None
    assert await walked(store) == {f"{one}.new"}
    await store.delete(f"{one}.new")
    assert await walked(store) == set()


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
async def test_a_directory_that_may_not_be_written(tmp_path):
    store = FileBlobStore(tmp_path)
    tmp_path.chmod(0o500)
    with pytest.raises(BackendUnavailable, match="owner, mode") as refused:
        await store.put(name(), b"x")
    tmp_path.chmod(0o700)
    assert not refused.value.retryable


async def test_a_file_where_the_directory_should_be(tmp_path):
    (tmp_path / "blobs").write_text("")
    with pytest.raises(BackendUnavailable) as refused:
        await FileBlobStore(tmp_path / "blobs").open()
    assert not refused.value.retryable


async def test_a_missing_bucket_is_named_when_it_is_opened(s3_port):
    store = blob_store_from_url(s3_url(s3_port, "nobodys"))
    for operation in (store.open(), store.put(name(), b"x"), store.get(name(), 1), store.ping()):
        with pytest.raises(BackendUnavailable, match="bucket is not there") as refused:
            await operation
        assert not refused.value.retryable


async def test_a_server_that_is_gone_is_retryable_and_used_again_when_it_is_back():
    port = free_port()
    with moto(port):
        make_bucket(port, "flows")
        store = blob_store_from_url(s3_url(port))
        await store.open()
        await store.put(name(), b"x")
    for operation in (store.put(name(), b"x"), store.get(name(), 1), store.delete(name()), store.ping(), store.now()):
        with pytest.raises(BackendUnavailable, match="can't be reached") as refused:
            await operation
        assert refused.value.retryable
        assert "canary" not in str(refused.value)
    with moto(port):
        make_bucket(port, "flows")
        one = name()
        await store.put(one, b"back")
        assert await store.get(one, 4) == b"back"


async def test_a_server_that_stands_still_is_given_up(s3_port):
    port = free_port()
    with moto(port) as process:
        make_bucket(port, "flows")
        store = blob_store_from_url(s3_url(port).replace("timeout=5", "timeout=0.2"))
        await store.open()
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(BackendUnavailable) as refused:
            await store.put(name(), b"x")
        process.send_signal(signal.SIGCONT)
    assert refused.value.retryable


@contextmanager
def answering(status, body=b""):
    """A server that answers everything alike."""

    class Answer(BaseHTTPRequestHandler):
        def answer(self):
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815 - the library's names

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "kind", "retryable", "says"),
    [
        (403, BackendUnavailable, False, "credentials"),
        (401, BackendUnavailable, False, "credentials"),
        (400, BackendUnavailable, False, "rejected the request"),
        (301, BackendUnavailable, False, "region"),
        (503, BackendUnavailable, True, "try again"),
        (507, StorageFull, False, "no space left"),
    ],
)
async def test_what_a_server_answers_is_told_by_the_library_s_own_classification(status, kind, retryable, says):
    with answering(status) as port:
        store = blob_store_from_url(s3_url(port))
        for operation in (store.ping(), store.put(name(), b"x")):
            with pytest.raises(kind, match=says) as refused:
                await operation
            assert refused.value.retryable is retryable


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://x", "known are file, s3"),
        ("blobs", "malformed"),
        ("file:", "file:flows"),
        ("file://host/x", "file:flows"),
        ("file:blobs?x=1", "takes none"),
        ("s3://", "bucket/prefix"),
        ("s3://Not_A_Bucket/x", "bucket/prefix"),
        ("s3://key:canary-secret@flows/x", "takes no credentials"),
        ("s3://flows?secret=canary-secret", "not known"),
        ("s3://flows?endpoint=http://me:canary-secret@host", "without credentials"),
        ("s3://flows?endpoint=host", "endpoint such as"),
        ("s3://flows?timeout=soon", "number of seconds"),
        ("s3://flows?virtual_hosted=yes", "on or off"),
    ],
)
def test_a_url_that_makes_no_sense(url, says):
    with pytest.raises(ConfigurationError, match=says) as refused:
        blob_store_from_url(url)
    assert refused.value.setting == "FLOWPERSIST_BLOBS_URL"
    assert "canary" not in str(refused.value)


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.delitem(sys.modules, "flowpersist.backends.blob_s3", raising=False)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ConfigurationError, match=r"flowpersist\[s3\]"):
        blob_store_from_url("s3://flows")


def checked(store, blobs):
    return ClaimCheckBackend(MemoryBackend(store), blob_store_from_url(blobs), from_bytes=1000)


class TestRecordsWithBodiesInS3(Parts):
    """The chapter of single records; the others ask nothing more of a blob store."""

    @pytest.fixture
    def make_backend(self, s3_port):
        return partial(checked, uuid4().hex, s3_url(s3_port))


async def test_a_store_that_is_gone_loses_nothing():
    port = free_port()
    backend = checked("", s3_url(port))
    with moto(port):
        make_bucket(port, "flows")
        await backend.open([])
        old = await make(backend, "a", body=b"old" * 1000)
        await backend.ping()
    with pytest.raises(BackendUnavailable) as refused:
        await backend.put(ref("a"), change(body=b"new" * 1000), if_revision=old.revision)
    assert refused.value.retryable
    for operation in (backend.get(ref("a")), backend.ping()):
        with pytest.raises(BackendUnavailable):
            await operation
    # What needs no blob goes on.
    kept = await backend.put(ref("a"), change(head=b"h", body=KEEP), if_revision=old.revision)
    read = await backend.get(ref("a"), body=False)
    assert (read.record.revision, read.record.body_size) == (kept.revision, 3000)
    assert (await backend.delete(ref("a"), if_revision=kept.revision)) is True
    await backend.close()
