"""What a person types and sees: usage errors, names of runs, values, and text at every width."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import wcwidth

from flowpersist import AwaitInput, KeyRing, RaisingHub
from flowpersist.cli.commands import command

COMMAND = [sys.executable, "-m", "flowpersist"]
ADDRESS = {
    "type": "object",
    "properties": {
        "zip": {"$ref": "#/$defs/zip"},
        "floor": {"type": "integer"},
        "note": {"type": ["string", "null"]},
        "either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        "any": {},
    },
    "$defs": {"zip": {"type": "string", "pattern": "^[0-9]{5}$"}},
}
PROSE = "Long lines of words that no terminal is wide enough for, and 日本語の長い文章もあります。 " * 6
MULTILINE = "first line\nstatus:     completed\n\x1b[31mred"


REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"


def commands():
    """All commands by their names, those of groups by two words."""
    for name, one in command.commands.items():
        yield from (((f"{name} {inner}"), of) for inner, of in getattr(one, "commands", {}).items())
        if not hasattr(one, "commands"):
            yield name, one


@pytest.mark.parametrize(("name", "one"), [pytest.param(*found, id=found[0]) for found in sorted(commands())])
def test_the_reference_names_each_command_and_its_options(name, one):
    text = REFERENCE.read_text()
    options = {option for parameter in one.params for option in parameter.opts if option.startswith("--")}
    assert f"| `{name}" in text
    assert {one for one in options if one not in text} == set()


# ---- usage errors


@pytest.mark.parametrize(
    "arguments",
    [
        ("answer", "KEY"),
        ("answer", "KEY", "--value", "{"),
        ("answer", "KEY", "--value", "hello"),
        ("list", "--status", "nothing"),
        ("list", "--nonsense"),
        ("run", "nowhere.json"),
        ("extend", "KEY"),
        ("extend", "KEY", "--timeout", "soon"),
        ("extend", "KEY", "--deadline", "2027-01-31T17:00"),
        ("nonsense",),
        ("keygen", "--output", "a", "--append", "flow.json"),
    ],
    ids=lambda arguments: " ".join(arguments)[:40],
)
@pytest.mark.parametrize("before", [True, False])
def test_wrong_usage_is_a_problem_document_where_json_is_asked_for(cli, arguments, before):
    line = ["--json", *arguments] if before else [*arguments, "--json"]
    result = cli(*line)
    problem = json.loads(result.stderr)
    assert (result.exit_code, result.stdout) == (2, "")
    assert problem["type"] == "urn:flowpersist:error:usage"
    assert problem["detail"]
    assert problem["usage"].startswith("Usage: ")


def test_text_behind_two_dashes_asks_for_no_json(cli):
    assert cli("list", "--nonsense", "--", "--json").stderr.startswith("Usage: ")


def test_a_bare_text_as_value_is_answered_with_its_quotes(cli, started):
    result = cli("answer", started()["ok"], "--value", "hello")
    assert result.exit_code == 2
    assert """--value '"text"'""" in result.stderr
    assert "hello" not in result.stderr


@pytest.mark.parametrize("text", ['{"count": 1, "count": 2}', '[{"a": {"b": 1, "b": 1}}]'])
def test_a_name_twice_in_one_object_is_refused(cli, started, place, text):
    key = started()["amount"]
    (place / "input.json").write_text(text)
    for line in (
        ("answer", key, "--value", text),
        ("answer", key, "--set", f"note={text}"),
        ("run", "flow.json", "--tools", "tools.py", "--input-file", "input.json"),
        ("run", "flow.json", "--tools", "tools.py", "--input", f"a={text}"),
    ):
        result = cli(*line)
        assert (result.exit_code, "occurs twice" in result.stderr) == (2, True), line


# ---- fields and names


def asked(place, schema, **options):
    """The key of a suspension that is made without the command."""

    async def suspend():
        ring = KeyRing.from_file("keys")
        async with RaisingHub.open(f"sqlite:///{place / 'flows.db'}", keyring=ring) as hub:
            ask = AwaitInput(id="ask", prompt=options.pop("prompt", "Where?"), schema=schema)
            waits = {f"wait-{n}": ask for n in range(options.pop("waits", 1))}
            new = await hub.suspend({}, awaiting=waits, **options)
            return str(next(iter(new.keys.values()))), str(new.id)

    return asyncio.run(suspend())


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("zip=12345", {"zip": "12345"}),
        ("zip=01234", {"zip": "01234"}),
        ("floor=3", {"floor": 3}),
        ("note=3", {"note": "3"}),
        ("note=null", {"note": None}),
        ("note=true", {"note": "true"}),
        ('note="3"', {"note": "3"}),
        ("either=3", {"either": 3}),
        ("any=3", {"any": 3}),
        ("any=word", {"any": "word"}),
    ],
)
def test_a_field_is_text_where_the_schema_says_text(cli, place, given, kept):
    key, found = asked(place, ADDRESS)
    assert cli("answer", key, "--set", given).exit_code == 0

    async def taken():
        ring = KeyRing.from_file("keys")
        async with RaisingHub.open(f"sqlite:///{place / 'flows.db'}", keyring=ring) as hub:
            return (await hub.resume(key)).answer

    assert asyncio.run(taken()) == kept
    assert json.loads(cli("show", found, "--json").stdout)["status"] == "completed"


def test_a_run_is_found_by_the_name_that_it_was_started_with(cli, started):
    keys = started("--run-id", "r1")
    shown = json.loads(cli("show", "r1", "--json").stdout)
    assert {wait["name"].rsplit(".", 1)[-1] for wait in shown["waits"]} >= {"ok", "amount"}
    assert set(json.loads(cli("keys", "r1", "--json").stdout).values()) == set(keys.values())
    assert cli("extend", "r1", "--timeout", "2h").stdout.count(" until ") == 2
    assert cli("outcome", "r1").exit_code == 3
    assert cli("cancel", "r1").stdout == f"cancelled: {shown['id']}\n"
    assert cli("show", "r2").exit_code == 5


def test_outcome_prints_what_a_run_came_to(cli, started):
    keys = started("--run-id", "r1")
    cli("answer", keys["ok"], "--value", "true")
    cli("resume", keys["amount"], "--set", "count=2", "--tools", "tools.py")
    assert json.loads(cli("outcome", "r1", "--json").stdout)["result"] == "2 lamps: shipped"


def test_extend_moves_the_deadline_to_a_time(cli, place):
    key, _ = asked(place, bool)
    result = cli("extend", key, "--deadline", "2099-01-31T17:00+01:00")
    assert "2099-01-31T16:00:00+00:00" in result.stdout


def test_tick_settles_what_time_has_changed(cli, made):
    assert cli("tick").stdout == "updated 0\n"
    assert json.loads(cli("tick", "--json").stdout) == {"updated": 0}


# ---- keys


def test_keygen_appends_to_a_file_whose_older_keys_still_seal(cli, place, started):
    keys = started()
    before = KeyRing.from_file("keys")
    assert cli("keygen", "--append", "keys", "--kid", "next").exit_code == 0
    ring = KeyRing.from_file("keys")
    assert (ring.primary, ring.kids) == (before.primary, (*before.kids, "next"))
    assert stat.S_IMODE((place / "keys").stat().st_mode) == 0o600
    assert cli("answer", keys["ok"], "--value", "true").exit_code == 0
    assert sorted(path.name for path in place.iterdir() if "keys" in path.name) == ["keys"]


def test_keygen_appends_no_id_twice_and_to_no_other_file(cli, place):
    before = (place / "keys").read_bytes()
    kid = KeyRing.from_file("keys").primary
    assert cli("keygen", "--append", "keys", "--kid", kid).exit_code == 7
    assert cli("keygen", "--append", "nowhere").exit_code == 2
    assert cli("keygen", "--append", "flow.json").exit_code == 7
    assert (place / "keys").read_bytes() == before


def test_keygen_appends_to_what_a_link_leads_to_and_keeps_its_mode(cli, place):
    (place / "keys").chmod(0o640)
    (place / "link").symlink_to("keys")
    assert cli("keygen", "--append", "link").exit_code == 0
    assert (place / "link").is_symlink()
    assert len((place / "keys").read_text().splitlines()) == 2
    assert stat.S_IMODE((place / "keys").stat().st_mode) == 0o640


def test_two_who_append_at_once_lose_no_key(cli, place):
    line = [*COMMAND, "keygen", "--append", "keys", "--json"]
    made = [subprocess.Popen(line, cwd=place, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    kids = {json.loads(process.communicate(timeout=60)[0])["kid"] for process in made}
    assert len(kids) == 4
    assert kids < set(KeyRing.from_file(place / "keys").kids)


def test_keygen_appends_to_no_pipe_and_to_no_other_text(cli, place):
    os.mkfifo(place / "pipe")
    assert cli("keygen", "--append", "pipe").exit_code == 7
    (place / "other").write_text("schlüssel")
    refused = cli("keygen", "--append", "other")
    assert (refused.exit_code, "name a readable text file" in refused.stderr) == (7, True)


@pytest.mark.parametrize("name", ["", "-", "01a2232b-e1e6-7de9-94db-aa251d7130bc", "df_susp_hello"])
def test_a_name_by_which_the_run_would_not_be_found_is_refused(cli, place, name):
    result = cli("run", "flow.json", "--tools", "tools.py", "--input", "article=lamps", "--run-id", name)
    assert (result.exit_code, "--run-id" in result.stderr) == (2, True)
    assert cli("list").stdout == "nothing found\n"


def test_extending_what_has_no_open_wait_is_refused(cli, started):
    keys = started("--run-id", "r1")
    cli("answer", keys["amount"], "--set", "count=3")
    cli("answer", keys["ok"], "--value", "true")
    result = cli("extend", "r1", "--timeout", "3d")
    assert (result.exit_code, result.stdout) == (6, "")
    assert "no open wait" in result.stderr


@pytest.mark.parametrize("command", [("list",), ("show", "r1"), ("outcome", "r1"), ("health",)])
def test_no_command_needs_a_standard_output(started, place, command):
    """A supervisor may start a process without one."""
    started("--run-id", "r1")
    line = ["bash", "-c", 'exec "$@" >&-', "bash", *COMMAND, *command]
    ended = subprocess.run(line, cwd=place, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert "Traceback" not in ended.stderr
    assert ended.returncode == (3 if command[0] == "outcome" else 0)


def test_plain_text_is_told_by_commands_that_store_and_by_no_other(cli, place, monkeypatch):
    monkeypatch.delenv("FLOWPERSIST_KEYS_FILE")
    started = cli("run", "flow.json", "--tools", "tools.py", "--input", "article=lamps", "--json")
    assert "flowpersist keygen --output keys.txt" in started.stderr
    assert "keyring=None" not in started.stderr
    assert "plain text" not in cli("list").stderr
    assert "plain text" in cli("answer", json.loads(started.stdout)["waits"][1]["key"], "--value", "true").stderr


# ---- layout


def in_terminal(columns, *arguments, **environment):
    """What the command prints in a terminal of that width."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=follower,
        stderr=follower,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": str(columns), **environment},
    )
    os.close(follower)
    heard = b""
    try:
        while chunk := os.read(leader, 65536):
            heard += chunk
    except OSError:
        # The terminal is closed once the process has ended.
        pass
    os.close(leader)
    assert process.wait(timeout=30) == 0, heard
    return heard.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [60, 200])
@pytest.mark.parametrize("waits", [1, 40])
@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}])
def test_nothing_is_wider_than_the_terminal_or_looks_like_another_field(cli, place, columns, waits, environment):
    _, found = asked(
        place, ADDRESS, prompt=PROSE, waits=waits, metadata={"note": MULTILINE, "long": PROSE.strip()[:170]}
    )
    shown = in_terminal(columns, "show", found, **environment)
    listed = in_terminal(columns, "list", **environment)
    for line in (shown + listed).splitlines():
        assert wcwidth.width(line) <= columns, line
    # A value's own lines begin below its first.
    assert [line for line in shown.splitlines() if line.startswith("status:")] == ["status:    waiting"]
    assert "\x1b" not in shown + listed
    assert r"\x1b[31mred" in shown
    assert shown.count("wait-") == waits


def test_in_a_pipe_each_suspension_is_one_whole_line(cli, place):
    _, found = asked(place, bool, prompt=f"{PROSE}\nsecond", waits=3)
    lines = cli("list").stdout.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith(found)
    assert lines[1].count(" ".join(PROSE.split())) == 3


def test_the_wait_of_the_key_is_whole_among_many(cli, place):
    key, _ = asked(place, ADDRESS, waits=40)
    shown = cli("show", key).stdout
    assert shown.count("answer: {") == 1
    assert "wait wait-0: open" in shown


def test_list_tells_ages_deadlines_and_prompts(cli, place):
    asked(place, bool, prompt="Where to?")
    key, _ = asked(place, bool, prompt="Ship it?")
    cli("extend", key, "--timeout", "3d")
    text = cli("list").stdout
    assert text.splitlines()[0].split() == ["ID", "STATUS", "AGE", "DEADLINE", "WAITS"]
    assert "in 2d" in text
    assert "wait-0: Ship it?" in text
    assert "wait-0: Where to?" in text


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("oldest", "abc"),
        ("newest", "cba"),
        ("updated", "cab"),
        ("deadline", "bac"),
        ("status", "bac"),
    ],
)
def test_list_is_sorted_as_asked(cli, place, sort, order):
    ids = {name: asked(place, bool)[1] for name in "abc"}
    cli("extend", ids["a"], "--timeout", "3d")
    cli("extend", ids["b"], "--timeout", "2d")
    cli("cancel", ids["b"])
    if sort == "deadline":
        ids["b"], ids["c"] = ids["c"], ids["b"]
        cli("extend", ids["b"], "--timeout", "1d")
    names = {found: name for name, found in ids.items()}
    listed = json.loads(cli("list", "--sort", sort, "--json").stdout)["items"]
    assert "".join(names[one["id"]] for one in listed) == order


def test_a_page_that_is_not_the_whole_says_so_where_it_is_sorted(cli, place):
    for _ in range(2):
        asked(place, bool)
    assert "only this page of them is sorted" in cli("list", "--sort", "newest", "--limit", "1").stderr
    assert cli("list", "--sort", "newest", "--limit", "2").stderr == ""
