"""``audit deliver``: entries go elsewhere, each at least once, and the next call goes on there."""

from __future__ import annotations

import json

OWN = """
from flowpersist.errors import StorageError

class Own:
    name = "own"

    async def deliver(self, entries):
        with open("own.txt", "a") as file:
            file.writelines(one.id + "\\n" for one in entries)
        if {fails}:
            raise OSError("no reply")

sinks = [Own()]
nothing = 7
"""


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_file_gets_each_entry_and_the_next_call_what_is_new(cli, started, place):
    keys = started()
    first = cli("audit", "deliver", "--to", "file:audit.jsonl", "--json")
    assert first.exit_code == 0
    told = lines(place / "audit.jsonl")
    assert list(json.loads(first.stdout)["delivered"].values()) == [len(told)]
    assert (place / "audit.jsonl").stat().st_mode & 0o777 == 0o600
    cli("answer", keys["ok"], "--value", "true", "--by", "ann")
    # At once, though the process before has held the sink.
    again = cli("audit", "deliver", "--to", "file:audit.jsonl")
    assert (again.exit_code, again.stdout.startswith("delivered ")) == (0, True)
    new = lines(place / "audit.jsonl")[len(told) :]
    assert [one["verb"] for one in new if one["id"] not in {old["id"] for old in told}] == ["answer"]
    assert all("value" not in (wait["answer"] or {}) for one in new for wait in one["waits"])


def test_answers_are_written_where_that_is_said(cli, started, place):
    keys = started()
    cli("answer", keys["ok"], "--value", "true")
    assert cli("audit", "deliver", "--to", "file:all.jsonl", "--values").exit_code == 0
    answers = [wait["answer"] for one in lines(place / "all.jsonl") for wait in one["waits"] if wait["answer"]]
    assert [one["value"] for one in answers] == [True, True]


def test_a_sink_of_ones_own_that_fails_is_given_the_entries_again(cli, started, place):
    started()
    (place / "failing.py").write_text(OWN.format(fails="True"))
    (place / "own.py").write_text(OWN.format(fails="False"))
    assert cli("audit", "deliver", "--sinks", "failing.py").exit_code == 8
    first = (place / "own.txt").read_text().splitlines()
    assert cli("audit", "deliver", "--sinks", "own.py").exit_code == 0
    assert set(first) <= set((place / "own.txt").read_text().splitlines()[len(first) :])


def test_what_is_no_sink_is_refused(cli, started, place):
    started()
    (place / "own.py").write_text(OWN.format(fails="False"))
    for given, code in (
        ((), 2),
        (("--to", "audit.jsonl"), 2),
        (("--to", "file:"), 2),
        (("--sinks", "own.py:nothing"), 7),
        (("--sinks", "own.py:missing"), 7),
        (("--to", "file:nowhere/audit.jsonl"), 8),
    ):
        assert cli("audit", "deliver", *given).exit_code == code, given
