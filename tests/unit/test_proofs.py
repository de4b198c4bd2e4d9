"""The proofs that scripts/prove.sh runs: each test that they name is there, and what they gave is told truly."""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

from flowpersist.testing.conformance import BackendConformance
from flowpersist.testing.suite.ground import LONG

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import prove  # noqa: E402 - from the folder of scripts

PROOFS = prove.proofs()
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
REPORT = """<testsuites><testsuite>
<testcase classname="a" name="fine[sqlite]"/>
<testcase classname="a" name="counted"><properties><property name="attempts" value="200"/></properties></testcase>
<testcase classname="a" name="left_out"><skipped/></testcase>
<testcase classname="b" name="wrong"><failure>no</failure></testcase>
<testcase classname="b" name="broken"><error>no</error></testcase>
</testsuite></testsuites>"""


@cache
def names(path):
    """Of the tests in a file, those of its classes with the class before."""
    found = set()
    for one in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        inner = one.body if isinstance(one, ast.ClassDef) else ()
        if isinstance(one, ast.ClassDef):
            found.add(one.name)
        named = [each for each in (one, *inner) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
        found |= {each.name if each is one else f"{one.name}::{each.name}" for each in named}
    return found


@pytest.mark.parametrize("proof", PROOFS, ids=lambda proof: proof.name)
def test_each_test_that_a_proof_names_is_there(proof):
    assert proof.tests or proof.command
    for test in proof.tests:
        path, _, name = test.partition("::")
        assert (ROOT / path).is_file(), test
        inherited = name.rpartition("::")[2] in dir(BackendConformance) and name.partition("::")[0] in names(path)
        assert not name or name in names(path) or inherited, test


@pytest.mark.parametrize("proof", PROOFS, ids=lambda proof: proof.name)
def test_each_figure_stands_in_the_documentation(proof):
    assert f"| `{proof.name}` |" in PAGE


@pytest.mark.parametrize("proof", PROOFS, ids=lambda proof: proof.name)
def test_attempts_are_of_tests_of_the_proof(proof):
    assert set(proof.attempts) <= {test.rpartition("::")[2] for test in proof.tests}


def test_attempts_of_the_suite_are_those_of_its_forms():
    known = {name: short for proof in PROOFS for name, (short, _) in proof.attempts.items()}
    assert LONG or known["test_one_of_many_tasks_wins"] == BackendConformance.race_rounds
    assert LONG or known["test_what_killed_writers_were_told_is_there"] == BackendConformance.kills
    assert LONG or known["test_lost_acknowledgements_of_puts"] == BackendConformance.lost


def test_names_are_of_one_proof_each():
    assert len({proof.name for proof in PROOFS}) == len(PROOFS)


def test_a_report_is_added_up(tmp_path):
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    told = prove.told(report, {"fine": 10})
    assert (told.tests, told.attempts, told.failed, told.skipped) == (4, 212, ("b::wrong", "b::broken"), 1)


def test_the_table_adds_up_what_rounds_gave():
    one = prove.line(PROOFS[0], prove.Outcome(2, 20, ("a",), 1), seconds=1.4)
    other = prove.line(PROOFS[1], prove.Outcome(1, 1), seconds=2)
    rows = [row.split() for row in prove.table([one, other, one]).splitlines()]
    assert rows == [
        ["figure", "runs", "tests", "attempts", "failures", "skipped", "seconds"],
        [PROOFS[0].name, "2", "4", "40", "2", "2", "3"],
        [PROOFS[1].name, "1", "1", "1", "0", "0", "2"],
    ]


def test_what_would_be_run_is_listed(capsys):
    assert prove.main(["--list", "--local"]) == 0
    said = capsys.readouterr().out
    assert "FLOWPERSIST_LONG=1 " in said
    assert all((f"\n{proof.name}: " in f"\n{said}") is not proof.own for proof in PROOFS)


def test_nothing_to_run_is_no_success():
    assert prove.main(["1", "--local", "--only", "server-kill"]) == 2


@pytest.mark.parametrize("given", [["--only", "nothing"], ["0"], ["nan"], ["-1"]])
def test_what_makes_no_sense_is_refused(given):
    with pytest.raises(SystemExit) as refused:
        prove.arguments(given)
    assert refused.value.code == 2
