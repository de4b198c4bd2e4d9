"""Large contents in pieces, which are written and read one at a time, under a manifest that is put last.

A content has a version of its own, which its pieces are named by. So a manifest only ever stands for pieces that are
all there, and replacing a content is one put. What else there may be of a version is known by its claim, a record that
is made before the first piece and before a manifest is replaced, and removed once nothing is left to do. A writer
renews its claim; every put of it is refused by the store once the claim has stood for ``GRACE`` without that. Upkeep
looks at claims that are older, and so never meets a writer.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from attrs import evolve, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Range, Record, Scalar, Where, Written
from flowpersist.errors import (
    DeadlinePassed,
    IntegrityError,
    MalformedPayload,
    PersistenceError,
    RevisionConflict,
    ValueNotFound,
)
from flowpersist.errors.arguments import check_bytes
from flowpersist.sealed.catalogue import purge_all
from flowpersist.sealed.collection import SealedCollection, Stored
from flowpersist.sealed.naming import Naming, Parts, Prefix
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.upkeep import KeptUp, Upkeep
from flowpersist.sealed.walking import stored_pages

__all__ = ["GRACE", "PIECE_BYTES", "Manifest", "PieceStore", "claims_upkeep", "cut_into_pieces", "manifest_in"]

T = TypeVar("T")
PIECE_BYTES: Final = 1024 * 1024
#: How long a claim stands that nobody renews.
GRACE: Final = timedelta(hours=1)
#: Seconds after which a writer renews its claim.
RENEWED_AFTER: Final = 600.0
MAX_CONFLICTS: Final = 64
PAGE: Final = 100
_VERSION: Final = "version"
_OF: Final = "of"
_PIECES: Final = "pieces"


@frozen
class Manifest:
    """A content: its version, its bytes, their SHA-256 in hexadecimal digits, and what it is."""

    version: str
    size: int
    digest: str
    media_type: str | None = field(repr=False)

    @property
    def pieces(self) -> int:
        """How many there are."""
        return -(-self.size // PIECE_BYTES)


def manifest_in(value: object) -> Result[Manifest, PersistenceError]:
    """The manifest that a record holds."""
    if isinstance(value, tuple) and list(map(type, value[:3])) == [str, int, str] and value[1] >= 0:
        match value:
            case (version, size, digest, str() | None as media_type):
                return Success(Manifest(version, size, digest, media_type))
    return Failure(MalformedPayload("the manifest can't be read; restore the record from a backup"))


@frozen
class _Claim:
    """A record that says what of a version there may be, and until when its writer may put."""

    version: str
    name: str
    of: str
    revision: int
    until: datetime
    renewed: float


async def cut_into_pieces(parts: AsyncIterable[bytes], size: int = PIECE_BYTES) -> AsyncIterator[bytes]:
    """The bytes of parts of any size in pieces of one size, the last of which may be smaller."""
    held = bytearray()
    async for part in parts:
        check_bytes(part, "data")
        view = memoryview(part).cast("B")
        while view:
            taken = view[: size - len(held)]
            held += taken
            view = view[len(taken) :]
            if len(held) == size:
                yield bytes(held)
                held.clear()
    if held:
        yield bytes(held)


class PieceStore:
    """Contents by key, in three collections beside each other."""

    def __init__(self, manifests: SealedCollection, pieces: SealedCollection, claims: SealedCollection) -> None:
        self._manifests = manifests
        self._pieces = pieces
        self._claims = claims

    async def write(
        self, parts: Parts, data: AsyncIterable[bytes], media_type: str | None
    ) -> Result[tuple[Manifest, Written], PersistenceError]:
        """Keep a content in the place of an earlier one. Until the last put the earlier one stands."""
        named = (await self._manifests.made_naming()).map(lambda naming: naming.name(parts))
        if not isinstance(named, Success):
            return Failure(named.failure())
        version = self._manifests.records.runtime.entropy(16).hex()
        claimed = await self._claimed(version, named.unwrap())
        if not isinstance(claimed, Success):
            return Failure(claimed.failure())
        claims = [claimed.unwrap()]
        try:
            written = await self._written(claims, data, media_type)
        except BaseException:
            await self._drop(claims[-1])
            raise
        if isinstance(written, Success):
            put = await self._put(parts, claims[-1], written.unwrap())
            # What else fails, or is cancelled, may have happened: then upkeep finds out.
            if not isinstance(put, Failure) or not isinstance(put.failure(), RevisionConflict | DeadlinePassed):
                return put
            written = Failure(put.failure())
        await self._drop(claims[-1])
        if isinstance(written.failure(), DeadlinePassed):
            message = f"the content stood still for over {GRACE} while it was written; write it again"
            return Failure(DeadlinePassed(message, self._manifests.records.backend.name))
        return Failure(written.failure())

    async def _written(
        self, claims: list[_Claim], data: AsyncIterable[bytes], media_type: str | None
    ) -> Result[Manifest, PersistenceError]:
        size, digest, runtime = 0, hashlib.sha256(), self._pieces.records.runtime
        index = 0
        async for piece in cut_into_pieces(data):
            if runtime.monotonic() > claims[-1].renewed + RENEWED_AFTER:
                renewed = await self._renewed(claims[-1])
                if not isinstance(renewed, Success):
                    return Failure(renewed.failure())
                claims.append(renewed.unwrap())
            claim = claims[-1]
            saved = await self._saved(self._pieces, (claim.version, index), piece, {}, None, claim.until)
            if not isinstance(saved, Success):
                return Failure(saved.failure())
            digest.update(piece)
            size, index = size + len(piece), index + 1
        return Success(Manifest(claims[-1].version, size, digest.hexdigest(), media_type))

    async def _put(
        self, parts: Parts, own: _Claim, manifest: Manifest
    ) -> Result[tuple[Manifest, Written], PersistenceError]:
        value = (manifest.version, manifest.size, manifest.digest, manifest.media_type)
        attributes: dict[str, Scalar] = {_VERSION: own.version}

        async def put(revision: int) -> Result[Written, PersistenceError]:
            return await self._saved(self._manifests, parts, value, attributes, revision, own.until)

        done = await self._changed(own.of, put)
        if isinstance(done, Success):
            await self._claims.records.delete(own.name, revision=own.revision)
        return done.map(lambda written: (manifest, written))

    async def delete(self, parts: Parts) -> Result[bool, PersistenceError]:
        """Remove a content; False if it does not exist."""
        naming = await self._manifests.naming()
        if not isinstance(naming, Success):
            return Failure(naming.failure())
        made: Naming | None = naming.unwrap()
        if made is None:
            return Success(False)
        name = made.name(parts)

        async def delete(revision: int) -> Result[bool, PersistenceError]:
            return await self._manifests.records.delete(name, revision=revision) if revision else Success(False)

        return await self._changed(name, delete)

    async def _changed(
        self, name: str, change: Callable[[int], Awaitable[Result[T, PersistenceError]]]
    ) -> Result[T, PersistenceError]:
        """Change a manifest at its revision, 0 where there is none, and remove the pieces of the version before."""
        records = self._manifests.records
        for attempt in range(1, MAX_CONFLICTS + 1):
            # As it is stored: what can't be opened is replaced and deleted as well.
            found = await _standing(records, name)
            if not isinstance(found, Success):
                return Failure(found.failure())
            standing: Record | None = found.unwrap()
            version = None if standing is None else standing.attributes.get(_VERSION)
            earlier = await self._claimed(version, name) if isinstance(version, str) else None
            if isinstance(earlier, Failure):
                return Failure(earlier.failure())
            done = await change(0 if standing is None else standing.revision)
            if isinstance(done, Success) and earlier is not None:
                await self._drop(earlier.unwrap())
            if isinstance(done, Success) or not isinstance(done.failure(), RevisionConflict):
                return done
            await records.runtime.sleep(records.runtime.jitter(min(attempt, 3)))
        message = "the content was written again and again by others; try again later"
        return Failure(RevisionConflict(message, records.backend.name, retryable=True))

    async def manifest(self, parts: Parts) -> Result[Manifest | None, PersistenceError]:
        """The manifest of a key; None if it does not exist."""
        loaded = await self._manifests.load(parts)
        if not isinstance(loaded, Success):
            return Failure(loaded.failure())
        stored: Stored | None = loaded.unwrap()
        if stored is None:
            return Success(None)
        return self._manifests.named(stored.record.ref.key, manifest_in(stored.value).map(lambda one: one))

    async def read(self, parts: Parts) -> AsyncIterator[Result[bytes, PersistenceError]]:
        """The pieces of a content as it is when the first of them is read, or a failure at the end.

        Each piece was opened and is of this place of this content. That they are all, the last step tells.
        """
        for _ in range(MAX_CONFLICTS):
            found = await self.manifest(parts)
            manifest: Manifest | None = found.unwrap() if isinstance(found, Success) else None
            if manifest is None:
                missing = ValueNotFound(f"there is no content of that name in {self._manifests.name!r}; write it")
                yield Failure(found.failure() if isinstance(found, Failure) else missing)
                return
            digest, size = hashlib.sha256(), 0
            for index in range(manifest.pieces):
                piece = await self._piece(parts, manifest, index)
                if not isinstance(piece, Success):
                    if not (index == 0 and isinstance(piece.failure(), RevisionConflict)):
                        yield piece
                        return
                    # Nothing was read of it yet.
                    break
                digest.update(piece.unwrap())
                size += len(piece.unwrap())
                yield piece
            else:
                if (size, digest.hexdigest()) != (manifest.size, manifest.digest):
                    yield Failure(
                        IntegrityError("the content is not the one that was written; restore it from a backup")
                    )
                return

    async def _piece(self, parts: Parts, manifest: Manifest, index: int) -> Result[bytes, PersistenceError]:
        loaded = await self._pieces.load((manifest.version, index))
        if not isinstance(loaded, Success):
            return Failure(loaded.failure())
        stored: Stored | None = loaded.unwrap()
        if stored is not None and isinstance(stored.value, bytes):
            return Success(stored.value)
        again = await self.manifest(parts)
        if not isinstance(again, Success):
            return Failure(again.failure())
        if again.unwrap() == manifest:
            message = f"piece {index + 1} of {manifest.pieces} of a content is missing; restore it from a backup"
            return Failure(IntegrityError(message))
        message = "the content was replaced or deleted while it was read; read it from the start"
        return Failure(RevisionConflict(message, self._pieces.records.backend.name, retryable=True))

    async def _claimed(self, version: str, of: str, earlier: _Claim | None = None) -> Result[_Claim, PersistenceError]:
        """A claim to a version of the manifest of that name; or the renewal of one, unless it has been given up."""
        named = (await self._claims.made_naming()).map(lambda naming: naming.name((version,)))
        span = (await self._pieces.made_naming()).map(lambda naming: naming.span(Prefix((version,))).start)
        if not isinstance(named, Success):
            return Failure(named.failure())
        if not isinstance(span, Success):
            return Failure(span.failure())
        attributes: dict[str, Scalar] = {_OF: of, _VERSION: version, _PIECES: span.unwrap()}
        revision, until = (None, None) if earlier is None else (earlier.revision, earlier.until)
        saved = await self._saved(self._claims, (version,), None, attributes, revision, until)
        renewed = self._claims.records.runtime.monotonic()
        return saved.map(lambda put: _Claim(version, named.unwrap(), of, put.revision, put.now + GRACE, renewed))

    async def _renewed(self, claim: _Claim) -> Result[_Claim, PersistenceError]:
        """A claim renewed in time. Another revision of it is the same claim, sealed with another key."""
        renewed = await self._claimed(claim.version, claim.of, claim)
        for _ in range(MAX_CONFLICTS):
            if isinstance(renewed, Success) or not isinstance(renewed.failure(), RevisionConflict):
                return renewed
            standing = await _standing(self._claims.records, claim.name)
            record = standing.unwrap() if isinstance(standing, Success) else None
            if record is None or record.revision == claim.revision:
                # It was given up, or somebody has removed it.
                return Failure(standing.failure()) if isinstance(standing, Failure) else renewed
            claim = evolve(claim, revision=record.revision)
            renewed = await self._claimed(claim.version, claim.of, claim)
        return renewed

    async def _drop(self, claim: _Claim) -> None:
        """Remove the pieces of a version, and then the claim to it; what fails is left to upkeep."""
        naming = await self._pieces.made_naming()
        if isinstance(naming, Success):
            span = naming.unwrap().span(Prefix((claim.version,)))
            purged = await purge_all(self._pieces.records, Where(range=span.range))
            if isinstance(purged, Success):
                await self._claims.records.delete(claim.name, revision=claim.revision)

    async def _saved(
        self,
        collection: SealedCollection,
        parts: Parts,
        value: object,
        attributes: dict[str, Scalar],
        revision: int | None,
        until: datetime | None,
    ) -> Result[Written, PersistenceError]:
        naming = await collection.made_naming()
        if not isinstance(naming, Success):
            return Failure(naming.failure())
        name = naming.unwrap().name(parts)
        content = await collection.content(name, parts, value)
        if not isinstance(content, Success):
            return Failure(content.failure())
        draft = evolve(content.unwrap().draft(attributes, None), not_after=until)
        return await collection.records.put(name, draft, revision=revision)


def claims_upkeep(manifests: str, pieces: str, claims: str) -> Upkeep:
    """The upkeep of the collections of claims: pieces that no manifest stands for are removed, without a key."""

    async def upkeep(one: KeptUp) -> Result[int, PersistenceError]:
        records, removed = one.records(claims), 0
        where = Where(range=Range("updated", before=one.now - GRACE))
        async for listed in stored_pages(records, where, order="updated", limit=PAGE):
            if not isinstance(listed, Success):
                return Failure(listed.failure())
            for claim in listed.unwrap().items:
                done = await _settled(records, one.records(manifests), one.records(pieces), claim)
                if not isinstance(done, Success):
                    return done
                removed += done.unwrap()
        return Success(removed)

    return upkeep


async def _settled(
    claims: SealedRecords[Any], manifests: SealedRecords[Any], pieces: SealedRecords[Any], claim: Record
) -> Result[int, PersistenceError]:
    """Remove what a claim says that there may be, unless a manifest stands for it, and then the claim."""
    of, prefix = str(claim.attributes.get(_OF, "")), str(claim.attributes.get(_PIECES, ""))
    found = await _standing(manifests, of) if of and prefix else Success(None)
    if not isinstance(found, Success):
        return Failure(found.failure())
    standing: Record | None = found.unwrap()
    stands = standing is not None and standing.attributes.get(_VERSION) == claim.attributes.get(_VERSION)
    purged = Success(0) if stands or not prefix else await purge_all(pieces, Where(range=Range("key", prefix=prefix)))
    if not isinstance(purged, Success):
        return Failure(purged.failure())
    gone = await claims.delete(claim.ref.key, revision=claim.revision)
    # At another revision somebody makes use of it: another round sees to it.
    if isinstance(gone, Failure) and not isinstance(gone.failure(), RevisionConflict):
        return Failure(gone.failure())
    return Success(purged.unwrap() + (gone.unwrap() if isinstance(gone, Success) else 0))


async def _standing(records: SealedRecords[Any], name: str) -> Result[Record | None, PersistenceError]:
    """A record as it is stored, not opened."""
    listed = await records.listed(Where(range=Range("key", prefix=name)), limit=1)
    if not isinstance(listed, Success):
        return Failure(listed.failure())
    page = listed.unwrap()
    for left_out in page.unreadable:
        return Failure(left_out.error)
    return Success(page.items[0] if page.items and page.items[0].ref.key == name else None)
