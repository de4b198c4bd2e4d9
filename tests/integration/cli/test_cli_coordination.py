"""The stores from the shell: locks, signals, observations, features and artifacts."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time

import pytest

from flowpersist.cli.exits import Exit

COMMAND = [sys.executable, "-m", "flowpersist"]
#: Seconds after which a test gives up, on a machine that is busy with others.
MOST = 60


@pytest.fixture
def shell(place, made):
    """``shell("lock", "acquire", "a")`` starts a process; what a test leaves running is ended."""
    started = []

    def start(*arguments, **options):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        process = subprocess.Popen([*COMMAND, *map(str, arguments)], cwd=place, env=dict(os.environ), **options)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def said(result):
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def until(found):
    """What a function gives as soon as it is true."""
    ends = time.monotonic() + MOST
    while not (result := found()):
        assert time.monotonic() < ends
        time.sleep(0.05)
    return result


# ---- locks


def test_a_lease_is_renewed_and_released_by_other_processes(cli, made):
    lease = said(cli("lock", "acquire", "repo", "--agent", "ana", "--ttl", "1m", "--json"))
    assert (lease["path"], lease["agent"], lease["fence"], lease["type"]) == ("repo", "ana", 1, "exclusive")
    refused = cli("lock", "acquire", "repo", "--agent", "ben")
    assert refused.exit_code == Exit.NOT_YET
    assert "another agent holds the lock" in refused.stderr
    assert "ana" not in refused.stderr
    renewed = cli("lock", "renew", "-", "--ttl", "1h", stdin=lease["lease"] + "\n")
    (held,) = said(cli("lock", "holders", "repo", "--json"))
    assert held["expiresAt"] > lease["expiresAt"]
    assert held["lease"] == renewed.stdout.strip()
    assert "ana" in cli("lock", "holders", "repo").stdout
    assert cli("lock", "release", lease["lease"]).stdout == "released\n"
    assert cli("lock", "release", lease["lease"]).stdout == "it had ended\n"
    assert cli("lock", "renew", lease["lease"]).exit_code == Exit.NOT_YET
    assert cli("lock", "holders", "repo").stdout == "nobody\n"
    assert said(cli("lock", "acquire", "repo", "--agent", "ben", "--json"))["fence"] == 2


def test_shared_locks_go_together(cli, made):
    for agent in ("ana", "ben"):
        assert cli("lock", "acquire", "repo", "--agent", agent, "--shared").exit_code == 0
    assert len(said(cli("lock", "holders", "repo", "--json"))) == 2
    assert cli("lock", "acquire", "repo", "--agent", "chen").exit_code == Exit.NOT_YET


@pytest.mark.parametrize(
    "lease",
    [
        "",
        "nonsense",
        "W10",
        base64.urlsafe_b64encode(b'["a","b","c","d","e"]').decode(),
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
        base64.urlsafe_b64encode(b'["a","b",1,"2027-01-01T00:00:00+00:00"]').decode(),
        "é",
    ],
    ids=["empty", "nonsense", "no fields", "no fence", "deep", "four fields", "no base64"],
)
def test_a_malformed_lease_is_refused(cli, made, lease):
    for verb in ("renew", "release"):
        refused = cli("lock", verb, lease)
        assert refused.exit_code == Exit.CONFIGURATION
        assert "Invalid LEASE: expected what `lock acquire`" in refused.stderr


def test_a_command_runs_under_a_lock_and_gives_its_exit_code(cli, made, shell):
    held = "lock run repo --agent ana --ttl 1m --json -- "
    code = "import os, sys; sys.exit(int(os.environ['FLOWPERSIST_FENCE']) + 40)"
    for fence in (1, 2):
        assert shell(*held.split(), sys.executable, "-c", code).wait(MOST) == fence + 40
    assert cli("lock", "holders", "repo").stdout == "nobody\n"
    absent = shell(*held.split(), "no-such-command")
    assert absent.wait(MOST) == 127
    assert "no-such-command" in absent.stderr.read()
    assert shell(*held.split(), "bash", "-c", "kill -9 $$").wait(MOST) == 137


def test_a_command_is_ended_when_the_lease_is_lost(cli, made, shell, place):
    script = "trap 'echo ended >ended; exit' TERM; echo begun >begun; while :; do sleep 0.1; done"
    running = shell("lock", "run", "repo", "--agent", "ana", "--ttl", "3s", "--", "bash", "-c", script)
    until((place / "begun").exists)
    (held,) = said(cli("lock", "holders", "repo", "--json"))
    assert cli("lock", "release", held["lease"]).stdout == "released\n"
    assert running.wait(MOST) == Exit.NOT_YET
    assert (place / "ended").exists()
    assert "lease" in running.stderr.read()


def test_a_command_is_ended_with_the_process_that_holds_its_lock(cli, made, shell, place):
    script = "trap 'echo ended >ended; exit' TERM; echo begun >begun; while :; do sleep 0.1; done"
    running = shell("lock", "run", "repo", "--agent", "ana", "--", "bash", "-c", script)
    until((place / "begun").exists)
    running.terminate()
    assert running.wait(MOST) == 143
    assert (place / "ended").exists()
    assert cli("lock", "holders", "repo").stdout == "nobody\n"


def test_the_lock_of_a_killed_process_is_had_when_its_lease_ends(cli, made, shell, place):
    script = "echo $$ >begun; exec sleep 60"
    running = shell("lock", "run", "repo", "--agent", "ana", "--ttl", "2s", "--", "bash", "-c", script)
    process = int(until(lambda: (place / "begun").exists() and (place / "begun").read_text()))
    running.kill()
    lease = said(cli("lock", "acquire", "repo", "--agent", "ben", "--wait", f"{MOST}s", "--json"))
    os.kill(process, 9)
    assert lease["fence"] == 2


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("acquire", "a", "--agent", "a", "--ttl", "365d"), Exit.CONFIGURATION),
        (("acquire", "a", "--agent", "a", "--ttl", "0"), Exit.USAGE),
        (("acquire", "", "--agent", "a"), Exit.CONFIGURATION),
        (("acquire", "a", "--agent", ""), Exit.CONFIGURATION),
        (("acquire", "a" * 5000, "--agent", "a"), Exit.CONFIGURATION),
        (("acquire", "a", "--agent", "a", "--project", ""), Exit.CONFIGURATION),
        (("run", "a", "--agent", "a", "--ttl", "365d", "--", "touch", "begun"), Exit.CONFIGURATION),
    ],
    ids=["ttl of a year", "no ttl", "no path", "no agent", "long path", "no project", "run"],
)
def test_a_lock_that_no_store_can_hold_is_refused(cli, made, place, words, code):
    refused = cli("lock", *words)
    assert refused.exit_code == code
    assert "Invalid" in refused.stderr
    assert not (place / "begun").exists()
    held = cli("lock", "holders", "a")
    assert (held.exit_code, held.stdout) == (0, "nobody\n"), held.stderr


# ---- signals


def test_signals_are_set_read_and_cleared(cli, made):
    assert cli("signal", "get", "COMPLETED").exit_code == Exit.NOT_FOUND
    assert cli("signal", "all").stdout == "no signal is set\n"
    assert cli("signal", "set", "COMPLETED").stdout == "set COMPLETED\n"
    assert cli("signal", "get", "COMPLETED").stdout == "true\n"
    assert said(cli("signal", "set", "ROUND", "3", "--critical", "--json"))["expiresAt"] is None
    assert cli("signal", "set", "NOTE", "go on", "--ttl", "1h").exit_code == 0
    assert cli("signal", "get", "NOTE").stdout == "go on\n"
    assert cli("signal", "set", "DATA", "-", stdin='{"a": [1]}').exit_code == 0
    assert said(cli("signal", "get", "DATA", "--json"))["value"] == {"a": [1]}
    assert [one["key"] for one in said(cli("signal", "all", "--json"))] == ["COMPLETED", "DATA", "NOTE", "ROUND"]
    assert cli("signal", "clear", "NOTE", "ROUND", "nothing").exit_code == 0
    assert [one["key"] for one in said(cli("signal", "all", "--json"))] == ["COMPLETED", "DATA"]


def test_several_signals_change_in_one_step(cli, made):
    cli("signal", "apply", "--set", "COMPLETED=1", "--set", "QA_PASSED=true")
    changed = ("--set", 'REJECTED=["evaluate"]', "--clear", "COMPLETED", "--clear", "QA_PASSED")
    assert said(cli("signal", "apply", *changed, "--json")) == {
        "set": {"REJECTED": ["evaluate"]},
        "cleared": ["COMPLETED", "QA_PASSED"],
    }
    assert [one["key"] for one in said(cli("signal", "all", "--json"))] == ["REJECTED"]
    assert cli("signal", "apply", "--set", "A=1", "--clear", "A").exit_code == Exit.CONFIGURATION
    for wrong in ((), ("--set", "A"), ("--set", "=1"), ("--set", "A=1", "--set", "A=2")):
        assert cli("signal", "apply", *wrong).exit_code == Exit.USAGE
    assert [one["key"] for one in said(cli("signal", "all", "--json"))] == ["REJECTED"]


def test_a_process_waits_for_the_signal_of_another(cli, made, shell):
    waiting = shell("signal", "wait", "GO")
    late = cli("signal", "wait", "GO", "--timeout", "0.1s")
    assert late.exit_code == Exit.NOT_YET
    assert waiting.poll() is None
    cli("signal", "set", "GO", '"now"')
    assert waiting.wait(MOST) == 0
    assert waiting.stdout.read() == "now\n"


# ---- observations


def test_observations_are_added_and_listed(cli, made):
    ids = [cli("observe", "add", text, "--agent", "ana").stdout.strip() for text in ("first", "3", "-x")[:2]]
    ids.append(said(cli("observe", "add", "--value", '{"a": 1}', "--agent", "ben", "--json"))["id"])
    ids.append(cli("observe", "add", "-", "--agent", "ben", stdin="long text").stdout.strip())
    assert len(set(ids)) == 4
    found = said(cli("observe", "recent", "--json"))
    assert [one["id"] for one in found] == ids[::-1]
    assert [one["content"] for one in found] == ["long text", {"a": 1}, "3", "first"]
    assert [one["content"] for one in said(cli("observe", "recent", "--agent", "ana", "-n", "1", "--json"))] == ["3"]
    assert cli("observe", "count").stdout == "4\n"
    assert cli("observe", "count", "--agent", "ana").stdout == "2\n"
    times = ("2020-01-01T00:00+00:00", "2120-01-01T00:00+00:00")
    assert len(said(cli("observe", "between", *times, "--json"))) == 4
    assert cli("observe", "between", times[0], times[0]).stdout == "none\n"
    assert "first" in cli("observe", "recent").stdout


def test_the_agent_may_stand_in_the_environment(cli, made, monkeypatch):
    assert cli("observe", "add", "x").exit_code == Exit.USAGE
    monkeypatch.setenv("FLOWPERSIST_AGENT", "ana")
    assert cli("observe", "add", "x").exit_code == 0
    assert said(cli("observe", "recent", "--json"))[0]["agent"] == "ana"
    for wrong in ((), ("x", "--value", "1"), ("--value", "{")):
        assert cli("observe", "add", *wrong).exit_code == Exit.USAGE


# ---- features


def test_features_are_saved_and_loaded(cli, made):
    assert cli("feature", "load").exit_code == Exit.NOT_FOUND
    assert cli("feature", "history").stdout == "none\n"
    for number in (1, 2):
        assert cli("feature", "save", "-", stdin=json.dumps({"number": number})).exit_code == 0
    assert said(cli("feature", "load", "--json")) == {"number": 2}
    assert json.loads(cli("feature", "load").stdout) == {"number": 2}
    assert said(cli("feature", "history", "-n", "5", "--json"))[0]["content"] == {"number": 2}
    assert cli("feature", "save", "{").exit_code == Exit.USAGE
    assert cli("feature", "save", "{}", "--if-revision", "1").exit_code == Exit.STORAGE
    assert cli("feature", "save", "null", "--if-revision", "2").stdout == "saved revision 3\n"
    assert cli("feature", "load").stdout == "null\n"


# ---- artifacts


def test_artifacts_are_streamed_through_pipes(cli, made, shell, place):
    content = os.urandom(3 * 2**20 + 1)
    (place / "in.bin").write_bytes(content)
    with (place / "in.bin").open("rb") as stream:
        assert shell("artifact", "write", "a/b c", stdin=stream, text=False).wait(MOST) == 0
    assert cli("artifact", "write", "other", "in.bin", "--media-type", "text/plain").exit_code == 0
    listed = {one["name"]: one for one in said(cli("artifact", "list", "--json"))}
    assert {name: one["size"] for name, one in listed.items()} == {"a/b c": len(content), "other": len(content)}
    assert listed["other"]["mediaType"] == "text/plain"
    assert "other" in cli("artifact", "list").stdout
    reading = shell("artifact", "open", "a/b c", text=False)
    assert reading.communicate(timeout=MOST)[0] == content
    assert cli("artifact", "open", "other", "--output", "out.bin").exit_code == 0
    assert (place / "out.bin").read_bytes() == content
    assert cli("artifact", "delete", "other").exit_code == 0
    for verb in ("open", "delete"):
        assert cli("artifact", verb, "other").exit_code == Exit.NOT_FOUND
    assert cli("artifact", "open", "other", "--output", "none.bin").exit_code == Exit.NOT_FOUND
    assert sorted(one.name for one in place.glob("*.bin*")) == ["in.bin", "out.bin"]


# ---- all


def test_a_project_sees_nothing_of_another(cli, made, monkeypatch):
    cli("signal", "set", "A", "1", "--project", "x")
    cli("lock", "acquire", "repo", "--agent", "ana", "--project", "x")
    cli("observe", "add", "seen", "--agent", "ana", "--project", "x")
    cli("feature", "save", "{}", "--project", "x")
    cli("artifact", "write", "a", "-", "--project", "x", stdin="bytes")
    for project in ((), ("--project", "y")):
        assert cli("signal", "get", "A", *project).exit_code == Exit.NOT_FOUND
        assert cli("lock", "holders", "repo", *project).stdout == "nobody\n"
        assert cli("observe", "count", *project).stdout == "0\n"
        assert cli("feature", "load", *project).exit_code == Exit.NOT_FOUND
        assert cli("artifact", "list", *project).stdout == "none\n"
    monkeypatch.setenv("FLOWPERSIST_PROJECT", "x")
    assert cli("signal", "get", "A").stdout == "1\n"
    assert cli("observe", "count").stdout == "1\n"


@pytest.mark.parametrize(
    "words",
    [
        "lock acquire a --agent a",
        "lock holders a",
        "signal set A",
        "signal all",
        "observe add x --agent a",
        "feature load",
        "artifact list",
    ],
)
def test_a_store_that_is_not_there_is_not_made(cli, place, words):
    refused = cli(*words.split())
    assert refused.exit_code == Exit.CONFIGURATION
    assert not list(place.glob("*.db"))


@pytest.mark.parametrize("words", ["lock", "lock acquire", "signal set", "observe between a b", "lock run a --agent a"])
def test_wrong_usage_is_a_problem_document_where_json_is_asked_for(cli, made, words):
    refused = cli(*words.split(), "--json")
    assert refused.exit_code == Exit.USAGE
    assert json.loads(refused.stderr)["type"] == "urn:flowpersist:error:usage"
