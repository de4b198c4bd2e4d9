"""Text for a terminal or a pipe: columns, hanging indents, and durations.

In a terminal lines are wrapped at its width, by the width of their characters. In a pipe each line is whole, so that
``grep`` and ``awk`` find it.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import wcwidth

__all__ = ["ago", "field", "indented", "moment", "one_line", "printable", "table", "terminal_width", "writable"]

#: Apart from tabs and line ends.
CONTROLS: Final = re.compile(r"(?!\t|\r?\n)[\x00-\x1f\x7f-\x9f]")
#: The least width for a layout; below it words would be cut into letters.
LEAST: Final = 24
#: The units of a duration, in seconds.
UNITS: Final = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
LABEL: Final = 10


def terminal_width() -> int | None:
    """The columns of the terminal on standard output, None if it is not a terminal."""
    # It is None if the process was started without any, whatever its type says.
    terminal = bool(sys.stdout) and sys.stdout.isatty()
    return max(LEAST, shutil.get_terminal_size().columns) if terminal else None


def writable(text: str) -> str:
    """Escape lone surrogates as JSON and Python do, since no stream accepts them."""
    return text.encode(errors="backslashreplace").decode()


def printable(text: str) -> str:
    """Escape control characters too, so that foreign names and answers can't control a person's terminal."""
    return CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", writable(text))


def one_line(text: str) -> str:
    """Put text on one line, since a table's row is a line whatever its cells hold."""
    return " ".join(text.split())


def moment(value: datetime | None) -> str | None:
    """A time in ISO 8601, UTC."""
    return None if value is None else value.isoformat()


def ago(span: timedelta) -> str:
    """A duration in its largest unit, such as 3d, 5h or 12s."""
    seconds = max(0, int(span.total_seconds()))
    name, size = next((unit for unit in UNITS if seconds >= unit[1]), UNITS[-1])
    return f"{seconds // size}{name}"


def indented(text: str, indent: str, width: int | None, *, first: str | None = None) -> list[str]:
    """Indent text, keeping its lines and wrapping each at ``width``; ``first`` precedes the first line."""
    lead = indent if first is None else first
    lines: list[str] = []
    for line in printable(text).splitlines() or [""]:
        whole = f"{lead}{line}"
        if width is None or wcwidth.width(whole) <= width:
            lines.append(whole.rstrip())
        else:
            lines += wcwidth.wrap(line, width, initial_indent=lead, subsequent_indent=indent, control_codes="ignore")
        lead = indent
    return lines


def field(name: str, value: str, width: int | None) -> list[str]:
    """Format a named value: its further lines are indented, so that none of them looks like another field."""
    label = f"{printable(one_line(name))}:".ljust(LABEL) + " "
    indent = " " * min(len(label), LABEL + 1)
    if width is not None and wcwidth.width(label) > width // 2:
        return [label.rstrip(), *indented(value, "  ", width)]
    return indented(value, indent, width, first=label)


def table(rows: Sequence[tuple[str, ...]], width: int | None) -> list[str]:
    """Format rows in columns, each as wide as its widest cell; the last one is cut at the terminal's width."""
    shown = [tuple(printable(one_line(cell)) for cell in row) for row in rows]
    widths = [max(wcwidth.width(cell) for cell in column) for column in zip(*shown, strict=True)]
    lines = [
        "  ".join(wcwidth.ljust(cell, size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in shown
    ]
    return lines if width is None else [_cut(line, width) for line in lines]


def _cut(line: str, width: int) -> str:
    return line if wcwidth.width(line) <= width else wcwidth.clip(line, 0, width - 1).rstrip() + "…"
