"""Command lines that the documentation shows are ones that the command takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from flowpersist.cli.commands import command

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TYPED = re.compile(r"^\$ (?:\w+=\$\()?flowpersist (.*?)\)?$", re.MULTILINE)
#: What follows is the shell's: a pipe, a redirection, the background.
SHELL = re.compile(r" (?:[|&]|<<<|[<>]).*")


def typed(page: Path) -> list[list[str]]:
    shown = "\n".join(CONSOLE.findall(page.read_text(encoding="utf-8")))
    return [shlex.split(SHELL.sub("", line)) for line in TYPED.findall(shown)]


SHOWN = [(str(page.relative_to(ROOT)), words) for page in PAGES for words in typed(page)]


def named(words: list[str]) -> tuple[str, click.Command, list[str]]:
    """Name, command and arguments of a line; the command may be one of a group's."""
    name, *arguments = words
    found = command.commands[name]
    if isinstance(found, click.Group):
        name, *arguments = arguments
        found = found.commands[name]
    return name, found, arguments


def test_the_readme_shows_commands():
    assert {words[0] for page, words in SHOWN if page == "README.md"} >= {"run", "list", "answer", "resume"}


@pytest.mark.parametrize(("page", "words"), SHOWN)
def test_a_command_line_has_a_command_and_options_that_exist(page, words):
    _, found, arguments = named(words)
    known = {option for one in found.params for option in one.opts}
    arguments = arguments[: arguments.index("--")] if "--" in arguments else arguments
    assert [word for word in arguments if word.startswith("--") and word not in known] == [], page


def whole(words: list[str]) -> bool:
    """Whether no key is shortened in it, and every file that it names is one of the repository's."""
    files = [word for word in words if word.endswith((".json", ".py", ".txt")) and "=" not in word]
    return "…" not in " ".join(words) and all((ROOT / file).exists() for file in files)


@pytest.mark.parametrize(("page", "words"), [(page, words) for page, words in SHOWN if whole(words)])
def test_a_command_line_that_is_shown_in_full_parses(page, words, monkeypatch):
    monkeypatch.chdir(ROOT)
    name, found, arguments = named(words)
    assert found.make_context(name, arguments).info_name == name, page
