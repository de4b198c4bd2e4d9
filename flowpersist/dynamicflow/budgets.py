"""How much work a document may make of values: bounds on a value's size, and one budget for each evaluation.

Values share their parts: forty steps, each of which doubles the one before, make a list of forty lists that JSON writes
as a million million items. So a size here is that of the whole as whoever walks it meets it: each part counts as often
as it is reached. It is reckoned with a look at each part once.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from attrs import define

__all__ = ["LARGEST", "MAX_FILLED", "MAX_OPTION", "MAX_TEXT", "MAX_VALUES", "Budget", "OverBudgetError", "Size"]

#: Values in one value that steps hand on, and characters of all its texts.
MAX_VALUES: Final = 1_000_000
MAX_TEXT: Final = 64 * 1024 * 1024
#: Of what stands within one another.
MAX_DEPTH: Final = 300
#: Characters of a prompt or title once its references are filled in: a wait takes no more.
MAX_FILLED: Final = 96 * 1024
#: Values in what becomes text, and in what is awaited.
MAX_FILLED_VALUES: Final = 10_000
#: Characters of a list that is given as text.
MAX_LIST_TEXT: Final = 1024 * 1024
#: Characters of what a switch chooses by.
MAX_OPTION: Final = 4096
#: Values that one evaluation looks at, and characters: a million are compared or searched in a few milliseconds.
MAX_COMPARED: Final = 10_000
MAX_SEARCHED: Final = 4 * 1024 * 1024
#: How much longer a character takes where each is made into another.
SLOW: Final = 16


class Size(NamedTuple):
    """Of a value: its values, each as often as it is reached, and the characters of its texts."""

    values: int
    text: int


#: Of one value that steps hand on.
LARGEST: Final = Size(MAX_VALUES, MAX_TEXT)


class OverBudgetError(Exception):
    """A value or an evaluation is over its budget. Its message says over which."""


@define
class Budget:
    """What one evaluation may still do."""

    values: int = MAX_COMPARED
    text: int = MAX_SEARCHED

    def spend(self, values: int = 0, text: int = 0) -> None:
        """Take from it; ``OverBudgetError`` where that much is not left."""
        self.values -= values
        self.text -= text
        if self.values < 0:
            msg = f"looks at more than {MAX_COMPARED} values"
            raise OverBudgetError(msg)
        if self.text < 0:
            msg = f"looks at more than {MAX_SEARCHED} characters"
            raise OverBudgetError(msg)
