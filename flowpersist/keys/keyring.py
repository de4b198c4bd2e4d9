"""The keys that seal: a primary one, older ones that still open, and two subkeys of each.

From each key come, by HKDF-Expand with SHA-512 (RFC 5869), the subkeys ``control`` (heads, answers, receipts, audit)
and ``state`` (states, outcomes). ``control_only()`` gives a ring of the first alone: its holder can answer, cancel,
extend and tick, and open no state.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import re
import stat
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, Protocol, TypeAlias, runtime_checkable

from attrs import evolve, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import ConfigurationError, PersistenceError, UnknownKey
from flowpersist.errors.arguments import check_callable, check_choice, check_instance, check_mapping, check_str
from flowpersist.errors.secrecy import discreet
from flowpersist.keys.crypto import KEY_BYTES, hkdf_expand
from flowpersist.keys.text_file import text_of

__all__ = ["KeyProvider", "KeyRing", "KeyUpdates", "Role"]

Role: TypeAlias = Literal["control", "state"]
_KID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CONTROL: Final = "control."
log = logging.getLogger("flowpersist.keys")


@frozen
class RingKey:
    """One key: its subkeys. ``state`` is None in a ring for control alone; ``root`` then too."""

    root: bytes | None = field(repr=False)
    control: bytes = field(repr=False)
    state: bytes | None = field(repr=False)

    @classmethod
    def of_root(cls, root: bytes) -> RingKey:
        """Both subkeys of a key."""
        return cls(root, _subkey(root, "control"), _subkey(root, "state"))


def _subkey(root: bytes, role: Role) -> bytes:
    return hkdf_expand(root, f"flowpersist/v1/{role}".encode())


def _unalterable(keys: Mapping[str, RingKey]) -> Mapping[str, RingKey]:
    check_mapping(keys, "keys")
    for key in keys.values():
        check_instance(key, "keys", RingKey, "keys that add or parse has made")
    return MappingProxyType(dict(keys))


def _in_order(keys: Mapping[str, RingKey]) -> tuple[tuple[str, RingKey], ...]:
    return tuple(keys.items())


@frozen(repr=False)
class KeyRing:
    """Keys by id, in order: the first seals, all open. Never altered: ``add``, ``promote`` and ``retire`` give a new
    one.
    """

    # Equal rings seal with the same key, so the order counts, which a mapping's own equality leaves out.
    keys: Mapping[str, RingKey] = field(converter=_unalterable, eq=_in_order)

    @classmethod
    def generate(cls, kid: str | None = None, *, entropy: Callable[[int], bytes] = os.urandom) -> KeyRing:
        """A ring of one fresh key; its id is random where none is given."""
        check_callable(entropy, "entropy")
        named = "k" + entropy(4).hex() if kid is None else kid
        return cls({}).add(named, entropy(KEY_BYTES))

    @classmethod
    @discreet
    def parse(cls, text: str) -> KeyRing:
        """A ring from ``kid:base64url,…``, as ``FLOWPERSIST_KEYS`` holds it; ``ConfigurationError`` names what is
        wrong.
        """
        check_str(text, "text")
        ring = cls({})
        for number, entry in enumerate((part.strip() for part in text.strip().split(",")), start=1):
            kid, colon, encoded = entry.partition(":")
            if not colon:
                raise _unusable(f"entry {number} is not of the form kid:base64url")
            ring = ring._with(kid, _parsed(encoded, number))
        return ring

    @classmethod
    @discreet
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> KeyRing:
        """The ring that ``FLOWPERSIST_KEYS`` holds, or the file that ``FLOWPERSIST_KEYS_FILE`` names."""
        check_mapping(environ, "environ")
        if environ.get("FLOWPERSIST_KEYS"):
            return cls.parse(environ["FLOWPERSIST_KEYS"])
        if environ.get("FLOWPERSIST_KEYS_FILE"):
            return cls.from_file(environ["FLOWPERSIST_KEYS_FILE"])
        message = "no keys: set FLOWPERSIST_KEYS or FLOWPERSIST_KEYS_FILE (flowpersist keygen makes them)"
        raise ConfigurationError(message, "FLOWPERSIST_KEYS")

    @classmethod
    @discreet
    def from_file(cls, path: str | os.PathLike[str]) -> KeyRing:
        """The ring that a file holds: entries as in ``FLOWPERSIST_KEYS``, parted by commas, lines or both.

        A file that other users can read or write is a warning. Errors name the file.
        """
        check_instance(path, "path", (str, os.PathLike), "a path")
        try:
            text = text_of(path)
            mode = Path(path).stat().st_mode
        except (OSError, ValueError) as error:
            message = (
                f"the keys file {os.fspath(path)!r} can't be read ({type(error).__name__}); name a readable text file"
            )
            raise ConfigurationError(message, "FLOWPERSIST_KEYS_FILE") from error
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            log.warning("the keys file %s is open to other users; chmod 600 it", os.fspath(path))
        try:
            return cls.parse(",".join(text.replace(",", " ").split()))
        except ConfigurationError as error:
            message = f"the keys file {os.fspath(path)!r} holds no keyring: {error.message}"
            raise ConfigurationError(message, "FLOWPERSIST_KEYS_FILE") from None

    @property
    def primary(self) -> str:
        """The id of the key that seals; ``ConfigurationError`` where the ring is empty."""
        if not self.keys:
            raise _unusable("it is empty")
        return next(iter(self.keys))

    @property
    def kids(self) -> tuple[str, ...]:
        """The ids of all keys, the primary one first."""
        return tuple(self.keys)

    @discreet
    def add(self, kid: str, key: bytes) -> KeyRing:
        """With one more key of 32 bytes, which opens; ``promote`` makes it seal."""
        check_instance(key, "key", bytes, f"{KEY_BYTES} bytes")
        check_str(kid, "kid")
        if len(key) != KEY_BYTES:
            raise _unusable(f"key {kid!r} has {len(key)} bytes, not {KEY_BYTES}")
        return self._with(kid, RingKey.of_root(key))

    def promote(self, kid: str) -> KeyRing:
        """With this key as the one that seals."""
        others = {name: key for name, key in self.keys.items() if name != kid}
        return evolve(self, keys={kid: self._known(kid), **others})

    def retire(self, kid: str) -> KeyRing:
        """Without this key: what only it opens is ``UnknownKey`` from now on."""
        self._known(kid)
        if len(self.keys) == 1:
            raise _unusable(f"key {kid!r} is the only one; add and promote another first")
        return evolve(self, keys={name: key for name, key in self.keys.items() if name != kid})

    def control_only(self) -> KeyRing:
        """The control subkeys alone."""
        return KeyRing({kid: RingKey(None, key.control, None) for kid, key in self.keys.items()})

    def export(self) -> str:
        """The text for ``FLOWPERSIST_KEYS``. Secret."""
        return ",".join(f"{kid}:{_rendered(key)}" for kid, key in self.keys.items())

    def subkey(self, kid: str, role: Role) -> Result[bytes, PersistenceError]:
        """One subkey of one key; ``UnknownKey`` where the ring has none."""
        if role not in {"control", "state"}:
            check_choice(role, "role", ("control", "state"))
        check_str(kid, "kid")
        key = self.keys.get(kid)
        if key is None:
            known = ", ".join(self.keys) or "none"
            return Failure(
                UnknownKey(
                    f"sealed with key {kid!r}, which the keyring lacks (it has {known}); "
                    f"add key {kid!r} to FLOWPERSIST_KEYS"
                )
            )
        subkey = key.control if role == "control" else key.state
        if subkey is None:
            return Failure(
                UnknownKey(f"the keyring holds the control subkey of {kid!r} alone, and can't open or seal states")
            )
        return Success(subkey)

    def _with(self, kid: str, key: RingKey) -> KeyRing:
        if not _KID.fullmatch(kid):
            raise _unusable("a key's kid has 1 to 64 characters of A-Z a-z 0-9 . _ -")
        if kid in self.keys:
            raise _unusable(f"key {kid!r} is there already")
        return evolve(self, keys={**self.keys, kid: key})

    def _known(self, kid: str) -> RingKey:
        check_str(kid, "kid")
        if kid not in self.keys:
            raise _unusable(f"there is no key {kid!r} among its kids")
        return self.keys[kid]

    def __repr__(self) -> str:
        return f"<KeyRing of {', '.join(self.keys)}>"


@runtime_checkable
class KeyUpdates(Protocol):
    """What tells of other rings while a hub is open: a ``KeyProvider`` that has this too is followed."""

    def updates(self) -> AsyncIterator[KeyRing]:
        """Each ring that takes the place of the one before, from the last call of ``keyring`` on."""
        ...


@runtime_checkable
class KeyProvider(Protocol):
    """What fetches a ring from elsewhere, such as a key management service, when a hub is opened."""

    async def keyring(self) -> KeyRing:
        """The ring as of now."""
        ...


def _parsed(encoded: str, number: int) -> RingKey:
    bare = encoded.removeprefix(_CONTROL)
    try:
        key = base64.b64decode(bare + "=" * (-len(bare) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise _unusable(f"the key of entry {number} is not base64url") from None
    if len(key) != KEY_BYTES:
        raise _unusable(f"the key of entry {number} has {len(key)} bytes, not {KEY_BYTES}")
    return RingKey(None, key, None) if bare != encoded else RingKey.of_root(key)


def _rendered(key: RingKey) -> str:
    if key.root is None:
        return _CONTROL + _encoded(key.control)
    return _encoded(key.root)


def _encoded(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).rstrip(b"=").decode()


def _unusable(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"the keyring is not usable: {what}; flowpersist keygen makes good keys", "FLOWPERSIST_KEYS"
    )
