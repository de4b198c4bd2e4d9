"""What moving records from one store to another is refused with."""

from __future__ import annotations

from flowpersist.errors.base import PersistenceError

__all__ = ["ImportRefused", "RecordMoved"]


class ImportRefused(PersistenceError):
    """A file can't be imported into this store as it stands: it is of another namespace, or another record stands
    there already. Nothing was imported.
    """

    code = "import-refused"
    http_status = 409


class RecordMoved(PersistenceError):
    """The record has been moved to another store by ``Maintenance.copy``: ``to`` is the name of that store."""

    code = "record-moved"
    http_status = 421

    def __init__(self, message: str, to: str | None = None) -> None:
        super().__init__(message, to)
        self.to = to

    def _members(self) -> dict[str, object]:
        return {"to": self.to}
