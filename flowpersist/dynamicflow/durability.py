"""How often a running flow is stored between its pauses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from attrs import frozen

__all__ = ["AT_PAUSES", "TAKES", "Durability", "DurabilityOption", "durability_of"]

#: ``"pause"``, ``"step"``, ``{"every": n}`` or ``{"seconds": s}``.
DurabilityOption: TypeAlias = Literal["pause", "step"] | Mapping[str, float]

TAKES: Final = '"pause", "step", {"every": a number of steps from 1} or {"seconds": a number above 0}'
_MOST_STEPS: Final = 1_000_000
_MOST_SECONDS: Final = 86_400.0


@frozen
class Durability:
    """When finished steps are stored: after so ``many``, or at the latest after so many ``seconds``; both None: with
    the next pause.
    """

    many: int | None = None
    seconds: float | None = None

    @property
    def logs(self) -> bool:
        """Whether steps are stored between pauses."""
        return self.many is not None or self.seconds is not None


AT_PAUSES: Final = Durability()


def durability_of(given: object) -> Durability | None:
    """What an option says; None where it is not valid."""
    if isinstance(given, str):
        return {"pause": AT_PAUSES, "step": Durability(many=1)}.get(given)
    if not isinstance(given, Mapping) or len(given) != 1:
        return None
    match given:
        case {"every": int(many)} if not isinstance(many, bool) and 1 <= many <= _MOST_STEPS:
            return Durability(many=many)
        case {"seconds": int(seconds) | float(seconds)} if not isinstance(seconds, bool):
            return Durability(seconds=float(seconds)) if 0 < seconds <= _MOST_SECONDS else None
    return None
