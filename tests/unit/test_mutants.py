"""The mutants that scripts/mutants.sh tries: what they replace and the tests that they name are there, each row of the
threat model has one or says why not, and what became of one is told truly.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path

import pytest
from attrs import evolve

from flowpersist.testing.conformance import BackendConformance

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import mutants  # noqa: E402 - from the folder of scripts
import prove  # noqa: E402 - as above

DEFENCES = mutants.defences()
MUTANTS = [mutant for defence in DEFENCES for mutant in defence.mutants]
THREATS = (ROOT / "docs" / "explanation" / "threat-model.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
ONE = mutants.Mutant("one", "it is off", "f.py", "a", "b", ("t.py::test_a", "t.py::test_b[x]"), "defence")
RED_A, RED_B = ("t.py::test_a[1]", "red", "no"), ("t.py::test_b[x]", "red", "no")


@cache
def text_of(path):
    return (ROOT / path).read_text(encoding="utf-8")


def attacks():
    """What the attackers of the threat model's table try to do."""
    table = THREATS.split("## Attackers")[1].split("\n## ")[0]
    cells = [[cell.strip() for cell in row.split("|")] for row in table.splitlines() if row.startswith("|")]
    return [row[2] for row in cells[2:]]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_mutant_replaces_what_is_there_once_by_other_code(mutant):
    made = mutants.mutated(mutant, ROOT)
    assert made != text_of(mutant.file)
    compile(made, mutant.file, "exec")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_test_that_a_mutant_names_is_there(mutant):
    assert mutant.tests
    for test in mutant.tests:
        path, _, name = test.partition("::")
        function = name.partition("[")[0].rpartition("::")[2]
        # A test of the suite stands in a class of its own, which each backend inherits.
        inherited = "::" in name and function in dir(BackendConformance)
        assert inherited or re.search(rf"^(async )?def {function}\(", text_of(path), re.MULTILINE), test


def test_names_are_of_one_mutant_or_defence_each():
    names = [defence.name for defence in DEFENCES] + [mutant.name for mutant in MUTANTS]
    assert sorted(names) == sorted(set(names))


def test_each_defence_has_a_mutant_or_says_why_not():
    assert [defence.name for defence in DEFENCES if bool(defence.mutants) is bool(defence.none)] == []


def test_each_row_of_the_threat_model_has_a_defence_and_each_defence_names_rows_that_are_there():
    named = [attack for defence in DEFENCES for attack in defence.attacks]
    assert len(attacks()) > 20
    assert set(named) == set(attacks())


def test_each_row_of_the_proofs_of_the_threat_model_has_a_defence():
    threats = PAGE.split("## Threat model")[1].split("\n## ")[0]
    rows = {proof.name for proof in prove.proofs() if f"| `{proof.name}` |" in threats}
    assert rows - {"mutants", "defences-off"} <= {defence.name for defence in DEFENCES}


def test_the_page_lists_all_of_them():
    """``scripts/mutants.sh --markdown`` prints the table anew."""
    assert mutants.markdown(DEFENCES) in PAGE


@pytest.mark.parametrize(
    ("told", "killed", "says"),
    [
        ([RED_A, RED_B], True, "killed"),
        ([RED_A, ("t.py::test_a[2]", "green", ""), RED_B], True, "killed"),
        ([RED_A, ("t.py::test_b[x]", "green", "")], False, "SURVIVES: t.py::test_b[x] stays green"),
        ([RED_B, ("t.py::test_a", "skipped", "")], False, "SURVIVES: t.py::test_a stays green"),
        ([RED_A, RED_B, ("t.py", "broken", "SyntaxError")], False, "BROKEN: t.py fails by no assertion: SyntaxError"),
        ([], False, "BROKEN: pytest fails by no assertion: it crashed"),
    ],
)
def test_a_mutant_is_killed_where_each_test_goes_red_by_an_assertion(told, killed, says):
    found = mutants.verdict(ONE, told, "before\nit crashed\n", 1.0)
    assert (found.killed, found.said) == (killed, says)


@pytest.mark.parametrize("text", ["", "a", "aa"])
def test_a_text_that_is_not_there_exactly_once_is_refused(tmp_path, text):
    (tmp_path / "f.py").write_text(text)
    if text == "a":
        assert mutants.mutated(ONE, tmp_path) == "b"
        return
    with pytest.raises(ValueError, match=f"stands {len(text)} times in f.py"):
        mutants.mutated(ONE, tmp_path)


def test_only_what_is_asked_for_is_chosen():
    first, second = MUTANTS[0], MUTANTS[1]
    assert mutants.chosen_of(DEFENCES, None) == DEFENCES
    (one,) = mutants.chosen_of(DEFENCES, [second.name])
    assert one == evolve(DEFENCES[0], mutants=(second,))
    assert mutants.chosen_of(DEFENCES, [first.defence]) == [DEFENCES[0]]


def test_what_would_be_switched_off_is_listed(capsys):
    assert mutants.main(["--list"]) == 0
    said = capsys.readouterr().out
    for mutant in MUTANTS:
        assert f"    {mutant.name}: {mutant.what} ({mutant.file})\n" in said
        assert all(f"        {test}\n" in said for test in mutant.tests)
    assert all(defence.none in said for defence in DEFENCES)


@pytest.mark.parametrize("given", [["--only", "nothing"], ["--jobs", "0"], ["--jobs", "many"], ["more"]])
def test_what_makes_no_sense_is_refused(given):
    with pytest.raises(SystemExit) as refused:
        mutants.arguments(given, DEFENCES)
    assert refused.value.code == 2
