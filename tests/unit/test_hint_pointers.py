"""The pointer of a hint is that of its field's value in the answer."""

from __future__ import annotations

import pytest

from flowpersist import AwaitInput, ConfigurationError

FLAT = {"type": "object", "properties": {"answer": {"type": "string"}, "a/b~c": {"type": "string"}}}
FIELDS = {
    "a property named answer": (FLAT, "/answer", "answer"),
    "an escaped name": (FLAT, "/a~1b~0c", "a/b~c"),
    "no object": ({"type": "string"}, "", "answer"),
}


@pytest.mark.parametrize("which", FIELDS)
def test_a_hint_reaches_its_field(which):
    schema, pointer, name = FIELDS[which]
    made = AwaitInput(id="a", prompt="?", schema=schema, ui={pointer: {"label": "Mine"}})
    assert {one["name"]: one["label"] for one in made.to_form()["fields"]}[name] == "Mine"


@pytest.mark.parametrize(
    ("schema", "pointer"), [(FLAT, ""), ({"type": "string"}, "/answer")], ids=["flat", "no object"]
)
def test_a_pointer_that_is_no_field_is_refused(schema, pointer):
    with pytest.raises(ConfigurationError, match="is not a field of the answer"):
        AwaitInput(id="a", prompt="?", schema=schema, ui={pointer: {"label": "Mine"}})
