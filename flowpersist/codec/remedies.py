"""What to do about a class that a registry lacks: the line that registers it, or what to keep instead."""

from __future__ import annotations

import sys
import types
from collections.abc import AsyncGenerator, Awaitable, Generator, Iterable, Iterator, MappingView
from typing import Final

from flowpersist.codec.planning import HEAP_TYPE, attributes_plan, plan_for
from flowpersist.codec.plans import Plan
from flowpersist.codec.ready import INTEGRATIONS, ready_registry
from flowpersist.errors import ConfigurationError

__all__ = [
    "can_be_kept",
    "class_name",
    "packages_of",
    "plan_if_any",
    "plan_once_registered",
    "reason_and_remedy",
    "register_named",
    "shown",
]

LONGEST_NAME: Final = 160

_LOCK: Final = "leave it out, and make a new one when the flow goes on"
_RUNNING: Final = "finish it before you suspend and keep its result, or keep its arguments and start it again"
_STARTED: Final = "keep what it works on, and start it again when the flow goes on"
_CONNECTION: Final = "keep its address, and connect again when the flow goes on"
_CONTEXT: Final = "keep the values, and set them again"
_TEXT: Final = "keep its text, by traceback.format_exception for example"
_METHOD: Final = "keep the object that it belongs to, and take the method from it when the flow goes on"
_RESOURCE: Final = "keep the settings that it was opened with, and open it again when the flow goes on"

#: What can never be kept, by the name of the class or of a base, so that nothing is imported for it.
_NEVER_BY_NAME: Final[dict[str, str]] = {
    **dict.fromkeys(("_thread.lock", "_thread.RLock", "_thread._local", "threading.local"), _LOCK),
    **dict.fromkeys((f"threading.{one}" for one in ("Condition", "Event", "Semaphore", "Barrier")), _LOCK),
    **dict.fromkeys((f"asyncio.locks.{one}" for one in ("Lock", "Condition", "Event", "Semaphore", "Barrier")), _LOCK),
    **dict.fromkeys(("asyncio.queues.Queue", "queue.Queue", "_queue.SimpleQueue"), "keep a list of what is in it"),
    **dict.fromkeys(("_asyncio.Future", "asyncio.futures.Future", "concurrent.futures._base.Future"), _RUNNING),
    **dict.fromkeys(("asyncio.events.AbstractEventLoop", "concurrent.futures._base.Executor"), _STARTED),
    **dict.fromkeys(("threading.Thread", "subprocess.Popen", "multiprocessing.process.BaseProcess"), _STARTED),
    **dict.fromkeys(("_socket.socket", "sqlite3.Connection", "sqlite3.Cursor"), _CONNECTION),
    **dict.fromkeys(("asyncio.streams.StreamReader", "asyncio.streams.StreamWriter"), _CONNECTION),
    **dict.fromkeys(("asyncio.transports.BaseTransport", "asyncio.protocols.BaseProtocol"), _CONNECTION),
    **dict.fromkeys(("logging.Logger", "logging.LoggerAdapter"), "keep its name, and ask logging for it again"),
    **dict.fromkeys(("_contextvars.Context", "_contextvars.ContextVar", "_contextvars.Token"), _CONTEXT),
    "sqlalchemy.orm.state.InstanceState": "keep the key of the row, or the values of its columns",
    "_io._IOBase": "keep its path and position, or its content",
    "re.Match": "keep its groups and span",
    "weakref.ReferenceType": "keep the object itself, or a key for it",
}

#: The same by the class itself: the first row that fits counts.
_NEVER: Final[tuple[tuple[tuple[type, ...], str], ...]] = (
    ((types.ModuleType,), "keep its name, and import it where it is used"),
    ((Generator, AsyncGenerator, Awaitable), _RUNNING),
    ((types.FrameType, types.TracebackType, types.CodeType), _TEXT),
    ((types.MethodType, types.MethodWrapperType), _METHOD),
    ((memoryview,), "keep bytes(view)"),
    ((MappingView, Iterator), "keep a list of its elements"),
)


def plan_if_any(cls: type) -> Plan | None:
    """How objects of a class would be kept if it were registered as it is; None where that can't be."""
    try:
        return plan_for(cls)
    except ConfigurationError:
        return None


def plan_once_registered(cls: type) -> Plan | None:
    """The plan of a class that is registered as its remedy says; None where a function would be needed."""
    plan = plan_if_any(cls)
    return _by_attributes(cls) if plan is None and can_be_kept(cls) else plan


def _by_attributes(cls: type) -> Plan | None:
    try:
        return attributes_plan(cls)
    except ConfigurationError:
        return None


def class_name(cls: type) -> str:
    """The class with its module, as a message shows it."""
    module, name = _module(cls), _qualname(cls)
    return shown(name if module == "builtins" else f"{module}.{name}")


def packages_of(classes: Iterable[type]) -> frozenset[str]:
    """The packages of which classes are registered."""
    return frozenset(map(_package, classes))


def reason_and_remedy(cls: type, registered: frozenset[str]) -> tuple[str, str]:
    """What is wrong with objects of a class that is not registered, and what to do.

    ``registered``: the packages of which other classes are, so that a ready registry of theirs has nothing to add.
    """
    try:
        instead = _instead(cls)
        remedy = f"register it: {_line(cls, registered)}" if instead is None else instead
    except Exception:  # noqa: BLE001 - a metaclass may answer in any way
        instead, remedy = None, "register it, or leave it out"
    reason = "which is not registered" if instead is None else "which can't be kept"
    return f"an object of class {class_name(cls)}, {reason}", remedy


def _module(cls: type) -> str:
    return str(type.__dict__["__module__"].__get__(cls))


def _qualname(cls: type) -> str:
    return str(type.__dict__["__qualname__"].__get__(cls))


def shown(name: str) -> str:
    """A name as a message shows it."""
    shown = name if name.isprintable() else ascii(name)[1:-1]
    return shown if len(shown) <= LONGEST_NAME else f"{shown[:LONGEST_NAME]}…"


def can_be_kept(cls: type) -> bool:
    """Whether objects of a class can be kept at all."""
    return _instead(cls) is None


def _instead(cls: type) -> str | None:
    """What to keep instead of objects of a class; None where it can be registered."""
    if cls is object:
        return "use a member of an Enum as a marker"
    if f"{_module(cls)}.{_qualname(cls)}" not in _NEVER_BY_NAME and plan_if_any(cls) is not None:
        return None
    never = _never(cls)
    if never is not None or (_package(cls) in INTEGRATIONS and not cls.__flags__ & HEAP_TYPE):
        # An array or another value of an extension may have methods that close it.
        return never
    is_resource = any(hasattr(cls, name) for name in ("close", "aclose", "__exit__", "__aexit__", "__del__"))
    return _RESOURCE if is_resource else None


def _never(cls: type) -> str | None:
    names = (f"{_module(base)}.{_qualname(base)}" for base in cls.__mro__)
    rows = (remedy for classes, remedy in _NEVER if issubclass(cls, classes))
    return next((_NEVER_BY_NAME[name] for name in names if name in _NEVER_BY_NAME), next(rows, None))


def register_named(name: str, registered: frozenset[str]) -> str:
    """How to register the class of a name in bytes, which may hold anything; ``registered`` as above."""
    short = shown(name.rpartition(".")[2])
    return _ready(_package_of(name[:LONGEST_NAME]), registered) or f"register class {short}: TypeRegistry({short})"


def _ready(package: str, registered: frozenset[str]) -> str | None:
    return None if package in registered else ready_registry(package)


def _line(cls: type, registered: frozenset[str]) -> str:
    ready = _ready(_package(cls), registered)
    if ready is not None:
        return ready
    how = ""
    if plan_if_any(cls) is None:
        how = ", encode=…, decode=…" if _by_attributes(cls) is None else ", attributes=True"
    return f"{_import(cls)}types.register({_written(cls)}{how})"


def _package(cls: type) -> str:
    return _package_of(_module(cls))


def _package_of(module: str) -> str:
    parts = module.split(".")
    both = ".".join(parts[:2])
    package = both if both in INTEGRATIONS else parts[0]
    # A module of this name may be the user's own.
    return parts[0] + "." if package == "agents" and "agents.run_context" not in sys.modules else package


def _import(cls: type) -> str:
    module, name = _module(cls), _qualname(cls)
    if module in {"__main__", "builtins"} or "<" in name:
        return ""
    # A parametrized class has its arguments in its name.
    outer = name.partition("[")[0].partition(".")[0]
    return f"from {shown(module)} import {shown(outer)}; "


def _written(cls: type) -> str:
    return shown(_qualname(cls).rpartition("<locals>.")[2])
