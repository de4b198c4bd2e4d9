"""``@persistent``: a function whose state is loaded before it runs, and saved after it."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Concatenate, Final, ParamSpec, Required, TypeVar, Unpack, overload
from weakref import WeakValueDictionary

from attrs import define, field

from flowpersist.errors.arguments import check_flag, check_optional, check_str
from flowpersist.hub.opening import HubOptions
from flowpersist.hub.wrapping import Args, Checkpoint, Kwargs, Retry, Wrapping
from flowpersist.sealed.naming import Key, parts_of
from flowpersist.stores.state import StateManager, StateOptions, StateSource, late

__all__ = ["PersistentOptions", "persistent"]

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])
#: So many of a function's managers are kept, with what they have in memory.
RECENT: Final = 256


class PersistentOptions(StateOptions, total=False):
    """What ``persistent`` takes beside ``store`` and ``attribute``; see there."""

    key: Required[Key | Callable[..., Key]]
    cls: type[Any]
    save_on_error: bool
    checkpoint_every: int | timedelta | None
    retry: Retry | None


@define(eq=False)
class _States:
    """The states of one function, with their managers on each event loop that it runs on."""

    key: Key | Callable[..., Key]
    attribute: str | None
    save_on_error: bool
    place: int
    make: Callable[..., StateManager[Any]]
    store: Callable[[], Any]
    loops: dict[asyncio.AbstractEventLoop, tuple[Any, Any, deque[Any]]] = field(factory=dict)

    def manager(self, key: Key) -> StateManager[Any]:
        """The manager of a key: one that runs, or has a state in memory, is the same again."""
        loop, parts = asyncio.get_running_loop(), parts_of(key)
        if loop not in self.loops:
            self.loops = {one: kept for one, kept in self.loops.items() if not one.is_closed()}
            self.loops[loop] = (self.store(), WeakValueDictionary(), deque(maxlen=RECENT))
        store, known, recent = self.loops[loop]
        manager: StateManager[Any] = known.get(parts) or self.make(store, parts)
        known[parts] = manager
        recent.append(manager)
        return manager

    @asynccontextmanager
    async def run(self, args: Args, kwargs: Kwargs) -> AsyncIterator[tuple[Args, Checkpoint]]:
        """The block of one call; gives its arguments with the state, and what saves that."""
        key, name = self.key(*args, **kwargs) if callable(self.key) else self.key, self.attribute
        manager, current = self.manager(key), None if name is None else partial(getattr, args[0], name, None)
        async with manager.edit(save_on_error=self.save_on_error, current=current) as state:
            if name is not None:
                setattr(args[0], name, state)
            given = args if name is not None else (*args[: self.place], state, *args[self.place :])
            yield given, lambda: manager.save(state if current is None else current())


@overload
def persistent(
    *, store: StateSource, attribute: None = None, **options: Unpack[PersistentOptions]
) -> Callable[[Callable[Concatenate[Any, P], R]], Callable[P, R]]: ...


@overload
def persistent(*, store: StateSource, attribute: str, **options: Unpack[PersistentOptions]) -> Callable[[F], F]: ...


def persistent(
    *,
    key: Key | Callable[..., Key],
    store: StateSource,
    attribute: str | None = None,
    save_on_error: bool = True,
    checkpoint_every: int | timedelta | None = None,
    retry: Retry | None = None,
    **options: Any,
) -> Any:
    """Load a state before an async function or generator runs, and save it after. Its calls of one key wait for each
    other.

    - ``key``: of the state, or a function of the call's arguments that gives it.
    - ``store``: as ``StateManager`` takes it.
    - ``attribute``: of ``self``, which holds the state; None: the function's first argument, after ``self``, is it.
    - ``save_on_error``: save also where the function raises.
    - ``checkpoint_every``: save also after so many items of a generator, or each time that long; None: at the end.
    - ``retry``: exceptions after which it is run again, load and save too, or the arguments of ``stamina.retry``.
    - ``options``: the others of ``StateManager``.

    Raises what ``StateManager.edit`` raises, and ``TypeError`` for a plain function: ``flowpersist.blocking`` has a
    ``persistent`` for those.
    """
    check_flag(save_on_error, "save_on_error")
    check_optional(attribute, "attribute", check_str)
    hub: Any = {name: options.pop(name) for name in HubOptions.__annotations__.keys() & options.keys()}
    make: Callable[..., StateManager[Any]] = partial(StateManager, **options)
    opening = partial(late, store, hub)
    # Whatever is wrong with the arguments is wrong now.
    make(opening(), "" if callable(key) else key)
    wrapping = Wrapping(checkpoint_every, retry)

    def decorate(function: Any) -> Any:  # noqa: ANN401 - as above
        first = next(iter(inspect.signature(function).parameters), "") if callable(function) else ""
        place = int(first == "self")
        states = _States(key, attribute, save_on_error, place, make, opening)
        return wrapping(function, states.run, None if attribute else place)

    return decorate
