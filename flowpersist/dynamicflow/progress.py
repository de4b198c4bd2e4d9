"""How far a map is, told at most about once for each hundredth of its items."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    from flowpersist.dynamicflow.events import Emit

__all__ = ["Progress"]


@define
class Progress:
    """Tells how many of the items of the map ``node`` at ``path`` are done.

    Hundredths and not items: the events of a map of 10,000 items are stored, and one more for each would be a fifth.
    """

    emit: Emit
    node: str
    path: str
    items: int
    done: int = field(default=0, init=False)
    _told: int | None = field(default=None, init=False)

    def begin(self, done: int) -> None:
        """Tell how many were done before, if there are any items at all."""
        self.done = done
        self._tell()

    def further(self) -> None:
        """One more is done."""
        self.done += 1
        self._tell()

    def _tell(self) -> None:
        if not self.items:
            return
        hundredths = self.done * 100 // self.items
        if hundredths != self._told:
            self._told = hundredths
            told = {"node": self.node, "path": self.path, "done": self.done, "items": self.items}
            self.emit("map-progress", told)
