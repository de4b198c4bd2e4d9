"""Between JSON data and Python's types: the schema of a type, its values as JSON data, and checked data as its values.

Types are what ``msgspec`` knows (scalars, Literal, Enum, unions, collections, TypedDict, dataclasses, attrs classes,
Struct, dates, UUID, Decimal, Annotated). Where a part of one is pydantic's, pydantic decides about the whole.
"""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping
from operator import getitem
from pathlib import PurePath
from typing import Any, Final, TypeAlias, TypeVar, cast, get_args, get_origin, get_type_hints

import msgspec
from returns.result import Failure, Result, Success
from typing_extensions import TypeForm

from flowpersist.errors import ConfigurationError, InputValidationError, PersistenceError, Problem
from flowpersist.inputs.json_pointers import escaped
from flowpersist.inputs.json_schema import MAX_DEPTH, MAX_NODES
from flowpersist.inputs.schema_problems import MAX_PROBLEMS

__all__ = ["Kind", "conforming", "is_pydantic", "json_form", "schema_of", "structure", "unless_refused"]

T = TypeVar("T")
#: A class, or what ``typing`` makes of classes.
Kind: TypeAlias = Any
_ATOMS: Final = frozenset({str, int, float, bool, type(None)})
#: Parts of a type that are looked through for pydantic's.
MAX_PARTS: Final = 1_000
#: What marks a class of pydantic's, and what its metadata in Annotated is defined in.
_PYDANTIC_MARKS: Final = ("__pydantic_validator__", "__pydantic_core_schema__")
_PYDANTIC_MODULES: Final = ("pydantic", "annotated_types")
#: How msgspec ends a message with the place of the fault, as in "… - at `$.lines[0].n`".
_PLACE: Final = re.compile(r" - at `\$([^`]*)`$")
_TOKEN: Final = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")


def schema_of(kind: Kind) -> dict[str, object]:
    """The JSON Schema of a type; ``ConfigurationError`` where none can be derived."""
    if isinstance(kind, Mapping):
        return dict(kind)
    try:
        return cast("dict[str, object]", _derived(kind))
    except Exception as error:  # noqa: BLE001 - the class's own code may be asked for its schema, and fail at it
        # pydantic's errors are among these, and the recursion's.
        name = str(getattr(kind, "__name__", type(kind).__name__))[:100]
        message = f"no JSON Schema can be derived from {name} ({type(error).__name__}); give the schema as a mapping"
        raise ConfigurationError(message, "schema") from None


def _derived(kind: Kind) -> object:
    own = getattr(kind, "model_json_schema", None)
    if callable(own):
        return own()
    return _adapter(kind).json_schema() if is_pydantic(kind) else msgspec.json.schema(kind)


def structure(value: object, kind: TypeForm[T], *, what: str = "the answer") -> Result[T, PersistenceError]:
    """A value of the type from checked JSON data.

    ``InputValidationError`` where the type's own rules refuse it, whatever they raise: their text may hold the value,
    so that the problems name the places and the kinds of refusal only.
    """
    return unless_refused(lambda: _structured(value, kind), value, _name(kind), what=what)


def conforming(value: T, kind: Kind, *, what: str) -> Result[T, PersistenceError]:
    """The value, where the rules of its type still take what it consists of: it may have been changed since it was
    made. ``InputValidationError`` as ``structure`` has it.
    """
    if not is_pydantic(kind):
        return structure(json_form(value), kind, what=what).map(lambda _: value)
    adapter = _adapter(kind)
    # By the fields' own names: their aliases may differ in either direction.
    name = _name(kind)

    def dump() -> object:
        return adapter.dump_python(value, round_trip=True, by_alias=False, warnings=False)

    def validate(parts: object) -> T:
        adapter.validate_python(parts, by_alias=False, by_name=True)
        return value

    return unless_refused(dump, value, name, what=what).bind(
        lambda parts: unless_refused(lambda: validate(parts), parts, name, what=what)
    )


def unless_refused(call: Callable[[], T], value: object, name: str, *, what: str) -> Result[T, PersistenceError]:
    """What a user's rules give for a value, or ``InputValidationError`` where they raise."""
    try:
        return Success(call())
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a validator is the user's code, and runs to its end here: even
        # a SystemExit or a CancelledError is what it raised by itself.
        problems = list(_problems(error, value, name))
    where = problems[0].pointer[:200] or "(root)"
    return Failure(InputValidationError(f"{what} is refused: {where}: {problems[0].message}", problems))


def _name(kind: Kind) -> str:
    return str(getattr(kind, "__name__", "its class"))[:100]


def _structured(value: object, kind: Kind) -> Any:  # noqa: ANN401 - of the kind
    own = getattr(kind, "model_validate_json", None)
    if callable(own):
        # As JSON, in which a strict model too takes a date as text.
        return own(json.dumps(value))
    if is_pydantic(kind):
        return _adapter(kind).validate_json(json.dumps(value))
    return msgspec.convert(value, kind, str_keys=True)


def _problems(error: BaseException, value: object, name: str) -> Iterator[Problem]:
    errors: Any = getattr(error, "errors", None)
    if type(error).__module__.startswith("pydantic") and callable(errors):
        listed: Any = errors(include_url=False, include_context=False, include_input=False)
        for found in listed[:MAX_PROBLEMS]:
            yield Problem(_within(value, found["loc"]), f"is refused by {name} ({found['type']})"[:300])
        return
    place = _PLACE.search(str(error)) if isinstance(error, msgspec.ValidationError) else None
    tokens = [] if place is None else [key or int(index) for key, index in _TOKEN.findall(place.group(1))]
    yield Problem(_within(value, tokens), f"is refused by {name} ({type(error).__name__})"[:300])


def _within(value: Any, tokens: Any) -> str:  # noqa: ANN401 - JSON data; keys and indexes of either library's making
    """The pointer that tokens lead to in a value; a token that names no part of it, such as a union's case, is none."""
    pointer = ""
    for token in tokens:
        if token in (value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()):
            value = getitem(value, token)
            pointer += f"/{escaped(str(token))}"
    return pointer


def json_form(value: object) -> object:
    """A value as JSON data, the way its class's encoder makes it, in dicts and lists too.

    What is JSON data already stays the same object; what has no form in JSON, or is over the limits of an answer, stays
    as it is: the check that follows names it.
    """
    return _Former().form(value, 0)


class _Former:
    def __init__(self) -> None:
        self._nodes = 0

    def form(self, value: object, depth: int) -> object:
        kind = type(value)
        self._nodes += 1
        if kind in _ATOMS or depth > MAX_DEPTH or self._nodes > MAX_NODES:
            return value
        if kind is dict:
            return self._dict(cast("dict[object, object]", value), depth)
        if kind is list:
            return self._list(cast("list[object]", value), depth)
        if isinstance(value, tuple):
            return value if len(value) > MAX_NODES else [self.form(item, depth + 1) for item in value]
        try:
            return _plain(value)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - as in structure
            return value

    def _dict(self, value: dict[object, object], depth: int) -> object:
        if len(value) > MAX_NODES:
            return value
        made = {_key(key): self.form(item, depth + 1) for key, item in value.items()}
        same = all(new is old for new, old in zip(made, value, strict=False)) and all(
            made[key] is item for key, item in zip(made, value.values(), strict=False)
        )
        # Two keys of one text would be one.
        return value if same or len(made) != len(value) else made

    def _list(self, value: list[object], depth: int) -> object:
        if len(value) > MAX_NODES:
            return value
        made = [self.form(item, depth + 1) for item in value]
        return value if all(new is old for new, old in zip(made, value, strict=True)) else made


def _key(key: object) -> object:
    if type(key) is str or isinstance(key, bool | float) or key is None:
        return key
    try:
        plain = _plain(key)
    except Exception:  # noqa: BLE001 - what has no form is refused where it stands
        return key
    return str(plain) if isinstance(plain, str | int) else key


def _plain(value: object) -> object:
    hooked = _pydantic_form(value)
    if hooked is not None:
        return hooked
    # In a fixed order, so that the same set is the same answer again.
    return _listed(msgspec.to_builtins(value, enc_hook=_hook, str_keys=True, order="deterministic"))


def _listed(value: object) -> object:
    """Tuples, which to_builtins leaves, as lists."""
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value


def _hook(value: object) -> object:
    hooked = _pydantic_form(value)
    if hooked is not None:
        return hooked
    if isinstance(value, PurePath):
        return str(value)
    msg = f"{type(value).__name__} can't be represented in JSON"
    raise NotImplementedError(msg)


def _pydantic_form(value: object) -> object:
    """What pydantic makes of an object of its own; None for another."""
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        # What does not fit its model is refused by the schema: a warning of it would hold the answer.
        return dump(mode="json", by_alias=True, warnings=False)
    if hasattr(type(value), "__pydantic_serializer__"):
        return _adapter(type(value)).dump_python(value, mode="json", by_alias=True, warnings=False)
    return None


def _adapter(kind: Kind) -> Any:  # noqa: ANN401 - pydantic's TypeAdapter, which need not be installed
    make: Callable[[Kind], Any] = _kept_adapter if isinstance(kind, Hashable) else _new_adapter
    try:
        return make(kind)
    except TypeError:
        # What is in Annotated need not be hashable.
        return _new_adapter(kind)


def _new_adapter(kind: Kind) -> Any:  # noqa: ANN401 - as above
    return sys.modules["pydantic"].TypeAdapter(kind)


_kept_adapter = functools.lru_cache(maxsize=256)(_new_adapter)


def is_pydantic(kind: Kind) -> bool:
    """Whether a part of a type is pydantic's: nobody else runs its rules."""
    if "pydantic" not in sys.modules:
        return False
    pending, seen = [kind], set[int]()
    while pending and len(seen) < MAX_PARTS:
        part = pending.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if _is_of_pydantic(part):
            return True
        pending.extend(_parts(part))
    return False


def _is_of_pydantic(part: Kind) -> bool:
    marked = isinstance(part, type) and any(hasattr(part, mark) for mark in _PYDANTIC_MARKS)
    return marked or type(part).__module__.split(".")[0] in _PYDANTIC_MODULES


def _parts(part: Kind) -> Iterator[Kind]:
    yield from get_args(part)
    yield from getattr(part, "__metadata__", ())
    found: Kind = get_origin(part)
    origin = part if found is None else found
    if isinstance(origin, type) and getattr(origin, "__annotations__", None) and origin.__module__ != "builtins":
        try:
            yield from get_type_hints(origin, include_extras=True).values()
        except (NameError, TypeError, AttributeError):
            # A hint that can't be read is no reason against msgspec, which says so itself.
            return
