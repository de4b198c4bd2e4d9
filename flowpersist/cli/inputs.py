"""Values on the command line: keys, values, fields, and the tools of a flow."""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any, Final, TextIO

import click
from returns.result import Failure, Success

from flowpersist.backends.base import Scalar
from flowpersist.codec import TypeRegistry
from flowpersist.errors import ConfigurationError
from flowpersist.hub.outcome import or_raise
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.keys.text_file import TooLarge, bytes_of, open_regular

if TYPE_CHECKING:
    from types import ModuleType

    from flowpersist.hub.verbs import PersistenceHub

__all__ = [
    "fields_of",
    "fields_taken",
    "found_in",
    "json_file",
    "json_of",
    "load_tools",
    "load_types",
    "named",
    "names_a_run",
    "read_key",
    "read_text",
    "scalars_of",
    "stream_of",
    "value_of",
]

#: The most bytes of a file of JSON: more than a state may have unless it is set otherwise.
MOST_JSON: Final = 256 * 1024 * 1024


def read_key(text: str) -> str:
    """Read a key as given, or for ``-`` from standard input, because other users can see command lines and shells save
    them.
    """
    return _standard_input().readline().strip() if text == "-" else text


def read_text(text: str) -> str:
    """Read a text as given, or for ``-`` all of standard input."""
    return _standard_input().read() if text == "-" else text


def _standard_input() -> TextIO:
    """Standard input; an empty one if the process was started without any."""
    # It is None then, whatever its type says.
    return sys.stdin or io.StringIO()


def named(text: str, hub: PersistenceHub) -> str | SuspensionId:
    """Find a suspension by its key, by the id that ``list`` shows, or by the ``--run-id`` that it was started with.

    The user of this command has access to the store itself, so ids are accepted too.
    """
    if names_a_run(text, hub):
        return SuspensionId.derive(hub.defaults.namespace, None, text)
    found = SuspensionId.parse(text)
    return text if isinstance(found, Failure) else found.unwrap()


def found_in(hub: PersistenceHub, text: str) -> SuspensionId:
    """The suspension that is meant by a key, an id, or the name of a run."""
    found = named(text, hub)
    meant = found if isinstance(found, SuspensionId) else or_raise(hub.suspensions.parse(found))
    return meant if isinstance(meant, SuspensionId) else meant.id


def names_a_run(text: str, hub: PersistenceHub) -> bool:
    """Whether KEY|ID reads a text as the name of a run, not as an id, a key or standard input."""
    other = text in {"", "-"} or text.startswith(hub.suspensions.prefix)
    return not other and isinstance(SuspensionId.parse(text), Failure)


def json_of(text: str | bytes, option: str) -> object:
    """Parse JSON data without a duplicate name in an object; ``-`` reads it from standard input."""
    try:
        return _parsed(_standard_input().read() if text == "-" else text, option)
    except (ValueError, RecursionError) as error:
        # A decoder's message does not quote the text, which may be secret.
        quoted = f"not JSON: {error}. Text must be quoted: {option} '\"text\"'"
        raise click.BadParameter(quoted, param_hint=option) from error


def stream_of(path: str) -> IO[bytes]:
    """The bytes of a file, or for ``-`` of standard input."""
    return click.open_file(path, "rb") if path == "-" else open_regular(path)


def json_file(path: str, option: str) -> object:
    """Parse the JSON data of a file, or for ``-`` of standard input."""
    # Bytes, since standard input has an encoding of its own; JSON's rules find the document's.
    try:
        data = click.open_file(path, "rb").read() if path == "-" else bytes_of(path, most=MOST_JSON)
    except TooLarge as error:
        raise click.BadParameter(f"{path}: {error}", param_hint=option) from error
    return json_of(data, option)


def _parsed(text: str | bytes, option: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_without_doubles)
    except _DoubledName as error:
        raise click.BadParameter(f"the name {error.args[0]!r} occurs twice in one object", param_hint=option) from None


class _DoubledName(ValueError):
    """A name occurs twice in an object, so its value is ambiguous."""


def _without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise _DoubledName(name)
        found[name] = value
    return found


def fields_of(
    pairs: Iterable[str], option: str, schemas: Mapping[str, AwaitInput[Any]] = MappingProxyType({})
) -> dict[str, object]:
    """Read ``name=value`` pairs as an object: a value that is JSON is read as JSON, any other as text.

    If the field's schema in ``schemas`` accepts the text and not the JSON, the value is text: a postal code of digits
    is not a number.
    """
    fields: dict[str, object] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter("must be NAME=VALUE", param_hint=option)
        if name in fields:
            raise click.BadParameter(f"{name} is given twice", param_hint=option)
        fields[name] = _value(text, schemas.get(name), option)
    return fields


def scalars_of(pairs: Iterable[str], option: str) -> dict[str, Scalar]:
    """Read ``name=value`` pairs as metadata, which has texts, numbers, true and false."""
    found: dict[str, Scalar] = {}
    for name, value in fields_of(pairs, option).items():
        if not isinstance(value, str | int | float | bool):
            raise click.BadParameter(f"{name} must be a text, a number, true or false", param_hint=option)
        found[name] = value
    return found


def value_of(text: str, option: str) -> object:
    """Read a value: JSON as JSON, any other text as text; ``-`` reads JSON from standard input."""
    return json_of(text, option) if text == "-" else _value(text, None, option)


def _value(text: str, schema: AwaitInput[Any] | None, option: str) -> object:
    try:
        parsed = _parsed(text, option)
    except (ValueError, RecursionError):
        return text
    if schema is None or isinstance(schema.check(parsed), Success) or isinstance(schema.check(text), Failure):
        return parsed
    return text


def fields_taken(awaiting: AwaitInput[Any] | None) -> dict[str, AwaitInput[Any]]:
    """The schema of each field of an object, where there is one."""
    schema = {} if awaiting is None else awaiting.json_schema
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return {}
    shared = {name: schema[name] for name in ("$schema", "$defs", "definitions") if name in schema}
    return {
        str(name): AwaitInput(id="field", prompt="", schema={**shared, **one})
        for name, one in properties.items()
        if isinstance(one, Mapping)
    }


def load_tools(names: Iterable[str], option: str = "--tools") -> list[object]:
    """Load what ``module:name`` or ``path.py:name`` names (without a name: what is named as the option, with ``_`` for
    ``-``): one, or several.
    """
    tools: list[object] = []
    for name in names:
        place, _, attribute = name.partition(":")
        found = _attribute(_module(place, name, option), attribute or _named_as(option), name, option)
        if isinstance(found, Iterable) and not isinstance(found, Mapping | str | type):
            tools.extend(found)
        else:
            tools.append(found)
    return tools


def load_types(names: Iterable[str]) -> TypeRegistry | list[type]:
    """Load the classes that ``--types`` names; one registry, or classes."""
    loaded: list[Any] = []
    for name in names:
        place, _, attribute = name.partition(":")
        found = _attribute(_module(place, name, "--types"), attribute or "types", name, "--types")
        if isinstance(found, TypeRegistry):
            if len(tuple(names)) > 1:
                raise ConfigurationError(f"--types {name}: a TypeRegistry is the only one that is given", "--types")
            return found
        loaded.extend(found if isinstance(found, Iterable) and not isinstance(found, type) else (found,))
    return loaded


def _named_as(option: str) -> str:
    return option.strip("-").replace("-", "_")


def _attribute(module: ModuleType, attribute: str, name: str, option: str) -> object:
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        message = f"{option} {name}: {module.__name__} has no attribute {attribute!r}"
        raise ConfigurationError(message, option) from error


def _module(place: str, name: str, option: str) -> ModuleType:
    try:
        return _from_file(Path(place)) if place.endswith(".py") else _from_path(place)
    # The user's own code runs here and may fail in any way; its error's class and text are reported.
    except Exception as error:
        message = f"{option} {name}: {place} can't be imported: {type(error).__name__}: {error}"
        raise ConfigurationError(message, option) from error


def _from_path(place: str) -> ModuleType:
    # As `python -m` does, since a console script has its own directory there.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return importlib.import_module(place)


def _from_file(path: Path) -> ModuleType:
    open_regular(path).close()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        msg = f"no Python file: {path}"
        raise ImportError(msg)
    module = importlib.util.module_from_spec(spec)
    # Registered as an import would, since dataclasses and pickle look their module up.
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    return module
