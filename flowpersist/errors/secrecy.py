"""Tracebacks whose frames hold no secrets.

Error reporters show the locals of the frames in a traceback. Our own hold keys, answers and states while a verb runs.
So whatever leaves a verb has our frames replaced by bare ones: the same file, line and function, without locals. Frames
of users' code stay as they are.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from functools import wraps
from types import FrameType, FunctionType, TracebackType
from typing import Any, Final, TypeVar, cast

from returns.result import Failure

__all__ = ["discreet", "discreet_verbs", "forgetting"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
OURS: Final = "flowpersist"
#: What our own frames call with our own values. Drivers are not among them: they get sealed bytes.
THEIRS: Final = frozenset(
    {"attr", "attrs", "click", "cryptography", "msgpack", "returns", "stamina", "tenacity", "zstandard"}
)
MOST_EXCEPTIONS: Final = 256


def discreet(verb: F) -> F:
    """The verb, whose errors hold neither keys nor values in frames of ours, returned ones as well as raised ones.

    A key's token that is given as ``key`` becomes a ``SuspensionKey`` before anything else is done.
    """
    names = verb.__code__.co_varnames[1 : verb.__code__.co_argcount]
    place = names.index("key") if "key" in names else None
    if inspect.iscoroutinefunction(verb):

        @wraps(verb)
        async def awaited(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the verb's own
            try:
                called = _begun(verb, place, self, args, kwargs)
                # The telemetry of a hub: within, so that no frame outside of this one has the arguments.
                observed = getattr(self, "_telemetry", None)
                result = await (called if observed is None else observed.verb(verb.__name__, called))
            except BaseException as error:
                forget(error)
                raise
            if isinstance(result, Failure):
                forget(result.failure())
            return result

        return cast("F", awaited)

    @wraps(verb)
    def called(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the verb's own
        with forgetting():
            return _begun(verb, place, self, args, kwargs)

    return cast("F", called)


def discreet_verbs(kind: type[T]) -> type[T]:
    """A class whose public async methods are all ``discreet``."""
    for name, method in list(vars(kind).items()):
        if not name.startswith("_") and inspect.iscoroutinefunction(method):
            setattr(kind, name, discreet(method))
    return kind


def _begun(
    verb: Callable[..., Any],
    place: int | None,
    hub: Any,  # noqa: ANN401 - what has the verb
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:  # noqa: ANN401 - what the verb gives
    """Call a verb; ``place`` is that of its ``key`` among the arguments that may be given without a name."""
    if "key" in kwargs:
        kwargs = {**kwargs, "key": _parsed(hub, kwargs["key"])}
    elif place is not None and place < len(args):
        key = _parsed(hub, args[place])
        if key is not args[place]:
            args = (*args[:place], key, *args[place + 1 :])
    return verb(hub, *args, **kwargs)


def _parsed(hub: Any, key: object) -> object:  # noqa: ANN401 - a hub of either kind, or a runner
    """The key of a token; another text stays, for the verb to refuse."""
    if not isinstance(key, str):
        return key
    suspensions = getattr(getattr(hub, "hub", hub), "suspensions", None)
    if suspensions is None:
        return key
    parsed = suspensions.parse(key)
    return key if isinstance(parsed, Failure) else parsed.unwrap()


def forget(error: BaseException) -> None:
    """Replace our frames in the traceback of an error, of what is chained to it, and of the members of groups."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting and len(seen) < MOST_EXCEPTIONS:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if one.__traceback__ is not None:
            one.__traceback__ = _bared(one.__traceback__)
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions


class forgetting:  # noqa: N801 - used as a verb, as contextlib.suppress is
    """``with forgetting():`` lets errors out as ``discreet`` does: for blocks, generators and other functions."""

    def __enter__(self) -> None:
        """Nothing is to be done before."""

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if error is not None:
            forget(error)


def _bared(traceback: TracebackType) -> TracebackType | None:
    rebuilt: TracebackType | None = None
    for entry, is_ours in reversed(list(_entries(traceback))):
        frame = _bare(entry.tb_frame) if is_ours else entry.tb_frame
        rebuilt = TracebackType(rebuilt, frame, -1 if is_ours else entry.tb_lasti, entry.tb_lineno or 0)
    return rebuilt


def _entries(traceback: TracebackType) -> Iterator[tuple[TracebackType, bool]]:
    """Each entry, and whether its frame is ours, or of a library that ours has called."""
    entry: TracebackType | None = traceback
    within = False
    while entry is not None:
        name = entry.tb_frame.f_globals.get("__name__")
        within = _is_ours(name) or (within and _is_library(name))
        yield entry, within
        entry = entry.tb_next


def _is_ours(name: object) -> bool:
    return isinstance(name, str) and name.partition(".")[0] == OURS and not name.startswith(f"{OURS}.testing")


def _is_library(name: object) -> bool:
    # Methods that attrs writes have no module's globals.
    return not isinstance(name, str) or name.partition(".")[0] in sys.stdlib_module_names | THEIRS


def _bare(frame: FrameType) -> FrameType:
    """A frame of the same file, function and module with nothing in it, and nothing behind it."""
    code = frame.f_code
    named = _template.__code__.replace(
        co_filename=code.co_filename,
        co_name=code.co_name,
        co_qualname=code.co_qualname,
        co_firstlineno=code.co_firstlineno,
    )
    empty: FrameType = FunctionType(named, {"__name__": frame.f_globals.get("__name__")})().gi_frame
    return empty


def _template() -> Iterator[None]:
    # A generator has its frame before it is run, and without a caller.
    yield
