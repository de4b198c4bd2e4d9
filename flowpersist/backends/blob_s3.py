"""Blobs in S3, or in what speaks its protocol, by obstore: the object store of Apache Arrow, for Python.

``s3://bucket/prefix`` with the options ``region``, ``endpoint`` (the URL of a server that is not Amazon's),
``virtual_hosted`` (on or off: the bucket as part of the host's name) and ``timeout`` (seconds for one request). Keys
come from where Amazon's tools look for them (``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY``, web identity, the
machine's or container's role), never from the URL.

Writes are no conditional ones: a name is drawn at random for each, so there is nothing to overwrite, and only a write
that may be repeated can be tried again by the library when its reply was lost. Large blobs go up in parts.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from flowpersist.backends._home import Home
from flowpersist.backends._url import BackendUrl
from flowpersist.backends.blobs import Blob, check_name
from flowpersist.errors import BackendUnavailable, StorageFull

if TYPE_CHECKING:
    from obstore.store import S3Config

__all__ = ["S3BlobStore", "from_url"]

NAME: Final = "s3"
#: Larger ones go up in parts of this size, so many at a time. S3 takes parts from 5 MiB on, and 10,000 of them.
PART_BYTES: Final = 16 * 1024 * 1024
PARTS_AT_ONCE: Final = 4
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_STATUS: Final = re.compile(r"status code: (\d{3})")
#: The library tries again what it calls transient and says so; what went wrong below HTTP was never answered at all.
_TRANSIENT: Final = re.compile(r", after \d+ retries|HTTP error: ")
_OPTIONS: Final = frozenset({"endpoint", "region", "timeout", "virtual_hosted"})


class S3BlobStore:
    """Blobs in a bucket, by a store of obstore, which may hold a prefix within it."""

    name: str = NAME

    def __init__(self, store: S3Store) -> None:
        self._store = store
        self._home = Home(NAME)

    async def open(self) -> None:
        """See ``BlobStore``. The bucket must be there: whoever runs it says who may read it, and where it is."""
        async with self._home.opening():
            await self._look()

    async def plan(self) -> tuple[str, ...]:
        """See ``BlobStore``. A bucket is made by whoever runs the server."""
        return ()

    async def close(self) -> None:
        """See ``BlobStore``. The library closes its connections when nobody has the store any more."""
        async with self._home.closing():
            pass

    async def put(self, name: str, data: bytes) -> None:
        """See ``BlobStore``."""
        check_name(name)
        self._home.check_free()
        with _mapped():
            await obstore.put_async(self._store, name, data, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE)

    async def get(self, name: str, size: int) -> bytes | None:
        """See ``BlobStore``."""
        check_name(name)
        self._home.check_free()
        with _mapped():
            try:
                found = await obstore.get_async(self._store, name)
            except FileNotFoundError as error:
                if _no_bucket(error):
                    raise
                return None
            return bytes(await found.bytes_async()) if found.meta["size"] == size else None

    async def delete(self, name: str) -> None:
        """See ``BlobStore``."""
        check_name(name)
        self._home.check_free()
        with _mapped():
            await obstore.delete_async(self._store, name)

    async def walk(self, prefix: str) -> AsyncIterator[Blob]:
        """See ``BlobStore``. Parts of broken uploads are not among them: a rule of the bucket removes those."""
        check_name(prefix)
        self._home.check_free()
        with _mapped():
            async for page in obstore.list(self._store, prefix=prefix):
                for found in page:
                    yield Blob(found["path"], found["last_modified"])

    async def now(self) -> datetime:
        """See ``BlobStore``: what the server says of an object that was just made."""
        self._home.check_free()
        name = uuid4().hex
        with _mapped():
            await obstore.put_async(self._store, name, b"")
            try:
                return (await obstore.head_async(self._store, name))["last_modified"]
            finally:
                await obstore.delete_async(self._store, name)

    async def ping(self) -> None:
        """See ``BlobStore``."""
        self._home.check_free()
        await self._look()

    async def _look(self) -> None:
        with _mapped():
            async for _ in obstore.list(self._store, prefix="0" * 32, chunk_size=1):
                return


def _no_bucket(error: Exception) -> bool:
    return "NoSuchBucket" in str(error)


@contextmanager
def _mapped() -> Iterator[None]:
    """The one place where the library's errors become ours. Its texts name the request, so they stay out of ours."""
    try:
        yield
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise _refused() from error
    except FileNotFoundError as error:
        raise _missing() from error
    except BaseError as error:
        raise _translated(error) from error


def _refused() -> BackendUnavailable:
    message = "the s3 blob store rejected the credentials; check AWS_ACCESS_KEY_ID, the role, and the bucket's policy"
    return BackendUnavailable(message, NAME)


def _missing() -> BackendUnavailable:
    return BackendUnavailable("the s3 blob store's bucket is not there; make it, or name another", NAME)


def _translated(error: BaseError) -> BackendUnavailable | StorageFull:
    # The first line tells what happened; the lines after it are the library's own data.
    text = str(error).partition("\nDebug source")[0]
    status = _STATUS.search(text)
    code = "" if status is None else status[1]
    if code in {"401", "403"}:
        return _refused()
    if _no_bucket(error):
        return _missing()
    if code == "507":
        return StorageFull("the s3 blob store has no space left; nothing was written", NAME)
    if "redirect" in text:
        return BackendUnavailable("the s3 bucket is in another region; name it in the URL's option region", NAME)
    retryable = _TRANSIENT.search(text) is not None
    said = f" (status {code})" if code else ""
    if retryable:
        return BackendUnavailable(f"the s3 blob store can't be reached{said}; try again", NAME, True)
    message = f"the s3 blob store rejected the request{said}; check the URL's endpoint, bucket and options"
    return BackendUnavailable(message, NAME)


def from_url(url: BackendUrl) -> S3BlobStore:
    """The blob store that a URL names."""
    url.check_options(_OPTIONS)
    bucket = url.authority or ""
    if "@" in bucket:
        raise url.refuse("takes no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if not _BUCKET.fullmatch(bucket):
        raise url.expected("s3://bucket/prefix?region=eu-central-1")
    endpoint = url.options.get("endpoint")
    if endpoint is not None:
        parts = urlsplit(endpoint)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
            raise url.refuse("needs an endpoint such as https://storage.example.com, without credentials")
    config: S3Config = {"virtual_hosted_style_request": url.flag("virtual_hosted", default=endpoint is None)}
    if endpoint is not None:
        config["endpoint"] = endpoint
    if "region" in url.options:
        config["region"] = url.options["region"]
    store = S3Store(
        bucket,
        prefix=unquote(url.path).strip("/") or None,
        config=config,
        client_options={
            "allow_http": endpoint is not None and endpoint.startswith("http://"),
            "timeout": url.seconds("timeout", timedelta(seconds=60)),
            "connect_timeout": timedelta(seconds=5),
        },
        # What is still failing after that is told, and tried again under the hub's own patience.
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=20)},
    )
    return S3BlobStore(store)
