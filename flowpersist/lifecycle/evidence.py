"""Exports, proofs and receipts as JSON data, and how they are read again. specs/persistence/audit.md describes them.

What is read may come from anybody: it is bounded and checked, and never trusted before a signature says so.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from attrs import field, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import RecordRef
from flowpersist.errors import MalformedPayload, PersistenceError, TamperedEnvelope
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle.entry_data import entry_data
from flowpersist.lifecycle.halt_history import AnyEntry, any_entry_data, halt_entry
from flowpersist.lifecycle.history import AuditEntry, entry_of
from flowpersist.sealed.chain import Link, chain_digest, open_link, origin_of
from flowpersist.sealed.drafts import record_context

__all__ = [
    "HALTS",
    "HALTS_ID",
    "MAX_LINE",
    "VERSION",
    "HaltSubject",
    "Subject",
    "TrailReader",
    "bytes_text",
    "decisions_of",
    "entry_line",
    "halts_origin",
    "json_text",
    "member",
    "read_bytes",
    "read_json",
    "trail_origin",
]

#: The version of all documents.
VERSION: Final = 1
#: The most characters of a line of an export; an entry takes some 40,000 at most.
MAX_LINE: Final = 512 * 1024
#: The key of the record that has all halts of a namespace, and the id in the leaves of its trail.
HALTS: Final = "halts"
HALTS_ID: Final = hashlib.sha256(b"flowpersist/v1/halts").digest()[:16]
_START: Final = datetime(1970, 1, 1, tzinfo=UTC)
T = TypeVar("T")


def trail_origin(namespace: str, id: str, tenant: str | None, made: int) -> bytes:
    """The origin of the trail of a suspension: of the namespace of its entries, its id, its tenant, and when it was
    made, in microseconds.
    """
    return origin_of(record_context(RecordRef(namespace, id), tenant), str(made).encode())


def halts_origin(namespace: str, made: datetime) -> bytes:
    """The origin of the trail of halts: of the namespace of their record, and when that was made."""
    return origin_of(record_context(RecordRef(namespace, HALTS), None), made.astimezone(UTC).isoformat().encode())


@frozen
class HaltSubject:
    """That it is the trail of the halts; the rest is as in ``Subject``."""

    namespace: str
    made: int
    id: SuspensionId = field(default=SuspensionId(HALTS_ID), init=False)

    @property
    def what(self) -> str:
        """How errors name it."""
        return "the halts"

    def data(self) -> dict[str, object]:
        """The members that ``read`` reads."""
        return {"made": self.made}

    def origin(self) -> bytes:
        """What stands before its first entry."""
        return halts_origin(f"{self.namespace}.halts", _START + timedelta(microseconds=self.made))

    def entry(self, link: Link) -> Result[AnyEntry, PersistenceError]:
        """The entry of one of its links."""
        return halt_entry(f"{self.namespace}.halts", link).map(lambda made: made)

    @classmethod
    def read(cls, namespace: object, data: Mapping[str, Any]) -> Result[HaltSubject, PersistenceError]:
        """The subject of members of a document."""
        made = data.get("made")
        if not isinstance(namespace, str) or type(made) is not int or abs(made) >= 1 << 63:
            return Failure(malformed("when the halts of a namespace were made"))
        return Success(cls(namespace, made))


@frozen
class Subject:
    """Whose trail it is. ``namespace`` is that of the suspensions, ``made`` in microseconds since 1970."""

    namespace: str
    id: SuspensionId
    tenant: str | None
    made: int

    @property
    def what(self) -> str:
        """How errors name it."""
        return f"suspension {self.id}"

    def origin(self) -> bytes:
        """What stands before its first entry."""
        return trail_origin(f"{self.namespace}.audit", str(self.id), self.tenant, self.made)

    def entry(self, link: Link) -> Result[AnyEntry, PersistenceError]:
        """The entry of one of its links."""
        return entry_of(self.id, self.tenant, link).map(lambda made: made)

    def data(self) -> dict[str, object]:
        """The members that ``read`` reads."""
        return {"id": str(self.id), "tenant": self.tenant, "made": self.made}

    @classmethod
    def read(cls, namespace: object, data: Mapping[str, Any]) -> Result[Subject, PersistenceError]:
        """The subject of members of a document."""
        name, tenant, made = data.get("id"), data.get("tenant"), data.get("made")
        if not isinstance(name, str) or not isinstance(tenant, str | None) or type(made) is not int:
            return Failure(malformed("a suspension's id, tenant and made"))
        if not isinstance(namespace, str) or abs(made) >= 1 << 63:
            return Failure(malformed("a suspension's namespace and made"))
        parsed = SuspensionId.parse(name)
        if not isinstance(parsed, Success):
            return Failure(malformed("a suspension's id"))
        return Success(cls(namespace, parsed.unwrap(), tenant, made))


def entry_line(link: bytes, entry: AnyEntry) -> dict[str, object]:
    """An entry with the bytes that prove it."""
    return {"link": bytes_text(link), "entry": any_entry_data(entry)}


@frozen
class TrailReader:
    """A trail as far as it was read: whose, how many entries, the MAC of the last, and the digest of all."""

    subject: Subject | HaltSubject
    count: int
    mac: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    @classmethod
    def begin(cls, subject: Subject | HaltSubject) -> Result[TrailReader, PersistenceError]:
        """Before the first entry."""
        try:
            origin = subject.origin()
        except (OverflowError, ValueError):
            return Failure(malformed("a suspension's namespace and tenant"))
        return Success(cls(subject, 0, origin, origin))

    def read(self, line: Mapping[str, Any]) -> Result[tuple[TrailReader, AnyEntry], PersistenceError]:
        """Behind the entry of this line, which must be the next one, and say what its link says."""
        data = read_bytes(line.get("link"))
        link = None if data is None else open_link(data, self.mac)
        what = f"entry {self.count + 1} of {self.subject.what}"
        if data is None or link is None:
            return Failure(TamperedEnvelope(f"{what} has a link that can't be read, or another private part"))
        if link.number != self.count + 1:
            return Failure(TamperedEnvelope(f"{what} is missing or moved: entry {link.number} stands in its place"))
        entry = self.subject.entry(link)
        if not isinstance(entry, Success):
            return Failure(TamperedEnvelope(f"{what} can't be read: its link was altered"))
        if not _same(any_entry_data(entry.unwrap()), line.get("entry")):
            return Failure(TamperedEnvelope(f"{what} says something else than its link"))
        return Success((self._behind(data, link), entry.unwrap()))

    def _behind(self, data: bytes, link: Link) -> TrailReader:
        return TrailReader(self.subject, link.number, link.mac, chain_digest(self.digest, data))


def decisions_of(entries: Sequence[AuditEntry]) -> list[dict[str, object]]:
    """What was decided, by whom, when, on what that was shown, and under which policy: of each answer and vote."""
    decisions: list[dict[str, object]] = []
    for entry in entries:
        data = entry_data(entry)
        waits: Any = data["waits"]
        decisions += [
            {
                "entry": entry.number,
                "wait": wait["name"],
                "question": wait["question"],
                "change": wait["change"],
                "decision": wait["decision"],
                "meaning": wait["meaning"],
                "selfApproval": wait["selfApproval"],
                "by": data["by"],
                "at": data["at"],
                "shown": wait["shown"],
                "tool": wait["tool"],
                "version": wait["version"],
                "policy": wait["policy"],
                "answer": wait["answer"],
            }
            for wait in waits
            if wait["change"] in {"answered", "voted"}
        ]
    return decisions


def _same(made: object, given: object) -> bool:
    try:
        return json_text(made) == json_text(given)
    except (RecursionError, ValueError):
        return False


def bytes_text(data: bytes) -> str:
    """Bytes in a document: base64."""
    return base64.b64encode(data).decode()


def read_bytes(text: object) -> bytes | None:
    """The same back; None for another text."""
    if not isinstance(text, str):
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def json_text(data: object) -> str:
    """JSON data as one line, equal for equal data. A value without a JSON form stands as its ``str``."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), default=str)


def read_json(text: str, *, most: int = MAX_LINE) -> Result[dict[str, Any], PersistenceError]:
    """A JSON object of at most so many characters."""
    if len(text) > most:
        return Failure(malformed(f"a document of at most {most} characters"))
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return Failure(malformed("JSON"))
    return Success(data) if isinstance(data, dict) else Failure(malformed("a JSON object"))


def member(data: Mapping[str, Any], name: str, kind: type[T]) -> Result[T, PersistenceError]:
    """A member of that very class."""
    value = data.get(name)
    return Success(value) if type(value) is kind else Failure(malformed(f"the member {name}"))


def malformed(expected: str) -> PersistenceError:
    """The error for another document than the expected one."""
    return MalformedPayload(f"the document can't be read: expected {expected}; was it cut, or made by another program?")
