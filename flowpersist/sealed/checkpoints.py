"""Checkpoints of the audit log, in the form of C2SP (https://c2sp.org/tlog-checkpoint): a note of three lines, which
say whose log it is, how many leaves it has, and the root of its tree.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final
from urllib.parse import quote

from attrs import field, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import MalformedPayload, PersistenceError
from flowpersist.keys.signed_note import NoteSigner, NoteVerifier
from flowpersist.sealed.merkle import HASH_BYTES

__all__ = [
    "LogCheckpoint",
    "export_text",
    "opened_checkpoint",
    "origin_name",
    "signed_checkpoint",
]

_TEXT: Final = re.compile(r"([!-~]{1,1024})\n(0|[1-9][0-9]{0,18})\n([A-Za-z0-9+/]{43}=)\n")


@frozen
class LogCheckpoint:
    """A log at one size."""

    origin: str
    size: int
    root: bytes = field(repr=lambda root: root.hex())


def origin_name(name: str, namespace: str) -> str:
    """What names the log of a namespace: the name of the key, and the namespace as in a URL."""
    return f"{name}/{quote(namespace, safe='')}"


def signed_checkpoint(signer: NoteSigner, checkpoint: LogCheckpoint) -> str:
    """The note of a checkpoint."""
    root = base64.b64encode(checkpoint.root).decode()
    return signer.signed(f"{checkpoint.origin}\n{checkpoint.size}\n{root}\n")


def export_text(origin: str, digest: bytes) -> str:
    """What is signed of an export: whose log it is, and SHA-256 of its lines. It is the text of no checkpoint."""
    return f"flowpersist/v1/export\n{origin}\n{base64.b64encode(digest).decode()}\n"


def opened_checkpoint(note: str, verifier: NoteVerifier) -> Result[LogCheckpoint, PersistenceError]:
    """The checkpoint of a note that this key has signed, for a log of its own.

    ``MalformedPayload`` for another text, ``TamperedEnvelope`` where the signature does not fit.
    """
    return verifier.opened(note).bind(lambda text: _parsed(text, verifier))


def _parsed(text: str, verifier: NoteVerifier) -> Result[LogCheckpoint, PersistenceError]:
    found = _TEXT.fullmatch(text)
    if found is None or not found[1].startswith(f"{verifier.name}/"):
        message = f"Invalid checkpoint: expected name, size and root of a log of {verifier.name}"
        return Failure(MalformedPayload(message))
    try:
        root = base64.b64decode(found[3], validate=True)
    except binascii.Error:
        root = b""
    if len(root) != HASH_BYTES:
        return Failure(MalformedPayload(f"the root of a checkpoint takes {HASH_BYTES} bytes"))
    return Success(LogCheckpoint(found[1], int(found[2]), root))
