"""What the two users of SQLite share: selections as SQL, and the driver's errors as ours."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Final

from flowpersist.backends._matching import Selection, bound
from flowpersist.backends._scalars import entry_text, scalar_to_text
from flowpersist.backends.base import Order, Scalar
from flowpersist.errors import BackendUnavailable, IntegrityError, PersistenceError, StorageError, StorageFull

__all__ = ["index_statements", "mapped", "primary_code", "select", "text", "transaction", "translated"]

#: For ``text_factory``: what is no UTF-8 comes as lone surrogates, which no text of ours holds. The driver's own would
#: refuse the whole answer for it.
text: Final = partial(str, encoding="utf-8", errors="surrogateescape")

_COLUMNS: Final[Mapping[Order, str]] = {
    "key": "key",
    "created": "created_at",
    "updated": "updated_at",
    "due": "due_at",
}
_CAPITAL: Final = re.compile("[A-Z]")


def _attribute(name: str) -> str:
    # Safe to write into SQL: a declared name is plain (NamespaceSchema refuses others).
    return f"""json_extract(attributes, '$."{name}"')"""


def _index_name(table: str, attribute: str | None, order: Order) -> str:
    """SQLite takes names that differ in case alone as one, attributes are then still two: so capitals are marked, by
    what no attribute's name holds.
    """
    marked = "" if attribute is None else _CAPITAL.sub(r"^\g<0>", attribute) + "_"
    return f"{table}_{marked}by_{order}"


def index_statements(table: str, name: str) -> dict[str, str]:
    """The indexes of one declared attribute by their names: its values by key, and by due."""
    value, by_key, by_due = _attribute(name), _index_name(table, name, "key"), _index_name(table, name, "due")
    return {
        by_key: f'create index if not exists "{by_key}" on {table} (namespace, {value}, key) where {value} is not null',
        by_due: f'create index if not exists "{by_due}" '
        f"on {table} (namespace, {value}, due_at, key) where {value} is not null and due_at is not null",
    }


def _leading(equals: Mapping[str, Scalar], indexed: Mapping[str, type], order: Order) -> str | None:
    """The one condition that an index answers. A bool comes last: it tells the fewest records apart."""
    if order not in {"key", "due"}:
        return None
    usable = [name for name in equals if name in indexed]
    return min(usable, key=lambda name: indexed[name] is bool, default=None)


def _equalities(asked: Selection, indexed: Mapping[str, type]) -> Iterator[tuple[str, tuple[object, ...]]]:
    leading = _leading(asked.where.equals, indexed, asked.order)
    for name, value in asked.where.equals.items():
        if name == leading:
            yield f"{_attribute(name)} is not null and {_attribute(name)} = ?", (scalar_to_text(value),)
        else:
            # A substring, since any name may be asked for. It misses none; the caller verifies what it finds.
            yield "instr(attributes, ?) > 0", (entry_text(name, value),)


def _bounds(asked: Selection) -> Iterator[tuple[str, tuple[object, ...]]]:
    column = _COLUMNS[asked.order]
    if asked.order == "due":
        yield "due_at is not null", ()
    span = asked.where.range
    if span is not None and span.since is not None:
        yield f"{column} >= ?", (bound(span.since),)
    if span is not None and span.before is not None:
        yield f"{column} < ?", (bound(span.before),)
    if asked.after is not None:
        sign = "<" if asked.descending else ">"
        if asked.order == "key":
            yield f"key {sign} ?", asked.after[1:]
        else:
            yield f"({column}, key) {sign} (?, ?)", asked.after


def select(columns: str, table: str, asked: Selection, indexed: Mapping[str, type]) -> tuple[str, tuple[object, ...]]:
    """A selection as a statement and its parameters. Every query by at most one declared attribute, in the order of key
    or due, is answered from an index.
    """
    conditions = [("namespace = ?", (asked.namespace,)), *_equalities(asked, indexed), *_bounds(asked)]
    direction = "desc" if asked.descending else "asc"
    column = _COLUMNS[asked.order]
    ordering = f"key {direction}" if asked.order == "key" else f"{column} {direction}, key {direction}"
    terms = " and ".join(term for term, _ in conditions)
    # Named, since without statistics the planner prefers the index of the whole namespace.
    leading = _leading(asked.where.equals, indexed, asked.order)
    index = f'indexed by "{_index_name(table, leading, asked.order)}"'
    statement = f"select {columns} from {table} {index} where {terms} order by {ordering} limit ?"  # noqa: S608 - ours
    return statement, (*(value for _, values in conditions for value in values), asked.limit)


def primary_code(error: sqlite3.Error | MemoryError) -> int:
    """SQLite's primary result code; 0 where the driver itself refused."""
    # https://www.sqlite.org/rescode.html: the low byte of an extended code.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


_UNAVAILABLE: Final[Mapping[int, tuple[str, bool]]] = {
    sqlite3.SQLITE_BUSY: ("is locked by another process; try again, or raise busy_timeout in the URL", True),
    sqlite3.SQLITE_LOCKED: ("is locked by another connection; try again", True),
    sqlite3.SQLITE_NOTADB: ("is not a SQLite database; name another file", False),
    sqlite3.SQLITE_READONLY: ("is read-only; make the file and its directory writable", False),
    sqlite3.SQLITE_CANTOPEN: ("can't be opened; check that its directory exists and is writable", False),
    sqlite3.SQLITE_PERM: ("can't be opened; check its permissions", False),
    sqlite3.SQLITE_AUTH: ("can't be used; check its permissions", False),
}


def translated(error: sqlite3.Error | MemoryError, backend: str) -> PersistenceError:
    """The driver's error as ours; what it says about values or SQL stays out of the message. It raises ``MemoryError``
    where SQLite gets no memory.
    """
    code = primary_code(error)
    if code in _UNAVAILABLE:
        what, retryable = _UNAVAILABLE[code]
        return BackendUnavailable(f"the {backend} database {what}", backend, retryable)
    if code == sqlite3.SQLITE_FULL:
        return StorageFull(f"the {backend} database has no space left; nothing was written", backend)
    if code == sqlite3.SQLITE_CORRUPT:
        return IntegrityError(f"the {backend} database is damaged; restore it from a backup")
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if code == sqlite3.SQLITE_IOERR:
        return BackendUnavailable(f"the disk failed the {backend} database ({name})", backend)
    return StorageError(f"the {backend} database rejected the operation ({name})", backend)


@contextmanager
def mapped(backend: str) -> Iterator[None]:
    """The one place where the driver's errors become ours."""
    try:
        yield
    except (sqlite3.Error, MemoryError) as error:
        raise translated(error, backend) from error


@contextmanager
def transaction(connection: sqlite3.Connection, kind: str) -> Iterator[None]:
    """One transaction: ``immediate`` takes the write lock at once, ``deferred`` reads one snapshot."""
    connection.execute(f"begin {kind}")
    try:
        yield
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise
