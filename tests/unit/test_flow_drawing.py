"""Pictures of flows as text: every step and edge is there, and no text of a document becomes syntax."""

from __future__ import annotations

import re

import pytest

from flowpersist.dynamicflow import compile as compile_flow
from flowpersist.dynamicflow import draw
from flowpersist.dynamicflow.drawing import progress_of
from flowpersist.errors import ConfigurationError

DOCUMENT = {
    "metadata": {"name": "shipping"},
    "flow": [
        {"id": "asked", "parallel": [{"id": "amount", "tool": "ask"}, {"id": "ok", "tool": "ask"}]},
        {
            "id": "chosen",
            "condition": "$ok",
            "if_true": [{"id": "sent", "tool": "send", "args": {"count": "$amount"}}],
            "if_false": [{"id": "kept", "tool": "keep", "args": {}}],
        },
    ],
}
HOSTILE = 'x"] --> y{{}} `&lt;<b>;#quot;\\ \n\x07 é |%%'
TOOL = '"]-->y{{}}`&lt;<b>;#quot;\\|%%'


def flow_of(document=DOCUMENT):
    return compile_flow(document).unwrap()


def hostile():
    return flow_of(
        {
            "metadata": {"name": HOSTILE},
            "flow": [{"id": "a", "tool": "t", "description": HOSTILE}, {"id": "b", "tool": TOOL}],
        }
    )


def test_mermaid_has_every_step_and_edge():
    flow = flow_of()
    text = draw(flow)
    numbers = {step: f"n{number}" for number, step in enumerate(flow.nodes)}
    assert text.startswith("flowchart TD\n")
    for step, name in numbers.items():
        assert re.search(rf'^  {name}[\[{{(]+"{step}\b', text, re.MULTILINE)
    arrows = [line for line in text.splitlines() if "-->" in line]
    assert len(arrows) == len(flow.edges) + 1
    assert f"  start --> {numbers['asked']}" in arrows
    assert f'  {numbers["chosen"]} -- "if_true" --> {numbers["sent"]}'.replace("if_true", "if_true") in arrows


def test_dot_has_every_step_and_edge():
    flow = flow_of()
    text = draw(flow, "dot")
    assert text.startswith('digraph "shipping" {\n')
    assert text.endswith("}\n")
    assert text.count(" -> ") == len(flow.edges) + 1
    assert all(f'label="{step}' in text for step in flow.nodes)


@pytest.mark.parametrize("form", ["mermaid", "dot"])
def test_texts_of_a_document_are_no_syntax(form):
    plain = flow_of(
        {"metadata": {"name": "n"}, "flow": [{"id": "a", "tool": "t", "description": "d"}, {"id": "b", "tool": "u"}]}
    )
    # Without what stands between quotes both say the same.
    quoted = re.compile(r'"(?:[^"\\]|\\.)*"')
    bare = [quoted.sub("", draw(one, form)) for one in (hostile(), plain)]
    assert bare[0] == bare[1]
    assert "\x07" not in draw(hostile(), form)


def test_progress_is_coloured_and_what_is_unknown_is_left_out():
    flow = flow_of()
    progress = {"asked": "done", "ok": "waiting", "amount": "waiting", "none": "done", "sent": "no such"}
    text = draw(flow, progress=progress)
    assert len(re.findall(r"classDef", text)) == 2
    assert len(re.search(r"class (\S+) waiting", text)[1].split(",")) == 2
    assert draw(flow, "dot", progress).count('fillcolor="#') == 3


def test_progress_is_that_of_the_stored_frames():
    flow = flow_of()
    frame = {
        "sub": {
            "asked": {"sub": {"[0]": {"sub": {"amount": {"result": 3}}}, "[1]": {"sub": {"ok": {"waiting": True}}}}},
            "chosen": {"failures": 1, "error": {"message": "m"}},
        }
    }
    assert progress_of(flow, frame) == {
        "asked": "running",
        "amount": "done",
        "ok": "waiting",
        "chosen": "failed",
    }
    assert progress_of(flow, {"result": 1, "steps": {"asked": 1}}) == {"asked": "done"}
    assert progress_of(flow, {}) == {}


@pytest.mark.parametrize(("flow", "form"), [("text", "mermaid"), (None, "dot")])
def test_what_is_no_flow_is_refused(flow, form):
    with pytest.raises(TypeError, match="Invalid flow"):
        draw(flow, form)


def test_an_unknown_format_is_refused():
    with pytest.raises(ConfigurationError, match="mermaid, dot"):
        draw(flow_of(), "png")
