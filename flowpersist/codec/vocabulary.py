"""What the codec makes of each class: an object with identity, a leaf, or nothing that it keeps."""

from __future__ import annotations

from flowpersist.codec.leaves import LEAVES
from flowpersist.codec.packing import PLAIN_TYPES
from flowpersist.codec.plans import EnumPlan
from flowpersist.codec.refusals import RefusedClass
from flowpersist.codec.registry import BUILTIN_CONTAINERS, Registration, TypeRegistry

__all__ = ["Roles"]


class Roles(dict[type, bool]):
    """Whether objects of a class have identity (True) or are leaves (False); ``RefusedClass`` for what can't be kept.

    One is made for each value that is encoded, so that a class registered meanwhile is seen.
    """

    def __init__(self, types: TypeRegistry) -> None:
        super().__init__(_NATIVE_ROLES)
        self.types = types

    def __missing__(self, cls: type) -> bool:
        role = self[cls] = not isinstance(self.registration(cls).plan, EnumPlan)
        return role

    def registration(self, cls: type) -> Registration:
        """How the class is registered."""
        found = self.types.by_class(cls)
        if found is None:
            raise RefusedClass(cls)
        return found


_NATIVE_ROLES: dict[type, bool] = {
    **dict.fromkeys(PLAIN_TYPES, False),
    **dict.fromkeys(LEAVES, False),
    **dict.fromkeys(BUILTIN_CONTAINERS, True),
}
