"""What of a question is masked where it is not shown to be answered: in logs, lists, events and notifications.

The places are JSON pointers (RFC 6901); in a list ``*`` stands for each item. Masking never fails open: where a place
is not there, what stands around it is masked as a whole.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import check_items
from flowpersist.inputs.json_pointers import unescaped

__all__ = ["MASK", "check_pointers", "masked", "masked_action", "masked_question"]

#: What stands in the place of a masked value.
MASK: Final = "[redacted]"
MAX_POINTERS: Final = 100
EACH: Final = "*"


def check_pointers(pointers: object, name: str, document: object) -> tuple[str, ...]:
    """The pointers, if they are such and each leads to a place of the document; else ``ConfigurationError``.

    - ``pointers``: as they were given.
    - ``name``: of the argument.
    - ``document``: JSON data.
    """
    check_items(pointers, name, "JSON pointers")
    given: tuple[Any, ...] = tuple(pointers)  # type: ignore[arg-type]
    if len(given) > MAX_POINTERS:
        raise ConfigurationError(f"Invalid {name}: expected at most {MAX_POINTERS} JSON pointers", name)
    for pointer in given:
        if not isinstance(pointer, str) or not pointer.startswith("/"):
            raise ConfigurationError(f"Invalid {name}: expected JSON pointers such as /card/number", name)
        if not _leads(document, _parts(pointer)):
            raise ConfigurationError(
                f"Invalid {name}: there is nothing at {pointer[:200]!r}; correct the pointer", name
            )
    return given


def masked(document: object, pointers: Sequence[str]) -> Any:  # noqa: ANN401 - JSON data
    """A copy of JSON data with these places masked."""
    made = [copy.deepcopy(document)]
    for pointer in pointers:
        _mask(made, 0, _parts(pointer))
    return made[0]


def masked_action(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """What ``Action.to_data`` gave, with what it redacts masked; the same object where it redacts nothing."""
    if "redact" not in data:
        return data
    # Masked arguments need not fit the schema.
    kept = {name: value for name, value in data.items() if name not in {"redact", "schema"}}
    return {**kept, "arguments": masked(data.get("arguments"), data["redact"])}


def masked_question(data: Mapping[str, object]) -> Mapping[str, object]:
    """What ``AwaitInput.to_data`` gave, with what it redacts masked; the same object where it redacts nothing."""
    made = dict(data)
    action: Any = data.get("action")
    if isinstance(action, Mapping):
        made["action"] = masked_action(action)
    redact: Any = data.get("redact")
    if redact is not None:
        made["shown"] = masked(data.get("shown"), redact)
        del made["redact"]
    if redact is None and made.get("action") is action:
        return data
    # A default may quote what is masked.
    for name in ("default", "on_expiry"):
        made.pop(name, None)
    return made


def _parts(pointer: str) -> list[str]:
    return [unescaped(part) for part in pointer.split("/")[1:]]


def _within(node: object, part: str) -> list[Any]:
    """The keys and indexes of a container that a part of a pointer means; none where there are none."""
    if isinstance(node, Mapping):
        return [part] if part in node else []
    if not isinstance(node, list):
        return []
    if part == EACH:
        return list(range(len(node)))
    return [int(part)] if part.isdecimal() and str(int(part)) == part and int(part) < len(node) else []


def _leads(node: Any, parts: list[str]) -> bool:  # noqa: ANN401 - JSON data
    if not parts:
        return True
    if isinstance(node, list) and parts[0] == EACH:
        return not node or any(_leads(one, parts[1:]) for one in node)
    return any(_leads(node[at], parts[1:]) for at in _within(node, parts[0]))


def _mask(holder: Any, at: Any, parts: list[str]) -> None:  # noqa: ANN401 - JSON data
    """Mask what is below ``holder[at]``; the whole of it where the place is not there."""
    node = holder[at]
    if not parts:
        holder[at] = MASK
        return
    found = _within(node, parts[0])
    if not found:
        if not (isinstance(node, list) and parts[0] == EACH):
            holder[at] = MASK
        return
    for one in found:
        _mask(node, one, parts[1:])
