"""Ids of steps and names of variables: which are allowed, and how missing ids are generated, the same for the same
document.
"""

from __future__ import annotations

import re
from typing import Final, NoReturn

from flowpersist.dynamicflow.document import Document
from flowpersist.dynamicflow.forms import Draft, every
from flowpersist.errors import FlowError

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
    _generate(found, "step", taken)


def _given(draft: Draft, document: Document, taken: set[str]) -> str:
    given = draft.common["id"]
    if not isinstance(given, str) or not _ID.fullmatch(given) or given in RESERVED:
        _refuse(
            f"Invalid id {given!r} of {draft.where}: expected letters, digits, '_' and '-', at most 100, "
            f"and none of {', '.join(sorted(RESERVED))}",
            document,
            draft.label,
        )
    if given in taken:
        _refuse(f"two steps have the id {given!r}: give one of them another", document, given)
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


def check_name(value: object, what: str, draft: Draft, document: Document) -> str:
    """Check the name of a variable, from ``output``, ``as`` or ``accumulator``."""
    if not isinstance(value, str) or not _NAME.fullmatch(value) or value in RESERVED:
        _refuse(
            f"Invalid {what} {value!r} of step {draft.id!r}: expected a variable's name of letters, digits, '_' "
            f"and '-', which begins with no digit and is none of {', '.join(sorted(RESERVED))}",
            document,
            draft.id,
        )
    return value


def _refuse(message: str, document: Document, step: str) -> NoReturn:
    raise FlowError(message, document.name, step)
