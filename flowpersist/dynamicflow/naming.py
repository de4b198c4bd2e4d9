"""Ids of steps and names of variables: which are allowed, and how missing ids are generated, the same for the same
document.
"""

from __future__ import annotations

import re
from typing import Final

from flowpersist.dynamicflow.document import Document
from flowpersist.dynamicflow.forms import Draft, every
from flowpersist.dynamicflow.problems import shown

__all__ = ["INDEX", "RESERVED", "RUN", "RUN_PARTS", "check_name", "name_steps"]

#: The number of an iteration, from 0.
INDEX: Final = "index"
#: The facts of the run itself, and their names.
RUN: Final = "run"
RUN_PARTS: Final = ("id", "by", "tenant")
#: The reserved names of references.
RESERVED: Final = frozenset({INDEX, RUN, "input", "previousOutput"})
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}", re.ASCII)
_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}", re.ASCII)


def name_steps(found: list[Draft], document: Document) -> None:
    """Give every step its id: its own, or its position under the enclosing step."""
    taken: set[str] = set()
    for draft in every(found):
        if "id" in draft.common:
            draft.id = _given(draft, document, taken)
            taken.add(draft.id)
    taken.discard("")
    _generate(found, "step", taken)


def _given(draft: Draft, document: Document, taken: set[str]) -> str:
    """The id that the document gives; empty if it can't be used, so that one is generated."""
    given, at = draft.common["id"], draft.place.at("id")
    if not isinstance(given, str) or not _ID.fullmatch(given) or given in RESERVED:
        expected = f"letters, digits, '_' and '-', at most 100, and none of {', '.join(sorted(RESERVED))}"
        message = f"Invalid id {shown(given)} of {draft.where}: expected {expected}"
        document.problems.add(at, "invalid-name", message, expected=expected, step=draft.label)
        return ""
    if given in taken:
        message = f"two steps have the id {given!r}: give one of them another"
        document.problems.add(at, "duplicate-name", message, expected="an id that no other step has", step=given)
        return ""
    return given


def _generate(found: list[Draft], prefix: str, taken: set[str]) -> None:
    for number, draft in enumerate(found, start=1):
        if not draft.id:
            draft.id = _free(f"{prefix}_{number}", taken)
            taken.add(draft.id)
        inner = [child for block in draft.blocks.values() for child in block]
        _generate(inner, draft.id, taken)


def _free(candidate: str, taken: set[str]) -> str:
    while candidate in taken:
        candidate += "_"
    return candidate


def check_name(value: object, field: str, draft: Draft, document: Document, default: str) -> str:
    """The name of a variable, from ``output``, ``as`` or ``accumulator``; the default if it can't be one."""
    if isinstance(value, str) and _NAME.fullmatch(value) and value not in RESERVED:
        return value
    expected = (
        "a variable's name of letters, digits, '_' and '-' that does not begin with a digit, other than "
        f"{', '.join(sorted(RESERVED))}"
    )
    message = f"Invalid {field!r} {shown(value)} of step {draft.id!r}: expected {expected}"
    document.problems.add(draft.place.at(field), "invalid-name", message, expected=expected, step=draft.id)
    return default
