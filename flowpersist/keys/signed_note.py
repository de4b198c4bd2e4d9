"""Signed notes, in the form of C2SP (https://c2sp.org/signed-note): a text, and lines of Ed25519 signatures under it.

A signing key is written as ``PRIVATE+KEY+<name>+<id>+<base64>``, the key that verifies as ``<name>+<id>+<base64>``, as
Go's ``golang.org/x/mod/sumdb/note`` writes them. The second one is public.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Callable
from typing import Final

from attrs import field, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import ConfigurationError, MalformedPayload, PersistenceError, TamperedEnvelope
from flowpersist.errors.arguments import check_callable, check_instance, check_str
from flowpersist.errors.secrecy import discreet
from flowpersist.keys.crypto import KEY_BYTES, ed25519_public, ed25519_sign, ed25519_verifies
from flowpersist.keys.text_file import text_of

__all__ = ["NoteSigner", "NoteVerifier"]

#: The only algorithm: Ed25519 as C2SP numbers it.
_ED25519: Final = b"\x01"
_ID_BYTES: Final = 4
_SIGNATURE_BYTES: Final = 64
_PRIVATE: Final = "PRIVATE+KEY+"
#: No whitespace and no plus, as C2SP demands, and nothing that a terminal would act on.
_NAME: Final = re.compile(r"[!-*,-~]{1,256}")
#: A note is a few lines: what is longer is none of ours.
MOST_BYTES: Final = 64 * 1024
MOST_SIGNATURES: Final = 100
_MARK: Final = "\u2014 "
SETTING: Final = "FLOWPERSIST_AUDIT_KEY"


@frozen
class NoteVerifier:
    """A public key: who has it can check notes, and make none."""

    name: str
    public: bytes

    @classmethod
    def parse(cls, text: str) -> NoteVerifier:
        """The key of its text, ``<name>+<id>+<base64>``; ``ConfigurationError`` for another text."""
        check_str(text, "text")
        name, key_id, key = _parts(text.strip(), "verifier")
        made = cls(name, key)
        if made.key_id.hex() != key_id:
            raise _unusable("verifier", "its id is not the one of its name and key")
        return made

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that name the key in a signature."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:_ID_BYTES]

    def export(self) -> str:
        """The text that ``parse`` reads."""
        return f"{self.name}+{self.key_id.hex()}+{_encoded(_ED25519 + self.public)}"

    def opened(self, note: str) -> Result[str, PersistenceError]:
        """The text of a note that this key has signed. Signatures of other keys are passed over.

        ``MalformedPayload`` for another text, ``TamperedEnvelope`` where no signature of this key fits.
        """
        text, gap, rest = note.rpartition("\n\n")
        lines = rest.split("\n")[:-1]
        if not gap or len(note) > MOST_BYTES or not 0 < len(lines) <= MOST_SIGNATURES or not rest.endswith("\n"):
            return Failure(MalformedPayload("Invalid signed note: expected a text, an empty line and signatures"))
        text += "\n"
        for line in lines:
            signature = self._signature(line)
            if signature is not None and ed25519_verifies(self.public, signature, text.encode()):
                return Success(text)
        message = f"no signature of {self.name} fits the note: it was altered, or another key has signed it"
        return Failure(TamperedEnvelope(message))

    def _signature(self, line: str) -> bytes | None:
        """The signature of a line that names this key."""
        name, space, encoded = line.removeprefix(_MARK).partition(" ")
        data = _decoded(encoded) if line.startswith(_MARK) and space and name == self.name else None
        if data is None or len(data) != _ID_BYTES + _SIGNATURE_BYTES or data[:_ID_BYTES] != self.key_id:
            return None
        return data[_ID_BYTES:]


@frozen(repr=False)
class NoteSigner:
    """A private key. Its ``name`` stands in each signature: such as ``example.com/payments``."""

    name: str
    seed: bytes = field(repr=False)

    @classmethod
    def generate(cls, name: str, *, entropy: Callable[[int], bytes] = os.urandom) -> NoteSigner:
        """A fresh key of that name: 1 to 256 characters of ASCII without spaces and plus."""
        check_str(name, "name")
        check_callable(entropy, "entropy")
        if _NAME.fullmatch(name) is None:
            raise _unusable("name", "it must be 1 to 256 characters of ASCII without spaces and +")
        return cls(name, entropy(KEY_BYTES))

    @classmethod
    @discreet
    def parse(cls, text: str) -> NoteSigner:
        """The key of its text, ``PRIVATE+KEY+<name>+<id>+<base64>``; ``ConfigurationError`` for another text."""
        check_str(text, "text")
        if not text.strip().startswith(_PRIVATE):
            raise _unusable("signing key", f"it does not begin with {_PRIVATE}")
        name, key_id, seed = _parts(text.strip().removeprefix(_PRIVATE), "signing key")
        made = cls(name, seed)
        if made.verifier.key_id.hex() != key_id:
            raise _unusable("signing key", "its id is not the one of its name and key")
        return made

    @classmethod
    @discreet
    def from_file(cls, path: str | os.PathLike[str]) -> NoteSigner:
        """The key that a file holds; ``ConfigurationError`` where it can't be read or holds none."""
        check_instance(path, "path", (str, os.PathLike), "a path")
        try:
            text = text_of(path, most=MOST_BYTES)
        except (OSError, ValueError) as error:
            message = f"the file {os.fspath(path)!r} of the audit key can't be read ({type(error).__name__})"
            raise ConfigurationError(f"{message}; name a readable text file", f"{SETTING}_FILE") from error
        return cls.parse(text)

    @property
    def verifier(self) -> NoteVerifier:
        """The public key."""
        return NoteVerifier(self.name, ed25519_public(self.seed))

    @discreet
    def export(self) -> str:
        """The text that ``parse`` reads: secret."""
        return f"{_PRIVATE}{self.name}+{self.verifier.key_id.hex()}+{_encoded(_ED25519 + self.seed)}"

    @discreet
    def signed(self, text: str) -> str:
        """The note of a text, which must end with a newline."""
        signature = ed25519_sign(self.seed, text.encode())
        return f"{text}\n{_MARK}{self.name} {_encoded(self.verifier.key_id + signature)}\n"

    def __repr__(self) -> str:
        return f"<NoteSigner {self.name!r}>"


def _parts(text: str, what: str) -> tuple[str, str, bytes]:
    """The name, the id and the 32 bytes of a key."""
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    data = _decoded(encoded)
    if _NAME.fullmatch(name) is None or data is None or len(data) != 1 + KEY_BYTES or data[:1] != _ED25519:
        raise _unusable(what, "it is not of the form <name>+<id>+<base64 of an Ed25519 key>")
    return name, key_id, data[1:]


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _unusable(what: str, why: str) -> ConfigurationError:
    message = f"the {what} of the audit log can't be used: {why}; flowpersist audit keygen makes a pair of keys"
    return ConfigurationError(message, SETTING)
