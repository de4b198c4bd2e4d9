"""The documentation: its examples run, its links lead somewhere, and what is public is named in its reference."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import flowpersist
from exported import unset
from flowpersist import blocking, dynamicflow, errors, stages, stores, testing
from flowpersist.blocking.portal import _close_all
from flowpersist.cli.commands import command as command_line
from flowpersist.lifecycle import Status
from flowpersist.settings import Settings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
TEXTS = [*PAGES, ROOT / "CHANGELOG.md", *sorted((ROOT / "specs").rglob("*.md"))]
REFERENCE = "\n".join(page.read_text(encoding="utf-8") for page in sorted((DOCS / "reference").glob("*.md")))
BLOCK = re.compile(r"^(<!-- not run: [^\n]+ -->\n\n?)?```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://)([^)#]*)(?:#([^)]+))?\)")
ERRORS = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.PersistenceError)]


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[tuple[int, bool, str]]:
    """Line, whether it is run, and code of each Python block."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, one.start(2)), one[1] is None, one[2]) for one in BLOCK.finditer(text)]


def said(name: str) -> bool:
    """Whether the reference names it, as code."""
    return re.search(rf"`[^`\n]*(?<![A-Za-z0-9_]){re.escape(name)}(?![A-Za-z0-9_])[^`\n]*`", REFERENCE) is not None


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working directory, and an environment without settings."""
    monkeypatch.chdir(tmp_path)
    for setting in Settings.__annotations__:
        monkeypatch.delenv(f"FLOWPERSIST_{setting.upper()}", raising=False)
    # An example may set OpenTelemetry's providers.
    with unset():
        yield tmp_path
    # What a function has opened by itself stays open until the process ends.
    _close_all()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=named)
def test_every_example_runs(page, place, monkeypatch, caplog):
    """The blocks of a page run one after another in one directory, each as a program of its own."""
    caplog.set_level(logging.ERROR)
    for line, run, code in blocks(page):
        if run:
            module = ModuleType("example")
            monkeypatch.setitem(sys.modules, module.__name__, module)
            exec(compile("\n" * line + code, page, "exec"), vars(module))  # noqa: S102 - our own documentation
    assert not caplog.records


def test_hardly_any_example_is_left_out():
    left_out = [named(page) for page in PAGES for _, run, _ in blocks(page) if not run]
    assert len(left_out) <= 2
    assert sum(len(blocks(page)) for page in PAGES) > 20


def test_no_python_block_escapes_the_search():
    for page in PAGES:
        assert page.read_text(encoding="utf-8").count("```py") == len(blocks(page)), named(page)


def test_the_first_example_is_short():
    _, _, code = blocks(ROOT / "README.md")[0]
    assert len(code.strip().splitlines()) <= 15


@pytest.mark.parametrize("page", ["first-suspension.md", "keep-values.md", "who-approved-this.md"])
def test_the_tutorial_prints_what_it_says(page, place, monkeypatch, capsys):
    page = DOCS / "tutorial" / page
    for _, _, code in blocks(page):
        module = ModuleType("example")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(code, page, "exec"), vars(module))  # noqa: S102 - our own documentation
    shown = re.findall(r"```text\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert capsys.readouterr().out == "".join(shown)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as they are made of their text."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", TEXTS, ids=named)
def test_every_link_leads_somewhere(page):
    for path, anchor in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


def test_every_page_is_in_the_index():
    linked = {(DOCS / path).resolve() for path, _ in LINK.findall((DOCS / "index.md").read_text(encoding="utf-8"))}
    assert set(DOCS.rglob("*.md")) - {DOCS / "index.md"} <= linked


@pytest.mark.parametrize("name", flowpersist.__all__)
def test_every_public_name_is_in_the_reference(name):
    assert said(name)


@pytest.mark.parametrize(
    "name", [*stores.__all__, *(name for name in dir(stores.ValueStore) if not name.startswith("_"))]
)
def test_every_name_and_verb_of_stores_is_in_the_reference(name):
    assert said(name)


@pytest.mark.parametrize("name", [*stages.__all__, *dynamicflow.__all__, *blocking.__all__])
def test_every_name_of_stages_and_flows_is_in_the_reference(name):
    assert said(name) or re.search(rf"\b{name}\b", REFERENCE)


@pytest.mark.parametrize("name", [name for name in dir(flowpersist.PersistenceHub) if not name.startswith("_")])
def test_every_verb_is_in_the_reference(name):
    assert said(name)


@pytest.mark.parametrize("name", [name for name in vars(flowpersist.Maintenance) if not name.startswith("_")])
def test_every_verb_of_maintenance_is_in_the_reference(name):
    assert said(name)


def test_what_tests_need_is_told():
    page = (DOCS / "how-to" / "test-your-code.md").read_text(encoding="utf-8")
    assert [name for name in testing.__all__ if name not in page] == []


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_is_in_the_reference_with_its_code_and_status(error):
    page = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
    assert f"`{error.__name__}` | `{error.code}` | {error.http_status} |" in page


def test_every_error_has_a_code_of_its_own():
    assert len({error.code for error in ERRORS}) == len(ERRORS)


@pytest.mark.parametrize("setting", list(Settings.__annotations__))
def test_every_setting_is_in_the_reference(setting):
    page = (DOCS / "reference" / "settings.md").read_text(encoding="utf-8")
    assert f"| `FLOWPERSIST_{setting.upper()}` |" in page


@pytest.mark.parametrize("command", sorted(command_line.commands))
def test_every_command_is_in_the_reference(command):
    page = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    assert re.search(rf"^\| `{command}\b", page, re.MULTILINE)


@pytest.mark.parametrize("status", list(Status))
def test_every_status_is_in_the_reference(status):
    assert said(str(status))


def test_every_requirement_names_a_test_that_is_there():
    text = (ROOT / "specs" / "persistence" / "requirements.md").read_text(encoding="utf-8")
    numbers = [int(number) for number in re.findall(r"^- REQ-(\d+):", text, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    clauses = re.split(r"^- (?=REQ-)", text, flags=re.MULTILINE)[1:]
    for clause in clauses:
        assert "MUST" in clause, clause
        files = re.findall(r"`((?:unit|property|integration|crash|chaos|race|typing)/\S+?\.py)`", clause)
        folders = re.findall(r"`integration/cli/`|`benchmarks/\S+`", clause)
        assert files or folders, clause
        assert [one for one in files if not (ROOT / "tests" / one).exists()] == []


def table(text: str) -> list[list[str]]:
    return [
        [cell.strip(" *").replace(" / ", "/") for cell in line.strip("|\n ").split("|")] for line in text.splitlines()
    ]


def test_the_designs_table_of_transitions_is_the_one_that_is_tested():
    source = (ROOT / "tests" / "unit" / "test_lifecycle_table.py").read_text(encoding="utf-8")
    header, *rows = table(re.search(r'TABLE = """\n(.*?)"""', source, re.DOTALL)[1])
    design = (ROOT / "specs" / "persistence" / "design.md").read_text(encoding="utf-8")
    shown = table(re.search(r"^\| state \|.*?(?=\n\n)", design, re.MULTILINE | re.DOTALL)[0])
    assert shown[0][1:] == header[-len(shown[0][1:]) :]
    assert shown[2:] == rows
