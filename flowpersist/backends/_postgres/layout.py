"""The names that a store has in its database, and its statements with these names in them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import reduce
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
_BODIES: Final[Mapping[str, tuple[str, str, str]]] = {
    "insert_record": ("insert_record", "", ""),
    "insert_record_and_body": ("insert_record", "insert_body", ""),
    "change_record": ("change_record", "", ""),
    "change_record_and_body": ("change_record", "set_body", ", body_size = $12::bigint"),
    "change_record_and_drop_body": ("change_record", "drop_body", ", body_size = null"),
}
#: The same of a write without a revision: its body, the size of body of a new record and of one that stands there, and
#: whether the latter must be as the statement sees it.
_UPSERTS: Final[Mapping[str, tuple[str, str, str, str]]] = {
    "upsert_record": ("", "null::bigint", "standing.body_size", ""),
    "upsert_record_and_body": ("set_upserted_body", "$13::bigint", "excluded.body_size", ""),
    "upsert_record_and_drop_body": ("drop_body", "null::bigint", "null", "as_seen"),
    "upsert_record_alone": ("", "null::bigint", "null", ""),
}


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.strip().splitlines() if not line.startswith("--"))


def _composed() -> dict[str, str]:
    """All statements, for the prefix that stands in the file."""
    plain = {name: _without_comments(text) for name, text in _FILE.items()}
    parts = {"": "", **plain}
    made = dict(plain)
    for name, (base, body, body_size) in _BODIES.items():
        made[name] = plain[base].replace("{body}", parts[body]).replace("{body_size}", body_size)
    for name, (body, fresh, standing, seen) in _UPSERTS.items():
        filled = {
            "body": parts[body],
            "new_size": fresh,
            "size": standing,
            "as_seen": f"\n    {parts[seen]}" if seen else "",
        }
        made[name] = reduce(
            lambda text, it: text.replace(f"{{{it[0]}}}", it[1]), filled.items(), plain["upsert_record"]
        )
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
