"""Stores of large bodies, apart from their records: bytes under names that are drawn at random and never written twice.

::

    file:blobs    file:///var/lib/flows/blobs       a directory
    s3://bucket/some/prefix?region=eu-central-1     S3, or a server that speaks its protocol (the extra ``s3``)

``ClaimCheckBackend`` puts one round a backend. A blob store does not know what the bytes mean, and what they are
called says nothing of their content: names are random hex digits.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import datetime
from importlib import import_module
from typing import Final, Protocol, runtime_checkable

from attrs import frozen

from flowpersist.backends._url import parse_url
from flowpersist.errors import ConfigurationError

__all__ = ["BLOBS_SETTING", "Blob", "BlobStore", "blob_store_from_url", "check_name"]

BLOBS_SETTING: Final = "FLOWPERSIST_BLOBS_URL"
_NAME: Final = re.compile(r"[0-9a-f]{32}(/[0-9a-f]{32}){0,3}")
#: The module and the extra of each scheme.
_SCHEMES: Final = {"file": ("blob_files", None), "s3": ("blob_s3", "s3")}


@frozen
class Blob:
    """A blob as a walk finds it. ``modified`` is when it was written, by the clock that ``now`` tells."""

    name: str
    modified: datetime


@runtime_checkable
class BlobStore(Protocol):
    """Immutable bytes by name. A name is groups of 32 hex digits with ``/`` between them.

    Every operation raises ``StorageError`` subclasses only, ``retryable`` told truly, and ``CancelledError``.
    """

    name: str

    async def open(self) -> None:
        """Connect, and make what is missing. Twice: a no-op. Safe when many start at once."""
        ...

    async def plan(self) -> tuple[str, ...]:
        """What ``open`` would make, as shell commands; empty where nothing is missing. Nothing is changed, and the
        store need not be open.
        """
        ...

    async def close(self) -> None:
        """Free all that was opened. Twice: a no-op."""
        ...

    async def put(self, name: str, data: bytes) -> None:
        """Keep a blob under a name that was never used. Returns once it is durable. After an error or a cancellation it
        is there as a whole, or not at all.
        """
        ...

    async def get(self, name: str, size: int) -> bytes | None:
        """The whole blob; None where it is missing, or of another size, of which no more than that is read. What a
        put that returned has kept is found at once.
        """
        ...

    async def delete(self, name: str) -> None:
        """Remove one. Missing: a no-op."""
        ...

    def walk(self, prefix: str) -> AsyncIterator[Blob]:
        """Everything below ``prefix/``, in any order, also what broken puts have left there. What comes or goes
        meanwhile may be missed.
        """
        ...

    async def now(self) -> datetime:
        """The clock by which blobs are ``modified``."""
        ...

    async def ping(self) -> None:
        """One round trip."""
        ...


def check_name(name: str) -> str:
    """Refuse other names than ours: it becomes part of a path."""
    if not _NAME.fullmatch(name):
        raise ValueError("a blob's name is groups of 32 hex digits, with / between them")
    return name


def blob_store_from_url(url: str) -> BlobStore:
    """The blob store that a URL names, not yet open; its module, and so its library, is imported only now.

    Raises ``ConfigurationError`` for an unknown scheme, a malformed URL, unknown options, and a missing library.
    """
    parsed = parse_url(url, setting=BLOBS_SETTING, like="file:///var/lib/blobs or s3://bucket/prefix")
    if parsed.scheme not in _SCHEMES:
        message = f"no blob store is known for the scheme {parsed.scheme!r}; known are {', '.join(sorted(_SCHEMES))}"
        raise ConfigurationError(message, BLOBS_SETTING)
    module, extra = _SCHEMES[parsed.scheme]
    try:
        store: BlobStore = import_module(f"flowpersist.backends.{module}").from_url(parsed)
    except ImportError as error:
        if extra is None:
            raise
        message = f"the library for {parsed.scheme} can't be imported; pip install 'flowpersist[{extra}]'"
        raise ConfigurationError(message, BLOBS_SETTING) from error
    return store
