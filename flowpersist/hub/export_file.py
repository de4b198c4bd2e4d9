"""The file of an export: JSON Lines of sealed records between a first line and a last one.

specs/persistence/export.md is the format's specification. The last line has the number of records and the SHA-256 of
all before it, so that a file that was cut or changed is told from a whole one before anything is imported.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from attrs import frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Record, RecordRef, Scalar
from flowpersist.errors import IntegrityError, PersistenceError, UnsupportedVersion

__all__ = ["FORMAT", "VERSION", "ExportWriter", "Exported", "ImportedRecord", "Reader"]

FORMAT: Final = "flowpersist-export"
VERSION: Final = 1
#: Of a first or last line.
MOST_FRAME: Final = 64 * 1024
#: What a line has beside the sealed bytes, at most: attributes, names and times.
MOST_BESIDE: Final = 256 * 1024


@frozen
class Exported:
    """How many records a file has, and its checksum: SHA-256 of all lines but the last."""

    records: int
    sha256: str


@frozen
class ImportedRecord:
    """A record of a file: where it stands behind the hub's namespace, and what stood there."""

    ref: RecordRef
    attributes: Mapping[str, Scalar]
    due_at: datetime | None
    updated_at: datetime
    head: bytes
    body: bytes | None


class ExportWriter:
    """Writes a file beside the one that it becomes at the end; only its owner may read it."""

    def __init__(self, path: Path, entropy: Callable[[int], bytes]) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.{entropy(8).hex()}.part")
        self._digest = hashlib.sha256()
        self._count = 0
        self._file: IO[bytes] | None = None

    def begin(self, header: Mapping[str, object]) -> None:
        """The first line."""
        descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        self._line({"format": FORMAT, "version": VERSION, **header})

    def add(self, namespace: str, records: list[Record]) -> None:
        """Records of that namespace."""
        for record in records:
            self._count += 1
            self._line(
                {
                    "namespace": namespace,
                    "key": record.ref.key,
                    "attributes": dict(record.attributes),
                    "due": None if record.due_at is None else record.due_at.isoformat(),
                    "updated": record.updated_at.isoformat(),
                    "head": base64.b64encode(record.head).decode(),
                    "body": None if record.body is None else base64.b64encode(record.body).decode(),
                }
            )

    def end(self) -> Exported:
        """The last line; the file is durable and has its name."""
        made = Exported(self._count, self._digest.hexdigest())
        self._line({"end": made.records, "sha256": made.sha256})
        file = self._opened()
        file.flush()
        os.fsync(file.fileno())
        file.close()
        self._part.replace(self._path)
        return made

    def drop(self) -> None:
        """Remove what was written, if it has not got its name."""
        if self._file is not None:
            self._file.close()
        self._part.unlink(missing_ok=True)

    def _line(self, data: Mapping[str, object]) -> None:
        line = json.dumps(data, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
        self._digest.update(line)
        self._opened().write(line)

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            raise ValueError("begin comes first")
        return self._file


class Reader:
    """Reads a file from its beginning; ``most`` is the largest sealed body that it takes, in bytes."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file = file
        self._most = most * 4 // 3 + MOST_BESIDE + 4 * 256 * 1024
        self._digest = hashlib.sha256()
        self._count = 0
        self._last: Exported | None = None

    def header(self) -> Result[Mapping[str, Any], PersistenceError]:
        """The first line."""
        read = self._line(MOST_FRAME)
        if not isinstance(read, Success):
            return read
        found = read.unwrap()
        if found.get("format") != FORMAT:
            return Failure(_broken("it does not begin as an export does"))
        if found.get("version") != VERSION:
            message = f"the export has version {found.get('version')!r:.40}, and this release reads {VERSION}"
            return Failure(UnsupportedVersion(f"{message}: import it with the release that wrote it"))
        return Success(found)

    def records(self, root: str) -> Iterator[Result[ImportedRecord, PersistenceError]]:
        """The records after it, up to the last line; ends at the first failure. A file without a last line was cut."""
        while True:
            before = self._digest.hexdigest()
            read = self._line(self._most)
            if not isinstance(read, Success):
                yield Failure(read.failure())
                return
            data = read.unwrap()
            if "end" in data:
                if data != {"end": self._count, "sha256": before} or self._file.read(1):
                    yield Failure(_broken("its checksum or number of records does not match"))
                    return
                self._last = Exported(self._count, before)
                return
            self._count += 1
            made = _record(data, root)
            yield made
            if isinstance(made, Failure):
                return

    @property
    def end(self) -> Exported | None:
        """What the last line says, once all records were read."""
        return self._last

    def _line(self, most: int) -> Result[dict[str, Any], PersistenceError]:
        line = self._file.readline(most + 1)
        if not line.endswith(b"\n"):
            return Failure(_broken("it was cut, or a line of it is longer than any record"))
        self._digest.update(line)
        try:
            data = json.loads(line)
        except (ValueError, RecursionError):
            return Failure(_broken("expected JSON in each line"))
        return Success(data) if isinstance(data, dict) else Failure(_broken("expected a JSON object in each line"))


def _record(data: Mapping[str, Any], root: str) -> Result[ImportedRecord, PersistenceError]:
    try:
        beside = data["namespace"]
        if beside and not beside.startswith("."):
            return Failure(_broken("a record is of another namespace"))
        body = data["body"]
        return Success(
            ImportedRecord(
                ref=RecordRef(f"{root}{beside}", data["key"]),
                attributes=dict(data["attributes"]),
                due_at=None if data["due"] is None else _moment(data["due"]),
                updated_at=_moment(data["updated"]),
                head=base64.b64decode(data["head"], validate=True),
                body=None if body is None else base64.b64decode(body, validate=True),
            )
        )
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error):
        return Failure(_broken("expected a record in each line"))


def _moment(text: str) -> datetime:
    made = datetime.fromisoformat(text)
    if made.tzinfo is None:
        raise ValueError("a time without a zone")
    return made.astimezone(UTC)


def _broken(why: str) -> IntegrityError:
    return IntegrityError(f"Invalid export file: {why}; export again, or take another copy of the file")
