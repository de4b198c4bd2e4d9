"""The names of a store's tables, and the statements with those names in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import field, frozen

from flowpersist.backends._statements import statements
from flowpersist.backends._url import PREFIX, check_prefix

__all__ = ["NAME", "Tables"]

NAME: Final = "sqlite"
_STATEMENTS: Final = statements("flowpersist.backends._sqlite")


@frozen
class Tables:
    """A store's tables and indexes begin with its prefix, so that a file holds several stores, and others' tables."""

    prefix: str = field(default=PREFIX, converter=check_prefix)
    sql: Mapping[str, str] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        # The file shows the default's names, so that it can be read and run as it is.
        columns = _STATEMENTS["columns"].strip().rstrip(";")
        filled = {
            name: text.replace("{columns}", columns).replace(f"{PREFIX}_", f"{self.prefix}_").strip()
            for name, text in _STATEMENTS.items()
        }
        filled["columns"] = columns
        object.__setattr__(self, "sql", filled)

    @property
    def meta(self) -> str:
        """Versions and counters."""
        return f"{self.prefix}_meta"

    @property
    def records(self) -> str:
        """The records without their bodies."""
        return f"{self.prefix}_records"

    @property
    def bodies(self) -> str:
        """The bodies."""
        return f"{self.prefix}_bodies"
