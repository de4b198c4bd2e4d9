"""Shredding a tenant: what its data keys have sealed can't be opened by anybody any more.

Before the keys are destroyed, the audit trail of each of its suspensions is kept, without what is personal in it, and
sealed with the keyring's own key. The links and their MACs are those of the trail, so it verifies as before.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from attrs import define, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import NamespaceSchema, Range, Where
from flowpersist.errors import ConfigurationError, IntegrityError, KeyDestroyed, PersistenceError, StorageError
from flowpersist.hub.base import HubBase
from flowpersist.hub.purged_trails import head_of, made_at
from flowpersist.hub.purging import purged_records
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.keys.tenant_keys import TenantRing
from flowpersist.lifecycle.history import AuditEntry, entry_of
from flowpersist.lifecycle.model import Head
from flowpersist.sealed.catalogue import FollowingRecords
from flowpersist.sealed.chain import MAC_BYTES, Chain, without_private
from flowpersist.sealed.drafts import Draft
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.walking import pages

__all__ = ["KeptTrail", "Shredded", "kept_trails", "no_dictionary", "shred", "shredded_history", "shredded_schema"]

log = logging.getLogger("flowpersist.hub")
PAGE: Final = 64
#: Of one record of links.
LINKS_BYTES: Final = 128 * 1024


@frozen
class Shredded:
    """What a shredding did: how many data keys it destroyed, and how many audit trails it kept before.

    ``unreadable`` suspensions could not be read, so no trail of them was kept.
    """

    keys: int
    trails: int
    unreadable: int = 0


@frozen
class KeptTrail:
    """Links of the trail of a shredded suspension, without what is personal: how many there are in all, what stands
    before the first of them, and some of them.
    """

    count: int
    origin: bytes = field(repr=False)
    links: tuple[bytes, ...] = field(repr=False)


@define
class _Standing:
    """A tenant's suspensions: the keys of their records, the names of their trails, how many can't be read, and how
    many of destroyed keys: those were shredded before.
    """

    keys: list[str] = field(factory=list)
    trails: set[str] = field(factory=set)
    unreadable: int = 0
    destroyed: int = 0


def _namespace(of: str) -> str:
    return f"{of}.shredded"


def shredded_schema(namespace: str) -> NamespaceSchema:
    """Where kept trails are, for the suspensions of a namespace."""
    return NamespaceSchema(_namespace(namespace))


def kept_trails(of: SealedRecords[Any]) -> SealedRecords[KeptTrail]:
    """The records of kept trails; ``of`` are those of the suspensions."""
    return FollowingRecords(of, _namespace(of.namespace), KeptTrail, purpose="audit").now


async def shred(hub: HubBase, tenant: str) -> Result[Shredded, PersistenceError]:
    """Keep the trails of a tenant's suspensions, and destroy its data keys. What ended in between is repeated."""
    suspensions = hub.suspensions
    ring = suspensions.records.sealer.keyring
    if not isinstance(ring, TenantRing):
        message = "tenants have no keys of their own here: open the hub with keyring=TenantKeys(…)"
        return Failure(ConfigurationError(message, "keyring"))
    # What is removed once the standing ones were read is found among the purged ones.
    standing = await _keep_standing(hub, tenant)
    if not isinstance(standing, Success):
        return Failure(standing.failure())
    purged = await _keep_purged(hub, tenant)
    if not isinstance(purged, Success):
        return Failure(purged.failure())
    try:
        keys = await ring.data.shred(tenant)
    except PersistenceError as error:
        return Failure(error)
    found = standing.unwrap()
    await _let_go(hub, found)
    if found.unreadable:
        message = "the audit trails of %d suspensions of a shredded tenant were not kept, because these can't be read: "
        message += "Maintenance.verify says why before the keys are destroyed"
        log.warning(message, found.unreadable)
    return Success(Shredded(keys, len(found.trails | purged.unwrap()), found.unreadable))


async def _let_go(hub: HubBase, found: _Standing) -> None:
    """Have the replay ledger know that the rows may be deleted from now on: they hold nothing that anybody can read.

    Their keys were read while they could still be opened: what a row says now, anybody may have written.
    """
    ledger = hub.suspensions.records.ledger
    if ledger is None:
        return
    refused, why = found.destroyed, "their keys were destroyed before"
    for number, key in enumerate(found.keys):
        left = await ledger.leave(key)
        if isinstance(left, Failure):
            refused, why = refused + len(found.keys) - number, str(left.failure())
            break
    if refused:
        # The data keys are destroyed, which is what the caller wanted to know.
        message = "the tenant is shredded, but the replay ledger refuses that %d rows of it are deleted: "
        message += "once they are, accept it with flowpersist accept-restored: %s"
        log.warning(message, refused, why)


def no_dictionary(hub: HubBase) -> ConfigurationError | None:
    """Why no dictionary is trained: it holds pieces of states, which would outlive the keys of their tenants."""
    if not isinstance(hub.suspensions.records.sealer.keyring, TenantRing):
        return None
    message = "a dictionary of tenants' states would outlive their keys: compress without one"
    return ConfigurationError(message, "dictionaries")


async def _keep_standing(hub: HubBase, tenant: str) -> Result[_Standing, PersistenceError]:
    """Keep the trails of a tenant's suspensions."""
    found = _Standing()
    async for listed in pages(hub.suspensions.records, Where({"tenant": tenant}), limit=PAGE):
        if not isinstance(listed, Success):
            return Failure(listed.failure())
        page = listed.unwrap()
        destroyed = sum(isinstance(one.error, KeyDestroyed) for one in page.unreadable)
        found.destroyed += destroyed
        found.unreadable += len(page.unreadable) - destroyed
        for record in page.items:
            kept = await _keep(hub, record.head, str(record.head.id))
            # What is being deleted may have lost its trail by now; if that is kept, it is among the purged ones too.
            lost = record.head.removing and isinstance(kept, Failure) and not isinstance(kept.failure(), StorageError)
            if not isinstance(kept, Success) and not lost:
                return Failure(kept.failure())
            found.keys.append(record.ref.key)
            if not lost:
                found.trails.add(_name(record.head))
    return Success(found)


async def _keep_purged(hub: HubBase, tenant: str) -> Result[set[str], PersistenceError]:
    """Keep the trails of those that were deleted; gives their names."""
    trails: set[str] = set()
    async for found in purged_records(hub.suspensions, Where({"tenant": tenant})):
        if not isinstance(found, Success):
            return Failure(found.failure())
        head = head_of(found.unwrap())
        done = await _keep(hub, head, _name(head))
        if not isinstance(done, Success):
            return Failure(done.failure())
        trails.add(_name(head))
    return Success(trails)


def _name(head: Head) -> str:
    """What a trail is named by: not by the id alone, which a later suspension can have."""
    return f"{head.id}.{made_at(head):016x}"


async def _keep(hub: HubBase, head: Head, name: str) -> Result[None, PersistenceError]:
    trail = hub.suspensions.side_records.trail
    found = await trail.links(head)
    verified = await trail.checked(head, found.unwrap()) if isinstance(found, Success) else found
    if not isinstance(found, Success) or not isinstance(verified, Success):
        return Failure(verified.failure())
    records, origin = kept_trails(hub.suspensions.records), trail.origin(head)
    bare = [without_private(link) for link in found.unwrap()]
    for number, links in enumerate(_parts(bare)):
        draft = Draft(KeptTrail(len(bare), origin, links), {"suspension": str(head.id)}, None, body=None)
        # The same whoever writes it, but for what came in between: the last one has all.
        put = await records.put(f"{name}/{number:06}", draft, revision=None)
        if isinstance(put, Failure):
            return Failure(put.failure())
    return Success(None)


def _parts(links: list[bytes]) -> list[tuple[bytes, ...]]:
    parts: list[list[bytes]] = [[]]
    size = 0
    for link in links:
        if size + len(link) > LINKS_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(link)
        size += len(link)
    return [tuple(part) for part in parts]


async def shredded_history(
    hub: HubBase, id: SuspensionId, tenant: str | None
) -> Result[tuple[AuditEntry, ...] | None, PersistenceError]:
    """The entries of a shredded suspension, verified; None where no trail of it was kept.

    Of one that was deleted before, they are those of the newest of its id.
    """
    records = kept_trails(hub.suspensions.records)
    read = await _read(records, f"{id}/")
    if isinstance(read, Success) and not read.unwrap():
        newest = await records.page(Where(range=Range("key", prefix=f"{id}.")), limit=1, descending=True)
        if not isinstance(newest, Success):
            return Failure(newest.failure())
        for one in newest.unwrap().items:
            read = await _read(records, f"{one.ref.key.partition('/')[0]}/")
    if not isinstance(read, Success):
        return Failure(read.failure())
    found = read.unwrap()
    links = [link for one in found for link in one.links]
    return await _entries(hub, id, tenant, found[0], links) if found else Success(None)


async def _read(records: SealedRecords[KeptTrail], prefix: str) -> Result[list[KeptTrail], PersistenceError]:
    """The records of one trail, in their order."""
    kept: list[KeptTrail] = []
    async for listed in pages(records, Where(range=Range("key", prefix=prefix)), limit=PAGE, whole=True):
        if not isinstance(listed, Success):
            return Failure(listed.failure())
        kept += [record.head for record in listed.unwrap().items]
    return Success(kept)


async def _entries(
    hub: HubBase, id: SuspensionId, tenant: str | None, kept: KeptTrail, links: list[bytes]
) -> Result[tuple[AuditEntry, ...] | None, PersistenceError]:
    what = f"the audit trail of shredded suspension {id}"
    if len(links) < kept.count:
        return Failure(IntegrityError(f"entry {len(links) + 1} of {what} is missing; restore it from a backup"))
    records = hub.suspensions.records
    chain = Chain(records.sealer.keyring, records.runtime.entropy)
    learned = await hub.suspensions.side_records.trail.keys.learn(chain.unknown(links), chain)
    if not isinstance(learned, Success):
        return Failure(learned.failure())
    mac = links[-1][:MAC_BYTES] if links else b""
    verified = chain.verified(kept.origin, links, count=kept.count, mac=mac, what=what)
    if not isinstance(verified, Success):
        return Failure(verified.failure())
    entries = []
    for link in verified.unwrap():
        entry = entry_of(id, tenant, link)
        if not isinstance(entry, Success):
            return Failure(entry.failure())
        entries.append(entry.unwrap())
    return Success(tuple(entries))
