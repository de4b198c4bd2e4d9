"""Values that are one of a closed list in the registry, and so go by a name: members of enumerations, references."""

from __future__ import annotations

from abc import abstractmethod

from attrs import frozen

from flowpersist.codec.packing import Cell

__all__ = ["MemberPlan"]


@frozen
class MemberPlan:
    """A class of which each object goes by a name or number, and comes back as the very object."""

    cls: type
    names: tuple[str, ...] = ()

    @abstractmethod
    def dump(self, member: Cell) -> str | int:
        """What a member goes by; ``Refused`` for an object that is not one."""

    @abstractmethod
    def load(self, cell: Cell) -> Cell:
        """The member that ``dump`` gave this for; ``KeyError`` for another cell."""
