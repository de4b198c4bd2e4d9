"""Changing the key of a whole namespace: every record sealed again with the primary key, and what still needs another.

All that a hub and the stores on it have written is in the namespaces that ``stored.places_of`` gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, Final, TypeAlias

from attrs import evolve, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Page, Record, RecordRef
from flowpersist.errors import ConfigurationError, KeyInUse, PersistenceError
from flowpersist.hub.base import HubBase
from flowpersist.hub.stored import PURPOSES, Place, pages_of, places_of, run_purpose
from flowpersist.keys.keyring import KeyRing
from flowpersist.lifecycle.model import Head, replace
from flowpersist.sealed.catalogue import Collection, CollectionCatalog
from flowpersist.sealed.moved import unmoved
from flowpersist.sealed.resealing import PAGE, Inner, Reseal, Resealing, Tally
from flowpersist.stages.header import kid_of

__all__ = ["KeyUse", "RekeyProgress", "Rekeyed", "key_use", "rekey", "retire"]

_FINGERPRINT: Final = "fingerprint"
#: A walk that sealed something again is followed by another, up to so many.
MOST_WALKS: Final = 4


@frozen
class RekeyProgress:
    """How far a rekey has come: the ``namespace`` that it walks over, the records that this ``walk`` has looked at, and
    those that were sealed again in all.
    """

    namespace: str
    looked_at: int
    resealed: int
    walk: int = 1


@frozen
class Rekeyed:
    """What a rekey did: the key that seals, how many records it looked at in its last walk, and sealed again in all.

    ``problems`` counts by error code the records that it could not open, and left as they are; ``unreadable`` names the
    first 100 of them.
    """

    primary: str
    looked_at: int
    resealed: int
    problems: Mapping[str, int] = field(factory=dict)
    unreadable: tuple[RecordRef, ...] = field(default=(), repr=False)


@frozen
class KeyUse:
    """How many records need each key to be opened: a record that needs two counts for both.

    ``plain`` counts those in plain text, ``unknown`` those whose head can't be opened here: the keys that they name in
    clear are counted, and what is within them may need others.
    """

    records: Mapping[str, int]
    plain: int
    unknown: int


#: What is told of a rekey as it goes.
Told: TypeAlias = Callable[[RekeyProgress], object]


async def rekey(hub: HubBase, *, accept_plain: bool, told: Told | None) -> Result[Rekeyed, PersistenceError]:
    """Seal every record again that needs another key than the primary one. Ends at the first failure of the store.

    It walks until there was nothing to be done: what was being written when the key was promoted comes behind a walk.
    """
    keyring = hub.suspensions.records.sealer.keyring
    if keyring is None or not keyring.keys:
        return Failure(_no_ring())
    kept = await _keep_audit_keys(hub, keyring, keyring.kids[1:], plain=accept_plain)
    if not isinstance(kept, Success):
        return Failure(kept.failure())
    tally = Tally()
    for walk in range(1, MOST_WALKS + 1):
        before = tally.resealed
        tally = Tally(resealed=before)
        walked = await _walk(hub, tally, walk, told, plain=accept_plain)
        if not isinstance(walked, Success):
            return Failure(walked.failure())
        if tally.resealed == before:
            break
    hub.queues.forget()
    refs = tuple(one.ref for one in tally.unreadable if one.ref is not None)
    return Success(Rekeyed(keyring.primary, tally.looked_at, tally.resealed, dict(tally.problems), refs))


async def _walk(
    hub: HubBase, tally: Tally, walk: int, told: Told | None, *, plain: bool
) -> Result[None, PersistenceError]:
    """Once over all namespaces."""
    async for found in _all(hub, accept_plain=plain):
        if not isinstance(found, Success):
            return Failure(found.failure())
        resealing, page = found.unwrap()
        done: Result[None, PersistenceError] = await resealing.reseal(page, tally)
        if told is not None:
            told(RekeyProgress(resealing.records.namespace, tally.looked_at, tally.resealed, walk))
        if not isinstance(done, Success):
            return done
    return Success(None)


async def key_use(hub: HubBase) -> Result[KeyUse, PersistenceError]:
    """Count the records of each key. Bodies are read only of records whose head can't be opened."""
    counts: Counter[str] = Counter()
    plain = unknown = 0
    async for found in _all(hub, accept_plain=False):
        if not isinstance(found, Success):
            return Failure(found.failure())
        resealing, page = found.unwrap()
        unknown += len(page.unreadable)
        for record in page.items:
            needed = await resealing.kids(record)
            if not isinstance(needed, Success):
                return Failure(needed.failure())
            kids = needed.unwrap()
            counts.update(kids.kids)
            plain += kids.plain
            unknown += not kids.known
    return Success(KeyUse(dict(counts), plain, unknown))


async def retire(hub: HubBase, kid: str, wait: timedelta) -> Result[KeyRing, PersistenceError]:
    """Take a key out of the hub's ring, unless records need it; gives the ring without it."""
    keyring = hub.suspensions.records.sealer.keyring
    if keyring is None:
        return Failure(_no_ring())
    unfit = _unfit(keyring, kid)
    if unfit is not None:
        return Failure(unfit)
    unused = await _unused(hub, keyring, kid)
    if wait and isinstance(unused, Success):
        # What was sealed with it, and was on its way when nothing needed it.
        await hub.runtime.sleep(wait.total_seconds())
        unused = await _unused(hub, keyring, kid)
    kept = await _keep_audit_keys(hub, keyring, [kid]) if isinstance(unused, Success) else unused
    if not isinstance(kept, Success):
        return Failure(kept.failure())
    left = keyring.retire(kid)
    hub.use_keyring(left)
    return Success(left)


async def _unused(hub: HubBase, keyring: KeyRing, kid: str) -> Result[None, PersistenceError]:
    """``KeyInUse`` where records need a key."""
    used = await key_use(hub)
    if not isinstance(used, Success):
        return Failure(used.failure())
    count = used.unwrap().records.get(kid, 0)
    if not count:
        return Success(None)
    message = f"{count} records still need key {kid!r}: rekey, with {keyring.primary!r} sealing in every process"
    return Failure(KeyInUse(message, kid, count))


def _unfit(keyring: KeyRing, kid: str) -> ConfigurationError | None:
    """Why a key can't be retired, whatever records need it."""
    if kid not in keyring.kids:
        message = f"there is no key {kid!r} in the keyring, which has {', '.join(keyring.kids) or 'none'}"
    elif kid == keyring.primary:
        message = f"key {kid!r} seals: promote another one in every process, and rekey, before it is retired"
    else:
        return None
    return ConfigurationError(message, "FLOWPERSIST_KEYS")


async def _keep_audit_keys(
    hub: HubBase, keyring: KeyRing, kids: Iterable[str], *, plain: bool = False
) -> Result[None, PersistenceError]:
    keys = hub.suspensions.side_records.trail.keys
    rings: list[tuple[str, KeyRing | None]] = [(kid, keyring) for kid in kids]
    for kid, ring in [*rings, ("", None)] if plain else rings:
        kept = await keys.keep(kid, ring)
        if not isinstance(kept, Success):
            return kept
    return Success(None)


def _no_ring() -> ConfigurationError:
    message = "the hub has no keyring, so no record can be sealed with a key: set FLOWPERSIST_KEYS"
    return ConfigurationError(message, "FLOWPERSIST_KEYS")


async def _all(
    hub: HubBase, *, accept_plain: bool
) -> AsyncGenerator[Result[tuple[Resealing[Any], Page[Record]], PersistenceError], None]:
    """Every page of every namespace, with what seals its records again; ends at the first failure."""
    async for found in _places(hub):
        if not isinstance(found, Success):
            yield Failure(found.failure())
            return
        place = found.unwrap()
        resealing = _resealing(hub, place, accept_plain=accept_plain)
        async for listed in pages_of(place, bodies=False, limit=PAGE):
            yield listed.map(lambda page, of=resealing: (of, unmoved(page)))  # type: ignore[misc]


async def _places(hub: HubBase) -> AsyncGenerator[Result[Place, PersistenceError], None]:
    """Those of the hub's store, and of its replay ledger, which is in another one."""
    async for found in places_of(hub):
        yield found
    ledger = hub.suspensions.records.ledger
    for records in () if ledger is None else ledger.records:
        yield Success(Place("ledger", records))


def _resealing(hub: HubBase, place: Place, *, accept_plain: bool) -> Resealing[Any]:
    """What seals the records of a namespace again."""
    inner: Inner[Any] | None = None
    if place.kind == "suspension":
        inner = Inner(Head, run_purpose, _head_kids, _head_changed)
    elif place.kind == "collection":
        kid = CollectionCatalog(hub.suspensions.records).kid
        inner = Inner(Collection, lambda _: "collection", lambda _: (), lambda one, *_: Success(evolve(one, kid=kid)))
    return Resealing(place.records, PURPOSES.get(place.kind, "state"), inner=inner, accept_plain=accept_plain)


def _head_kids(head: Head) -> Iterable[str]:
    return () if head.fingerprint is None else (kid_of(head.fingerprint),)


def _head_changed(head: Head, reseal: Reseal, kid: str) -> Result[Head, PersistenceError]:
    if head.fingerprint is None or kid_of(head.fingerprint) == kid:
        return Success(head)
    return reseal(head.fingerprint, _FINGERPRINT).map(lambda made: replace(head, fingerprint=made))
