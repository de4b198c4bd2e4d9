"""The benchmark of codecs runs, and its states are what its README says. No time is asserted: machines differ."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch):
    """What the benchmark's modules find, and nothing of it afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.syspath_prepend(BENCHMARKS / "codec")
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(BENCHMARKS)):
            del sys.modules[name]


def run(*options: str) -> str:
    command = [sys.executable, BENCHMARKS / "codec", "--rounds", "1", "--size", "5000", "--peers", "ours,pickle"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(output: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in output.splitlines() if line[:1] == "|"]


def test_the_tables_have_a_row_for_each_codec_and_each_goal():
    printed = rows(run("--states", "a,c"))
    assert [row[-1] for row in printed if row[0] == "ours"] == ["nothing", "nothing"]
    assert [row[-1] for row in printed if row[0] == "pickle"] == ["nothing", "nothing"]
    goals = [row for row in printed if len(row) == 7 and row[3].strip("*") in {"met", "missed"}]
    assert [(row[0], row[2], row[5]) for row in goals] == [
        ("a: agent history, 5 KB", "1", "0.75"),
        ("c: object graph, 5 KB", "1", "0.15"),
    ]
    assert ["runs what the bytes name", "UnsupportedType", "**runs**"] in printed


def test_programs_get_the_same_figures():
    figures = json.loads(run("--states", "b,d,e,a-10KB", "--json"))
    assert set(figures["states"]) == {"b", "d", "e", "a-10KB"}
    assert set(figures["blocks"]) == set(figures["peaks"]) == {"b", "d", "e"}
    assert all(one["lost"] == [] and one["failed"] == "" for of in figures["states"].values() for one in of.values())
    assert figures["probes"]["100,000 lists deep"] == {"ours": "kept", "pickle": "RecursionError"}


def test_times_can_be_had_alone():
    figures = json.loads(run("--states", "d", "--json", "--times"))
    assert set(figures) == {"python", "states"}
    assert "What becomes of" not in run("--states", "d", "--times")


@pytest.mark.usefixtures("benchmarks")
def test_losses_are_found():
    from losses import losses  # noqa: PLC0415 - on the path for this test alone

    shared = [1]
    cycle = []
    cycle.append(cycle)
    assert losses([shared, shared, cycle], [shared, shared, cycle]) == []
    assert losses([shared, shared], [[1], [1]]) == ["sharing lost"]
    assert losses([[1], [1]], [shared, shared]) == ["several become one"]
    assert losses(cycle, [[]]) == ["sharing lost"]
    assert losses([1, 2, (), ()], [1, 2, (), ()]) == []
    assert losses([(1,)], [()]) == ["tuple of another length"]
    assert losses([[]], [[2]]) == ["list of another length"]
    assert losses([(1,), (2,)], [[1], [2]]) == ["tuple becomes list"]
    assert losses([1, 2.0, {}], ["1", "2.0", {}]) == ["float, int become str"]
    assert losses([0.0, 1, "a"], [-0.0, 1, "b"]) == ["another float", "another str"]


@pytest.mark.slow
@pytest.mark.usefixtures("benchmarks")
@pytest.mark.parametrize("key", ["a", "b", "c", "d", "e", "a-1MB", "a-10KB"])
def test_states_are_as_large_as_they_say_and_always_the_same(key):
    from cases import CASES  # noqa: PLC0415 - on the path for this test alone

    case = CASES[key]
    data = pickle.dumps(case.make(), protocol=5)
    assert abs(len(data) - case.size) < case.size / 10
    assert case.size > 1_000_000 or pickle.dumps(case.make(), protocol=5) == data


@pytest.mark.slow
@pytest.mark.usefixtures("benchmarks")
def test_states_hold_what_they_are_said_to_hold():
    from cases import CASES  # noqa: PLC0415 - on the path for this test alone

    history = CASES["a"].make()
    messages = history["messages"]
    assert {len(one.text) < 4_500 for one in messages} == {True}
    assert sum(one.reply_to is not None for one in messages) > len(messages) / 3
    assert len({id(one.tool) for one in messages if one.tool}) == len(history["tools"]) == 20

    table = CASES["b"].make()
    assert abs(len(table) - 105_000) < 5_000
    assert {len(row) for row in table} == {14}

    graph = CASES["c"].make()
    nodes, edges = graph["nodes"], graph["edges"]
    assert abs(len(nodes) - 72_000) < 3_000
    assert len(edges) == len(nodes) // 2
    assert all(any(child is node for child in node.parent.children) for node in nodes[1:1_000])
    assert len({id(node.source) for node in nodes}) == 50
    assert not hasattr(edges[0], "__dict__")

    blobs = CASES["d"].make()
    assert {type(one) for one in blobs["random"]} == {bytes}
    assert {type(one) for one in blobs["text"]} == {str}

    numbers = CASES["e"].make()
    assert len(numbers) == 1_446
    assert {len(one) for one in numbers} == {768}
