"""What a question says of itself to those who sort, draw, check and prove it: risk, priority, metadata, hints, checks,
and the meaning of its answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from flowpersist.backends.base import check_scalar, check_text
from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import check_choice, check_items, check_mapping, check_optional, check_whole
from flowpersist.inputs.forms.fields import field_pointer, fields_of

__all__ = ["WIDGETS", "Meaning", "Risk", "check_labels", "labels_data"]

Risk: TypeAlias = Literal["low", "medium", "high", "critical"]
RISKS: Final = ("low", "medium", "high", "critical")
#: What a person who answers does, as 21 CFR 11.50 names it.
Meaning: TypeAlias = Literal["review", "approval", "responsibility"]
MEANINGS: Final = ("review", "approval", "responsibility")
MAX_PRIORITY: Final = 100
MAX_METADATA: Final = 32
MAX_CHECKS: Final = 32
MAX_HINT: Final = 1000
MAX_ORDER: Final = 10_000
#: The widgets that a hint may name.
WIDGETS: Final = (
    "checkbox",
    "color",
    "date",
    "datetime-local",
    "email",
    "number",
    "password",
    "radio",
    "select",
    "slider",
    "switch",
    "text",
    "textarea",
    "time",
    "url",
)
_TEXTS: Final = ("label", "help", "placeholder")
_HINTS: Final = (*_TEXTS, "widget", "order")


def check_labels(name: str, given: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Raise ``ConfigurationError`` or ``TypeError`` unless the labels of the question ``name`` are such."""
    check_optional(given["risk"], "risk", lambda value, what: check_choice(value, what, RISKS))
    check_optional(given["meaning"], "meaning", lambda value, what: check_choice(value, what, MEANINGS))
    check_optional(
        given["priority"], "priority", lambda value, what: check_whole(value, what, least=0, most=MAX_PRIORITY)
    )
    check_optional(given["metadata"], "metadata", _check_metadata)
    _check_names(name, given["checks"])
    check_optional(given["ui"], "ui", check_mapping)
    if given["ui"]:
        _check_hints(name, given["ui"], schema)


def labels_data(given: Mapping[str, Any]) -> dict[str, object]:
    """The labels as JSON data, without what was not given."""
    data: dict[str, object] = {name: given[name] for name in ("risk", "priority", "meaning") if given[name] is not None}
    for name in ("metadata", "ui"):
        if given[name]:
            data[name] = {key: dict(one) if isinstance(one, Mapping) else one for key, one in given[name].items()}
    data |= {name: list(given[name]) for name in ("checks", "redact") if given[name]}
    return data


def _check_metadata(given: object, name: str) -> None:
    check_mapping(given, name)
    metadata: Mapping[Any, Any] = given  # type: ignore[assignment]
    if len(metadata) > MAX_METADATA:
        raise ConfigurationError(f"Invalid {name}: expected at most {MAX_METADATA} entries", name)
    for key, value in metadata.items():
        check_text(key, f"a name in {name}")
        check_scalar(value, f"{name} {key!r}")


def _check_names(name: str, checks: Sequence[str]) -> None:
    check_items(checks, "checks", "names of checks")
    if len({*checks}) < len(checks) or len(checks) > MAX_CHECKS:
        message = f"Invalid checks of {name!r}: expected at most {MAX_CHECKS} different names"
        raise ConfigurationError(message, "checks")
    for one in checks:
        if not check_text(one, "a name in checks"):
            raise ConfigurationError(f"Invalid checks of {name!r}: expected names, not an empty text", "checks")


def _check_hints(name: str, ui: Mapping[Any, Any], schema: Mapping[str, Any]) -> None:
    fields = {field_pointer(one.name, schema) for one in fields_of(schema)}
    orders: set[object] = set()
    for pointer, hints in ui.items():
        where = f"Invalid ui of {name!r}: {pointer!r}"
        if pointer not in fields:
            expected = ", ".join(repr(one) for one in sorted(fields)[:10])
            raise ConfigurationError(f"{where} is not a field of the answer: expected one of {expected}", "ui")
        if not isinstance(hints, Mapping) or not set(hints) <= set(_HINTS):
            raise ConfigurationError(f"{where} has other hints than {', '.join(_HINTS)}", "ui")
        if any(not isinstance(hints[one], str) or len(hints[one]) > MAX_HINT for one in _TEXTS if one in hints):
            texts = ", ".join(_TEXTS)
            raise ConfigurationError(f"{where}: expected {texts} as texts of at most {MAX_HINT} characters", "ui")
        if hints.get("widget", "text") not in WIDGETS:
            raise ConfigurationError(f"{where} has an unknown widget: expected one of {', '.join(WIDGETS)}", "ui")
        order = hints.get("order")
        if order is not None and (type(order) is not int or not 0 <= order <= MAX_ORDER or order in orders):
            raise ConfigurationError(
                f"{where}: expected a whole number from 0 to {MAX_ORDER} as its order, another one for each field", "ui"
            )
        orders |= {order} - {None}
