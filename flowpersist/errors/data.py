"""Data that is not valid, can't be kept or can't be read: answers, states, envelopes and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

from flowpersist.errors.base import PersistenceError

__all__ = [
    "CompressionError",
    "CorruptedEnvelope",
    "EncryptionError",
    "EncryptionRequired",
    "InputValidationError",
    "IntegrityError",
    "KeyDestroyed",
    "KeyInUse",
    "MalformedPayload",
    "Problem",
    "RollbackDetected",
    "SerializationError",
    "StateChanged",
    "StateProblem",
    "StateTooDeep",
    "StateTooLarge",
    "TamperedEnvelope",
    "UnexpectedType",
    "UnknownDictionary",
    "UnknownKey",
    "UnknownType",
    "UnsupportedType",
    "UnsupportedVersion",
    "ValueNotFound",
]


class Problem(tuple[str, str]):
    """One problem of an input: ``pointer`` (RFC 6901) and ``message``."""

    __slots__ = ()

    def __new__(cls, pointer: str, message: str) -> Self:
        """A problem at a pointer."""
        return super().__new__(cls, (pointer, message))

    def __getnewargs__(self) -> tuple[str, str]:
        return (self[0], self[1])

    @property
    def pointer(self) -> str:
        """Where, as a JSON pointer: empty for the whole input."""
        return self[0]

    @property
    def message(self) -> str:
        """What is wrong there, without the value."""
        return self[1]


class InputValidationError(PersistenceError):
    """An answer or argument that its schema refuses: carries its problems; the suspension stays as it was."""

    code = "invalid-input"
    http_status = 422

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message, tuple(problems))
        self.problems = tuple(problems)

    def _members(self) -> dict[str, object]:
        return {"problems": [{"pointer": p.pointer, "message": p.message} for p in self.problems]}


class SerializationError(PersistenceError):
    """A value can't become bytes, or bytes can't become a value; ``path`` says where, as ``state.messages[3]``, and
    ``class_name`` of which registered or missing class it is.
    """

    code = "serialization"
    http_status = 422

    def __init__(self, message: str, path: str | None = None, class_name: str | None = None) -> None:
        super().__init__(message, path, class_name)
        self.path = path
        self.class_name = class_name

    def _members(self) -> dict[str, object]:
        return {"path": self.path, "class": self.class_name}


class StateProblem(NamedTuple):
    """One thing that keeps a value from being encoded. It holds no values; ``path`` names attributes and keys."""

    #: Where it is first, as ``state.messages[3]``; None where that is not known.
    path: str | None
    #: The class of the object there, with its module.
    type: str
    #: What is wrong with it.
    reason: str
    #: What to do: the line of code that registers the class, or what to keep instead.
    remedy: str

    def __str__(self) -> str:
        named = "" if self.type in self.reason else f" ({self.type})"
        return f"{self.path or 'a value within'}{named}: {self.reason}; {self.remedy}"


class UnsupportedType(SerializationError):
    """A value of classes that are not registered, or that can't be kept faithfully.

    ``problems`` names each such class once, with the path of its first instance and what to do; ``path`` is that of
    the first.
    """

    code = "unsupported-type"

    def __init__(self, message: str, path: str | None = None, problems: Sequence[StateProblem] = ()) -> None:
        super().__init__(message, path)
        self.args = (message, path, tuple(problems))
        self.problems = tuple(problems)

    def _members(self) -> dict[str, object]:
        return {**super()._members(), "problems": [one._asdict() for one in self.problems] or None}


class StateChanged(SerializationError):
    """The value was changed by another task or thread while it was encoded: nothing is stored."""

    code = "state-changed"
    http_status = 409


class StateTooLarge(SerializationError):
    """Over one of the limits on bytes, nodes or lengths."""

    code = "state-too-large"
    http_status = 413


class StateTooDeep(SerializationError):
    """Over the limit on depth."""

    code = "state-too-deep"
    http_status = 413


class UnknownType(SerializationError):
    """The bytes name a type, or a version of one, that this process has not registered."""

    code = "unknown-type"


class UnexpectedType(SerializationError):
    """The state is not of the class that the caller expects."""

    code = "unexpected-type"


class MalformedPayload(SerializationError):
    """The bytes are not of the codec's format."""

    code = "malformed-payload"


class ValueNotFound(PersistenceError):
    """A store has no value of that key, or it has expired."""

    code = "value-not-found"
    http_status = 404


class CompressionError(PersistenceError):
    """The bytes can't be decompressed within their declared length and the limit."""

    code = "compression"


class UnknownDictionary(CompressionError):
    """The state was compressed with a dictionary that is not there: carries its ``id``."""

    code = "unknown-dictionary"

    def __init__(self, message: str, id: int | None = None) -> None:
        super().__init__(message, id)
        self.id = id

    def _members(self) -> dict[str, object]:
        return {"dictionary": self.id}


class IntegrityError(PersistenceError):
    """What is stored is not what was written."""

    code = "integrity"


class CorruptedEnvelope(IntegrityError):
    """A checksum, a length or the magic bytes do not match: rot, truncation, or no envelope at all."""

    code = "corrupted"


class TamperedEnvelope(IntegrityError):
    """Authentication failed: altered, moved to another record, or sealed for another purpose."""

    code = "tampered"


class RollbackDetected(IntegrityError):
    """The replay ledger knows a later state of the suspension than the store has: it was put back, or deleted."""

    code = "rolled-back"


class UnsupportedVersion(IntegrityError):
    """An envelope, schema or head of a version that this release can't read."""

    code = "unsupported-version"


class EncryptionError(PersistenceError):
    """The keyring can't seal or open this."""

    code = "encryption"


class UnknownKey(EncryptionError):
    """The keyring has no key of the id that the envelope names."""

    code = "unknown-key"


class KeyDestroyed(UnknownKey):
    """The data key was destroyed with its tenant: nobody can open this any more."""

    code = "key-destroyed"
    http_status = 410


class EncryptionRequired(EncryptionError):
    """Plaintext was found where a keyring is set."""

    code = "encryption-required"


class KeyInUse(EncryptionError):
    """Records still need a key that is to be retired: carries its ``kid``, and how many ``records`` do."""

    code = "key-in-use"
    http_status = 409

    def __init__(self, message: str, kid: str = "", records: int = 0) -> None:
        super().__init__(message, kid, records)
        self.kid = kid
        self.records = records

    def _members(self) -> dict[str, object]:
        return {"kid": self.kid, "records": self.records}
