"""What whoever writes a backend of their own may build on: arguments checked, cursors, the errors that all raise alike.

``selection`` makes of a query's arguments a ``Selection``, which says whether a record is meant (``holds``), where it
stands (``position_of``), whether that is on this page or a later one (``beyond``), and what the cursor is (``cursor``).
``check_put``, ``check_revision``, ``check_unwritten``, ``check_deadline`` and ``check_body`` refuse what must be
refused; ``revised`` is the record that a change makes. ``found_in``, ``place_in`` and ``page_of`` make a page of rows
of which some are damaged; ``sound`` and ``read_as`` tell these. ``Home`` remembers where a backend was opened, and
refuses one that is not open, or is open in another event loop or process. ``DelegatingBackend`` is a backend round
another one.
"""

from __future__ import annotations

from flowpersist.backends._clock import from_micros, host_clock, to_micros
from flowpersist.backends._damage import (
    Found,
    check_following,
    found_in,
    left_standing,
    page_of,
    place_in,
    read_as,
    sound,
    wider,
)
from flowpersist.backends._delegating import DelegatingBackend
from flowpersist.backends._home import Home, Reach
from flowpersist.backends._matching import Position, Selection, check_put, check_refs, position_of, selection
from flowpersist.backends._outcomes import (
    check_body,
    check_deadline,
    check_revision,
    check_unwritten,
    revised,
    unreadable,
)
from flowpersist.backends._pages import completed, fitting, one_of
from flowpersist.backends._putting import check_puts, put_each
from flowpersist.backends._threads import uninterrupted

__all__ = [
    "DelegatingBackend",
    "Found",
    "Home",
    "Position",
    "Reach",
    "Selection",
    "check_body",
    "check_deadline",
    "check_following",
    "check_put",
    "check_puts",
    "check_refs",
    "check_revision",
    "check_unwritten",
    "completed",
    "fitting",
    "found_in",
    "from_micros",
    "host_clock",
    "left_standing",
    "one_of",
    "page_of",
    "place_in",
    "position_of",
    "put_each",
    "read_as",
    "revised",
    "selection",
    "sound",
    "to_micros",
    "uninterrupted",
    "unreadable",
    "wider",
]
