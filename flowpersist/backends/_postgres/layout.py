"""The names that a store has in its database, and its statements with these names in them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final, TypeAlias

from asyncpg import Connection
from asyncpg.pool import PoolConnectionProxy
from attrs import field, frozen

from flowpersist.backends._statements import statements
from flowpersist.backends._url import PREFIX, check_prefix

__all__ = ["NAME", "Layout", "Link", "attribute"]

NAME: Final = "postgres"
#: A connection, be it the user's or lent by a pool.
Link: TypeAlias = Connection | PoolConnectionProxy
_FILE: Final = statements("flowpersist.backends._postgres")
#: What PostgreSQL keeps of a name, in bytes; it cuts off the rest without an error.
_NAME_BYTES: Final = 63
_COMMON: Final = ("columns", "outcome", "late", "unmoved", "now")
#: Of each statement that is made of others: the one that it begins from, and what stands in its places, in the order in
#: which they are filled: SQL, or the name of a statement.
_MADE: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "insert_record": ("insert_record", {"body": ""}),
    "insert_record_and_body": ("insert_record", {"body": "set_body", "data": "$11"}),
    "change_record": ("change_record", {"body": "", "body_size": ""}),
    "change_record_and_body": (
        "change_record",
        {"body": "set_body", "data": "$13", "body_size": ", body_size = $12::bigint"},
    ),
    "change_record_and_drop_body": ("change_record", {"body": "drop_body", "body_size": ", body_size = null"}),
    # A write without a revision: ``new_size`` is of the body of a new record, ``size`` of one that stands there, and
    # ``as_seen`` says whether that must be as the statement sees it.
    "upsert_record": (
        "upsert_record",
        {"body": "", "new_size": "null::bigint", "size": "standing.body_size", "as_seen": ""},
    ),
    "upsert_record_and_body": (
        "upsert_record",
        {"body": "set_body", "data": "$14", "new_size": "$13::bigint", "size": "excluded.body_size", "as_seen": ""},
    ),
    "upsert_record_and_drop_body": (
        "upsert_record",
        {"body": "drop_body", "new_size": "null::bigint", "size": "null", "as_seen": "as_seen"},
    ),
    "upsert_record_alone": (
        "upsert_record",
        {"body": "", "new_size": "null::bigint", "size": "null", "as_seen": ""},
    ),
}


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.strip().splitlines() if not line.startswith("--"))


def _composed() -> dict[str, str]:
    """All statements, for the prefix that stands in the file."""
    plain = {name: _without_comments(text) for name, text in _FILE.items()}
    made = dict(plain)
    for name, (base, places) in _MADE.items():
        text = plain[base]
        for place, filling in places.items():
            text = text.replace(f"{{{place}}}", plain.get(filling, filling))
        made[name] = text
    for part in _COMMON:
        made = {name: text.replace(f"{{{part}}}", plain[part]) for name, text in made.items()}
    return made


_COMPOSED: Final = _composed()


def attribute(name: str) -> str:
    """A declared attribute's canonical text, as an expression that its indexes have."""
    # Safe to write into SQL: a declared name is plain (NamespaceSchema refuses others).
    return f"(attributes ->> '{name}')"


@frozen
class Layout:
    """What stands where, for one prefix. ``sql`` has the statements by their names."""

    prefix: str = field(default=PREFIX, converter=check_prefix)
    sql: Mapping[str, str] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        made = {name: text.replace(f"{PREFIX}_", f"{self.prefix}_") for name, text in _COMPOSED.items()}
        object.__setattr__(self, "sql", made)

    @property
    def meta(self) -> str:
        """The table of versions."""
        return f"{self.prefix}_meta"

    @property
    def records(self) -> str:
        """The table of records."""
        return f"{self.prefix}_records"

    def lock(self, schema: str) -> str:
        """What processes that migrate the same store agree on."""
        return f"flowpersist {schema} {self.prefix}"

    def channel(self, schema: str, namespace: str) -> str:
        """Where changes of a namespace are notified: a name must not be longer than 63 bytes."""
        return f"{self.prefix}_{_digest(f'{schema} {namespace}')}"

    def indexes(self, name: str) -> dict[str, str]:
        """The indexes of one declared attribute by their names: its values by key, and by due."""
        # By bytes, so that no new version of the system's collations spoils it. Written as a collation, it would be
        # another expression than the one of which the planner knows statistics.
        value, by_bytes = attribute(name), "text_pattern_ops"
        by_key, by_due = self._index(name, "key"), self._index(name, "due")
        return {
            by_key: f'create index if not exists "{by_key}" on {self.records} '
            f"(namespace, {value} {by_bytes}, key) where {value} is not null",
            by_due: f'create index if not exists "{by_due}" on {self.records} '
            f"(namespace, {value} {by_bytes}, due_at, key) where {value} is not null and due_at is not null",
        }

    def _index(self, name: str, order: str) -> str:
        full = f"{self.records}_{name}_by_{order}"
        return full if len(full) <= _NAME_BYTES else f"{self.prefix}_{_digest(name)}_by_{order}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]
