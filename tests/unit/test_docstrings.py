"""Public docstrings have a line for each parameter, and what they show runs."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from flowpersist import Backoff, Codec, Criteria, Limits, PersistenceHub, RaisingHub, Status, blocking, open_hub
from flowpersist.hub.outcome import or_raise
from flowpersist.stores import Locks, Signals, ValueStore

VERBS = [one for name, one in inspect.getmembers(PersistenceHub, inspect.isfunction) if not name.startswith("_")]
#: The arguments of ``keys`` and ``iterate`` are those of ``items``, and those of ``held`` those of ``acquire``.
ALIKE = {"__init__", "keys", "iterate", "held"}
STORED = [
    one
    for kind in (ValueStore, Locks, Signals)
    for name, one in inspect.getmembers(kind, inspect.isfunction)
    if name[0] != "_" and name not in ALIKE
]
MADE = [Backoff, Criteria, Limits]


@pytest.mark.parametrize(
    "subject",
    [open_hub, blocking.open_hub, *VERBS, *MADE, *STORED],
    ids=lambda one: one.__name__,
)
def test_each_parameter_has_a_line(subject: Callable[..., Any]):
    lines = [line for line in (inspect.getdoc(subject) or "").splitlines() if line.startswith("- ``")]
    named = {name for line in lines for name in line.partition(": ")[0][2:].replace("``", "").split(", ")}
    assert named == set(inspect.signature(subject).parameters) - {"self"}


def test_a_verb_says_what_it_raises():
    """Those without a line raise what all verbs do, which the class says."""
    verbs = inspect.getmembers(RaisingHub, inspect.isfunction)
    silent = {name for name, one in verbs if name[0] != "_" and "Raises " not in (inspect.getdoc(one) or "")}
    assert silent == {"claim_due", "inspect", "iterate", "keys", "open", "remember", "use_keyring"}


@pytest.mark.parametrize("shown", MADE)
async def test_usage_runs(shown: type):
    _, _, after = (inspect.getdoc(shown) or "").partition("Usage::\n\n")
    sample = textwrap.dedent(after.partition("\n\n")[0])
    assert sample
    async with open_hub("memory://", keyring=None) as hub:

        class Idle:
            """``work`` goes on until it is cancelled: here its arguments alone are checked."""

            query = hub.query

            async def work(self, handler: Callable[..., Any], *, backoff: Backoff) -> None:
                assert handler is print
                assert backoff.delay(1) == timedelta(seconds=5)

        code = compile(sample, "usage", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        names: dict[str, Any] = {one.__name__: one for one in (*MADE, Codec, Status, timedelta)}
        names |= {"hub": Idle(), "handler": print}
        running = eval(code, names)  # noqa: S307
        if inspect.isawaitable(running):
            await running
        if "page" in names:
            assert or_raise(names["page"]).items == ()
