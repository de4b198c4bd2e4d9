"""An export of the audit log and all trails, verified with the public key alone, line by line as it comes.

Memory grows by some 300 bytes for each suspension in the log, and 40 for each leaf; nothing else is kept.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from attrs import define, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import IntegrityError, PersistenceError, TamperedEnvelope
from flowpersist.keys.signed_note import NoteVerifier
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle.evidence import (
    HALTS_ID,
    HaltSubject,
    Subject,
    TrailReader,
    malformed,
    member,
    read_bytes,
    read_json,
)
from flowpersist.lifecycle.log_records import Leaf, read_leaf
from flowpersist.lifecycle.proving import checked_form
from flowpersist.sealed.checkpoints import LogCheckpoint, export_text, opened_checkpoint, origin_name
from flowpersist.sealed.merkle import HASH_BYTES, Frontier, leaf_hash

__all__ = ["ExportChecker", "ExportReport", "check_export"]

#: Problems that a report names; of more it has the number.
MOST_NAMED: Final = 100
_COUNT_BYTES: Final = 8


@frozen
class ExportReport:
    """What an export proves, and what is wrong with it: ``problems``, of which there are ``found``; none where all is
    as it was signed.

    ``checkpoint`` is the newest one of the export. ``purged`` counts the suspensions that were deleted legally.
    ``uncovered`` counts the entries that no leaf covers yet, as they are newer than the log: nothing proves them.
    """

    checkpoint: LogCheckpoint | None
    leaves: int
    trails: int
    entries: int
    purged: int
    uncovered: int
    found: int
    problems: tuple[PersistenceError, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.found


@define
class _Known:
    """The leaves of one suspension: each count with its digest, as bytes. ``missing``: its trail has not come yet."""

    made: int
    counts: bytes = b""
    purged: bool = False
    missing: bool = True

    def added(self, leaf: Leaf) -> None:
        self.counts += leaf.count.to_bytes(_COUNT_BYTES, "big") + leaf.digest
        self.purged = leaf.purged

    def digests(self) -> dict[int, bytes]:
        size = _COUNT_BYTES + HASH_BYTES
        parts = [self.counts[at : at + size] for at in range(0, len(self.counts), size)]
        return {int.from_bytes(part[:_COUNT_BYTES], "big"): part[_COUNT_BYTES:] for part in parts}

    def last(self) -> tuple[int, bytes]:
        part = self.counts[-_COUNT_BYTES - HASH_BYTES :]
        return int.from_bytes(part[:_COUNT_BYTES], "big"), part[_COUNT_BYTES:]


@define
class _Trail:
    """The trail that is being read: how many entries must still come, and the digests that it must have on its way."""

    reader: TrailReader
    left: int
    digests: Mapping[int, bytes]
    covered: int
    broken: bool = False


@define
class ExportChecker:
    """Takes the lines of an export and says what it proves. ``kept`` are checkpoints that were kept elsewhere: the
    log must begin with each of them.
    """

    verifier: NoteVerifier
    kept: Iterable[LogCheckpoint] = ()
    _expected: dict[int, list[LogCheckpoint]] = field(factory=dict, init=False)
    _frontier: Frontier = field(factory=Frontier, init=False)
    _known: dict[bytes, _Known] = field(factory=dict, init=False)
    #: Those whose id was used again, by that and by when they were made.
    _earlier: dict[tuple[bytes, int], _Known] = field(factory=dict, init=False)
    _problems: list[PersistenceError] = field(factory=list, init=False)
    _found: int = field(default=0, init=False)
    _namespace: str | None = field(default=None, init=False)
    _origin: str | None = field(default=None, init=False)
    _trail: _Trail | None = field(default=None, init=False)
    #: How many leaves must stand before the trails.
    _begun: int | None = field(default=None, init=False)
    _late: bool = field(default=False, init=False)
    _newest: LogCheckpoint | None = field(default=None, init=False)
    _ended: bool = field(default=False, init=False)
    _trails: int = field(default=0, init=False)
    _entries: int = field(default=0, init=False)
    _uncovered: int = field(default=0, init=False)
    _lines: hashlib._Hash = field(factory=hashlib.sha256, init=False)

    def __attrs_post_init__(self) -> None:
        for one in self.kept:
            self._expected.setdefault(one.size, []).append(one)
        self._compare()

    def feed(self, text: str) -> None:
        """Take the next line, without the newline at its end."""
        read = read_json(text)
        line = read.unwrap() if isinstance(read, Success) else {}
        kind = line.get("type")
        take = _TAKERS.get(kind) if isinstance(kind, str) else None
        if take is None or self._ended or (self._namespace is None) != (kind == "log"):
            self._note(malformed("the lines of an export, each once and in their order"))
            return
        if kind != "entry":
            self._close()
        taken = take(self, line)
        if isinstance(taken, Failure):
            self._note(taken.failure())
        self._lines.update(text.encode("utf-8", "surrogatepass") + b"\n")

    def report(self) -> ExportReport:
        """What the lines prove. Call it once, after the last of them."""
        self._close()
        if not self._ended:
            self._note(IntegrityError("the export ends before its last line: it was cut off"))
        for size in sorted(size for size in self._expected if size > self._frontier.size):
            message = f"the log has {self._frontier.size} leaves, a checkpoint says {size}: it was cut off"
            self._note(IntegrityError(f"{message}, or replaced by an older one"))
        for name, known in self._known.items():
            if known.missing and not known.purged:
                message = f"{_what(name)} is in the log and has no trail: it was deleted"
                self._note(IntegrityError(f"{message} without the leaf of a legal removal"))
        return ExportReport(
            checkpoint=self._newest,
            leaves=self._frontier.size,
            trails=self._trails,
            entries=self._entries,
            purged=sum(one.purged for one in (*self._known.values(), *self._earlier.values())),
            uncovered=self._uncovered,
            found=self._found,
            problems=tuple(self._problems),
        )

    def _note(self, problem: PersistenceError) -> None:
        self._found += 1
        if len(self._problems) < MOST_NAMED:
            self._problems.append(problem)

    def _checkpoint(self, line: Mapping[str, Any], kind: str) -> Result[None, PersistenceError]:
        """The checkpoint of a line, which the leaves must lead to."""
        opened = checked_form(line, kind).bind(lambda _: member(line, "checkpoint", str))
        read = opened.bind(lambda note: opened_checkpoint(note, self.verifier))
        if not isinstance(read, Success):
            return Failure(read.failure())
        checkpoint = read.unwrap()
        if checkpoint.origin != self._origin:
            return Failure(TamperedEnvelope(f"the checkpoint is that of the log {checkpoint.origin}"))
        self._newest = checkpoint
        self._expected.setdefault(checkpoint.size, []).append(checkpoint)
        if checkpoint.size == self._frontier.size:
            self._compare()
        return Success(None)

    def _compare(self) -> None:
        """Compare the tree with the checkpoints of its size."""
        for checkpoint in self._expected.pop(self._frontier.size, ()):
            if not hmac.compare_digest(checkpoint.root, self._frontier.root()) or (
                self._origin is not None and checkpoint.origin != self._origin
            ):
                message = f"the first {checkpoint.size} leaves are not those of the signed checkpoint"
                self._note(TamperedEnvelope(f"{message}: one was altered, added, removed or moved"))

    def _take_log(self, line: Mapping[str, Any]) -> Result[None, PersistenceError]:
        named = member(line, "namespace", str)
        self._namespace = named.unwrap() if isinstance(named, Success) else ""
        self._origin = origin_name(self.verifier.name, self._namespace.encode("utf-8", "replace").decode())
        signed = named.bind(lambda _: self._checkpoint(line, "log"))
        self._begun = None if self._newest is None else self._newest.size
        return signed

    def _take_leaf(self, line: Mapping[str, Any]) -> Result[None, PersistenceError]:
        data, index = read_bytes(line.get("data")), line.get("index")
        leaf = None if data is None else read_leaf(data)
        if data is None or leaf is None:
            return Failure(TamperedEnvelope(f"leaf {self._frontier.size} can't be read: it was altered"))
        if index != self._frontier.size:
            return Failure(IntegrityError(f"leaf {self._frontier.size} is missing or moved"))
        self._frontier.add(leaf_hash(data))
        if self._frontier.size in self._expected:
            self._compare()
        if self._late:
            # Its trail was listed before it was appended.
            known = self._known.get(leaf.id)
            if known is not None and leaf.purged and known.made == leaf.made:
                known.purged = True
            return Success(None)
        return self._noted(leaf)

    def _noted(self, leaf: Leaf) -> Result[None, PersistenceError]:
        known = self._known.get(leaf.id)
        if known is not None and known.made != leaf.made:
            if not known.purged:
                message = f"{_what(leaf.id)} was deleted without the leaf of a legal removal"
                self._note(IntegrityError(f"{message}, and another one was made under its id"))
            # Its trail may be kept.
            self._earlier[leaf.id, known.made] = known
            known = None
        if known is None:
            known = self._known[leaf.id] = _Known(leaf.made)
        elif not _follows(known, leaf):
            message = f"leaf {self._frontier.size - 1} says less of {_what(leaf.id)} than one before"
            return Failure(TamperedEnvelope(f"{message}, or something else: its records were replaced by older ones"))
        known.added(leaf)
        return Success(None)

    def _take_trail(self, line: Mapping[str, Any]) -> Result[None, PersistenceError]:
        named = member(line, "suspension", dict)
        return self._begin(line, named.bind(lambda data: Subject.read(self._namespace, data)).bind(TrailReader.begin))

    def _take_halts(self, line: Mapping[str, Any]) -> Result[None, PersistenceError]:
        named = member(line, "halts", dict)
        read = named.bind(lambda data: HaltSubject.read(self._namespace, data))
        return self._begin(line, read.bind(TrailReader.begin))

    def _begin(
        self, line: Mapping[str, Any], begun: Result[TrailReader, PersistenceError]
    ) -> Result[None, PersistenceError]:
        if self._begun is not None and self._frontier.size != self._begun:
            return Failure(IntegrityError("a trail stands before the leaves that the export begins with"))
        self._late = True
        self._trails += 1
        count = member(line, "entries", int)
        if not isinstance(begun, Success) or not isinstance(count, Success):
            return Failure(malformed("a suspension and the number of its entries"))
        reader = begun.unwrap()
        name, made = reader.subject.id.value, reader.subject.made
        known = self._known.get(name)
        known = self._earlier.get((name, made)) if known is None or known.made != made else known
        digests = {} if known is None else known.digests()
        if digests and known is not None:
            if not known.missing:
                return Failure(TamperedEnvelope(f"{reader.subject.what} stands in the export twice"))
            known.missing = False
        self._trail = _Trail(reader, count.unwrap(), digests, max(digests, default=0))
        if "error" in line:
            self._trail.broken = True
            message = f"the trail of {reader.subject.what} could not be read when it was exported"
            return Failure(IntegrityError(f"{message}: verify it with flowpersist history or halts --history"))
        return Success(None)

    def _take_entry(self, line: Mapping[str, Any]) -> Result[None, PersistenceError]:
        trail = self._trail
        if trail is None or trail.left < 1:
            return Failure(TamperedEnvelope("an entry stands behind the end of its trail, or in none"))
        self._entries += 1
        trail.left -= 1
        if trail.broken:
            return Success(None)
        read = trail.reader.read(line)
        if not isinstance(read, Success):
            trail.broken = True
            return Failure(read.failure())
        trail.reader, _ = read.unwrap()
        reader = trail.reader
        self._uncovered += reader.count > trail.covered
        expected = trail.digests.get(reader.count)
        if expected is not None and not hmac.compare_digest(expected, reader.digest):
            trail.broken = True
            message = f"entry {reader.count} of {reader.subject.what}, or one before it"
            return Failure(TamperedEnvelope(f"{message}, is not the one that the log has: it was altered"))
        return Success(None)

    def _take_end(self, line: Mapping[str, Any]) -> Result[None, PersistenceError]:
        self._ended = True
        signed = self._checkpoint(line, "end")
        if isinstance(signed, Failure):
            return signed
        if (line.get("trails"), line.get("entries")) != (self._trails, self._entries):
            return Failure(IntegrityError("the export has fewer or more trails or entries than its end says"))
        # Also what no leaf covers, and where the leaves part that must have a trail: both are the exporter's word.
        return member(line, "signature", str).bind(self.verifier.opened).bind(self._signed)

    def _signed(self, text: str) -> Result[None, PersistenceError]:
        if text == export_text(str(self._origin), self._lines.digest()):
            return Success(None)
        return Failure(TamperedEnvelope("a line of the export is not as it was made: it was altered, added or removed"))

    def _close(self) -> None:
        """End the trail that is being read."""
        trail, self._trail = self._trail, None
        if trail is None or trail.broken:
            return
        subject, count = trail.reader.subject, trail.reader.count
        if trail.left or count < trail.covered:
            message = f"the trail of {subject.what} ends after entry {count}, the log has more: it was cut off"
            self._note(IntegrityError(message))


def _what(name: bytes) -> str:
    return "the record of the halts" if name == HALTS_ID else f"suspension {SuspensionId(name)}"


def _follows(known: _Known, leaf: Leaf) -> bool:
    """Whether a leaf may follow those of its suspension: with more entries, or with the same ones as the removal's."""
    count, digest = known.last()
    return leaf.count > count or (leaf.purged and (leaf.count, leaf.digest) == (count, digest))


_TAKERS: Final[Mapping[str, Callable[[ExportChecker, Mapping[str, Any]], Result[None, PersistenceError]]]] = {
    "log": ExportChecker._take_log,  # noqa: SLF001 - its own
    "leaf": ExportChecker._take_leaf,  # noqa: SLF001
    "trail": ExportChecker._take_trail,  # noqa: SLF001
    "halts": ExportChecker._take_halts,  # noqa: SLF001
    "entry": ExportChecker._take_entry,  # noqa: SLF001
    "end": ExportChecker._take_end,  # noqa: SLF001
}


def check_export(lines: Iterable[str], verifier: NoteVerifier, kept: Iterable[LogCheckpoint] = ()) -> ExportReport:
    """What an export proves, of its lines as text. ``kept``: checkpoints that were kept elsewhere."""
    checker = ExportChecker(verifier, tuple(kept))
    for text in lines:
        checker.feed(text.rstrip("\n"))
    return checker.report()
