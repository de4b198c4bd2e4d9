"""The errors of all integrations: what can't be kept, what bytes don't hold, and what is not installed."""

from __future__ import annotations

from typing import TypeVar

from flowpersist.errors import ConfigurationError, MalformedPayload, UnsupportedType

__all__ = ["exactly", "malformed", "missing", "once", "spend", "unsupported"]

T = TypeVar("T")


def missing(extra: str, *packages: str, error: ModuleNotFoundError) -> ConfigurationError:
    """The error for a package that is not installed; the import's own where another module was not found."""
    if error.name not in packages:
        raise error
    message = (
        f"flowpersist.integrations.{extra} needs {error.name}: pip install 'flowpersist[{extra.replace('_', '-')}]'"
    )
    return ConfigurationError(message, "types")


def unsupported(what: str, remedy: str) -> UnsupportedType:
    """The error for an object that can't be kept faithfully; the codec gives it as the cause of one with the path."""
    return UnsupportedType(f"{what} can't be kept; {remedy}")


def malformed(what: str) -> MalformedPayload:
    """The error for bytes that no ``encode=`` of these modules has written."""
    return MalformedPayload(f"the bytes are not what was encoded: {what}; restore them from where they were kept whole")


def exactly(cls: type[T], cell: object, what: str) -> T:
    """A cell of this very class; ``malformed`` for another: ``what`` says what was expected."""
    if type(cell) is not cls:
        raise malformed(what)
    return cell


def once() -> bytearray:
    """What stands first in a tuple from which one object is made; ``spend`` takes it away.

    In bytes from anywhere a thousand objects may be made from one tuple, which then costs a thousand times its size.
    """
    return bytearray(b"1")


def spend(token: object) -> None:
    """Refuse a second object made from one tuple."""
    if type(token) is not bytearray or not token:
        raise malformed("two objects are made from what belongs to one")
    token.clear()
