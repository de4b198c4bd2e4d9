"""What is measured, and how much of pickle's time it may take."""

from __future__ import annotations

from attrs import evolve, frozen
from states import ALL_STATES, of_size

__all__ = ["BLOCK_GOAL", "CASES", "PEAK_GOAL", "Case"]

#: Milliseconds for which the event loop may be blocked while a state of 10 MB goes through a codec in a thread.
BLOCK_GOAL = 20.0
#: The most memory that decoding may hold, as a multiple of its result.
PEAK_GOAL = 3.0


@frozen
class Case:
    """A state of a size, and the goals: our time as a multiple of pickle's, to encode and to decode.

    ``repeats``: how many times as many rounds it gets as are asked for. The less there is to do, the more a page fault
    or another process weighs.
    """

    key: str
    state: str
    size: int
    encode_goal: float
    decode_goal: float
    repeats: int = 1

    @property
    def types(self) -> tuple[type, ...]:
        """The classes that must be registered."""
        return ALL_STATES[self.state][1]

    @property
    def title(self) -> str:
        """For people."""
        size = f"{self.size // 1_000_000} MB" if self.size >= 1_000_000 else f"{self.size / 1000:g} KB"
        return f"{self.key[0]}: {self.state}, {size}"

    @property
    def large(self) -> bool:
        """Whether it is one of those that say something about the loop and about memory."""
        return len(self.key) == 1

    def make(self) -> object:
        """A fresh one; always the same."""
        return of_size(self.state, self.size)

    def at_most(self, size: int) -> Case:
        """The same state, no larger than this."""
        return evolve(self, size=min(size, self.size))


CASES = {
    case.key: case
    for case in (
        Case("a", "agent history", 10_000_000, 1.0, 0.75),
        Case("b", "rows", 10_000_000, 1.6, 0.4),
        Case("c", "object graph", 10_000_000, 1.0, 0.15),
        Case("d", "blobs", 10_000_000, 1.2, 1.1, repeats=4),
        Case("e", "floats", 10_000_000, 2.5, 0.75),
        Case("m", "dict messages", 10_000_000, 1.0, 1.0),
        Case("a-1MB", "agent history", 1_000_000, 1.3, 0.75, repeats=3),
        Case("a-10KB", "agent history", 10_000, 2.5, 2.5, repeats=3),
        Case("m-1MB", "dict messages", 1_000_000, 1.3, 1.2, repeats=3),
        Case("m-10KB", "dict messages", 10_000, 2.5, 2.5, repeats=3),
    )
}
