"""The arguments that a calling model supplies, and the texts with ``$name`` replaced by them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final, cast

from returns.result import Failure, Result, Success

from flowpersist.errors import InputValidationError, PersistenceError, Problem
from flowpersist.inputs.details import MAX_PROMPT, MAX_TITLE
from flowpersist.inputs.json_schema import JsonSchema

__all__ = ["checked_arguments", "filled_texts"]

#: ``$name`` in a prompt or title; ``$$`` is a literal ``$``.
_PLACEHOLDER: Final = re.compile(r"\$(\$|[A-Za-z_][A-Za-z0-9_]*)")
#: Characters of the arguments that a model supplies.
MAX_ARGUMENTS: Final = 1024 * 1024
#: Of the names that are missing among arguments.
MAX_NAMED: Final = 5


def checked_arguments(
    name: str, parameters: Mapping[str, object], arguments: Mapping[str, object] | str
) -> Result[Mapping[str, object], PersistenceError]:
    """The arguments, a mapping or its JSON text, if they fit the schema ``parameters`` of the question ``name``."""
    if isinstance(arguments, str):
        if len(arguments) > MAX_ARGUMENTS:
            return Failure(_bad(name, f"are over {MAX_ARGUMENTS} characters"))
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return Failure(_bad(name, "are not valid JSON"))
    if not isinstance(arguments, Mapping):
        return Failure(_bad(name, "must be an object"))
    checked = JsonSchema.of(parameters).check(dict(arguments), what=f"the arguments of {name!r}")
    return cast("Result[Mapping[str, object], PersistenceError]", checked)


def filled_texts(
    name: str, given: tuple[str, str | None], arguments: Mapping[str, object]
) -> Result[tuple[str, str | None], PersistenceError]:
    """Prompt and title of the question ``name``, with the arguments in their places."""
    prompt, title = given
    names = dict.fromkeys(one for text in (prompt, title or "") for one in _PLACEHOLDER.findall(text) if one != "$")
    missing = [one for one in names if one not in arguments]
    if missing:
        more = f" and {len(missing) - MAX_NAMED} more" if len(missing) > MAX_NAMED else ""
        return Failure(_bad(name, f"lack {', '.join(missing[:MAX_NAMED])}{more}"))
    texts = {"$": "$"} | {one: _text(arguments[one]) for one in names}
    for what, text, most in (("prompt", prompt, MAX_PROMPT), ("title", title or "", MAX_TITLE)):
        if _filled_size(text, texts) > most:
            return Failure(_bad(name, f"make the {what} longer than {most} characters"))

    def filled(text: str) -> str:
        return _PLACEHOLDER.sub(lambda found: texts[found.group(1)], text)

    return Success((filled(prompt), None if title is None else filled(title)))


def _filled_size(text: str, texts: Mapping[str, str]) -> int:
    """How long a text becomes, before it is made: a name may stand in it thousands of times."""
    found = _PLACEHOLDER.finditer(text)
    return len(text) + sum(len(texts[one.group(1)]) - len(one.group()) for one in found)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _bad(name: str, what: str) -> PersistenceError:
    return InputValidationError(f"the arguments of {name!r} {what}", [Problem("", what)])
