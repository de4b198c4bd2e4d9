"""Receipts and proofs, verified with a public key alone: no store and no keyring is asked."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

from attrs import frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import PersistenceError, TamperedEnvelope
from flowpersist.keys.signed_note import NoteVerifier
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle.evidence import (
    VERSION,
    HaltSubject,
    Subject,
    TrailReader,
    decisions_of,
    json_text,
    malformed,
    member,
    read_bytes,
)
from flowpersist.lifecycle.halt_history import AnyEntry, HaltEntry
from flowpersist.lifecycle.history import AuditEntry
from flowpersist.lifecycle.log_records import Leaf, read_leaf
from flowpersist.sealed.checkpoints import LogCheckpoint, opened_checkpoint, origin_name
from flowpersist.sealed.merkle import HASH_BYTES, inclusion_root, is_consistent, leaf_hash

__all__ = [
    "VerifiedHalts",
    "VerifiedReceipt",
    "checked_form",
    "verify_consistency",
    "verify_halts",
    "verify_inclusion",
    "verify_receipt",
]

#: The hashes of a proof of any log.
MOST_HASHES: int = 128
#: The entries of a receipt.
MOST_ENTRIES: int = 100_000


@frozen
class VerifiedReceipt:
    """What a receipt proves: the ``entries`` of a suspension, all that it had when the leaf was made, and what was
    decided in them. ``checkpoint`` is that of the log that holds the leaf.
    """

    suspension: SuspensionId
    tenant: str | None
    entries: tuple[AuditEntry, ...]
    decisions: tuple[Mapping[str, object], ...]
    index: int
    checkpoint: LogCheckpoint


@frozen
class VerifiedHalts:
    """What a receipt of the halts proves: all that was halted and lifted when the leaf was made."""

    namespace: str
    entries: tuple[HaltEntry, ...]
    index: int
    checkpoint: LogCheckpoint


def verify_halts(document: Mapping[str, Any], verifier: NoteVerifier) -> Result[VerifiedHalts, PersistenceError]:
    """What a receipt of the halts proves, by the public key alone; errors are those of ``verify_receipt``."""
    found = checked_form(document, "halts").bind(lambda _: _included(document, verifier))
    named = member(document, "halts", dict).bind(lambda data: HaltSubject.read(document.get("namespace"), data))
    if not isinstance(found, Success) or not isinstance(named, Success):
        return Failure(next(one.failure() for one in (found, named) if isinstance(one, Failure)))
    (leaf, checkpoint), subject = found.unwrap(), named.unwrap()
    if checkpoint.origin != origin_name(verifier.name, subject.namespace):
        return Failure(TamperedEnvelope("the checkpoint of the receipt is that of the log of another namespace"))
    entries = _entries(document, subject, leaf)
    if not isinstance(entries, Success):
        return Failure(entries.failure())
    told = tuple(one for one in entries.unwrap() if isinstance(one, HaltEntry))
    return Success(VerifiedHalts(subject.namespace, told, document["leaf"]["index"], checkpoint))


def verify_receipt(document: Mapping[str, Any], verifier: NoteVerifier) -> Result[VerifiedReceipt, PersistenceError]:
    """What a receipt proves, by the public key alone.

    ``TamperedEnvelope`` where anything in it is not as it was signed, ``MalformedPayload`` for another document.
    """
    formed = checked_form(document, "receipt")
    if isinstance(formed, Failure):
        return Failure(formed.failure())
    found = _included(document, verifier)
    if not isinstance(found, Success):
        return Failure(found.failure())
    leaf, checkpoint = found.unwrap()
    read = _subject_of(document, checkpoint, verifier)
    if not isinstance(read, Success):
        return Failure(read.failure())
    subject = read.unwrap()
    entries = _entries(document, subject, leaf)
    if not isinstance(entries, Success):
        return Failure(entries.failure())
    told = tuple(one for one in entries.unwrap() if isinstance(one, AuditEntry))
    decisions = decisions_of(told)
    if not _same_data(decisions, document.get("decisions")):
        return Failure(TamperedEnvelope("the decisions of the receipt are not those of its entries"))
    proven = (tuple(decisions), document["leaf"]["index"], checkpoint)
    return Success(VerifiedReceipt(subject.id, subject.tenant, told, *proven))


def _subject_of(
    document: Mapping[str, Any], checkpoint: LogCheckpoint, verifier: NoteVerifier
) -> Result[Subject, PersistenceError]:
    named = member(document, "suspension", dict)
    subject = named.bind(lambda data: Subject.read(document.get("namespace"), data))
    if not isinstance(subject, Success):
        return subject
    if checkpoint.origin != origin_name(verifier.name, subject.unwrap().namespace):
        return Failure(TamperedEnvelope("the checkpoint of the receipt is that of the log of another namespace"))
    return subject


def _entries(
    document: Mapping[str, Any], subject: Subject | HaltSubject, leaf: Leaf
) -> Result[tuple[AnyEntry, ...], PersistenceError]:
    """The entries of a receipt, if they are those that the leaf stands for."""
    listed = member(document, "entries", list)
    begun = TrailReader.begin(subject)
    if not isinstance(listed, Success) or len(listed.unwrap()) > MOST_ENTRIES:
        return Failure(malformed(f"at most {MOST_ENTRIES} entries"))
    if not isinstance(begun, Success):
        return Failure(begun.failure())
    trail, entries = begun.unwrap(), []
    for line in listed.unwrap():
        read = trail.read(line) if isinstance(line, dict) else Failure(malformed("entries that are objects"))
        if not isinstance(read, Success):
            return Failure(read.failure())
        trail, entry = read.unwrap()
        entries.append(entry)
    if (subject.id.value, subject.made, trail.count) != (leaf.id, leaf.made, leaf.count):
        message = f"the leaf is not that of {subject.what} with {trail.count} entries: some are missing or added"
        return Failure(TamperedEnvelope(message))
    if not hmac.compare_digest(trail.digest, leaf.digest):
        return Failure(TamperedEnvelope(f"an entry of {subject.what} was altered: the leaf has another digest"))
    return Success(tuple(entries))


def verify_inclusion(
    document: Mapping[str, Any], verifier: NoteVerifier
) -> Result[tuple[Leaf, LogCheckpoint], PersistenceError]:
    """The leaf of a suspension, if its proof leads to the root of the checkpoint, and the checkpoint.

    ``TamperedEnvelope`` where it does not, ``MalformedPayload`` for another document.
    """
    formed = checked_form(document, "inclusion")
    found = formed.bind(lambda _: _included(document, verifier))
    if not isinstance(found, Success):
        return found
    leaf, checkpoint = found.unwrap()
    read = _subject_of(document, checkpoint, verifier)
    if not isinstance(read, Success):
        return Failure(read.failure())
    if (read.unwrap().id.value, read.unwrap().made) != (leaf.id, leaf.made):
        return Failure(TamperedEnvelope(f"the leaf is not one of suspension {read.unwrap().id}"))
    return found


def _included(
    document: Mapping[str, Any], verifier: NoteVerifier
) -> Result[tuple[Leaf, LogCheckpoint], PersistenceError]:
    """The leaf of a document, if its proof leads to the root of its checkpoint, and the checkpoint."""
    opened = member(document, "checkpoint", str).bind(lambda note: opened_checkpoint(note, verifier))
    placed = member(document, "leaf", dict)
    proof = _hashes(document.get("proof"))
    if not isinstance(opened, Success) or not isinstance(placed, Success) or not isinstance(proof, Success):
        return Failure(next(one.failure() for one in (opened, placed, proof) if isinstance(one, Failure)))
    checkpoint, data = opened.unwrap(), read_bytes(placed.unwrap().get("data"))
    leaf, index = None if data is None else read_leaf(data), placed.unwrap().get("index")
    if data is None or leaf is None or type(index) is not int:
        return Failure(malformed("a leaf with its index and data"))
    root = inclusion_root(index, checkpoint.size, leaf_hash(data), proof.unwrap())
    if root is None or not hmac.compare_digest(root, checkpoint.root):
        message = (
            "the proof does not lead from the leaf to the checkpoint's root: leaf, proof or checkpoint was exchanged"
        )
        return Failure(TamperedEnvelope(message))
    return Success((leaf, checkpoint))


def verify_consistency(
    document: Mapping[str, Any], verifier: NoteVerifier, old: LogCheckpoint | None = None
) -> Result[tuple[LogCheckpoint, LogCheckpoint], PersistenceError]:
    """The older and the newer checkpoint of a proof, if the newer log begins with the older one.

    - ``old``: the older one as it was kept elsewhere; None: the one in the document.
    """
    formed = checked_form(document, "consistency")
    if isinstance(formed, Failure):
        return Failure(formed.failure())
    notes = [member(document, name, str).bind(lambda note: opened_checkpoint(note, verifier)) for name in _NOTES]
    proof = _hashes(document.get("proof"))
    failed = next((one.failure() for one in (*notes, proof) if isinstance(one, Failure)), None)
    if failed is not None:
        return Failure(failed)
    before, after = (one.unwrap() for one in notes)
    if old is not None and old != before:
        return Failure(TamperedEnvelope("the proof begins at another checkpoint than the one that was kept"))
    fits = is_consistent(before.size, before.root, after.size, after.root, proof.unwrap())
    if before.origin != after.origin or not fits:
        message = f"the log of {after.size} leaves does not begin with the one of {before.size}: it was rewritten"
        return Failure(TamperedEnvelope(message))
    return Success((before, after))


_NOTES = ("since", "checkpoint")


def _hashes(data: object) -> Result[list[bytes], PersistenceError]:
    read = [read_bytes(one) for one in data] if isinstance(data, list) and len(data) <= MOST_HASHES else [None]
    hashes = [one for one in read if one is not None and len(one) == HASH_BYTES]
    return Success(hashes) if len(hashes) == len(read) else Failure(malformed("a proof: a list of hashes"))


def checked_form(document: Mapping[str, Any], kind: str) -> Result[None, PersistenceError]:
    """Whether the document says that it is of this kind and version."""
    if document.get("type") != kind or document.get("formatVersion") != VERSION:
        return Failure(malformed(f"the type {kind} in version {VERSION}"))
    return Success(None)


def _same_data(made: object, given: object) -> bool:
    try:
        return json_text(made) == json_text(given)
    except (RecursionError, ValueError):
        return False
