"""What is given on the command line: keys, values, fields, and the tools of a flow."""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click
from returns.result import Failure

from flowpersist.errors import ConfigurationError
from flowpersist.keys import SuspensionId

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["fields_of", "json_of", "load_tools", "named", "read_key"]


def read_key(text: str) -> str:
    """A key as given, or for ``-`` from standard input: command lines can be read by others, and stay in histories."""
    return _standard_input().readline().strip() if text == "-" else text


def _standard_input() -> TextIO:
    """Standard input; an empty one where the process was started without any."""
    # Whatever its type says, it is None then.
    return sys.stdin or io.StringIO()


def named(text: str) -> str | SuspensionId:
    """A suspension by its key, or by the id that ``list`` shows: whoever runs this command holds the store itself."""
    found = SuspensionId.parse(text)
    return text if isinstance(found, Failure) else found.unwrap()


def json_of(text: str | bytes, option: str) -> object:
    """JSON data that must be JSON; ``-`` reads it from standard input."""
    try:
        return json.loads(_standard_input().read() if text == "-" else text)
    except (ValueError, RecursionError) as error:
        # A decoder's message quotes nothing of the text, which may be secret.
        raise click.BadParameter(f"not JSON: {error}", param_hint=option) from error


def fields_of(pairs: Iterable[str], option: str) -> dict[str, object]:
    """``name=value`` pairs as an object: a value that is JSON is that, anything else is text."""
    fields: dict[str, object] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter("must be NAME=VALUE", param_hint=option)
        if name in fields:
            raise click.BadParameter(f"{name} is given twice", param_hint=option)
        fields[name] = _value(text)
    return fields


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def load_tools(names: Iterable[str]) -> list[object]:
    """The tools that ``module:name`` or ``path.py:name`` names (``tools`` without a name): one, or several."""
    tools: list[object] = []
    for name in names:
        place, _, attribute = name.partition(":")
        found = _attribute(_module(place, name), attribute or "tools", name)
        if isinstance(found, Iterable) and not isinstance(found, Mapping | str):
            tools.extend(found)
        else:
            tools.append(found)
    return tools


def _attribute(module: ModuleType, attribute: str, name: str) -> object:
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        message = f"--tools {name}: {module.__name__} has no attribute {attribute!r}"
        raise ConfigurationError(message, "--tools") from error


def _module(place: str, name: str) -> ModuleType:
    try:
        return _from_file(Path(place)) if place.endswith(".py") else _from_path(place)
    # The user's own code runs here and may fail in any way: the class and text of that failure are what helps.
    except Exception as error:
        message = f"--tools {name}: {place} can't be imported: {type(error).__name__}: {error}"
        raise ConfigurationError(message, "--tools") from error


def _from_path(place: str) -> ModuleType:
    # As `python -m` does: a console script has its own directory there instead.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return importlib.import_module(place)


def _from_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        msg = f"no Python file: {path}"
        raise ImportError(msg)
    module = importlib.util.module_from_spec(spec)
    # Registered as an import is, since dataclasses and pickles look their module up.
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    return module
