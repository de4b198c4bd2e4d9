"""``--follow``: the events of a run on standard error as they come, while this process works on it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from attrs import define, field
from returns.result import Failure

from flowpersist.cli.screen import Screen
from flowpersist.cli.session import note
from flowpersist.errors import PersistenceError, SuspensionNotFound

if TYPE_CHECKING:
    from flowpersist.dynamicflow import FlowRunner
    from flowpersist.dynamicflow.retrying import RunLike
    from flowpersist.keys.suspension_key import SuspensionId

__all__ = ["Follower", "follow_option"]

T = TypeVar("T")
#: Between two looks where the store tells of no changes, and until a run is there.
POLL: Final = timedelta(seconds=0.2)

follow_option = click.option(
    "--follow",
    is_flag=True,
    help="Print the run's stored events on standard error as they come, on a terminal with a bar for each map.",
)


@define
class Follower:
    """Prints the events of a run with higher numbers than ``after``."""

    run: RunLike
    after: int = 0
    screen: Screen = field(factory=Screen.of_process)
    _broken: bool = field(default=False, init=False)

    @classmethod
    async def from_now(cls, runner: FlowRunner, run: SuspensionId) -> Follower:
        """One that prints what comes after the present events of a run."""
        seen = await runner.hub.inspect(run)
        # Whoever works on it reports what is wrong with it.
        if isinstance(seen, Failure):
            return cls(run)
        end = await runner.hub.suspensions.side_records.events.end(seen.unwrap())
        return cls(run, 0 if isinstance(end, Failure) else end.unwrap())

    async def beside(self, runner: FlowRunner, work: Coroutine[Any, Any, T]) -> T:
        """Do the work, and print the events meanwhile. If this is cancelled, the work is, and ends first."""
        going = asyncio.create_task(work)
        printing = asyncio.create_task(self._print_meanwhile(runner, going))
        try:
            await asyncio.wait({going})
            await _ended(printing)
            if not printing.cancelled():
                printing.result()
            # Events are stored before what they tell of, so all are there.
            if not self._broken:
                await self._print(runner, follow=False)
            return await going
        finally:
            going.cancel()
            # Its error is the caller's only where this was not cancelled.
            await asyncio.gather(going, return_exceptions=True)
            await _ended(printing)
            self.screen.erase()

    async def _print_meanwhile(self, runner: FlowRunner, going: asyncio.Task[Any]) -> None:
        while not await self._print(runner, follow=True):
            await asyncio.wait({going}, timeout=POLL.total_seconds())

    async def _print(self, runner: FlowRunner, *, follow: bool) -> bool:
        """Print what there is, and what comes. False: the run is not stored yet, or was refused before."""
        try:
            async with aclosing(runner.events(self.run, after=self.after, follow=follow, poll=POLL)) as events:
                async for event in events:
                    self.after = event.sequence
                    self.screen.show(event)
        except SuspensionNotFound:
            return False
        except PersistenceError as error:
            self._broken = True
            self.screen.erase()
            note(f"the events of the run can't be shown: {error}")
        return True


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
