"""``audit`` and ``receipt``: evidence for others, made with the signing key and verified with the public one alone."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TextIO, cast

import click
from attrs import evolve, frozen
from returns.result import Success

from flowpersist.cli.exits import Exit
from flowpersist.cli.inputs import named, read_key, stream_of
from flowpersist.cli.layout import table, terminal_width
from flowpersist.cli.session import Command, Store, store_options, with_hub
from flowpersist.errors import ConfigurationError, MalformedPayload
from flowpersist.hub.audit import Audit, signer_of
from flowpersist.hub.outcome import or_raise
from flowpersist.keys.signed_note import MOST_BYTES, NoteSigner, NoteVerifier
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.keys.text_file import text_of
from flowpersist.lifecycle.evidence import MAX_LINE, malformed, read_json
from flowpersist.lifecycle.exports import ExportChecker, ExportReport
from flowpersist.lifecycle.halt_history import halt_entry_data
from flowpersist.lifecycle.proving import (
    VerifiedHalts,
    VerifiedReceipt,
    verify_consistency,
    verify_halts,
    verify_inclusion,
    verify_receipt,
)
from flowpersist.sealed.checkpoints import LogCheckpoint, opened_checkpoint
from flowpersist.settings import Settings

if TYPE_CHECKING:
    from flowpersist.hub.verbs import PersistenceHub

__all__ = ["audit", "receipt"]

#: The most characters of a receipt or proof.
MAX_DOCUMENT: Final = 64 * 1024 * 1024
#: The columns of what was decided.
DECIDED: Final = ("ENTRY", "AT", "BY", "WAIT", "DECISION", "POLICY")

public_key = click.option(
    "--public-key", help="The public key, or a file that has it; without it that of FLOWPERSIST_AUDIT_KEY."
)
evidence = click.Path(exists=True, dir_okay=False, allow_dash=True)
kept_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@frozen
class Sink:
    """Where an export that is made goes."""

    take: Callable[[str], object]

    async def fill(self, hub: PersistenceHub, signer: NoteSigner | None = None) -> None:
        """Pass on all lines."""
        async for line in Audit(hub, signer).export():
            self.take(or_raise(line))


@click.group()
def audit() -> None:
    """Prove what the audit trails say: log, checkpoints, exports and proofs, verified with a public key."""


@audit.command(cls=Command)
@click.option("--name", required=True, help="What names the log's key, such as example.com/payments.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="A new file for the signing key, which only you can read.",
)
@store_options
def keygen(*, store: Store, name: str, output: Path) -> None:
    """Make a key that signs the audit log, and print the public key, with which others verify."""
    made = NoteSigner.generate(name)
    # Never overwrites a file: checkpoints that its key has signed could not be followed by others.
    with os.fdopen(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(made.export() + "\n")
    public = made.verifier.export()
    store.show({"keyFile": str(output), "publicKey": public}, [public])


@audit.command(cls=Command)
@store_options
def checkpoint(*, store: Store) -> None:
    """Append what has changed to the log, and print a signed checkpoint of it, to be kept elsewhere."""

    async def verb(hub: PersistenceHub) -> str:
        evidence = Audit(hub)
        or_raise(await evidence.append())
        return or_raise(await evidence.checkpoint())

    note = with_hub(store, verb)
    store.show({"checkpoint": note}, [note.removesuffix("\n")])


@audit.command(cls=Command)
@store_options
def export(*, store: Store) -> None:
    """Append what has changed to the log, and print it with all audit trails, as lines of JSON."""
    with_hub(store, Sink(click.echo).fill)


@audit.command(cls=Command)
@click.argument("key", metavar="[KEY|ID]", required=False)
@click.option("--since", type=kept_file, help="A checkpoint that was kept: prove that the log begins with it.")
@store_options
def prove(*, store: Store, key: str | None, since: Path | None) -> None:
    """Print a proof that the log holds a suspension's present trail, or that it begins with an earlier checkpoint."""
    if (key is None) == (since is None):
        msg = "name either a KEY|ID or a checkpoint with --since"
        raise click.UsageError(msg)
    note = "" if since is None else _note(since)

    async def verb(hub: PersistenceHub) -> dict[str, object]:
        evidence = Audit(hub)
        if key is None:
            return or_raise(await evidence.consistency(note))
        return or_raise(await evidence.prove(named(read_key(key), hub)))

    _print_document(store, with_hub(store, verb))


@audit.command(cls=Command)
@click.argument("file", type=evidence, required=False)
@public_key
@click.option(
    "--checkpoint", "checkpoints", type=kept_file, multiple=True, help="A checkpoint that was kept; may be repeated."
)
@store_options
@click.pass_context
def verify(
    context: click.Context, *, store: Store, file: str | None, public_key: str | None, checkpoints: tuple[Path, ...]
) -> None:
    """Verify an export, a proof or a receipt with the public key alone; without FILE the store itself.

    Exits with 9 if anything is not as it was signed: an entry or leaf that was altered, removed, added or moved, a
    suspension that was deleted before its time, or a log that does not begin with a --checkpoint.
    """
    verifier = _verifier(public_key)
    kept = [or_raise(opened_checkpoint(_note(one), verifier)) for one in checkpoints]
    if file is None:
        checker = ExportChecker(verifier, kept)
        with_hub(store, Sink(checker.feed).fill)
        _report(context, store, checker.report())
        return
    with _evidence(file) as stream:
        first = stream.readline(MAX_LINE + 1)
        if _begins_export(first):
            checker = ExportChecker(verifier, kept)
            _feed(checker, first, stream)
            _report(context, store, checker.report())
            return
        text = first + stream.read(MAX_DOCUMENT)
    _verify_document(store, text, verifier, kept)


@click.command(cls=Command)
@click.argument("key", metavar="[KEY|ID]", required=False)
@click.option("--verify", "file", type=evidence, help="Verify a receipt, with the public key.")
@click.option("--halts", is_flag=True, help="Of the halts: who stopped and lifted what, when and why.")
@public_key
@store_options
def receipt(*, store: Store, key: str | None, file: str | None, halts: bool, public_key: str | None) -> None:
    """Print a receipt: who decided what and when, on what that was shown, which anybody verifies offline.

    Exits with 9 if a receipt is not as it was signed.
    """
    if (key is not None) + (file is not None) + halts != 1:
        msg = "name either a KEY|ID, --halts, or a receipt with --verify"
        raise click.UsageError(msg)
    if file is not None:
        with _evidence(file) as stream:
            text = stream.read(MAX_DOCUMENT)
        _verify_document(store, text, _verifier(public_key), [], kinds=("receipt", "halts"))
        return

    async def verb(hub: PersistenceHub) -> dict[str, object]:
        evidence = Audit(hub)
        return or_raise(await (evidence.halts() if halts else evidence.receipt(named(read_key(str(key)), hub))))

    _print_document(store, with_hub(store, verb))


def _print_document(store: Store, document: dict[str, object]) -> None:
    """Print a document: it is JSON in any case."""
    evolve(store, json=True).show(document, [])


def _evidence(file: str) -> TextIO:
    """The text of a file, or for ``-`` of standard input."""
    # Other bytes than UTF-8 are replaced, so that the check of the evidence refuses them.
    return io.TextIOWrapper(cast("BinaryIO", stream_of(file)), encoding="utf-8", errors="replace")


def _begins_export(line: str) -> bool:
    read = read_json(line)
    return isinstance(read, Success) and read.unwrap().get("type") == "log"


def _feed(checker: ExportChecker, first: str, file: TextIO) -> None:
    """Pass on all lines, none of which is read whole where it is too long to be one of an export."""
    line = first
    while line:
        checker.feed(line.removesuffix("\n"))
        line = file.readline(MAX_LINE + 1)


def _verifier(given: str | None) -> NoteVerifier:
    if given is not None:
        return NoteVerifier.parse(_public(given) if "+" not in given else given)
    signer = signer_of(Settings.from_environ())
    if signer is None:
        message = "no public key: pass --public-key, as flowpersist audit keygen has printed it"
        raise ConfigurationError(message, "FLOWPERSIST_AUDIT_KEY")
    return signer.verifier


def _note(path: Path) -> str:
    """The text of a checkpoint that was kept."""
    try:
        return text_of(path, most=MOST_BYTES, encoding="utf-8")
    except ValueError as error:
        message = f"Invalid checkpoint {path}: expected text of at most {MOST_BYTES} bytes"
        raise MalformedPayload(message) from error


def _public(path: str) -> str:
    """The text of a file of a public key."""
    try:
        return text_of(path, most=MOST_BYTES)
    except ValueError as error:
        message = f"Invalid public key {path}: expected the text that flowpersist audit keygen has printed"
        raise ConfigurationError(message, "--public-key") from error


def _verify_document(
    store: Store, text: str, verifier: NoteVerifier, kept: Sequence[LogCheckpoint], *, kinds: Sequence[str] = ()
) -> None:
    """Verify a receipt or a proof, and print what it proves."""
    document = or_raise(read_json(text, most=MAX_DOCUMENT))
    if kept and document.get("type") != "consistency":
        msg = "--checkpoint goes with an export, the store or a proof of consistency"
        raise click.UsageError(msg)
    if kinds and document.get("type") not in kinds:
        raise malformed(f"the type {' or '.join(kinds)}")
    if document.get("type") == "consistency":
        before, after = or_raise(verify_consistency(document, verifier))
        for one in kept:
            or_raise(verify_consistency(document, verifier, one))
        said = f"verified: the log of {after.size} leaves begins with the one of {before.size}"
        store.show({"verified": "consistency", **_log_data(after), "since": before.size}, [said])
    elif document.get("type") == "inclusion":
        leaf, found = or_raise(verify_inclusion(document, verifier))
        index: Any = document["leaf"]["index"]
        said = f"verified: leaf {index} of {found.origin} has {leaf.count} entries of suspension {_id_of(leaf.id)}"
        data = {"suspension": _id_of(leaf.id), "entries": leaf.count, "index": index}
        store.show({"verified": "inclusion", **_log_data(found), **data}, [said])
    elif document.get("type") == "halts":
        _show_halts(store, or_raise(verify_halts(document, verifier)))
    else:
        _show_receipt(store, or_raise(verify_receipt(document, verifier)))


def _show_receipt(store: Store, proven: VerifiedReceipt) -> None:
    found = proven.checkpoint
    said = f"verified: {len(proven.entries)} entries of suspension {proven.suspension}"
    said += f", leaf {proven.index} of {found.origin}"
    rows = [_decided(one) for one in proven.decisions]
    lines = table([DECIDED, *rows], terminal_width()) if rows else ["nothing was decided"]
    shown = [f"entry {one['entry']} was shown {one['shown']}" for one in proven.decisions]
    data = {
        "verified": "receipt",
        "suspension": str(proven.suspension),
        "tenant": proven.tenant,
        "entries": len(proven.entries),
        "decisions": list(proven.decisions),
        "index": proven.index,
    }
    store.show({**data, **_log_data(found)}, [said, *lines, *shown])


def _show_halts(store: Store, proven: VerifiedHalts) -> None:
    found = proven.checkpoint
    said = f"verified: {len(proven.entries)} entries of the halts, leaf {proven.index} of {found.origin}"
    entries = [halt_entry_data(one) for one in proven.entries]
    lines = [f"{one.at.isoformat()} {one.verb} {one.halt}: {one.reason or '-'}" for one in proven.entries]
    store.show({"verified": "halts", "entries": entries, "index": proven.index, **_log_data(found)}, [said, *lines])


def _decided(one: Any) -> tuple[str, ...]:  # noqa: ANN401 - JSON data
    who = one["by"] or {}
    by = who.get("name") or who.get("subject") or "-"
    policy = " ".join(str(part) for part in (one["tool"], one["version"], one["policy"]) if part is not None)
    return str(one["entry"]), str(one["at"]), str(by), str(one["wait"]), one["decision"] or one["change"], policy or "-"


def _report(context: click.Context, store: Store, found: ExportReport) -> None:
    log = None if found.checkpoint is None else found.checkpoint
    data = {
        "verified": "export" if found.sound else None,
        **({} if log is None else _log_data(log)),
        "leaves": found.leaves,
        "trails": found.trails,
        "entries": found.entries,
        "purged": found.purged,
        "uncovered": found.uncovered,
        "found": found.found,
        "problems": [one.message for one in found.problems],
    }
    origin = "the log" if log is None else log.origin
    counts = f"{found.leaves} leaves, {found.trails} trails of {found.entries} entries, {found.purged} removed legally"
    said = f"verified: {origin}: {counts}" if found.sound else f"not as it was signed: {origin}: {counts}"
    newer = (
        [f"{found.uncovered} entries are newer than the log, which proves nothing of them"] if found.uncovered else []
    )
    more = found.found - len(found.problems)
    lines = [said, *newer, *(f"  {one.message}" for one in found.problems), *([f"  and {more} more"] if more else [])]
    store.show(data, lines)
    if not found.sound:
        context.exit(Exit.UNREADABLE)


def _log_data(found: LogCheckpoint) -> dict[str, object]:
    return {"origin": found.origin, "size": found.size, "root": found.root.hex()}


def _id_of(value: bytes) -> str:
    return str(SuspensionId(value))
