"""What is refused: each with its exit code, a line that names the thing, and nothing changed."""

from __future__ import annotations

import json
import re

import click
import pytest

from flowpersist.cli.inputs import json_of, read_key


def refused(result, code, *words):
    """One line at least, of the command itself, with these words in it, and no key's secret."""
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    assert result.stdout == ""
    for word in words:
        assert word in result.stderr


def test_invalid_answer_names_each_problem_and_leaves_the_wait_open(cli, started):
    keys = started()
    result = cli("answer", keys["amount"], "--set", "count=0", "--set", "colour=red")
    refused(result, 4, "/count", "colour")
    assert keys["amount"] not in result.stderr
    assert cli("answer", keys["amount"], "--set", "count=1").exit_code == 0


def test_invalid_answer_as_a_problem_document(cli, started):
    result = cli("answer", started()["amount"], "--value", '{"count": 0}', "--json")
    problem = json.loads(result.stderr)
    assert result.exit_code == 4
    assert problem["type"] == "urn:flowpersist:error:invalid-input"
    assert problem["problems"][0]["pointer"] == "/count"


def test_another_answer_to_the_same_wait_is_closed(cli, started):
    key = started()["ok"]
    assert json.loads(cli("answer", key, "--value", "true", "--by", "ana", "--json").stdout)["outcome"] == "accepted"
    assert json.loads(cli("answer", key, "--value", "true", "--json").stdout)["outcome"] == "replayed"
    refused(cli("answer", key, "--value", "false", "--by", "ben"), 6, "was answered by ana at ")


@pytest.mark.parametrize(
    "change",
    [
        lambda key: "nonsense",
        lambda key: key[:-3],
        lambda key: key[:-1] + ("a" if key[-1] != "a" else "b"),
        lambda key: key.replace("df_susp_", "other_"),
        lambda key: "",
    ],
    ids=["malformed", "truncated", "altered", "foreign", "empty"],
)
@pytest.mark.parametrize("verb", ["answer", "resume"])
def test_key_that_is_none_is_not_found(cli, started, verb, change):
    key = started()["ok"]
    refused(cli(verb, change(key), "--value", "true"), 5, "flowpersist: ")


def test_answer_takes_no_id(cli, started):
    started()
    found = json.loads(cli("list", "--json").stdout)["items"][0]["id"]
    refused(cli("answer", found, "--value", "true"), 5)


def test_unknown_id_is_not_found(cli, made):
    refused(cli("show", "01890a5d-ac96-774b-bcce-b302099a8057"), 5)


def test_cancelled_run_takes_no_answer(cli, started):
    keys = started()
    found = json.loads(cli("list", "--json").stdout)["items"][0]["id"]
    assert cli("cancel", found, "--reason", "out of stock").stdout == f"cancelled: {found}\n"
    refused(cli("answer", keys["ok"], "--value", "true"), 6)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"version": "9.9", "flow": []}, ["9.9"]),
        ({"flow": [{"id": "a", "tool": "nothing_such"}]}, ["nothing_such"]),
        ({"flow": [{"id": "a", "filter": "$nowhere", "condition": "$item"}]}, ["nowhere"]),
        ([], ["object"]),
    ],
    ids=["version", "tool", "reference", "no object"],
)
def test_document_that_can_not_run_is_refused(cli, place, document, words):
    (place / "bad.json").write_text(json.dumps(document))
    refused(cli("run", "bad.json"), 1, *words)


def test_document_that_is_no_json_is_refused(cli, place):
    (place / "bad.json").write_text("{")
    refused(cli("run", "bad.json"), 1, "JSON")


def test_resume_without_the_tools_leaves_the_run_as_it_was(cli, started):
    keys = started()
    cli("answer", keys["ok"], "--value", "true")
    refused(cli("resume", keys["amount"], "--set", "count=1"), 1, "ship")
    result = cli("resume", keys["amount"], "--set", "count=1", "--tools", "tools.py")
    assert result.stdout == "1 lamps: shipped\n"


@pytest.mark.parametrize(
    ("tools", "words"),
    [
        ("no_such_module", ["no_such_module"]),
        ("missing.py", ["missing.py"]),
        ("tools.py:nothing", ["nothing"]),
        ("broken.py", ["broken.py", "ZeroDivisionError"]),
    ],
)
def test_tools_that_can_not_be_loaded_are_a_wrong_setting(cli, place, tools, words):
    (place / "broken.py").write_text("1 / 0")
    refused(cli("run", "flow.json", "--tools", tools), 7, "--tools", *words)


def test_no_store_is_a_wrong_setting(cli, monkeypatch):
    monkeypatch.delenv("FLOWPERSIST_URL")
    refused(cli("list"), 7, "FLOWPERSIST_URL")


@pytest.mark.parametrize("url", ["nothing", "nosuch://x", "sqlite://"])
def test_url_that_makes_no_sense_is_a_wrong_setting(cli, url):
    refused(cli("list", "--url", url), 7)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KEYS", "nonsense"),
        ("COMPRESSION", "brotli"),
        ("MAX_STATE_BYTES", "many"),
        ("RETENTION", "soon"),
        ("SLOW_MS", "-1"),
        ("KEY_PREFIX", "not url safe/"),
    ],
)
def test_setting_that_makes_no_sense_is_named(cli, monkeypatch, name, value):
    monkeypatch.delenv("FLOWPERSIST_KEYS_FILE")
    monkeypatch.setenv(f"FLOWPERSIST_{name}", value)
    refused(cli("list"), 7, f"FLOWPERSIST_{name}")


def test_missing_keys_file_is_a_wrong_setting(cli):
    refused(cli("list", "--keys-file", "nowhere"), 7, "nowhere")


def test_store_without_its_keyring_is_a_wrong_setting(cli, started, monkeypatch):
    key = started()["ok"]
    monkeypatch.delenv("FLOWPERSIST_KEYS_FILE")
    refused(cli("answer", key, "--value", "true"), 7, "FLOWPERSIST_KEYS")


def test_another_keyring_is_a_wrong_setting(cli, started):
    key = started()["ok"]
    cli("keygen", "--output", "others")
    refused(cli("answer", key, "--value", "true", "--keys-file", "others"), 7)


def test_file_that_is_no_database_is_a_storage_failure(cli, place):
    (place / "text.db").write_text("this is no database, and is long enough to be looked at" * 50)
    result = cli("list", "--url", f"sqlite:///{place / 'text.db'}")
    assert result.exit_code in {8, 9}
    refused(result, result.exit_code, "text.db")


def test_cursor_of_no_page_is_invalid_input(cli, made):
    refused(cli("list", "--after", "nonsense"), 4, "/after")


def test_keygen_writes_over_nothing(cli, place):
    before = (place / "keys").read_text()
    refused(cli("keygen", "--output", "keys"), 7, "keys")
    assert (place / "keys").read_text() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("answer", "KEY"),
        ("answer", "KEY", "--value", "{"),
        ("answer", "KEY", "--value", "1", "--set", "a=1"),
        ("answer", "KEY", "--set", "a"),
        ("answer", "KEY", "--set", "=1"),
        ("answer", "KEY", "--set", "a=1", "--set", "a=2"),
        ("list", "--status", "nothing"),
        ("list", "--metadata", "a=[1]"),
        ("list", "--tenant", "x" * 600),
        ("run", "nowhere.json"),
        ("run", "flow.json", "--input", "a=1", "--input-file", "flow.json"),
        ("nonsense",),
    ],
    ids=lambda arguments: " ".join(arguments)[:40],
)
def test_wrong_usage_exits_with_2(cli, made, arguments):
    result = cli(*arguments)
    assert result.exit_code == 2, result.output
    assert re.search(r"^(Error|Usage): ", result.stderr, re.MULTILINE)


@pytest.mark.parametrize("file", ["bytes.json", "-"])
def test_input_that_is_no_text_exits_with_2(cli, place, file):
    (place / "bytes.json").write_bytes(b'"\xff"')
    result = cli("run", "flow.json", "--tools", "tools.py", "--input-file", file, stdin=b'"\xff"')
    assert result.exit_code == 2, result.output
    assert "--input-file" in result.stderr


def test_text_of_strangers_does_not_steer_the_terminal(cli, started):
    key = started()["ok"]
    assert cli("answer", key, "--value", "true", "--by", "eve\x1b]0;title\x07").exit_code == 0
    shown = cli("show", key)
    assert r"eve\x1b]0;title\x07" in shown.stdout
    refused = cli("answer", key, "--value", "false")
    assert r"eve\x1b]0;title\x07" in refused.stderr


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_lone_surrogates_in_a_result_are_escaped(cli, place, options):
    (place / "all.json").write_text('{"flow": [{"id": "all", "filter": "$input.items", "condition": "true"}]}')
    result = cli("run", "all.json", "--input", r'items=["\ud800", "é"]', *options)
    assert result.exit_code == 0
    assert r'"\ud800"' in result.stdout
    assert '"é"' in result.stdout


def test_standard_input_that_is_closed_is_empty(cli, started, monkeypatch):
    monkeypatch.setattr("flowpersist.cli.inputs.sys.stdin", None)
    assert read_key("-") == ""
    with pytest.raises(click.BadParameter):
        json_of("-", "--value")
