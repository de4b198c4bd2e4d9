"""The command as a function, in a directory of its own with a store, a keyring and a flow."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from flowpersist.cli.commands import command

DOCUMENT = {
    "version": "1.0",
    "metadata": {"name": "shipping"},
    "flow": [
        {
            "id": "asked",
            "parallel": [
                {
                    "id": "amount",
                    "tool": "await_input",
                    "args": {
                        "id": "amount",
                        "prompt": "How many of $input.article?",
                        "schema": {
                            "type": "object",
                            "properties": {"count": {"type": "integer", "minimum": 1}, "note": {"type": "string"}},
                            "required": ["count"],
                            "additionalProperties": False,
                        },
                    },
                },
                {
                    "id": "ok",
                    "tool": "await_input",
                    "args": {"id": "ok", "prompt": "Ship it?", "schema": {"type": "boolean"}},
                },
            ],
        },
        {"id": "shipped", "tool": "ship", "args": {"article": "$input.article", "amount": "$amount", "ok": "$ok"}},
    ],
}
TOOLS = """
from flowpersist.dynamicflow import tool

@tool(id="ship")
async def ship(article: str, amount: dict, ok: bool) -> str:
    return f"{amount['count']} {article}: {'shipped' if ok else 'kept'}"

tools = [ship]
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current directory, with flow.json and tools.py, and settings for a store in it."""
    monkeypatch.chdir(tmp_path)
    for name in ("URL", "KEYS", "KEYS_FILE"):
        monkeypatch.delenv(f"FLOWPERSIST_{name}", raising=False)
    (tmp_path / "flow.json").write_text(json.dumps(DOCUMENT))
    (tmp_path / "tools.py").write_text(TOOLS)
    runner = CliRunner()
    assert runner.invoke(command, ["keygen", "--output", "keys"]).exit_code == 0
    monkeypatch.setenv("FLOWPERSIST_URL", f"sqlite:///{tmp_path / 'flows.db'}")
    monkeypatch.setenv("FLOWPERSIST_KEYS_FILE", str(tmp_path / "keys"))
    return tmp_path


@pytest.fixture
def made(cli):
    """An empty store in the directory."""
    assert cli("migrate").exit_code == 0


@pytest.fixture
def cli(place):
    """``cli("list", "--json")`` runs the command and gives its result; an exception that leaves it is raised here."""
    runner = CliRunner()

    def invoke(*arguments, stdin=None):
        result = runner.invoke(command, [str(argument) for argument in arguments], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def started(cli):
    """Starts the flow; gives the keys by step."""

    def start(*options):
        result = cli("run", "flow.json", "--tools", "tools.py", "--input", "article=lamps", "--json", *options)
        assert result.exit_code == 0, result.stderr
        return {wait["step"].rsplit(".", 1)[-1]: wait["key"] for wait in json.loads(result.stdout)["waits"]}

    return start
