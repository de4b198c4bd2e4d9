"""Documents as they come from the server, decoded one by one, so that a damaged one affects only itself."""

from __future__ import annotations

from contextlib import suppress

from bson import decode
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument

from flowpersist.backends._damage import WRONG, found_in
from flowpersist.backends._mongodb.client import OPTIONS
from flowpersist.backends._mongodb.documents import Document, key_of, record_of
from flowpersist.backends._mongodb.errors import NAME
from flowpersist.backends._outcomes import body_missing
from flowpersist.backends.base import Record, RecordRef, Unreadable

__all__ = ["decoded", "found"]


def decoded(raw: RawBSONDocument) -> Document:
    """A document; if it can't be decoded, only its id, if that can be read."""
    try:
        return decode(raw.raw, OPTIONS)
    except (BSONError, *WRONG):
        with suppress(BSONError, *WRONG):
            return {"_id": raw["_id"]}
        return {}


def found(document: Document, namespace: str, *, body: bool) -> Record | Unreadable:
    """The record of a document; with ``body`` also its body, if that is in the document."""
    identity_there = document.get("_id")
    key = key_of(identity_there) if isinstance(identity_there, str) else None
    return found_in(NAME, namespace, key, lambda ref: _checked(document, ref, body=body))


def _checked(document: Document, ref: RecordRef, *, body: bool) -> Record:
    record = record_of(document, ref)
    if body and record.body is not None and len(record.body) != record.body_size:
        raise body_missing(NAME, ref)
    return record
