"""The steps that the documents of many tests of flows are made of."""

from __future__ import annotations


def ask(name="q", **args):
    """A step that asks a question of this name, with further fields of it."""
    return {"id": name, "tool": "await_input", "args": {"prompt": f"{name}?", **args}}


def said(value, **more):
    """A step that calls the tool ``say`` with a value, with further fields of the step."""
    return {"tool": "say", "args": {"value": value}, **more}
