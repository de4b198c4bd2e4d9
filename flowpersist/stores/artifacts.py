"""Artifacts: files of any size that agents hand on, written and read in pieces."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from datetime import datetime
from typing import Any, Final

from attrs import field, frozen

from flowpersist.errors.arguments import check_bytes, check_instance, check_optional, check_str
from flowpersist.errors.secrecy import discreet, forgetting
from flowpersist.hub.outcome import or_raise
from flowpersist.sealed.naming import Parts, parts_of
from flowpersist.sealed.pieces import PieceStore, claims_upkeep, manifest_in
from flowpersist.sealed.upkeep import register
from flowpersist.stores.values import ValueStore

__all__ = ["Artifact", "Artifacts"]

ARTIFACTS: Final = "artifacts"
PIECES: Final = "artifacts.pieces"
CLAIMS: Final = "artifacts.claims"
register(CLAIMS, claims_upkeep(ARTIFACTS, PIECES, CLAIMS))


@frozen
class Artifact:
    """One artifact: its ``size`` in bytes, their SHA-256 as ``digest`` in hexadecimal digits, when it was written."""

    name: str = field(repr=False)
    size: int
    digest: str
    media_type: str | None = field(repr=False)
    at: datetime


class Artifacts:
    """The artifacts of a project: ``Stores.artifacts``.

    - ``values``: where their names are kept.
    - ``pieces``: where their contents are kept, in pieces of 1 MiB.
    - ``claims``: where it is kept what writes that were cut may have left.

    Verbs raise ``StorageError``, and where a record can't be opened ``IntegrityError`` or ``EncryptionError``.
    """

    def __init__(self, values: ValueStore[Any], pieces: ValueStore[Any], claims: ValueStore[Any]) -> None:
        for name, one in (("values", values), ("pieces", pieces), ("claims", claims)):
            check_instance(one, name, ValueStore, "a ValueStore")
        self._values = values
        self._contents = PieceStore(values.collection, pieces.collection, claims.collection)

    @discreet
    async def write(self, name: str, data: bytes | AsyncIterable[bytes], *, media_type: str | None = None) -> Artifact:
        """Keep an artifact in the place of an earlier one, which stays whole until this one is.

        - ``name``: any text.
        - ``data``: the bytes, or an async iterator of parts of any size, of which few are in memory at a time.
        - ``media_type``: what it is, such as ``text/html``.

        What the iterator raises passes, and the earlier artifact stays. Raises ``DeadlinePassed`` where the iterator
        stood still for over an hour.
        """
        parts = _named(name)
        check_optional(media_type, "media_type", check_str)
        if not isinstance(data, AsyncIterable):
            check_bytes(data, "data")
        given = data if isinstance(data, AsyncIterable) else _whole(data)
        manifest, written = or_raise(await self._contents.write(parts, given, media_type))
        return Artifact(name, manifest.size, manifest.digest, media_type, written.now)

    async def open(self, name: str) -> AsyncIterator[bytes]:
        """The bytes of an artifact, piece by piece. Only once it has ended are they known to be all of them.

        - ``name``: which.

        Raises ``ValueNotFound``, ``IntegrityError`` where a piece is damaged, missing or another's, and
        ``RevisionConflict`` where the artifact is replaced or deleted meanwhile: then open it again.
        """
        with forgetting():
            async for piece in self._contents.read(_named(name)):
                yield or_raise(piece)

    @discreet
    async def list(self) -> tuple[Artifact, ...]:
        """All artifacts, by their names."""
        found: dict[str, Artifact] = {}
        async for one in self._values.iterate():
            name, held = str(parts_of(one.key)[0]), or_raise(manifest_in(one.value))
            found[name] = Artifact(name, held.size, held.digest, held.media_type, one.updated_at)
        return tuple(found[name] for name in sorted(found))

    @discreet
    async def delete(self, name: str) -> bool:
        """Delete an artifact; False if it does not exist.

        - ``name``: which.
        """
        return or_raise(await self._contents.delete(_named(name)))


def _named(name: object) -> Parts:
    check_instance(name, "name", str, "a str")
    return parts_of(name, "name")


async def _whole(data: bytes) -> AsyncIterator[bytes]:
    yield data
