"""What stops encoding or decoding from within; the codec turns each into a ``PersistenceError`` value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowpersist.errors import MalformedPayload, StateChanged, StateTooLarge

if TYPE_CHECKING:
    from flowpersist.codec.limits import Limits
    from flowpersist.errors import PersistenceError

__all__ = ["Halted", "Refused", "RefusedClass", "malformed", "state_changed", "too_many_bytes", "too_many_nodes"]


class Refused(Exception):
    """This value can't be kept; where it lies is looked for only now."""

    def __init__(self, value: object, reason: str) -> None:
        super().__init__(reason)
        self.value = value
        self.reason = reason


class RefusedClass(Exception):
    """No object of this class can be kept."""

    def __init__(self, refused: type) -> None:
        super().__init__(refused)
        self.refused = refused


class Halted(Exception):
    """Coding stops with this error."""

    def __init__(self, error: PersistenceError) -> None:
        super().__init__(error)
        self.error = error


def state_changed() -> StateChanged:
    """What was read of a value at different moments was never there together."""
    return StateChanged(
        "the value was changed while it was encoded, and nothing is stored: pass a copy, or change nothing that it "
        "holds until the call has returned"
    )


def malformed(what: str) -> Halted:
    """Bytes that break the format in the way that ``what`` says."""
    return Halted(MalformedPayload(f"the encoded value is malformed: {what}; restore it from a backup"))


def too_many_bytes(limits: Limits) -> StateTooLarge:
    """The error for a value whose bytes are over the limit."""
    return StateTooLarge(
        f"the encoded value is over {limits.max_bytes} bytes; make it smaller, or raise the limit max_bytes"
    )


def too_many_nodes(limits: Limits) -> StateTooLarge:
    """The error for a value with more objects and cells than the limit."""
    return StateTooLarge(
        f"the value has over {limits.max_nodes} objects and cells; make it smaller, or raise the limit max_nodes"
    )
