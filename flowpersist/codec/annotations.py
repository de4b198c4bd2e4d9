"""What classes annotations name: through unions, generics, aliases, typed dicts and forward references."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import (
    Annotated,
    Any,
    Final,
    ForwardRef,
    Literal,
    Never,
    NotRequired,
    Required,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
)
from typing import get_type_hints as evaluated

import typing_extensions
from attrs import Factory, define, field, has
from attrs import fields as attrs_fields
from typing_extensions import is_typeddict

from flowpersist.codec.packing import Cell

__all__ = ["AnnotationWalk", "is_annotation"]

#: Modules of bases whose annotations are about the class and not about what its objects hold.
MACHINERY = frozenset({"abc", "builtins", "enum", "msgspec", "pydantic.main", "typing", "typing_extensions"})
#: What wraps an annotation and says nothing of the class of the value.
WRAPPERS = frozenset({Final, Required, NotRequired, typing_extensions.ReadOnly})
UNIONS = frozenset({Union, types.UnionType})
ANYTHING = (Any, object, typing_extensions.Any)
NOT_FIELDS = (dataclasses.KW_ONLY, dataclasses.InitVar)
PYDANTIC_FIELDS = "__pydantic_fields__"
#: As dataclasses tell it where annotations are texts.
CLASS_VARIABLE = re.compile(r"\s*(\w+\s*\.\s*)?ClassVar\b")


@define(eq=False)
class AnnotationWalk:
    """The classes that annotations name, each with the place where it was found first.

    ``roots``, classes or other annotations, are where the walk begins; a name that its module does not know may be one
    of theirs.
    ``enters`` says whether the fields of a class are looked at. ``open``: the places where anything may stand.
    ``unresolved``: the places whose annotation names what is not there, and that name.
    """

    roots: tuple[Cell, ...]
    enters: Callable[[type], bool]
    found: dict[type, str] = field(factory=dict)
    open: list[str] = field(factory=list)
    unresolved: dict[str, str] = field(factory=dict)
    _seen: set[object] = field(factory=set)
    _queue: deque[tuple[str, Cell]] = field(factory=deque)
    _hints: dict[type, dict[str, Cell]] = field(factory=dict)
    _names: dict[str, Cell] = field(
        init=False,
        default=Factory(lambda self: {root.__name__: root for root in self.roots if isinstance(root, type)}, True),
    )

    def __attrs_post_init__(self) -> None:
        for root in self.roots:
            self._outside(getattr(root, "__name__", "state"), "", root)
        while self._queue:
            path, annotation = self._queue.popleft()
            if self._is_new(annotation):
                self._follow(path, annotation)

    def _is_new(self, annotation: Cell) -> bool:
        try:
            known = annotation in self._seen
            self._seen.add(annotation)
        except TypeError:
            # Metadata that can't be hashed.
            known = id(annotation) in self._seen
            self._seen.add(id(annotation))
        return not known or _is_anything(annotation)

    def _follow(self, path: str, annotation: Cell) -> None:
        origin = get_origin(annotation)
        if origin is not None:
            self._generic(path, origin, annotation)
        elif _is_anything(annotation):
            self.open.append(path)
        elif isinstance(annotation, type):
            self._class(path, annotation)
        elif isinstance(annotation, TypeVar):
            self._variable(path, annotation)
        else:
            self._alias(path, annotation)

    def _class(self, path: str, cls: type) -> None:
        if cls in NOT_FIELDS or cls is type(None):
            return
        if cls is Callable:  # type: ignore[comparison-overlap]
            cls = types.FunctionType
        is_dict = is_typeddict(cls)
        if not is_dict:
            self.found.setdefault(cls, path)
        if is_dict or self.enters(cls):
            self._fields(path, cls)

    def _fields(self, path: str, cls: type) -> None:
        for base in getattr(cls, "__orig_bases__", ()):
            self._queue.extend((path, argument) for argument in get_args(base))
        for name, annotation in self._hints_of(cls).items():
            self._queue.append((f"{path}.{name}", annotation))

    def _generic(self, path: str, origin: Cell, annotation: Cell) -> None:
        arguments = get_args(annotation)
        if origin is Annotated:
            self._queue.append((path, arguments[0]))
        elif origin is Literal:
            self._queue.extend((path, type(value)) for value in arguments if isinstance(value, enum.Enum))
        elif origin in UNIONS or origin in WRAPPERS:
            self._queue.extend((path, argument) for argument in arguments)
        elif origin is Callable:
            self._queue.append((path, types.FunctionType))
        elif isinstance(origin, type):
            self._queue.append((path, origin))
            self._queue.extend((f"{path}[]", argument) for argument in arguments)
        elif hasattr(origin, "__value__"):
            self._queue.extend((path, argument) for argument in (origin, *arguments))

    def _variable(self, path: str, variable: TypeVar) -> None:
        bounds = [*variable.__constraints__, variable.__bound__, getattr(variable, "__default__", None)]
        for bound in bounds:
            if bound is not None and bound is not typing_extensions.NoDefault:
                self._outside(path, variable.__module__, bound)

    def _alias(self, path: str, annotation: Cell) -> None:
        """A NewType, an alias by a ``type`` statement, or a name that is not evaluated yet."""
        if hasattr(annotation, "__supertype__"):
            self._queue.append((path, annotation.__supertype__))
        elif hasattr(annotation, "__value__"):
            try:
                self._outside(path, annotation.__module__, annotation.__value__)
            except NameError as error:
                self.unresolved[path] = str(error.name)
        elif isinstance(annotation, ForwardRef) and annotation.__forward_evaluated__:
            self._queue.append((path, annotation.__forward_value__))
        # What refers to itself stays a name, and was followed already.

    def _outside(self, path: str, module: str, annotation: Cell) -> None:
        """What stands in a module, and in no class's body."""
        if _is_unevaluated(annotation):
            try:
                annotation = self._evaluated(module, {}, {path: annotation})[path]
            except Exception as error:  # noqa: BLE001 - an annotation is any expression
                self.unresolved[path] = _missing(error)
                return
        self._queue.append((path, annotation))

    def _hints_of(self, cls: type) -> dict[str, Cell]:
        hints: dict[str, Cell] = {}
        for base in reversed(cls.__mro__):
            if base.__module__ not in MACHINERY or is_typeddict(base):
                hints.update(self._own_hints(base))
        for name, declared in _declared(cls):
            hints[name] = declared if not _is_unevaluated(declared) else self._one(cls, name, declared)
        return hints

    def _own_hints(self, base: type) -> dict[str, Cell]:
        known = self._hints.get(base)
        if known is None:
            raw = _field_annotations(base)
            try:
                known = self._evaluated(base.__module__, _names_in(base), raw)
            except Exception:  # noqa: BLE001 - an annotation is any expression: the one that fails is looked for
                known = {name: self._one(base, name, one) for name, one in raw.items()}
            self._hints[base] = known
        return known

    def _one(self, base: type, name: str, annotation: Cell) -> Cell:
        try:
            return self._evaluated(base.__module__, _names_in(base), {name: annotation})[name]
        except Exception as error:  # noqa: BLE001 - as above
            self.unresolved[f"{base.__qualname__}.{name}"] = _missing(error)
            return Never

    def _evaluated(self, module: str, names: Mapping[str, Cell], raw: Mapping[str, Cell]) -> dict[str, Cell]:
        # The module's own names come first, as Python has it: a field may be named like its class.
        own = getattr(sys.modules.get(module), "__dict__", {})
        stub = type("Annotated", (), {"__annotations__": dict(raw)})
        return evaluated(stub, globalns={**names, **self._names}, localns=own, include_extras=True)


def _is_anything(annotation: Cell) -> bool:
    return any(annotation is one for one in ANYTHING)


def _names_in(base: type) -> dict[str, Cell]:
    parameters = {one.__name__: one for one in getattr(base, "__type_params__", ())}
    return {**vars(base), base.__name__: base, **parameters}


def _missing(error: Exception) -> str:
    return getattr(error, "name", None) or f"what raises {type(error).__name__}"


def is_annotation(one: Cell) -> bool:
    """Whether it is a class, or another annotation that is no mere text."""
    is_special = isinstance(one, type | TypeVar | ForwardRef) or get_origin(one) is not None or _is_anything(one)
    return is_special or any(hasattr(one, name) for name in ("__supertype__", "__value__")) or one is Self


def _field_annotations(base: type) -> dict[str, Cell]:
    """The annotations in a class's own body, of what its objects hold."""
    raw = inspect.get_annotations(base)
    if PYDANTIC_FIELDS in vars(base):
        # The fields themselves are asked for their types.
        private: Cell = vars(base).get("__private_attributes__", {})
        return {name: one for name, one in raw.items() if name in private}
    return {
        name: one for name, one in raw.items() if not (isinstance(one, str) and CLASS_VARIABLE.match(one) is not None)
    }


def _declared(cls: type) -> Iterator[tuple[str, Cell]]:
    """The types of fields that are declared in another way than by annotations, or that know more than these."""
    fields: Cell = vars(cls).get(PYDANTIC_FIELDS)
    if isinstance(fields, dict):
        # A generic model's parameters stand here in place of its variables.
        yield from ((name, one.annotation) for name, one in fields.items())
    elif has(cls):
        annotated = inspect.get_annotations(cls)
        yield from ((one.name, one.type) for one in attrs_fields(cls) if one.type and one.name not in annotated)


def _is_unevaluated(annotation: Cell) -> bool:
    return isinstance(annotation, str | ForwardRef) or any(map(_is_unevaluated, _arguments(annotation)))


def _arguments(annotation: Cell) -> Iterable[Cell]:
    return () if get_origin(annotation) is Literal else get_args(annotation)  # type: ignore[comparison-overlap]
