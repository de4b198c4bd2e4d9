"""Reading a small file of text: not more of it than such a file can have, whatever a path or a setting names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

__all__ = ["TooLarge", "text_of"]

#: The most bytes of a file of keys: tens of thousands of them.
MOST: Final = 4 * 1024 * 1024


class TooLarge(ValueError):
    """The file holds more than what is looked for."""


def text_of(path: str | os.PathLike[str], *, most: int = MOST, encoding: str = "ascii") -> str:
    """The text of a file; ``OSError`` or ``ValueError`` where it can't be read, is longer, or is no text."""
    with Path(path).open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise TooLarge(most)
    return data.decode(encoding).replace("\r\n", "\n")
