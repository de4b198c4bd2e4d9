"""Records of a subject as JSON lines: a first line that says what they are, one line for each part, and a last one.

The last line has the number of those before it and a checksum of them in any order, since no two stores list records
in the same one: so lines that were cut or damaged are told from whole ones. A value that JSON gives back as it is
stands so. Any other is an object with one member: a time in UTC its text, and the rest the codec's bytes in base64.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from attrs import frozen
from returns.result import Failure, Success

from flowpersist.codec import Codec
from flowpersist.errors import MalformedPayload, StateTooLarge, UnsupportedVersion
from flowpersist.errors.arguments import check_instance
from flowpersist.sealed.naming import Parts
from flowpersist.sealed.subjects import Parted, SubjectRecords
from flowpersist.sealed.walking import Pages

__all__ = ["Form", "export_lines", "import_lines"]


@frozen
class Form:
    """What the lines are: their ``name`` and ``version``, and the classes of the records' parts by the parts' names.

    A class has the record's ``kind`` and ``ids``, the names of what stands in its key after that, of which the first is
    the subject's. Called with ids and content by their names it raises ``TypeError`` or ``ValueError`` where these are
    not valid.
    """

    name: str
    version: int
    parts: Mapping[str, Any]


async def export_lines(records: SubjectRecords, form: Form, subject: str) -> AsyncIterator[str]:
    """The lines of all records of a subject, without line breaks. What fails is raised."""
    writer = _Writer(records.collection.records.sealer.codec, form)
    head = next(iter(form.parts.values())).ids[0]
    check_instance(subject, head, str, "a str")
    yield writer.first({head: subject})
    for kind in dict.fromkeys(one.kind for one in form.parts.values()):
        async for listed in _pages(records, kind, subject):
            if isinstance(listed, Failure):
                raise listed.failure()
            for key, parts in listed.unwrap().items:
                for name, content in parts.items():
                    ids = dict(zip(form.parts[name].ids[1:], key[2:], strict=True))
                    yield await asyncio.to_thread(writer.line, {"record": name, **ids, **content})
    yield writer.last()


def _pages(records: SubjectRecords, kind: str, subject: str) -> Pages[tuple[Parts, Parted]]:
    return Pages(lambda after: records.page(kind, subject, limit=PAGE, after=after))


async def import_lines(records: SubjectRecords, form: Form, lines: Iterable[str] | AsyncIterable[str]) -> int:
    """Put the records of such lines, all or none; gives how many parts. What is wrong with the lines is raised."""
    reader = _Reader(records.collection.records.sealer.codec, form)
    found: dict[Parts, dict[str, Mapping[str, Any]]] = {}
    async for line in _iterated(lines):
        given = await asyncio.to_thread(reader.take, line.strip()) if line.strip() else None
        if given is not None:
            key, name = reader.place(given)
            if name in found.setdefault(key, {}):
                reader.refuse("expected a record that no line before it has")
            found[key][name] = given
    reader.end()
    written = await records.write(reader.subject, found)
    if isinstance(written, Failure):
        raise written.failure()
    return sum(map(len, found.values()))


async def _iterated(lines: Iterable[str] | AsyncIterable[str]) -> AsyncIterator[str]:
    if isinstance(lines, AsyncIterable):
        async for line in lines:
            yield line
    else:
        for line in lines:
            yield line


PAGE: Final = 100
_CODEC: Final = "$codec"
_TIME: Final = "$time"


class _Lines:
    """What is known of lines while they are written or read."""

    def __init__(self, codec: Codec, form: Form) -> None:
        self._codec = codec
        self._form = form
        self._count = self._sum = 0

    def _add(self, line: str) -> None:
        digest = hashlib.sha256(line.encode()).digest()
        self._count, self._sum = self._count + 1, (self._sum + int.from_bytes(digest, "big")) % 2**256

    @property
    def _end(self) -> dict[str, object]:
        return {"end": self._count, "checksum": f"{self._sum:064x}"}


class _Writer(_Lines):
    def first(self, head: Mapping[str, str]) -> str:
        """The first line; ``head`` are its other members."""
        return json.dumps({"format": self._form.name, "version": self._form.version, **head})

    def line(self, record: Mapping[str, object]) -> str:
        """The line of a record: its members are values of the codec."""
        line = json.dumps({name: self._member(value) for name, value in record.items()})
        self._add(line)
        return line

    def last(self) -> str:
        """The last line."""
        return json.dumps(self._end)

    def _member(self, value: object) -> object:
        data = self._codec.encode(value).unwrap()
        with suppress(TypeError, ValueError, RecursionError):
            again = json.loads(json.dumps(value, allow_nan=False))
            is_marked = isinstance(value, dict) and not value.keys().isdisjoint((_CODEC, _TIME))
            if self._codec.encode(again) == Success(data) and not is_marked:
                return value
        if isinstance(value, datetime) and self._codec.encode(_time(value.isoformat())) == Success(data):
            return {_TIME: value.isoformat()}
        return {_CODEC: base64.b64encode(data).decode()}


class _Reader(_Lines):
    """Takes lines until it is ``whole``. What is wrong with one names it by its number."""

    def __init__(self, codec: Codec, form: Form) -> None:
        super().__init__(codec, form)
        self._number = self._size = 0
        self._head: Mapping[str, Any] = {}
        self.whole = False

    def take(self, line: str) -> dict[str, Any] | None:
        """The record of a line; None of the first and the last one.

        Raises ``MalformedPayload``, ``UnsupportedVersion``, ``StateTooLarge``, and ``UnknownType`` for a value of a
        class that the codec does not know.
        """
        self._number, self._size, most = self._number + 1, self._size + len(line), self._codec.limits.max_bytes
        if self._size > most:
            raise StateTooLarge(f"the lines have over {most} characters; raise the limit, or read fewer")
        try:
            given = json.loads(line)
        except (ValueError, RecursionError):
            given = None
        if not isinstance(given, dict):
            self.refuse("expected a JSON object")
        if self._number == 1:
            self._begin(given)
            return None
        if not self._head or self.whole:
            self.refuse("expected nothing after the last line")
        if "end" not in given:
            self._add(line)
            return {name: self._value(value) for name, value in given.items()}
        if given != self._end:
            self.refuse("expected whole lines before it, of which some are missing or damaged")
        self.whole = True
        return None

    def refuse(self, what: str) -> NoReturn:
        """The line is refused."""
        raise MalformedPayload(f"Invalid line {self._number}: {what}; export the records again")

    def end(self) -> None:
        """There are no more lines."""
        if not self.whole:
            raise MalformedPayload(f"the lines end after {self._number}, before the last one; export the records again")

    def place(self, given: dict[str, Any]) -> tuple[tuple[str, ...], str]:
        """The key and the part of what was taken, of which the content is left."""
        name = given.pop("record", None)
        kind = self._form.parts.get(name) if isinstance(name, str) else None
        if kind is None:
            self.refuse("expected the name of what it is a record of")
        ids = {**self._head, **{one: given.pop(one, None) for one in kind.ids[1:]}}
        try:
            kind(**ids, **given)
            # No record was exported before it was saved.
            valid = bool(given["version"] and given["created_at"] and given["updated_at"])
        except (KeyError, TypeError, ValueError):
            valid = False
        if not valid:
            self.refuse(f"expected a record of a {name}")
        return (kind.kind, *ids.values()), name

    @property
    def subject(self) -> str:
        """Whose lines these are."""
        return str(*self._head.values())

    def _begin(self, given: dict[str, Any]) -> None:
        form, head = self._form, next(iter(self._form.parts.values())).ids[0]
        if given.get("format") != form.name or not isinstance(given.get(head), str):
            self.refuse(f"expected that lines of {form.name} follow")
        if given.get("version") != form.version:
            message = f"the lines are not of version {form.version}, which this release reads"
            raise UnsupportedVersion(f"{message}; upgrade flowpersist, or export the records again")
        self._head = {head: given[head]}

    def _value(self, value: Any) -> Any:  # noqa: ANN401 - any value
        if not isinstance(value, dict) or value.keys().isdisjoint((_CODEC, _TIME)):
            return value
        match value:
            case {"$time": str(text)} if len(value) == 1 and (time := _time(text)):
                return time
            case {"$codec": str(text)} if len(value) == 1:
                decoded = self._codec.decode(_bytes(text))
            case _:
                self.refuse("expected values as an export writes them")
        if isinstance(decoded, Failure):
            error = decoded.failure()
            raise type(error)(f"line {self._number}: {error.message}", *error.args[1:])
        return decoded.unwrap()


def _time(text: str) -> datetime | None:
    with suppress(ValueError):
        return datetime.fromisoformat(text).astimezone(UTC)
    return None


def _bytes(text: str) -> bytes:
    with suppress(ValueError):
        return base64.b64decode(text, validate=True)
    return b""
