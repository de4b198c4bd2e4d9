"""Features: the document that says what is to be built, and its earlier versions."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from attrs import field, frozen

from flowpersist.errors.arguments import check_flag, check_instance, check_optional, check_size, check_whole
from flowpersist.errors.secrecy import discreet
from flowpersist.hub.outcome import or_raise
from flowpersist.sealed.listing import Asked, walked
from flowpersist.sealed.naming import Prefix
from flowpersist.sealed.numbered import NumberedLog, trimming
from flowpersist.sealed.upkeep import register
from flowpersist.stores.entries import Saved
from flowpersist.stores.values import ValueStore

__all__ = ["FeatureVersion", "Features"]

FEATURES: Final = "features"
MOST_VERSIONS: Final = 100
TRIMMED_EVERY: Final = 10
_KEY: Final = "features"
register(FEATURES, trimming(FEATURES))


@frozen
class FeatureVersion:
    """One version: ``revision`` counts from 1 on; ``at`` is when it was saved, by the store's clock."""

    revision: int
    content: Any = field(repr=False)
    at: datetime


class Features:
    """The features of a project: ``Stores.features``.

    - ``values``: where they are kept.

    Verbs raise ``StorageError``, and where a record can't be opened ``IntegrityError``, ``EncryptionError`` or
    ``SerializationError``.
    """

    def __init__(self, values: ValueStore[Any]) -> None:
        check_instance(values, "values", ValueStore, "a ValueStore")
        self._values = values
        self._log = NumberedLog(values.collection, TRIMMED_EVERY)

    @property
    def namespace(self) -> str:
        """Where the records stand, for a query of one's own."""
        return self._values.collection.records.namespace

    @discreet
    async def save(self, content: object, *, if_revision: int | None = None, clear: bool = False) -> Saved:
        """Keep a new version. Two round trips, and more where others save at the same time.

        - ``content``: any value that the codec takes.
        - ``if_revision``: None follows any version; another only that one, 0 none.
        - ``clear``: keep the content, JSON data, in clear, for the database's own queries.

        Raises ``RevisionConflict``, and ``SerializationError`` where the content can't be kept.
        """
        check_optional(if_revision, "if_revision", check_size)
        check_flag(clear, "clear")
        appended = self._log.append((_KEY,), content, keep=MOST_VERSIONS, after=if_revision, clear=clear)
        done = or_raise(await appended)
        return Saved(done.number, done.written.now)

    @discreet
    async def load(self, default: Any = None) -> Any:  # noqa: ANN401 - what was saved
        """The content of the newest version. One round trip.

        - ``default``: what is given where nothing was saved. A value of your own tells that from a saved None.
        """
        versions = await self.history(1)
        return versions[0].content if versions else default

    @discreet
    async def history(self, n: int = 20) -> tuple[FeatureVersion, ...]:
        """The newest versions, the newest first. The last 100 are kept.

        - ``n``: how many at most, up to 100.
        """
        check_whole(n, "n", most=MOST_VERSIONS)
        wanted = Asked(Prefix((_KEY,)), {}, "key", n, None, descending=True, values=True, skip=False)
        found = or_raise(await walked(self._values.collection, wanted, n))
        return tuple(FeatureVersion(int(one.parts[-1]), one.value, one.record.created_at) for one in found)
