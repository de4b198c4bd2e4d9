"""Evidence for others: signed checkpoints of the audit log, proofs, exports and receipts, which a third party verifies
with the public key alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final

from returns.result import Failure, Result, Success

from flowpersist.backends.base import Where
from flowpersist.errors import ConfigurationError, PersistenceError, RevisionConflict, TamperedEnvelope, ValueNotFound
from flowpersist.errors.arguments import check_instance, check_str
from flowpersist.errors.secrecy import discreet
from flowpersist.hub.audit_log import PAGE
from flowpersist.hub.audit_trail import made_at
from flowpersist.hub.log_appending import append_halts, append_to_log
from flowpersist.hub.log_reading import LogReader
from flowpersist.hub.outcome import Outcome, as_outcome
from flowpersist.hub.purging import logged, purged_heads
from flowpersist.hub.transactions import KeyLike
from flowpersist.hub.verbs import PersistenceHub
from flowpersist.inputs.people import By
from flowpersist.keys.signed_note import NoteSigner
from flowpersist.lifecycle.evidence import (
    VERSION,
    HaltSubject,
    Subject,
    bytes_text,
    decisions_of,
    entry_line,
    json_text,
)
from flowpersist.lifecycle.history import AuditEntry, entries_of
from flowpersist.lifecycle.log_records import LogHead, frontier_of, read_leaf
from flowpersist.lifecycle.model import Head
from flowpersist.lifecycle.proving import verify_consistency
from flowpersist.sealed.checkpoints import LogCheckpoint, export_text, opened_checkpoint, origin_name, signed_checkpoint
from flowpersist.sealed.merkle import consistency_spans, inclusion_spans
from flowpersist.sealed.walking import pages
from flowpersist.settings import Settings

__all__ = ["Audit", "signer_of"]

#: How often a proof is begun of a suspension that changes meanwhile.
_TRIES: Final = 8


def signer_of(settings: Settings) -> NoteSigner | None:
    """The signing key that settings name, None where they name none. ``ConfigurationError`` for an unusable one."""
    if settings.audit_key is not None:
        return NoteSigner.parse(settings.audit_key)
    return None if settings.audit_key_file is None else NoteSigner.from_file(settings.audit_key_file)


class Audit:
    """What a hub's audit log proves, signed with the key of the log.

    - ``hub``: a hub whose keyring opens heads; the control subkey is enough.
    - ``signer``: the signing key; None: ``FLOWPERSIST_AUDIT_KEY`` or ``FLOWPERSIST_AUDIT_KEY_FILE``. Where neither is
      set: ``ConfigurationError``.
    """

    @discreet
    def __init__(self, hub: PersistenceHub, signer: NoteSigner | None = None) -> None:
        check_instance(hub, "hub", PersistenceHub, "a PersistenceHub (of a RaisingHub, its .hub)")
        check_instance(signer, "signer", (NoteSigner, type(None)), "a NoteSigner or None")
        found = signer_of(Settings.from_environ()) if signer is None else signer
        if found is None:
            message = "no key signs the audit log: set FLOWPERSIST_AUDIT_KEY_FILE (flowpersist audit keygen makes one)"
            raise ConfigurationError(message, "FLOWPERSIST_AUDIT_KEY")
        self._hub = hub
        self._signer = found
        self._log = hub.suspensions.side_records.log
        self._trail = hub.suspensions.side_records.trail

    async def append(self) -> Outcome[int]:
        """Add a leaf to the log for each suspension whose trail has grown, as ``Maintenance.append_log`` does."""
        return as_outcome(await append_to_log(self._hub.suspensions))

    async def checkpoint(self) -> Outcome[str]:
        """A signed checkpoint of the log as it stands. Keep it elsewhere: later logs must begin with that one."""
        return as_outcome((await self._log.head()).map(self._signed))

    async def consistency(self, since: str) -> Outcome[dict[str, object]]:
        """A proof that the log still begins with the one of an earlier checkpoint.

        ``TamperedEnvelope`` where it does not, or another key has signed that one.

        - ``since``: the earlier checkpoint, as ``checkpoint`` gave it.
        """
        check_str(since, "since")
        before = opened_checkpoint(since, self._signer.verifier)
        read = await self._log.head()
        if not isinstance(before, Success) or not isinstance(read, Success):
            return Failure(next(one.failure() for one in (before, read) if isinstance(one, Failure)))
        old, head = before.unwrap(), read.unwrap()
        if old.origin != self._origin:
            return Failure(TamperedEnvelope(f"the checkpoint is that of the log {old.origin}, not of {self._origin}"))
        if old.size > head.size:
            message = (
                f"the audit log has {head.size} leaves, and had {old.size}: it was cut or replaced by an older one"
            )
            return Failure(TamperedEnvelope(f"{message}; restore the records of the log from a backup"))
        spans = consistency_spans(old.size, head.size) if old.size else []
        proof = await LogReader(self._log, head).hashes(spans)
        if not isinstance(proof, Success):
            return Failure(proof.failure())
        document = {
            "type": "consistency",
            "formatVersion": VERSION,
            "since": since,
            "checkpoint": self._signed(head),
            "proof": [bytes_text(one) for one in proof.unwrap()],
        }
        return as_outcome(verify_consistency(document, self._signer.verifier).map(lambda _: document))

    async def prove(self, key: KeyLike, *, by: By | None = None) -> Outcome[dict[str, object]]:
        """A proof that the log holds the present trail of a suspension, which is appended first where it lacks it.

        - ``key``: the key, its text, or the suspension's id.
        - ``by``: who is acting, for the authorizer.
        """
        proven = await self._proven(key, by)
        if not isinstance(proven, Success):
            return Failure(proven.failure())
        head, members = proven.unwrap()
        # No leaf says whose a suspension is.
        subject = {"id": str(head.id), "made": made_at(head)}
        return Success({"type": "inclusion", **members, "suspension": subject})

    async def receipt(self, key: KeyLike, *, by: By | None = None) -> Outcome[dict[str, object]]:
        """A receipt: all entries of a suspension, what was decided, and the proof that the log holds them.

        It has names, reasons and answers. Whoever has the public key verifies it without the store.

        - ``key``: the key, its text, or the suspension's id.
        - ``by``: who is acting, for the authorizer.
        """
        proven = await self._proven(key, by)
        if not isinstance(proven, Success):
            return Failure(proven.failure())
        head, proof = proven.unwrap()
        links, entries = await self._read(head)
        if not isinstance(links, Success) or not isinstance(entries, Success):
            return Failure(next(one.failure() for one in (links, entries) if isinstance(one, Failure)))
        lines = [entry_line(link, one) for link, one in zip(links.unwrap(), entries.unwrap(), strict=True)]
        made = {"type": "receipt", "decisions": decisions_of(entries.unwrap()), **proof, "entries": lines}
        # An answer may have values without a JSON form, which stand as their text.
        return Success(json.loads(json.dumps(made, default=str)))

    async def halts(self) -> Outcome[dict[str, object]]:
        """A receipt of the halts: all that was halted, lifted and stripped, and the proof that the log holds it.

        It has names and reasons. Whoever has the public key verifies it without the store. ``ValueNotFound`` where
        nothing was ever halted.
        """
        for _ in range(_TRIES):
            added = await append_halts(self._hub.suspensions)
            read = await self._halt_lines() if isinstance(added, Success) else Failure(added.failure())
            if not isinstance(read, Success):
                return Failure(read.failure())
            found = read.unwrap()
            if found is None:
                return Failure(ValueNotFound("nothing was ever halted in this namespace, so there is nothing to prove"))
            subject, lines = found
            proof = await self._proof(subject, len(lines))
            if not isinstance(proof, Success):
                return Failure(proof.failure())
            made = proof.unwrap()
            if made is not None:
                document = {"type": "halts", **made, "halts": subject.data(), "entries": lines}
                return Success(json.loads(json.dumps(document, default=str)))
        return Failure(self._changing("the halts"))

    async def export(self) -> AsyncGenerator[Outcome[str], None]:
        """The log and all trails as lines of JSON, without their newlines, in bounded memory; ends at the first
        failure.

        Leaves that are missing are appended first. The leaves come before the trails, and those that were appended
        meanwhile after them, so that what changes or is removed during the export is not reported as damage.
        """
        lines = hashlib.sha256()
        async with aclosing(self._lines()) as made:
            async for line in made:
                if not isinstance(line, Success):
                    yield Failure(line.failure())
                    return
                data = line.unwrap()
                if data["type"] == "end":
                    # Over all lines before this one.
                    data["signature"] = self._signer.signed(export_text(self._origin, lines.digest()))
                text = json_text(data)
                lines.update(text.encode() + b"\n")
                yield Success(text)

    async def _lines(self) -> AsyncGenerator[Outcome[dict[str, object]], None]:
        appended = await append_to_log(self._hub.suspensions)
        begun = await self._log.head() if isinstance(appended, Success) else Failure(appended.failure())
        if not isinstance(begun, Success):
            yield Failure(begun.failure())
            return
        head, counts = begun.unwrap(), {"trails": 0, "entries": 0}
        yield Success(self._line("log", namespace=self._namespace, checkpoint=self._signed(head)))
        parts = (self._leaves(head, 0), self._purged_trails(counts), self._trails(counts), self._halts(counts))
        for part in parts:
            async for line in part:
                yield line
        ended = await self._log.head()
        if not isinstance(ended, Success):
            yield Failure(ended.failure())
            return
        async for line in self._leaves(ended.unwrap(), head.size):
            yield line
        yield Success(self._line("end", checkpoint=self._signed(ended.unwrap()), **counts))

    async def _leaves(self, head: LogHead, first: int) -> AsyncGenerator[Outcome[dict[str, object]], None]:
        async for found in LogReader(self._log, head).leaves(first):
            if not isinstance(found, Success):
                yield Failure(found.failure())
                return
            index, data = found.unwrap()
            yield Success({"type": "leaf", "index": index, "data": bytes_text(data)})

    async def _purged_trails(self, counts: dict[str, int]) -> AsyncGenerator[Outcome[dict[str, object]], None]:
        """The trails whose suspensions were deleted. They come first: what is deleted meanwhile has its leaf then."""
        async for found in purged_heads(self._hub.suspensions):
            if not isinstance(found, Success):
                yield Failure(found.failure())
                return
            for line in await self._trail_lines(found.unwrap(), counts, purged=True):
                yield Success(line)

    async def _trails(self, counts: dict[str, int]) -> AsyncGenerator[Outcome[dict[str, object]], None]:
        async for listed in pages(self._hub.suspensions.records, Where(), limit=PAGE):
            if not isinstance(listed, Success):
                yield Failure(listed.failure())
                return
            for record in listed.unwrap().items:
                # What is being deleted is among the purged ones.
                if record.head.trail.count and not record.head.removing:
                    for line in await self._trail_lines(record.head, counts):
                        yield Success(line)
                    # What is in the head takes no round trip, and so no other task's turn.
                    await asyncio.sleep(0)

    async def _halts(self, counts: dict[str, int]) -> AsyncGenerator[Outcome[dict[str, object]], None]:
        read = await self._halt_lines()
        if not isinstance(read, Success):
            yield Failure(read.failure())
            return
        found = read.unwrap()
        if found is None:
            return
        subject, lines = found
        counts["trails"] += 1
        counts["entries"] += len(lines)
        yield Success({"type": "halts", "halts": subject.data(), "entries": len(lines)})
        for line in lines:
            yield Success({"type": "entry", **line})

    async def _halt_lines(
        self,
    ) -> Result[tuple[HaltSubject, list[dict[str, object]]] | None, PersistenceError]:
        """The entries of the halts with what proves them, verified; None where nothing was ever halted."""
        read = await self._hub.suspensions.halts.trail.read()
        if not isinstance(read, Success):
            return Failure(read.failure())
        found = read.unwrap()
        if found is None:
            return Success(None)
        lines = [entry_line(link, one) for link, one in zip(found.links, found.entries, strict=True)]
        return Success((HaltSubject(self._namespace, found.made), lines))

    async def _trail_lines(
        self, head: Head, counts: dict[str, int], *, purged: bool = False
    ) -> Sequence[dict[str, object]]:
        """The lines of one trail. One that can't be read is said to be so; one that has gone meanwhile has none."""
        links, entries = await self._read(head)
        subject = self._subject(head).data()
        if not isinstance(links, Success) or not isinstance(entries, Success):
            again = await self._hub.suspensions.records.read(str(head.id))
            stands = again.unwrap().record if isinstance(again, Success) else None
            if not purged and isinstance(again, Success) and (stands is None or stands.head.removing):
                return ()
            error = next(one.failure() for one in (links, entries) if isinstance(one, Failure))
            counts["trails"] += 1
            return ({"type": "trail", "suspension": subject, "entries": 0, "error": str(error)},)
        lines = [entry_line(link, one) for link, one in zip(links.unwrap(), entries.unwrap(), strict=True)]
        counts["trails"] += 1
        counts["entries"] += len(lines)
        begin: dict[str, object] = {"type": "trail", "suspension": subject, "entries": len(lines)}
        return (begin, *({"type": "entry", **line} for line in lines))

    async def _read(
        self, head: Head
    ) -> tuple[Result[tuple[bytes, ...], PersistenceError], Result[tuple[AuditEntry, ...], PersistenceError]]:
        """The links of a trail, and the entries that they are, verified."""
        links = await self._trail.links(head)
        if not isinstance(links, Success):
            return links, Failure(links.failure())
        verified = await self._trail.checked(head, links.unwrap())
        return links, verified.bind(lambda made: entries_of(head, made))

    async def _proven(self, key: KeyLike, by: By | None) -> Result[tuple[Head, dict[str, Any]], PersistenceError]:
        """The suspension, and the members of a document that prove that its present trail is in the log."""
        for _ in range(_TRIES):
            found = await self._found(key, by)
            if not isinstance(found, Success):
                return Failure(found.failure())
            head = found.unwrap()
            proof = await self._proof(self._subject(head), head.trail.count)
            if not isinstance(proof, Success):
                return Failure(proof.failure())
            made = proof.unwrap()
            if made is not None:
                return Success((head, {**made, "suspension": self._subject(head).data()}))
        return Failure(self._changing("the suspension"))

    def _changing(self, what: str) -> PersistenceError:
        message = f"{what} changed {_TRIES} times while its proof was made; try again later"
        return RevisionConflict(message, self._hub.backend.name, retryable=True)

    async def _found(self, key: KeyLike, by: By | None) -> Result[Head, PersistenceError]:
        """The suspension, with its present trail in the log."""
        seen = await self._hub.suspensions.look("history", key, by=by)
        if not isinstance(seen, Success):
            found = await self._hub.suspensions.purged(key, seen.failure())
            return await logged(self._log, found.unwrap()) if isinstance(found, Success) else found
        head = seen.unwrap().record.head
        if not head.trail.count:
            message = (
                f"suspension {head.id} has no audit entries: the hubs that changed it were opened with audit=False"
            )
            return Failure(ConfigurationError(message, "audit"))
        added = await self._log.add([head])
        return added.map(lambda _: head)

    async def _proof(
        self, subject: Subject | HaltSubject, count: int
    ) -> Result[dict[str, Any] | None, PersistenceError]:
        """What proves the leaf of this trail of so many entries; None where another one has followed it."""
        read = await self._log.head()
        if not isinstance(read, Success):
            return Failure(read.failure())
        log = read.unwrap()
        known = await self._log.known(log, [subject.id.value])
        if not isinstance(known, Success):
            return Failure(known.failure())
        place = known.unwrap().get(subject.id.value)
        if place is None:
            return Success(None)
        index = place.index
        reader = LogReader(self._log, log)
        leaf = await reader.leaf(index)
        proof = await reader.hashes(inclusion_spans(index, log.size))
        if not isinstance(leaf, Success) or not isinstance(proof, Success):
            return Failure(next(one.failure() for one in (leaf, proof) if isinstance(one, Failure)))
        found = read_leaf(leaf.unwrap())
        if found is None or (found.id, found.made, found.count) != (subject.id.value, subject.made, count):
            return Success(None)
        return Success(
            {
                "formatVersion": VERSION,
                "namespace": self._namespace,
                "leaf": {"index": index, "data": bytes_text(leaf.unwrap())},
                "proof": [bytes_text(one) for one in proof.unwrap()],
                "checkpoint": self._signed(log),
            }
        )

    def _subject(self, head: Head) -> Subject:
        return Subject(self._namespace, head.id, head.tenant, made_at(head))

    @property
    def _namespace(self) -> str:
        return self._hub.defaults.namespace

    @property
    def _origin(self) -> str:
        return origin_name(self._signer.name, self._namespace)

    def _signed(self, head: LogHead) -> str:
        return signed_checkpoint(self._signer, LogCheckpoint(self._origin, head.size, frontier_of(head).root()))

    @staticmethod
    def _line(kind: str, **members: object) -> dict[str, object]:
        return {"type": kind, "formatVersion": VERSION, **members}
