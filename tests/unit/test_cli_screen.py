"""What ``--follow`` draws: a line for each event, and on a terminal a bar for each map."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import wcwidth

from flowpersist.cli.screen import ERASE, Screen
from flowpersist.dynamicflow import StoredEvent


def event(kind, **data):
    return StoredEvent(1, datetime(2027, 1, 31, 17, tzinfo=UTC), kind, data)


def moved(path, done, items):
    return event("map-progress", node=path, path=path, done=done, items=items)


def screen(*, bars=True):
    return Screen(bars)


def seen(text):
    """What stands on a terminal after it was written: the lines, and the one that the cursor is in."""
    lines = [""]
    for part in text.replace(ERASE, "\0").replace("\n", "\n\0").split("\0"):
        if part.endswith("\n"):
            lines[-1] = part[:-1] or lines[-1]
            lines.append("")
        else:
            lines[-1] = part
    return lines


@pytest.fixture(autouse=True)
def columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")


def test_a_map_has_one_bar_in_place_of_the_lines_within_it(capsys):
    shown = screen()
    shown.show(event("node-start", node="each", path="each"))
    for done in range(5):
        shown.show(moved("each", done, 4))
        shown.show(event("tool-start", tool="say", path=f"each[{done}].one"))
        shown.show(event("node-complete", node="one", path=f"each[{done}].one"))
    shown.show(event("node-complete", node="each", path="each"))
    shown.show(event("node-start", node="last", path="last"))
    lines = seen(capsys.readouterr().err)
    assert lines[0] == "17:00:00 node-start each"
    assert lines[1].startswith("each  [####")
    assert lines[1].endswith("]  4/4  100%")
    assert lines[2:] == ["17:00:00 node-complete each", "17:00:00 node-start last", ""]


def test_errors_and_questions_are_lines_also_within_a_map(capsys):
    shown = screen()
    shown.show(moved("each", 1, 4))
    shown.show(event("node-error", node="one", path="each[1].one", error="no"))
    shown.show(event("flow-suspended", waits=[{"step": "each[2].ok"}], running=True))
    lines = seen(capsys.readouterr().err)
    assert lines[0] == "17:00:00 node-error each[1].one: no"
    assert (lines[1][:4], lines[1][-3:]) == ("each", "25%")
    assert lines[2:] == ["17:00:00 flow-suspended each[2].ok", ""]


def test_a_map_that_is_named_like_the_beginning_of_another_hides_nothing_of_it(capsys):
    shown = screen()
    shown.show(moved("each", 1, 4))
    shown.show(event("node-start", node="each2", path="each2"))
    assert seen(capsys.readouterr().err)[0] == "17:00:00 node-start each2"


def test_of_a_map_within_a_map_only_the_outer_one_has_a_bar(capsys):
    shown = screen()
    shown.show(moved("each", 1, 4))
    shown.show(moved("each[0].inner", 2, 3))
    assert seen(capsys.readouterr().err)[0].endswith(" 1/4   25%")


def test_of_maps_at_once_the_last_that_moved_is_drawn_and_each_stays_at_its_end(capsys):
    shown = screen()
    shown.show(moved("both[0].a", 1, 4))
    shown.show(moved("both[1].b", 1, 2))
    assert seen(capsys.readouterr().err)[-1].startswith("both[1].b")
    shown.show(event("node-complete", node="b", path="both[1].b"))
    lines = seen(capsys.readouterr().err)
    assert [line.split(" ")[0] for line in lines] == ["both[1].b", "17:00:00", "both[0].a"]


def test_a_bar_goes_back_where_a_run_does(capsys):
    shown = screen()
    shown.show(moved("each", 3, 4))
    shown.show(moved("each", 1, 4))
    assert seen(capsys.readouterr().err)[-1].endswith(" 1/4   25%")


def test_what_others_print_is_not_appended_to_a_bar(capsys):
    shown = screen()
    shown.show(moved("each", 1, 4))
    shown.erase()
    shown.erase()
    assert capsys.readouterr().err.endswith("25%" + ERASE)


@pytest.mark.parametrize("columns", ["30", "200", "junk"])
@pytest.mark.parametrize("path", ["each", "日本" * 60, "a\x1b[31m\nb" * 20])
def test_a_bar_takes_one_line_and_controls_no_terminal(capsys, monkeypatch, columns, path):
    monkeypatch.setenv("COLUMNS", columns)
    screen().show(moved(path, 7, 10))
    bar = capsys.readouterr().err.removeprefix(ERASE)
    assert "\x1b" not in bar
    assert "\n" not in bar
    assert 0 < wcwidth.width(bar) < (int(columns) if columns.isdigit() else 80)


def test_elsewhere_all_events_are_lines(capsys):
    shown = screen(bars=False)
    shown.show(moved("each", 1, 4))
    shown.show(event("node-start", node="one", path="each[1].one"))
    assert capsys.readouterr().err.splitlines() == [
        "17:00:00 map-progress each: 1 of 4",
        "17:00:00 node-start each[1].one",
    ]


def test_a_terminal_that_can_not_erase_has_no_bars(monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert Screen.of_process().bars
    monkeypatch.setenv("TERM", "dumb")
    assert not Screen.of_process().bars
    monkeypatch.setattr("sys.stderr", None)
    assert not Screen.of_process().bars
