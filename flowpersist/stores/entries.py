"""What a store of values gives and takes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Generic, Literal, TypeAlias, TypeVar

from attrs import field, frozen

from flowpersist.backends.base import MAX_ATTRIBUTES, ORDERS, Order, Scalar, Written, check_scalar, check_text
from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import (
    check_choice,
    check_flag,
    check_mapping,
    check_optional,
    check_str,
    check_whole,
    out_of_range,
)
from flowpersist.sealed.listing import Asked
from flowpersist.sealed.naming import Key, prefix_of

__all__ = ["Change", "Loaded", "Saved", "Unreadables", "asked", "checked_attributes", "saved_as"]

Unreadables: TypeAlias = Literal["raise", "skip"]
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


def checked_attributes(attributes: Mapping[str, Scalar] | None, name: str = "attributes") -> dict[str, Scalar]:
    """Attributes that every store can hold; ``ConfigurationError`` names what it can't."""
    if attributes is None:
        return {}
    check_mapping(attributes, name)
    if len(attributes) > MAX_ATTRIBUTES:
        out_of_range(name, f"at most {MAX_ATTRIBUTES} attributes", len(attributes))
    try:
        return {check_text(one, "a name"): check_scalar(value, "a value") for one, value in attributes.items()}
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"Invalid {name}: {error}", name) from None


def asked(
    prefix: Key | tuple[()],
    where: Mapping[str, Scalar] | None,
    order: Order,
    descending: bool,  # noqa: FBT001
    limit: int,
    after: str | None,
    unreadable: Unreadables,
    *,
    values: bool,
) -> Asked:
    """What a caller asks of a page, checked."""
    check_choice(order, "order", ORDERS)
    check_flag(descending, "descending")
    check_whole(limit, "limit", most=10_000)
    check_optional(after, "after", check_str)
    check_choice(unreadable, "unreadable", ("raise", "skip"))
    skip = unreadable == "skip"
    return Asked(prefix_of(prefix), checked_attributes(where, "where"), order, limit, after, descending, values, skip)
