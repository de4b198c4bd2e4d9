"""``python -m examples.orchestrator ROLE``: one agent, an order, or the whole story."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from contextlib import suppress

from examples.orchestrator import coder, demo, manager
from flowpersist import RaisingHub

PROJECT = os.environ.get("FLOWPERSIST_PROJECT", "calculator")


async def role(arguments: argparse.Namespace) -> None:
    """Do what a role does until it is over, or until SIGTERM."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    agent = os.environ.get("FLOWPERSIST_AGENT", f"{arguments.role}-{os.getpid()}")
    async with RaisingHub.open() as hub:
        match arguments.role:
            case "manager":
                await manager.work(hub, agent)
            case "coder":
                await coder.work(hub, agent, stuck=arguments.stuck)
            case "order":
                print(await manager.order(hub, PROJECT))
            case _:
                await demo.play(hub, PROJECT)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.orchestrator", description=__doc__)
    parser.add_argument("role", choices=("manager", "coder", "order", "demo"))
    parser.add_argument("--stuck", action="store_true", help="a coder stays in the middle of its first task")
    with suppress(asyncio.CancelledError):
        asyncio.run(role(parser.parse_args()))


if __name__ == "__main__":
    main()
