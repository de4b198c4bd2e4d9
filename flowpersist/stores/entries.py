"""What a store of values gives and takes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Generic, TypeVar

from attrs import field, frozen

from flowpersist.backends.base import Scalar, Written
from flowpersist.sealed.naming import Key

__all__ = ["Change", "Loaded", "Saved", "saved_as"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@frozen
class Saved:
    """A value became durable: its new ``revision``, and when, by the store's clock."""

    revision: int
    at: datetime


def saved_as(written: Written) -> Saved:
    """What is told of a put."""
    return Saved(written.revision, written.now)


@frozen
class Loaded(Generic[T_co]):
    """A value as it was read.

    ``revision`` is what ``if_revision`` takes. ``expires_at`` is None where it never expires. ``created_at`` is when
    its record was made, ``updated_at`` when this revision was.
    """

    key: Key = field(repr=False)
    value: T_co = field(repr=False)
    revision: int
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    attributes: Mapping[str, Scalar]


@frozen
class Change(Generic[T_co]):
    """What ``watch`` tells of a key: the value as it is now; ``loaded`` is None where it was deleted or has expired."""

    key: Key = field(repr=False)
    loaded: Loaded[T_co] | None
