"""Chains of entries: each link has a MAC over its own facts and the MAC before, so that none can be altered, taken
out, added or moved without the key. specs/persistence/audit.md is the format's specification.

What is personal stands outside the facts, which hold a salted digest of it: it can be removed later, and the chain
still proves the rest.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable
from typing import Final

from attrs import field, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import IntegrityError, PersistenceError, TamperedEnvelope
from flowpersist.keys.crypto import KeyedDigest, hkdf_expand
from flowpersist.keys.keyring import KeyRing
from flowpersist.stages.header import framed

__all__ = ["MAC_BYTES", "Chain", "Link", "chain_digest", "open_link", "origin_of", "without_private"]

DOMAIN: Final = b"flowpersist/v1/audit"
MAC_BYTES: Final = 32
_SALT_BYTES: Final = 16
_NUMBER: Final = 8
_LENGTH: Final = 4
#: The digest of a link that has nothing personal.
_NOTHING: Final = bytes(32)
_NO_KEYS: Final = KeyRing({})


@frozen
class Link:
    """One entry of a chain. ``private`` is None where there is nothing personal, or where it was ``removed``."""

    number: int
    kid: str
    facts: bytes = field(repr=False)
    private: bytes | None = field(repr=False)
    removed: bool
    previous: bytes
    mac: bytes


@frozen
class _Parts:
    mac: bytes
    signed: bytes
    number: int
    kid: str
    digest: bytes
    facts: bytes
    private: bytes


def origin_of(context: bytes, made: bytes) -> bytes:
    """What stands in the place of a MAC before the first link: it binds the chain to its record."""
    return hashlib.sha256(DOMAIN + framed(context) + framed(made)).digest()


def chain_digest(before: bytes, link: bytes) -> bytes:
    """The digest of a chain up to this link; ``before`` is that up to the link before, or the chain's origin.

    It needs no key, so the log of heads holds it: who has only that can check the links. What is private is not in it.
    """
    return hashlib.sha256(before + without_private(link)).digest()


def open_link(data: bytes, previous: bytes) -> Link | None:
    """A link behind that MAC, read without its key, so that its own MAC is not verified. None where it has another
    form, or its private part is not its own.
    """
    parts = _parsed(data)
    return None if parts is None or not _own_private(parts) else _link(parts, previous)


class Chain:
    """Makes and verifies links with one keyring; without one, the MAC shows accidents alone, as anybody can make it."""

    def __init__(self, keyring: KeyRing | None, entropy: Callable[[int], bytes]) -> None:
        self.keyring = keyring
        self._entropy = entropy
        self._macs: dict[str, KeyedDigest] = {}

    def key(self, kid: str) -> Result[bytes, PersistenceError]:
        """The key of the MACs that a ring's key makes. Nothing else follows from it, also not the ring's key."""
        if self.keyring is None and kid == "":
            return Success(b"")
        return (self.keyring or _NO_KEYS).subkey(kid, "control").map(lambda subkey: hkdf_expand(subkey, DOMAIN))

    def learn(self, kid: str, key: bytes) -> None:
        """Verify the links of a key that the ring lacks by the key of its MACs."""
        self._macs.setdefault(kid, KeyedDigest(key))

    def unknown(self, links: Iterable[bytes]) -> frozenset[str]:
        """The ids of the keys in these links that can't verify them here."""
        kids = {parts.kid for parts in map(_parsed, links) if parts is not None}
        return frozenset(kid for kid in kids if isinstance(self._mac(kid), Failure))

    def linked(
        self, previous: bytes, number: int, facts: bytes, private: bytes | None
    ) -> Result[bytes, PersistenceError]:
        """The link behind the one with that MAC; its own MAC is its beginning."""
        kid = "" if self.keyring is None else self.keyring.primary
        made = self._mac(kid)
        if not isinstance(made, Success):
            return Failure(made.failure())
        told = b"" if private is None else self._entropy(_SALT_BYTES) + private
        digest = hashlib.sha256(told).digest() if told else _NOTHING
        signed = number.to_bytes(_NUMBER, "big") + framed(kid.encode()) + digest + framed(facts)
        return Success(made.unwrap().of(previous + signed) + signed + told)

    def verified(
        self, origin: bytes, links: Iterable[bytes], *, count: int, mac: bytes, what: str
    ) -> Result[tuple[Link, ...], PersistenceError]:
        """The links of a whole chain of ``count`` whose last has that MAC; ``what`` it is a chain of.

        ``IntegrityError`` where some are missing, ``TamperedEnvelope`` where one is altered, added or moved.
        """
        found: list[Link] = []
        previous = origin
        for data in links:
            link = self._verified(data, previous, len(found) + 1, what)
            if not isinstance(link, Success):
                return Failure(link.failure())
            found.append(link.unwrap())
            previous = found[-1].mac
        if len(found) < count:
            return Failure(_missing(what, len(found) + 1))
        if len(found) > count or (count and not hmac.compare_digest(previous, mac)):
            return Failure(_altered(what, len(found)))
        return Success(tuple(found))

    def _verified(self, data: bytes, previous: bytes, number: int, what: str) -> Result[Link, PersistenceError]:
        parts = _parsed(data)
        if parts is None or parts.number < number:
            return Failure(_altered(what, number))
        if parts.number > number:
            return Failure(_missing(what, number))
        made = self._mac(parts.kid)
        if not isinstance(made, Success):
            return Failure(made.failure())
        if not _authentic(parts, made.unwrap().of(previous + parts.signed)):
            return Failure(_altered(what, number))
        return Success(_link(parts, previous))

    def _mac(self, kid: str) -> Result[KeyedDigest, PersistenceError]:
        known = self._macs.get(kid)
        if known is not None:
            return Success(known)
        made = self.key(kid).map(KeyedDigest)
        if isinstance(made, Success):
            self._macs[kid] = made.unwrap()
        return made


def _link(parts: _Parts, previous: bytes) -> Link:
    removed = parts.private == b"" and parts.digest != _NOTHING
    private = parts.private[_SALT_BYTES:] if parts.private else None
    return Link(parts.number, parts.kid, parts.facts, private, removed, previous, parts.mac)


def _authentic(parts: _Parts, mac: bytes) -> bool:
    return _own_private(parts) and hmac.compare_digest(mac, parts.mac)


def _own_private(parts: _Parts) -> bool:
    return not parts.private or hashlib.sha256(parts.private).digest() == parts.digest


def without_private(data: bytes) -> bytes:
    """A link without what is personal in it; the chain verifies as before."""
    parts = _parsed(data)
    if parts is None:
        raise ValueError("no link of a chain")
    return parts.mac + parts.signed


def _parsed(data: bytes) -> _Parts | None:
    """The parts of a link; None where it has another form."""
    kid_at = MAC_BYTES + _NUMBER
    kid = _unframed(data, kid_at)
    digest_at = kid_at + _LENGTH + len(kid or b"")
    facts_at = digest_at + len(_NOTHING)
    facts = None if kid is None else _unframed(data, facts_at)
    if kid is None or facts is None:
        return None
    end = facts_at + _LENGTH + len(facts)
    return _Parts(
        mac=data[:MAC_BYTES],
        signed=data[MAC_BYTES:end],
        number=int.from_bytes(data[MAC_BYTES:kid_at], "big"),
        kid=kid.decode("ascii", "replace"),
        digest=data[digest_at:facts_at],
        facts=facts,
        private=data[end:],
    )


def _unframed(data: bytes, at: int) -> bytes | None:
    length = int.from_bytes(data[at : at + _LENGTH], "big")
    found = data[at + _LENGTH : at + _LENGTH + length]
    return found if len(data) >= at + _LENGTH and len(found) == length else None


def _missing(what: str, number: int) -> PersistenceError:
    return IntegrityError(f"entry {number} of {what} is missing: it was removed; restore it from a backup")


def _altered(what: str, number: int) -> PersistenceError:
    message = f"entry {number} of {what} is not the one that was written: it was altered, added or moved"
    return TamperedEnvelope(f"{message}; restore it from a backup")
