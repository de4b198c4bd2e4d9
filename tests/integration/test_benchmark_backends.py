"""The benchmark of backends runs, and compares what it says. No time is asserted: machines differ."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
LOCAL = ["sqlite", "file", "memory"]


def run(*options: str) -> str:
    command = [sys.executable, BENCHMARKS / "backends", "--rounds", "1", "--backends", ",".join(LOCAL), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(output: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in output.splitlines() if line[:1] == "|"]


@pytest.mark.slow
def test_each_store_is_compared_with_its_floor_and_each_goal_is_told():
    printed = rows(run("--cases", "1MB,10MB", "--size", "5000", "--peers", "none"))
    floors = [row for row in printed if len(row) == 12 and row[0].endswith("5 KB")]
    assert [(row[0], row[9]) for row in floors] == [
        (f"{name}, 5 KB", goal) for name in LOCAL for goal in ("1.15", "1.1")
    ]
    assert {row[4].strip("*") for row in floors} <= {"met", "missed"}
    hubs = [row for row in printed if len(row) == 8 and row[0].endswith("5 KB")]
    assert [row[-1].strip("*") for row in hubs] == ["", "met"] * len(LOCAL)


@pytest.mark.slow
def test_programs_get_the_same_figures():
    figures = json.loads(run("--cases", "10MB", "--size", "5000", "--peers", "none", "--json"))
    for name in LOCAL:
        bytes_found, states_found = figures[name]["10MB"]["bytes"], figures[name]["10MB"]["states"]
        assert set(bytes_found) == {"ours", "floor"}
        assert all(set(verbs) == {"put", "claim", "get"} for verbs in bytes_found.values())
        assert set(states_found["ours"]) == {"suspend", "claim", "resume", "list", "cleanup"}
        assert all(times["median"] <= times["p99"] for times in bytes_found["ours"].values())


@pytest.mark.slow
def test_many_records_have_pages_by_each_criterion():
    figures = json.loads(run("--scale", "--size", "400", "--json"))["scale"]
    assert {name: [one["records"] for one in found] for name, found in figures.items()} == {
        "sqlite": [400, 800],
        "file": [400, 800],
    }
    assert all(len(one["pages"]) == 8 and one["removed"] == one["records"] // 2 for one in figures["sqlite"])


@pytest.mark.slow
def test_a_race_has_one_winner_for_each_key():
    figures = json.loads(run("--races", "--size", "20", "--json"))["races"]
    assert set(figures) == {"sqlite", "file"}
    assert all((one["keys"], one["won"]) == (20, 20) for found in figures.values() for one in found.values())
