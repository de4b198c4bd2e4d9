"""Type expressions as JSON: ``Box[int | None]`` is ``["shop.Box", {"|": ["builtins.int", "builtins.NoneType"]}]``.

The grammar is closed. A str is the name of a class in the registry, a list is a class with its parameters, and an
object with one key is one of the forms below. Reading one runs no code of a class, and looks up nothing but names of
the registry: what ``typing`` would evaluate later, as a forward reference, is not in the grammar.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterable, Mapping
from enum import Enum

from attrs import field, frozen

from flowpersist.codec.packing import Cell
from flowpersist.codec.references import ReferencePlan
from flowpersist.codec.refusals import Halted, Refused, malformed

__all__ = ["ALIASES", "EXPRESSIONS", "METADATA", "Grammar", "Members", "parsed"]

#: The classes of aliases of classes.
ALIASES: frozenset[type] = frozenset({types.GenericAlias, type(typing.Generic[typing.TypeVar("T")])})  # type: ignore[index]
_UNION = type(typing.Union[int, list[int]])  # noqa: UP007 - until CPython 3.14 of another class than int | list[int]
_LITERAL = type(typing.Literal[1])
#: The classes of all expressions that are values.
EXPRESSIONS: frozenset[type] = ALIASES | {types.UnionType, _UNION, _LITERAL}
#: Brackets and quotation marks of one expression, and its depth.
MOST_BRACKETS = 64
MOST_QUOTES = 128
MOST_DEPTH = 8

#: Where pydantic's models have what they are a parametrization of.
METADATA = "__pydantic_generic_metadata__"
#: The keys of forms with parts.
PIPE, UNION, LITERAL, PARAMETER, PARAMETERS, BYTES, MEMBER = "|", "Union", "Literal", "T", "[]", "bytes", "enum"
#: Forms without parts: their key is ``typing``.
TYPING = "typing"
_PLAIN: Mapping[str, Cell] = {
    **{name: getattr(typing, name) for name in ("Any", "Never", "NoReturn", "LiteralString", "Self")},
    "...": ...,
}
#: What ``typing`` names besides the class itself: ``List[int]`` is another expression than ``list[int]``.
_SPECIAL: Mapping[str, Cell] = {
    name: getattr(typing, name)
    for name in (
        *("List", "Dict", "Set", "FrozenSet", "Tuple", "Type", "DefaultDict", "OrderedDict", "Counter", "ChainMap"),
        *("Deque", "Sequence", "MutableSequence", "Mapping", "MutableMapping", "AbstractSet", "MutableSet"),
        *("Iterable", "Iterator", "Collection", "Container", "Reversible", "Awaitable", "AsyncIterable"),
    )
}
#: A union is made by the class's own method: that of a metaclass may be the user's.
_JOIN: dict[Cell, Cell] = {
    types.GenericAlias: vars(types.GenericAlias)["__or__"],
    types.UnionType: vars(types.UnionType)["__or__"],
}


class Members(typing.Protocol):
    """The enumerations of a registry."""

    def by_class(self, cls: type) -> Cell:
        """What is registered for the class."""
        ...

    def by_name(self, name: str) -> Cell:
        """What is registered under the name."""
        ...


@frozen
class Grammar:
    """Writes and reads expressions by the names of a registry."""

    names: ReferencePlan
    members: Members = field(eq=False)

    def text(self, expression: Cell, owner: Cell) -> str:
        """An expression as JSON; ``Refused`` for one that is not in the grammar, or that its text does not give again.

        ``owner``: the object that is named in the error.
        """
        tree = self.tree(expression, owner)
        text = ""
        try:
            text = json.dumps(tree)
            if not _is_short(text):
                raise Refused(owner, f"has a type expression of over {MOST_QUOTES // 2} names; use a shorter one")
            is_whole = self.made(json.loads(text)) == expression
        except (Halted, TypeError, ValueError):
            is_whole = False
        if not is_whole:
            reason = f"has the type expression {_shown(expression)}, which its parts do not give again"
            raise Refused(owner, f"{reason}; use the class itself")
        return text

    def tree(self, one: Cell, owner: Cell, within: tuple[type, ...] = ()) -> Cell:
        """An expression as a tree; ``within``: the classes of which it is a parameter."""
        if one is None:
            return None
        plain = next((name for name, form in _PLAIN.items() if form is one), None)
        if plain is not None:
            return {TYPING: plain}
        if isinstance(one, type) and type(one) not in ALIASES:
            return self._class(one, owner)
        if len(within) >= MOST_DEPTH:
            raise Refused(owner, f"has a type expression over {MOST_DEPTH} deep; use a flatter one")
        return self._form(one, owner, within)

    def _form(self, one: Cell, owner: Cell, within: tuple[type, ...]) -> Cell:
        cls = type(one)
        if cls is typing.TypeVar:
            return {PARAMETER: self._parameter(one, owner, within)}
        if cls is _LITERAL:
            return {LITERAL: [self._literal(value, owner) for value in one.__args__]}
        if cls is tuple:
            return {PARAMETERS: self._trees(one, owner, (*within, object))}
        if cls in {types.UnionType, _UNION}:
            return {PIPE if cls is types.UnionType else UNION: self._trees(one.__args__, owner, (*within, object))}
        if cls not in ALIASES:
            raise Refused(
                owner, f"has the type parameter {_shown(one)}, which can't be kept; use classes, unions and literals"
            )
        origin = one.__origin__
        parts = self._trees(one.__args__, owner, (*within, origin))
        special: Cell = getattr(one, "_name", None)
        if special in _SPECIAL and _SPECIAL[special].__origin__ is origin:
            return {special: parts}
        return [self._name(origin, owner), *parts]

    def _class(self, one: Cell, owner: Cell) -> Cell:
        """The name of a class, or the tree of a parametrization of a model, which is a class of its own."""
        if (vars(one).get(METADATA) or {}).get("args"):
            registration = self.members.by_class(one)
            if registration is not None and registration.name.startswith("["):
                return json.loads(registration.name)
        return self._name(one, owner)

    def _name(self, one: Cell, owner: Cell) -> str:
        try:
            return self.names.dump(one)
        except Refused as refused:
            raise Refused(owner, f"has a type parameter that {refused.reason}") from None

    def _trees(self, parts: Iterable[Cell], owner: Cell, within: tuple[type, ...]) -> list[Cell]:
        return [self.tree(part, owner, within) for part in parts]

    def _parameter(self, one: Cell, owner: Cell, within: tuple[type, ...]) -> list[Cell]:
        """A type variable, by a class that it is a parameter of."""
        for cls in reversed(within):
            for place, parameter in enumerate(_parameters(cls)):
                if parameter is one:
                    return [self._name(cls, owner), place]
        raise Refused(owner, f"has the type parameter {one!r}, which is a variable of another class; use a class")

    def _literal(self, value: Cell, owner: Cell) -> Cell:
        if type(value) in {str, int, bool, type(None)}:
            return value
        if type(value) is bytes:
            return {BYTES: value.hex()}
        registration = self.members.by_class(type(value)) if isinstance(value, Enum) else None
        if registration is None:
            reason = f"has a Literal with a value of class {type(value).__qualname__}, which is not registered"
            raise Refused(owner, f"{reason}; register it, or use texts and numbers")
        return {MEMBER: [registration.name, registration.plan.dump(value)]}

    def made(self, tree: Cell) -> Cell:
        """The expression of a tree from anywhere."""
        if tree is None:
            return None
        if type(tree) is list:
            return self._made_class(*tree)
        if type(tree) is not dict:
            return self.names.load(tree)
        if len(tree) != 1:
            raise malformed("a type expression has several forms")
        ((key, parts),) = tree.items()
        if key == TYPING:
            return _PLAIN[parts]
        if type(parts) is not list:
            raise malformed("a form of a type expression has no parts")
        return self._made_form(key, parts)

    def _made_class(self, name: Cell = None, *parts: Cell) -> Cell:
        origin = self.made(name)
        if not isinstance(origin, type) or METADATA not in vars(origin):
            return _alias(origin, tuple([self.made(part) for part in parts]))
        # Found among those that there are: to make one would run pydantic's code.
        found = self.members.by_name(json.dumps([name, *parts]))
        if found is None:
            raise malformed("an alias is of no class")
        return found.cls

    def _made_form(self, key: str, parts: list[Cell]) -> Cell:
        if key == LITERAL:
            literal: Cell = typing.Literal
            return literal[tuple(map(self._value, parts))]
        if key == PARAMETER:
            name, place = parts
            cls = self.names.load(name)
            if type(place) is not int or place < 0 or not isinstance(cls, type):
                raise malformed("a type variable has no place")
            return _parameters(cls)[place]
        made = tuple(map(self.made, parts))
        if key == PARAMETERS:
            return made
        if key == PIPE:
            return _joined(made)
        form = typing.Union if key == UNION else _SPECIAL[key]
        return form[made]

    def _value(self, cell: Cell) -> Cell:
        if type(cell) is not dict:
            if type(cell) not in {str, int, bool, type(None)}:
                raise malformed("a Literal has a value of another class")
            return cell
        ((key, part),) = cell.items()
        if key == BYTES:
            return bytes.fromhex(part)
        name, member = part
        registration = self.members.by_name(name) if key == MEMBER else None
        if registration is None or not issubclass(registration.cls, Enum):
            raise malformed("a Literal has a value of another class")
        return registration.plan.load(member)


def parsed(text: Cell) -> Cell:
    """The tree of a text from anywhere."""
    if type(text) is not str or not _is_short(text):
        raise malformed("an alias has too many parameters")
    return json.loads(text)


def _is_short(text: str) -> bool:
    return text.count("[") + text.count("{") <= MOST_BRACKETS and text.count('"') <= MOST_QUOTES


def _parameters(cls: type) -> tuple[Cell, ...]:
    found = vars(cls).get("__parameters__", ())
    return found if type(found) is tuple else ()


def _alias(origin: Cell, parts: tuple[Cell, ...]) -> Cell:
    if not isinstance(origin, type):
        raise malformed("an alias is of no class")
    owner = next((cls for cls in origin.__mro__ if "__class_getitem__" in vars(cls)), None)
    if owner is typing.Generic:
        return origin[parts]  # type: ignore[index]  # Generic's own
    method = None if owner is None else vars(owner)["__class_getitem__"]
    # That of a builtin class, of an abstract class of Python's own, or of a subclass that has it from there.
    own = (
        origin is type
        or type(method) is types.ClassMethodDescriptorType
        or getattr(method, "__func__", None) is types.GenericAlias
    )
    if not own:
        raise malformed("an alias is of a class that takes no parameters")
    return types.GenericAlias(origin, parts)


def _joined(parts: tuple[Cell, ...]) -> Cell:
    whole: Cell
    whole, *others = parts
    for part in others:
        join: Cell = _JOIN.get(type(whole), vars(type)["__or__"])
        whole = join(whole, part)
    if type(whole) is not types.UnionType:
        raise malformed("expected classes in a union")
    return whole


def _shown(one: Cell) -> str:
    """An expression as a message shows it, without what may be values of the user's."""
    if typing.get_origin(one) is typing.Annotated:  # type: ignore[comparison-overlap]
        return "Annotated[…]"
    if type(one).__module__ in {"typing", "types", "typing_extensions", "collections.abc"}:
        try:
            return f"{one!r:.60}"
        except Exception:  # noqa: BLE001 - a literal, or a metaclass of the user's, may have no repr
            return f"of class {type(one).__qualname__}"
    return f"an object of {type(one).__qualname__}"
