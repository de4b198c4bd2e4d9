"""Values that need not be read before somebody asks for them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence

__all__ = ["Later", "needs", "now"]


class Later(ABC):
    """Stands for a value that may not have been read yet."""

    @abstractmethod
    def needs(self, path: Sequence[str | int] = ()) -> Collection[str]:
        """The keys of what a path into the value leads to; none of what is read already."""

    @abstractmethod
    def get(self, path: Sequence[str | int] = ()) -> object:
        """The value, in which what the path leads to is read; without a path all of it."""


def now(value: object, path: Sequence[str | int] = ()) -> object:
    """The value itself, whether it was read already or not."""
    return value.get(path) if isinstance(value, Later) else value


def needs(value: object, path: Sequence[str | int] = ()) -> Collection[str]:
    """The keys of what has to be read for a value."""
    return value.needs(path) if isinstance(value, Later) else ()
