"""Records, and the arguments and results of a backend's operations: what ``base`` exports beside the protocols."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Final, Generic, Literal, TypeAlias, TypeGuard, TypeVar

from attrs import field, frozen

from flowpersist.errors import PersistenceError

__all__ = [
    "KEEP",
    "MAX_ATTRIBUTES",
    "MAX_BODIES_BYTES",
    "MAX_HEAD_BYTES",
    "MAX_REFS",
    "MAX_TEXT_BYTES",
    "MAX_WRITE_ID_BYTES",
    "ORDERS",
    "Change",
    "Keep",
    "NamespaceSchema",
    "Order",
    "Page",
    "Put",
    "Range",
    "Read",
    "Reads",
    "Record",
    "RecordChange",
    "RecordRef",
    "Scalar",
    "Unreadable",
    "Where",
    "Written",
    "applied",
    "check_scalar",
    "check_text",
]

Scalar: TypeAlias = str | int | float | bool
Order: TypeAlias = Literal["key", "created", "updated", "due"]
ORDERS: Final[tuple[Order, ...]] = ("key", "created", "updated", "due")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

MAX_HEAD_BYTES: Final = 256 * 1024
#: References of one ``get_many``, puts of one ``put_many``.
MAX_REFS: Final = 1000
#: What the bodies of one page may take together. A page with bodies has at least one record, however large its body is.
MAX_BODIES_BYTES: Final = 16 * 1024 * 1024
#: Keys, namespaces, attribute names and string values, in UTF-8.
MAX_TEXT_BYTES: Final = 512
MAX_ATTRIBUTES: Final = 64
MAX_WRITE_ID_BYTES: Final = 64
_INT64: Final = range(-(2**63), 2**63)
#: They become part of index definitions, on servers too.
_INDEXED_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}")


def check_text(value: object, what: str) -> str:
    """Refuse what some server can't hold or compare by bytes: empty, NUL, lone surrogates, over 512 bytes of UTF-8."""
    if _is_plain(value):
        return value
    if not isinstance(value, str):
        msg = f"{what} must be a str, not {type(value).__name__}"
        raise TypeError(msg)
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        msg = f"{what} holds a lone surrogate, which no store can keep"
        raise ValueError(msg) from None
    if size > MAX_TEXT_BYTES or "\0" in value:
        msg = f"{what} must be at most {MAX_TEXT_BYTES} bytes of UTF-8 without NUL"
        raise ValueError(msg)
    return value


def check_scalar(value: object, what: str) -> Scalar:
    """An attribute's value: str, 64-bit int, finite float or bool, of exactly that type."""
    if type(value) is str:
        return check_text(value, what)
    if type(value) is bool or (type(value) is int and value in _INT64):
        return value
    if type(value) is float and math.isfinite(value):
        # -0.0 equals 0.0 but is written otherwise: one form, so that every store finds either by the other.
        return value + 0.0
    msg = f"{what} must be a str, a 64-bit int, a finite float or a bool"
    raise ValueError(msg)


def _attributes(value: Mapping[str, Scalar | None]) -> Mapping[str, Scalar]:
    if not value and type(value) is dict:
        return {}
    if len(value) > MAX_ATTRIBUTES:
        msg = f"at most {MAX_ATTRIBUTES} attributes fit a record, not {len(value)}"
        raise ValueError(msg)
    # Keys by bytes, so that equal mappings are stored as equal bytes.
    return {name: _attribute(name, item) for name, item in sorted(value.items()) if item is not None}


def _attribute(name: str, value: Scalar) -> Scalar:
    # Most are of these, and every record has its attributes checked; the messages below take longer than the checks.
    if _is_plain(name) and (value is True or value is False or _is_plain(value)):
        return value
    check_text(name, "an attribute's name")
    return check_scalar(value, f"attribute {name!r}")


def _is_plain(text: object) -> TypeGuard[str]:
    """Whether it is a short text in ASCII without NUL."""
    return type(text) is str and text.isascii() and len(text) <= MAX_TEXT_BYTES and "\0" not in text


def _moment(value: datetime | None) -> datetime | None:
    if value is None:
        return None
    if value.tzinfo is None:
        msg = "times must be aware datetimes"
        raise ValueError(msg)
    return value.astimezone(UTC)


def _part(change: bytes | Keep | None, what: str) -> bytes:
    if isinstance(change, bytes):
        return change
    if change is None or isinstance(change, Keep):
        return b""
    msg = f"a {what} is bytes, KEEP or None, not {type(change).__name__}"
    raise TypeError(msg)


@frozen(order=True)
class RecordRef:
    """Where a record stands. ``key`` is UTF-8 without NUL, 1 to 512 bytes, ordered by bytes."""

    namespace: str
    key: str

    def __attrs_post_init__(self) -> None:
        if not check_text(self.namespace, "a namespace") or not check_text(self.key, "a record's key"):
            msg = "a namespace and a record's key must not be empty"
            raise ValueError(msg)


@frozen
class Record:
    """A record as the store holds it.

    ``revision`` is the compare-and-set token; ``write_id`` the caller's id of the write that made it. ``body`` is None
    without one and where it was not read: ``body_size`` (bytes; None without a body) tells which.
    ``due_at`` is the next moment at which anybody has business with the record.
    """

    ref: RecordRef
    revision: int
    write_id: str
    attributes: Mapping[str, Scalar]
    head: bytes = field(repr=False)
    body: bytes | None = field(repr=False)
    body_size: int | None
    created_at: datetime
    updated_at: datetime
    due_at: datetime | None


class Keep(Enum):
    """The type of ``KEEP``: leave that part of the record as it is."""

    KEEP = "keep"


KEEP: Final = Keep.KEEP


def _attributes_change(value: Mapping[str, Scalar | None] | Keep | None) -> Mapping[str, Scalar] | Keep | None:
    return value if value is None or isinstance(value, Keep) else _attributes(value)


def _due_change(value: datetime | Keep | None) -> datetime | Keep | None:
    return value if isinstance(value, Keep) else _moment(value)


@frozen
class RecordChange:
    """What a put does with each part: a value sets it, ``KEEP`` keeps it, None drops it.

    A new record starts empty: no attributes, head ``b""``, no body, never due. ``write_id`` is random for each
    write and the same for its retries, 1 to 64 bytes.
    """

    write_id: str
    attributes: Mapping[str, Scalar] | Keep | None = field(default=KEEP, converter=_attributes_change)
    head: bytes | Keep | None = field(default=KEEP, repr=False)
    body: bytes | Keep | None = field(default=KEEP, repr=False)
    due_at: datetime | Keep | None = field(default=KEEP, converter=_due_change)

    def __attrs_post_init__(self) -> None:
        if not 1 <= len(check_text(self.write_id, "a write id").encode()) <= MAX_WRITE_ID_BYTES:
            msg = f"a write id has 1 to {MAX_WRITE_ID_BYTES} bytes"
            raise ValueError(msg)
        if len(_part(self.head, "head")) > MAX_HEAD_BYTES:
            msg = f"a head has at most {MAX_HEAD_BYTES} bytes"
            raise ValueError(msg)
        _part(self.body, "body")


#: For one part of a change, as a backend applies it.
Change: TypeAlias = T | Keep | None


def applied(change: Change[T], old: T, empty: T) -> T:
    """What a part becomes: the old one kept, the new one set, or the empty one."""
    if change is None:
        return empty
    return old if isinstance(change, Keep) else change


@frozen
class Read:
    """What a get found (``record`` is None where nothing is live) and the store's clock at that moment."""

    record: Record | None
    now: datetime


@frozen
class Reads:
    """The records of several references, in their order, and the store's clock. None if there is no record,
    ``Unreadable`` if it can't be read.
    """

    records: tuple[Record | Unreadable | None, ...]
    now: datetime


@frozen
class Written:
    """What a put made: the new revision, and the store's clock at the write."""

    revision: int
    now: datetime


@frozen
class Put:
    """One put of several: the arguments of ``put``."""

    ref: RecordRef
    change: RecordChange
    if_revision: int | None = None
    not_after: datetime | None = None


@frozen
class Range:
    """From ``since`` (inclusive) to ``before`` (exclusive) of one of the orders; str for key, else aware datetime.

    By key also ``prefix`` in their place: the keys that begin with it, which follow each other in the order of bytes.
    """

    by: Order
    since: str | datetime | None = None
    before: str | datetime | None = None
    prefix: str | None = None

    def __attrs_post_init__(self) -> None:
        if self.prefix is not None:
            check_text(self.prefix, "a range's prefix")
            if self.by != "key" or self.since is not None or self.before is not None:
                raise ValueError("a prefix is of a range by key, and takes no other bounds")
        if self.by not in ORDERS:
            msg = f"a range is by one of {', '.join(ORDERS)}"
            raise ValueError(msg)
        kind = str if self.by == "key" else datetime
        for bound in (self.since, self.before):
            if bound is not None and not isinstance(bound, kind):
                msg = f"a range by {self.by} takes {kind.__name__} bounds"
                raise TypeError(msg)
            if isinstance(bound, datetime):
                _moment(bound)
            elif bound is not None:
                check_text(bound, "a range's bound")


@frozen
class Where:
    """Equality on attributes, and at most one range, which is then also the order.

    Equality is of type and value: ``True`` is not ``1``, and ``1`` is not ``1.0``.
    """

    equals: Mapping[str, Scalar] = field(factory=dict, converter=_attributes)
    range: Range | None = None


@frozen
class Unreadable:
    """A record that a page left out since it can't be read: ``error`` says why, and what mends it.

    ``ref`` is None where its key can't be read either.
    """

    ref: RecordRef | None
    error: PersistenceError


@frozen
class Page(Generic[T_co]):
    """Some items in order; ``next`` is the cursor of the page after, None at the end. A page may come short with
    one.

    ``unreadable`` names the records between its items that can't be read; whether they would match is not known. One
    of them may stand on two pages.
    """

    items: tuple[T_co, ...]
    next: str | None
    now: datetime
    unreadable: tuple[Unreadable, ...] = ()


@frozen
class NamespaceSchema:
    """A namespace, and its attributes that get an index. Each of them has one scalar type in all its records.

    An indexed name is an ASCII letter or underscore, then up to 62 letters, digits, ``_``, ``.`` and ``-``.
    """

    name: str
    indexed: Mapping[str, type[str | int | float | bool]] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        if not check_text(self.name, "a namespace"):
            msg = "a namespace must not be empty"
            raise ValueError(msg)
        for name, kind in self.indexed.items():
            if not _INDEXED_NAME.fullmatch(name) or kind not in {str, int, float, bool}:
                msg = f"attribute {name!r} can't be indexed: a plain name, and one of str, int, float, bool"
                raise ValueError(msg)
