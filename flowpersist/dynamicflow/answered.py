"""Who gave an answer, and when: kept beside the answer while it is passed on, and read as ``$ask.by`` and ``$ask.at``.

It is ``{"by": …, "at": …}`` for an answer. For a list of results it is a list, with None for each result that is not an
answer. Beside a name in a scope it stands under the name of ``beside``, which no variable and no step can have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from returns.result import Failure

from flowpersist.dynamicflow import references

__all__ = ["PARTS", "beside", "bring", "given_by", "listed", "named", "parts_of", "unmarked"]

#: What can be read of an answer. These win over fields of the answer itself: an answerer can't say who they are.
PARTS: Final = ("by", "at", "value")
_BESIDE: Final = ".given"


def given_by(by: str | None, at: datetime | None) -> dict[str, str | None]:
    """The facts of one answer."""
    return {"by": by, "at": None if at is None else at.isoformat()}


def beside(name: str) -> str:
    """Where the facts of a name's answer stand in a scope."""
    return name + _BESIDE


def named(name: str, value: object, given: object) -> dict[str, object]:
    """A name with its value, for a scope."""
    return {name: value} if given is None else {name: value, beside(name): given}


def bring(names: dict[str, object], more: Mapping[str, object]) -> None:
    """Set names, each with the facts of its value and without those of the value that it had."""
    for name in more:
        names.pop(beside(name), None)
    names.update(more)


def unmarked(names: Mapping[str, object]) -> dict[str, object]:
    """The names with their values alone."""
    return {name: value for name, value in names.items() if not name.endswith(_BESIDE)}


def listed(given: Sequence[object]) -> list[object] | None:
    """The facts of the items of a list; None if none of them is an answer."""
    return None if all(one is None for one in given) else list(given)


def parts_of(value: object, given: Any, path: tuple[str | int, ...]) -> tuple[object, tuple[str | int, ...], object]:  # noqa: ANN401 - of either form
    """Follow a path as far as the facts go: what it leads to, the rest of the path, and the facts of that."""
    while given is not None and path:
        part, rest = path[0], path[1:]
        if isinstance(given, Mapping):
            if part == "value":
                return value, rest, None
            return (given[str(part)], rest, None) if part in PARTS else (value, path, None)
        item = references.follow(value, (part,))
        if isinstance(item, Failure) or not isinstance(part, int) or part >= len(given):
            return value, path, None
        value, given, path = item.unwrap(), given[part], rest
    return value, path, given
