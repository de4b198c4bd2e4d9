"""Every file that the command line or a setting names, and what may stand in its place: the command ends at once with
an exit code and a line, waits for nothing, and reads no more than such a file can have.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, suppress

import pytest

TERABYTE = 2**40
PATIENCE = 20
#: The lines of commands that read a file; the environment in place of the file where a setting names it.
LINES = {
    "keys file": ["--keys-file", "FILE", "list"],
    "keys file of the environment": {"FLOWPERSIST_KEYS_FILE": ["list"]},
    "keys file to append to": ["keygen", "--append", "FILE"],
    "keys file to change": ["--keys-file", "FILE", "keys", "add"],
    "audit key of the environment": {"FLOWPERSIST_AUDIT_KEY_FILE": ["audit", "checkpoint"]},
    "document": ["run", "FILE", "--tools", "tools.py"],
    "document to validate": ["flow", "validate", "FILE"],
    "document to show": ["flow", "show", "FILE"],
    "document to draw": ["flow", "graph", "FILE"],
    "document of a sub-flow": ["run", "flow.json", "--tools", "tools.py", "--flows", "other=FILE"],
    "document of an upgrade": ["check-upgrade", "--document", "FILE"],
    "document to rehearse": ["flow", "dry-run", "FILE"],
    "recording": ["flow", "dry-run", "flow.json", "--recording", "FILE"],
    "input": ["run", "flow.json", "--tools", "tools.py", "--input-file", "FILE"],
    "tools": ["run", "flow.json", "--tools", "FILE"],
    "types": ["check-upgrade", "--types", "FILE"],
    "keys of tenants": ["list", "--tenant-keys", "FILE"],
    "evidence": ["audit", "verify", "FILE", "--public-key", "PUBLIC"],
    "receipt": ["receipt", "--verify", "FILE", "--public-key", "PUBLIC"],
    "public key": ["audit", "verify", "flow.json", "--public-key", "FILE"],
    "checkpoint to verify with": ["audit", "verify", "--public-key", "PUBLIC", "--checkpoint", "FILE"],
    "checkpoint to prove from": ["audit", "prove", "--since", "FILE"],
    "export": ["import", "FILE"],
    "artifact": ["artifact", "write", "a", "FILE"],
}
PYTHON = {"tools", "types", "keys of tenants"}


def device(path):
    path.symlink_to("/dev/zero")


def too_large(path):
    path.touch(0o600)
    os.truncate(path, TERABYTE)


def garbage(path):
    path.write_bytes(bytes(range(256)) * 64)


def unreadable(path):
    path.write_text("{}")
    path.chmod(0)


def missing(path):
    """Nothing stands there."""


KINDS = {
    "pipe": os.mkfifo,
    "device": device,
    "directory": os.mkdir,
    "missing": missing,
    "unreadable": unreadable,
    "garbage": garbage,
    "too large": too_large,
}
#: What an artifact and a Python file may be.
ALLOWED = {("artifact", "garbage"), ("artifact", "too large"), *((name, "too large") for name in PYTHON)}


@contextmanager
def patience(file):
    """What waits for the other end of a pipe, in whichever thread, is given it."""

    def over(*_):
        with suppress(OSError):
            os.close(os.open(file, os.O_WRONLY | os.O_NONBLOCK))
        raise TimeoutError("the command waits")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def public(cli, place, monkeypatch):
    made = cli("audit", "keygen", "--name", "example.com/pay", "--output", "audit.key")
    monkeypatch.delenv("FLOWPERSIST_AUDIT_KEY", raising=False)
    monkeypatch.setenv("FLOWPERSIST_AUDIT_KEY_FILE", str(place / "audit.key"))
    return made.stdout.strip()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LINES)
def test_what_stands_in_the_place_of_a_file_is_refused(name, kind, cli, made, public, place, monkeypatch):
    if (name, kind) in ALLOWED:
        pytest.skip("no fault")
    if kind == "unreadable" and os.geteuid() == 0:
        pytest.skip("root reads every file")
    file = place / f"odd{'.py' if name in PYTHON else ''}"
    KINDS[kind](file)
    line = LINES[name]
    if isinstance(line, dict):
        ((setting, line),) = line.items()
        monkeypatch.setenv(setting, str(file))
    with patience(file):
        result = cli(*(word.replace("FILE", str(file)).replace("PUBLIC", public) for word in line))
    assert result.exit_code in {1, 2, 4, 5, 7, 9}, result.output
    assert result.stderr or result.stdout
    assert "Traceback" not in result.output
    # What is no file is drawn as a run of that name.
    if name != "document to draw" and kind in {"pipe", "device", "directory", "missing", "unreadable"}:
        assert "odd" in result.stderr


@pytest.mark.parametrize("line", [LINES["input"], LINES["evidence"], LINES["receipt"], LINES["artifact"]])
def test_standard_input_takes_a_pipe(line, cli, made, public):
    result = cli(*(word.replace("FILE", "-").replace("PUBLIC", public) for word in line), stdin='{"article": "lamps"}')
    assert result.exit_code == (9 if "PUBLIC" in line else 0)
