"""What the codec makes of each class: an object with identity, a leaf, or nothing that it keeps."""

from __future__ import annotations

from flowpersist.codec.leaves import LEAVES
from flowpersist.codec.members import MemberPlan
from flowpersist.codec.packing import PLAIN_TYPES
from flowpersist.codec.plans import is_built
from flowpersist.codec.refusals import RefusedClass
from flowpersist.codec.registry import BUILTIN_CONTAINERS, Registration, TypeRegistry

__all__ = ["IMMUTABLE", "LEAF", "MUTABLE", "Roles"]

#: The roles: a leaf is false, an object true.
LEAF = 0
MUTABLE = 1
IMMUTABLE = 2

IMMUTABLE_CONTAINERS: tuple[type, ...] = (tuple, frozenset, slice)


class Roles(dict[type, int]):
    """The role of each class; ``RefusedClass`` for what can't be kept.

    One is made for each value that is encoded, so that a class registered meanwhile is seen.
    """

    def __init__(self, types: TypeRegistry) -> None:
        super().__init__(_NATIVE_ROLES)
        self.types = types

    def __missing__(self, cls: type) -> int:
        plan = self.registration(cls).plan
        role = self[cls] = LEAF if isinstance(plan, MemberPlan) else IMMUTABLE if is_built(plan) else MUTABLE
        return role

    def registration(self, cls: type) -> Registration:
        """How the class is registered."""
        found = self.types.by_class(cls)
        if found is None:
            raise RefusedClass(cls)
        return found


_NATIVE_ROLES: dict[type, int] = {
    **dict.fromkeys(PLAIN_TYPES, LEAF),
    **dict.fromkeys(LEAVES, LEAF),
    **dict.fromkeys(BUILTIN_CONTAINERS, MUTABLE),
    **dict.fromkeys(IMMUTABLE_CONTAINERS, IMMUTABLE),
}
