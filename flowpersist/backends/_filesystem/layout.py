"""The store's directory: its format, its shards, and updating an index from the files when it is opened."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from flowpersist.backends._filesystem.files import (
    NAME,
    flush_directory,
    locked,
    open_regular,
    read_at_most,
    refuse_link,
    remove,
    replace,
)
from flowpersist.backends._filesystem.index import LOG, FileIndex, pending
from flowpersist.backends._filesystem.shards import SHARDS, Shards
from flowpersist.backends._outcomes import later_release, unreadable
from flowpersist.errors import BackendUnavailable

__all__ = ["INDEX", "LOCK", "RECORDS", "catch_up", "planned", "prepare"]

FORMAT: Final = 2
FORMAT_FILE: Final = "format.json"
LOCK: Final = "lock"
INDEX: Final = "index.sqlite"
RECORDS: Final = "records"
_FORMAT_BYTES: Final = 4096


def prepare(root: Path, patience: timedelta) -> None:
    """Create the directory if it is missing, and refuse one of another program or a later release."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _format_text(root) is None:
        _refuse_foreign(root)
    _refuse_links(root)
    with locked(root / LOCK, threading.Lock(), patience):
        text = _format_text(root)
        if text is None:
            _make(root)
        else:
            _check_format(text)


def _refuse_foreign(root: Path) -> None:
    # What an interrupted opening may have left.
    ours = {LOCK, RECORDS, LOG, f"{FORMAT_FILE}.new"}
    if any(path.name not in ours and not path.name.startswith(INDEX) for path in root.iterdir()):
        if (root / FORMAT_FILE).exists():
            return
        message = (
            "the filesystem store's directory holds other files; name an empty directory, or one that does not exist"
        )
        raise BackendUnavailable(message, NAME)


def _refuse_links(root: Path) -> None:
    records = root / RECORDS
    for directory in (records, *(records / shard for shard in SHARDS)):
        refuse_link(directory)


def _make(root: Path) -> None:
    records = root / RECORDS
    records.mkdir(mode=0o700, exist_ok=True)
    for shard in SHARDS:
        (records / shard).mkdir(mode=0o700, exist_ok=True)
        # Here, so that no write has to; if a power failure loses it, the next opening creates it.
        os.close(open_regular(records / shard / LOCK, os.O_CREAT | os.O_RDONLY))
    flush_directory(records)
    # Last, so that its presence means that everything else is there.
    _name_format(root)


def _name_format(root: Path) -> None:
    temporary = root / f"{FORMAT_FILE}.new"
    remove(temporary)
    replace(temporary, root / FORMAT_FILE, [json.dumps({"format": FORMAT, "shards": len(SHARDS)}).encode()])


def _format_text(root: Path) -> bytes | None:
    return read_at_most(root / FORMAT_FILE, _FORMAT_BYTES)


def _check_format(text: bytes) -> None:
    try:
        version = json.loads(text)["format"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise unreadable(NAME, "the file format.json") from error
    if type(version) is not int or version != FORMAT:
        raise later_release("filesystem store has format", repr(version), FORMAT)


def catch_up(shards: Shards, index: FileIndex) -> None:
    """Update the index from the files: from all of them if it is not trusted, else from those that differ."""
    shards.sweep_counters()
    if index.is_current():
        for digest in shards.suspects():
            shards.repair(digest)
        return
    index.begin()
    for shard in SHARDS:
        shards.rebuild(shard)
    index.mark_current()


def planned(root: Path, indexed: Mapping[str, type]) -> tuple[str, ...]:
    """The pending statements of a directory's index; records need none."""
    text = _format_text(root)
    if text is not None:
        _check_format(text)
    return pending(root / INDEX, indexed)
