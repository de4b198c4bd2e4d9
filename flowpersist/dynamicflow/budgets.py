"""Bounds on the work that a document can make of values: on a value's size, and on each evaluation.

Values can share their parts: forty steps, each of which doubles the previous one, make a list that JSON would write as
10^12 items. So a size here is that of the expanded value: each part counts as often as it is reached. Computing it
visits each part once.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from attrs import define

__all__ = ["LARGEST", "MAX_FILLED", "MAX_OPTION", "MAX_TEXT", "MAX_VALUES", "Budget", "OverBudgetError", "Size"]

#: The limits of a value that steps pass on: its values, and the characters of all its texts.
MAX_VALUES: Final = 1_000_000
MAX_TEXT: Final = 64 * 1024 * 1024
#: The limit of nesting.
MAX_DEPTH: Final = 300
#: The most characters of a prompt or title after its references are filled in; a wait accepts no more.
MAX_FILLED: Final = 96 * 1024
#: The most values in what becomes text, and in what is awaited.
MAX_FILLED_VALUES: Final = 10_000
#: The most characters of a list that is given as text.
MAX_LIST_TEXT: Final = 1024 * 1024
#: The most characters of the value that selects a switch's branch.
MAX_OPTION: Final = 4096
#: The most steps, iterations counted, that run from one pause to the next: nested loops would run for years.
MAX_BEGUN: Final = 1_000_000
#: The values and characters that one evaluation may visit: comparing or searching a million takes a few milliseconds.
MAX_COMPARED: Final = 10_000
MAX_SEARCHED: Final = 4 * 1024 * 1024
#: The cost of a character that is converted into another one.
SLOW: Final = 16


class Size(NamedTuple):
    """The size of a value: its values, each as often as it is reached, and the characters of its texts."""

    values: int
    text: int


#: The limit of one value that steps pass on.
LARGEST: Final = Size(MAX_VALUES, MAX_TEXT)


class OverBudgetError(Exception):
    """A value or an evaluation exceeds its budget. The message says which limit."""


@define
class Budget:
    """The work that one evaluation has left."""

    values: int = MAX_COMPARED
    text: int = MAX_SEARCHED

    def spend(self, values: int = 0, text: int = 0) -> None:
        """Take from the budget; ``OverBudgetError`` if too little is left."""
        self.values -= values
        self.text -= text
        if self.values < 0:
            msg = f"compares more than {MAX_COMPARED} values"
            raise OverBudgetError(msg)
        if self.text < 0:
            msg = f"searches more than {MAX_SEARCHED} characters"
            raise OverBudgetError(msg)
