"""The reference page of documents: every step type has an example, each matches the schema, and gives what it says."""

from __future__ import annotations

import json
import re
import sys
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import jsonschema_rs
import pytest

from flowpersist import or_raise
from flowpersist.dynamicflow import Completed, FlowRunner, Suspended, check, document_schema
from flowpersist.dynamicflow.operations import FUNCTIONS
from flowpersist.testing import open_test_hub, travel

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "dynamicflow.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(
    r"^```json\n(?P<document>.*?)^```$\s+"
    r"With the input `(?P<input>.*?)`(?: and the answers `(?P<answers>.*?)`)?, the result is `(?P<result>.*?)`\.",
    re.MULTILINE | re.DOTALL,
)
STEPS = PAGE[PAGE.index("## Step types") :]
SECTIONS = dict(re.findall(r"^### `?([\w ]+)`?\n(.*?)(?=^##)", STEPS, re.MULTILINE | re.DOTALL))
EXAMPLES = {title: found for title, text in SECTIONS.items() if (found := EXAMPLE.search(text))}
VALIDATOR = jsonschema_rs.validator_for(document_schema())


@pytest.fixture
def tools(monkeypatch):
    """The tools that the page gives for its examples."""
    code = re.search(r"^```python\n(.*?)^```$", STEPS, re.MULTILINE | re.DOTALL)
    module = ModuleType("tools_of_the_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(code[1], vars(module))  # noqa: S102 - our own documentation
    return [module.say, module.add, module.fail, module.choose]


@pytest.mark.parametrize("title", EXAMPLES)
async def test_each_example_gives_what_the_page_says(title, tools):
    found = EXAMPLES[title]
    document = json.loads(found["document"])
    answers = json.loads(found["answers"] or "{}")
    assert VALIDATOR.is_valid(document)
    assert check(document, tools=tools) == ()
    async with open_test_hub(keyring=None) as hub:
        runner = FlowRunner(hub, tools)
        outcome = or_raise(await runner.start(document, input=json.loads(found["input"])))
        while isinstance(outcome, Suspended):
            if outcome.waits:
                wait = outcome.waits[0]
                outcome = or_raise(await runner.resume(wait.key, answer=answers.pop(wait.step)))
            else:
                travel(hub, timedelta(days=1))
                outcome = or_raise(await runner.resume(outcome.suspension_id))
        assert isinstance(outcome, Completed)
        assert outcome.result == json.loads(found["result"])
    assert answers == {}


def test_every_step_type_has_a_section_with_an_example():
    types = set(document_schema()["$defs"]["step"]["else"]["then"]["properties"]["type"]["enum"]) - {"if-then"}
    # A step that holds a document has a section of the page, whose example is a program.
    types -= {"flow"}
    assert types | {"await_input", "Together"} <= set(EXAMPLES)


def test_every_field_of_every_type_is_in_its_section():
    schema = document_schema()["$defs"]
    common = set(schema["sequence"]["properties"]) - {"sequence", "steps"}
    by_id = re.compile(r"Ids?$")
    for kind in set(EXAMPLES) - {"await_input", "Together"}:
        for name in set(schema[kind]["properties"]) - common:
            if not by_id.search(name) or name == "toolId":
                assert f"`{name}`" in SECTIONS[kind] or f'"{name}"' in SECTIONS[kind], (kind, name)


def test_every_function_is_listed():
    for name in FUNCTIONS:
        assert f"`{name}(" in PAGE


def test_each_field_of_a_document_that_the_page_names_is_read():
    table = PAGE[PAGE.index("## The document\n") : PAGE.index("## Step types")]
    named = {name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    of_steps = {"type", "id", "output", "retry", "onError", "name", "description"}
    assert "durability" in named
    assert named - of_steps == document_schema()["properties"].keys()


@pytest.mark.parametrize("durability", ["pause", "step", {"every": 1}, {"every": 1_000_000}, {"seconds": 0.5}])
def test_a_durability_that_the_page_names_is_no_problem(durability):
    document = {"durability": durability, "flow": [{"expression": "1"}]}
    assert VALIDATOR.is_valid(document)
    assert check(document) == ()


@pytest.mark.parametrize(
    "durability", ["steps", None, {}, {"every": 0}, {"every": 1.5}, {"seconds": 0}, {"every": 1, "seconds": 1}]
)
def test_another_durability_is_one_problem(durability):
    document = {"durability": durability, "flow": [{"expression": "1"}]}
    assert not VALIDATOR.is_valid(document)
    assert [(one.pointer, one.code) for one in check(document)] == [("/durability", "invalid-value")]
