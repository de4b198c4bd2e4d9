"""What the registries of other packages' data classes share: importing the package, and adding its classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from typing import Any, TypeAlias

from flowpersist.codec import TypeRegistry
from flowpersist.integrations._refusals import missing

__all__ = ["Pair", "classes_of", "made_of_pair", "modules", "register_pairs"]

#: A class, and how its objects are encoded and decoded.
Pair: TypeAlias = tuple[type[Any], Callable[[Any], object], Callable[[Any], Any]]


def modules(extra: str, *names: str) -> tuple[Any, ...]:
    """The modules of these names; ``ConfigurationError`` that names the extra where a package is not installed."""
    try:
        return tuple(map(import_module, names))
    except ModuleNotFoundError as error:
        packages = {".".join(name.split(".")[:end]) for name in names for end in range(1, name.count(".") + 2)}
        raise missing(extra, *packages, error=error) from error


def classes_of(base: type, *packages: str, attributes: tuple[str, ...] = ()) -> TypeRegistry:
    """The subclasses of ``base`` in these packages, and all that their fields name: fields that come and go."""
    found = TypeRegistry()
    for package in packages:
        found |= TypeRegistry.package(package, base=base)
    return TypeRegistry.tree(*(one.cls for one in found), attributes=attributes, fields="tolerant")


def register_pairs(types: TypeRegistry, package: str, pairs: Iterable[Pair]) -> TypeRegistry:
    """Add the classes of a package by functions that stand in a table, under the names that the package gives them."""
    for cls, encode, decode in pairs:
        types.register(cls, name=f"{package}.{cls.__name__}", encode=encode, decode=decode)
    return types


@cache
def made_of_pair(cls: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - a package is imported when it is asked for
    """A ``decode=`` function that calls the class with two parts: the same one each time, so that it equals itself."""

    def load(parts: Any) -> Any:  # noqa: ANN401 - as above
        first, second = parts
        return cls(first, second)

    return load
