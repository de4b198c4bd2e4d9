"""Text for a terminal or a pipe: columns, hanging indents, and lengths of time as people say them.

In a terminal lines are wrapped at its width, by what its characters occupy. In a pipe each line is whole, so that
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

#: But for tabs and the ends of lines.
CONTROLS: Final = re.compile(r"(?!\t|\r?\n)[\x00-\x1f\x7f-\x9f]")
#: Narrower than this nothing is laid out: words would be cut into letters.
LEAST: Final = 24
#: The units of a length of time, in seconds.
UNITS: Final = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
LABEL: Final = 10


def terminal_width() -> int | None:
    """The columns of the terminal that standard output is, None where it is none."""
    # Whatever its type says, it is None where the process was started without any.
    terminal = bool(sys.stdout) and sys.stdout.isatty()
    return max(LEAST, shutil.get_terminal_size().columns) if terminal else None


def writable(text: str) -> str:
    """Text with lone surrogates escaped, as JSON and Python do: no stream takes them."""
    return text.encode(errors="backslashreplace").decode()


def printable(text: str) -> str:
    """The same with control characters escaped: names and answers of strangers must not steer a person's terminal."""
    return CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", writable(text))


def one_line(text: str) -> str:
    """Text on one line: a table's row is a line, whatever stands in its cells."""
    return " ".join(text.split())


def moment(value: datetime | None) -> str | None:
    """A time in ISO 8601, UTC."""
    return None if value is None else value.isoformat()


def ago(span: timedelta) -> str:
    """A length of time in its largest unit, such as 3d, 5h or 12s."""
    seconds = max(0, int(span.total_seconds()))
    name, size = next((unit for unit in UNITS if seconds >= unit[1]), UNITS[-1])
    return f"{seconds // size}{name}"


def indented(text: str, indent: str, width: int | None, *, first: str | None = None) -> list[str]:
    """Text below an indent, its own lines kept, each wrapped at ``width``; ``first`` stands before the first line."""
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
    """A named value: its further lines stand below the first, so that none of them looks like another field."""
    label = f"{printable(one_line(name))}:".ljust(LABEL) + " "
    indent = " " * min(len(label), LABEL + 1)
    if width is not None and wcwidth.width(label) > width // 2:
        return [label.rstrip(), *indented(value, "  ", width)]
    return indented(value, indent, width, first=label)


def table(rows: Sequence[tuple[str, ...]], width: int | None) -> list[str]:
    """Rows in columns, each as wide as its widest cell; the last one is cut at the terminal's width."""
    shown = [tuple(printable(one_line(cell)) for cell in row) for row in rows]
    widths = [max(wcwidth.width(cell) for cell in column) for column in zip(*shown, strict=True)]
    lines = [
        "  ".join(wcwidth.ljust(cell, size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in shown
    ]
    return lines if width is None else [_cut(line, width) for line in lines]


def _cut(line: str, width: int) -> str:
    return line if wcwidth.width(line) <= width else wcwidth.clip(line, 0, width - 1).rstrip() + "…"
