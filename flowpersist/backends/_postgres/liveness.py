"""Whether a connection is gone, and making it so: also of what a pool of the user's has lent.

Such a pool takes a connection back by itself in the moment in which it is lost, and from then on what it has lent
refuses every question, also whether it is closed.
"""

from __future__ import annotations

from asyncpg import InterfaceError

from flowpersist.backends._postgres.layout import Link

__all__ = ["cut", "is_gone"]


def is_gone(link: Link) -> bool:
    """Whether nothing can be asked on a connection any more."""
    try:
        return link.is_closed()
    except InterfaceError:
        return True


def cut(link: Link) -> None:
    """Break a connection off, if it still stands."""
    if not is_gone(link):
        link.terminate()
