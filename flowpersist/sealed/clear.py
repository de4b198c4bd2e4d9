"""Contents that are asked to stand in clear: bodies of JSON in UTF-8, which a database's own functions read.

The head is sealed as ever, and has the digest of such a body: so it can be read by all who read the database, and
changed by nobody unnoticed.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Final

from returns.result import Failure, Result, Success

from flowpersist.errors import IntegrityError, PersistenceError, SerializationError, StateTooLarge, TamperedEnvelope

__all__ = ["clear_body", "clear_value", "digest_of"]

#: An escaped NUL, which PostgreSQL's JSONB can't hold.
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_PLAIN: Final = (str, int, float, bool, type(None))


def digest_of(body: bytes) -> bytes:
    """What the head keeps of a body in clear."""
    return hashlib.sha256(body).digest()


def clear_body(value: object, most: int) -> Result[bytes, PersistenceError]:
    """JSON data as a body of at most ``most`` bytes. What would come back as something else is refused."""
    body = b""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        if _is_json(value) and not _NUL.search(text):
            body = text.encode()
    except (TypeError, ValueError, RecursionError):
        body = b""
    if not body:
        takes = "None, bools, finite numbers, texts without NUL and surrogates, and lists and dicts of these"
        return Failure(SerializationError(f"the content can't stand in clear: expected JSON data ({takes})"))
    if len(body) > most:
        return Failure(StateTooLarge(f"the content takes {len(body)} bytes, over the limit of {most}; keep less in it"))
    return Success(body)


def _is_json(value: object) -> bool:
    if type(value) is dict:
        return all(type(name) is str and _is_json(item) for name, item in value.items())
    return all(map(_is_json, value)) if type(value) is list else type(value) in _PLAIN


def clear_value(body: bytes | None, digest: bytes) -> Result[object, PersistenceError]:
    """The value of such a body; ``IntegrityError`` where it is not the one that the head was sealed with."""
    if body is None:
        return Failure(IntegrityError("the content that stood in clear is missing; restore the record from a backup"))
    if digest_of(body) != digest:
        return Failure(TamperedEnvelope("the content that stands in clear was changed; restore it from a backup"))
    value: object = json.loads(body)
    return Success(value)
