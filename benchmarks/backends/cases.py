"""What is measured, and what it may take."""

from __future__ import annotations

from attrs import evolve, frozen

__all__ = ["CASES", "CRITERIA", "GROWTH", "INSERTS", "RACE", "SLACK", "Case"]

#: Milliseconds that a put or get may take beyond the floor, whatever the floor is.
SLACK = 0.1
#: A page at the largest number of records, as a multiple of a page at the smallest.
GROWTH = 1.5
#: Durable inserts a second by 50 tasks, on SQLite.
INSERTS = 10_000
#: The time of a race, as a multiple of the raw driver's.
RACE = 2.0
#: By what a page of many records is asked for.
CRITERIA = ("key", "status", "tool", "run", "tenant", "due", "status, due", "created")


@frozen
class Case:
    """A size, how many rounds it gets for each that is asked for, and the goals: ``floor`` is our put and get to the
    raw driver's, ``peer`` our suspend, claim and load to the best peer's put and get, ``limit`` milliseconds.
    """

    key: str
    size: int
    repeats: int
    floor: float
    peer: float
    limit: float | None = None

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.size // 1_000_000} MB" if self.size >= 1_000_000 else f"{self.size / 1000:g} KB"

    def at_most(self, size: int) -> Case:
        """The same, no larger than this."""
        return evolve(self, size=min(size, self.size))


CASES = {
    case.key: case
    for case in (
        Case("10KB", 10_000, 20, 1.5, 1.2),
        Case("1MB", 1_000_000, 4, 1.15, 0.8),
        # A suspension under 500 ms, and claimed and loaded again within a second.
        Case("10MB", 10_000_000, 1, 1.1, 0.7, 500.0),
    )
}
