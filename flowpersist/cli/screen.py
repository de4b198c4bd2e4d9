"""What ``--follow`` shows of a run on standard error: a line for each event, and on a terminal a bar for each map.

A bar takes the place of the lines of what happens within its map, apart from errors. It is drawn below the last line
and is erased before anything else is printed; it stays as a line once its map has ended or the run pauses.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

import click
import wcwidth
from attrs import define, field

from flowpersist.cli.layout import LEAST, one_line, printable
from flowpersist.dynamicflow.state import is_within

if TYPE_CHECKING:
    from flowpersist.dynamicflow import StoredEvent

__all__ = ["Screen"]

#: The most characters of what an event tells.
SHORT: Final = 120
#: The columns of a terminal that does not say how many it has, and of the name of a map.
USUAL: Final = 80
NAME: Final = 30
#: Moves to the beginning of the line and erases it.
ERASE: Final = "\r\x1b[K"
#: What a bar shows as well.
WITHIN: Final = frozenset({"node-start", "node-complete", "tool-start", "tool-output", "map-progress"})


@define
class Screen:
    """Standard error as a follower sees it. ``bars``: it is a terminal that can erase a line."""

    bars: bool
    #: Of each map that is going on: how many of its items are done, and how many there are.
    _maps: dict[str, tuple[int, int]] = field(factory=dict, init=False)
    _drawn: bool = field(default=False, init=False)

    @classmethod
    def of_process(cls) -> Screen:
        """The one of this process."""
        return cls(bool(sys.stderr) and sys.stderr.isatty() and os.environ.get("TERM") != "dumb")

    def show(self, event: StoredEvent) -> None:
        """Print an event, or move the bar of its map."""
        data: Any = event.data
        path = str(data.get("path", ""))
        if self.bars and event.type == "map-progress" and self._around(path) is None:
            self._maps[path] = (data["done"], data["items"])
            self._draw(path)
            return
        around = self._around(path) if event.type in WITHIN else None
        if around is not None:
            return
        self.erase()
        for ended in [one for one in self._maps if event.type in _ENDS or path == one]:
            click.echo(_bar(ended, *self._maps.pop(ended)), err=True)
        click.echo(printable(_line(event)), err=True)
        if self._maps:
            self._draw(next(reversed(self._maps)))

    def erase(self) -> None:
        """Make room for what somebody else prints."""
        if self._drawn:
            # It is a terminal, so nothing is to be stripped of what controls it.
            click.echo(ERASE, nl=False, err=True, color=True)
            self._drawn = False

    def _draw(self, path: str) -> None:
        # A terminal has one line that can be drawn again: of several maps at once it has the one that has moved last.
        click.echo(ERASE + _bar(path, *self._maps[path]), nl=False, err=True, color=True)
        self._drawn = True

    def _around(self, path: str) -> str | None:
        """The map that has a bar and that the path lies within."""
        return next((one for one in self._maps if path != one and is_within(path, one)), None)


#: After these nothing of the run goes on.
_ENDS: Final = frozenset({"flow-suspended", "flow-error", "flow-complete"})


def _bar(path: str, done: int, items: int) -> str:
    name = printable(one_line(path))
    name = name if wcwidth.width(name) <= NAME else f"{wcwidth.clip(name, 0, NAME - 1).rstrip()}…"
    bar = click.progressbar(length=items, label=name, show_eta=False, show_percent=True, show_pos=True)
    bar.make_step(done)
    return wcwidth.clip(bar.format_progress_line(), 0, _columns() - 1)


def _columns() -> int:
    """Those of standard error, which alone may be a terminal."""
    try:
        return max(LEAST, int(os.environ.get("COLUMNS") or os.get_terminal_size(sys.stderr.fileno()).columns or USUAL))
    except (OSError, ValueError):
        return USUAL


def _line(event: StoredEvent) -> str:
    """An event as one line: its time, its type, and where it happened or what it tells."""
    return one_line(f"{event.time:%H:%M:%S} {event.type} {_told(event)[:SHORT]}")


def _told(event: StoredEvent) -> str:
    data: Any = event.data
    match event.type:
        case "flow-start" | "flow-resumed":
            return " ".join([str(data.get("flow", "")), *data.get("answered", ())])
        case "flow-progress" | "map-progress":
            return _progress(event.type, data)
        case "flow-suspended":
            return ", ".join(wait["step"] for wait in data.get("waits", ()))
        case "flow-error":
            return str((data.get("error") or {}).get("detail", ""))
        case "node-error" | "tool-error":
            return f"{data.get('path')}: {data.get('error', '')}"
    return str(data.get("path", ""))


def _progress(kind: str, data: Any) -> str:  # noqa: ANN401 - JSON data
    if kind == "flow-progress":
        return f"step {data.get('step')} of {data.get('total')}: {data.get('node')}"
    return f"{data.get('path')}: {data.get('done')} of {data.get('items')}"
