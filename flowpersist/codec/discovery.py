"""Classes found in bulk, when a registry is made: by annotations, in a package, or below a base class.

Nothing here is called while anything is encoded or decoded: what bytes name is never looked for.
"""

from __future__ import annotations

import gc
import pkgutil
import sys
from collections import deque
from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType

from flowpersist.codec.annotations import AnnotationWalk
from flowpersist.codec.packing import Cell
from flowpersist.errors import ConfigurationError

__all__ = ["annotated_classes", "classes_below", "package_classes"]


def annotated_classes(roots: tuple[Cell, ...], enters: Callable[[type], bool]) -> list[type]:
    """The classes that annotations name, first found first; ``ConfigurationError`` for a name that is not there."""
    walk = AnnotationWalk(roots, enters)
    for place, name in walk.unresolved.items():
        raise ConfigurationError(
            f"the annotation of {place} can't be evaluated: {name} is not defined in its module; "
            "import it there, or give that class to tree too",
            "types",
        )
    return list(walk.found)


def classes_below(base: type) -> list[type]:
    """A class and all its subclasses that this process has defined, each after its bases."""
    found = _below(base)
    if len({(cls.__module__, cls.__qualname__) for cls in found}) < len(found):
        # A class with slots replaces the one that its decorator was given, which stays until it is collected.
        found.clear()
        gc.collect()
        found = _below(base)
    return found


def _below(base: type) -> list[type]:
    found = {base: None}
    waiting = deque([base])
    while waiting:
        below: list[type] = type.__subclasses__(waiting.popleft())
        new = [cls for cls in below if cls not in found]
        found.update(dict.fromkeys(new))
        waiting += new
    return list(found)


def package_classes(name: str, base: type) -> list[type]:
    """The subclasses of ``base`` that a package and its modules define; all of them are imported."""
    found: dict[type, None] = {}
    for module in _modules(name):
        waiting = deque(one for one in vars(module).values() if isinstance(one, type))
        while waiting:
            cls = waiting.popleft()
            if cls not in found and _is_within(cls, name):
                if issubclass(cls, base):
                    found[cls] = None
                waiting += [one for one in vars(cls).values() if _is_nested(one, cls)]
    return list(found)


def _is_within(cls: type, package: str) -> bool:
    return cls.__module__ == package or cls.__module__.startswith(f"{package}.")


def _is_nested(one: Cell, cls: type) -> bool:
    return isinstance(one, type) and one.__qualname__.startswith(f"{cls.__qualname__}.")


def _modules(name: str) -> Iterator[ModuleType]:
    try:
        package = import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"the package {name} is not installed: {error}; install it", "types") from error
    yield package
    for place in pkgutil.walk_packages(getattr(package, "__path__", ()), f"{name}.", onerror=_ignored):
        if not place.name.endswith(".__main__"):
            yield from _imported(place.name)


def _imported(name: str) -> Iterator[ModuleType]:
    try:
        import_module(name)
    except ImportError:
        # It needs what is not installed: no object of its classes can be in this process.
        return
    except Exception as error:
        raise ConfigurationError(
            f"the module {name} can't be imported ({type(error).__name__}); register its package's classes one by one",
            "types",
        ) from error
    yield sys.modules[name]


def _ignored(_: str) -> None:
    """What fails to import is met again by its own name."""
