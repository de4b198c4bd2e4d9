"""Clients of a hub in processes of their own, which begin at the same moment."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from forked import forked_async

CLIENT = Path(__file__).with_name("hub_client.py")


@asynccontextmanager
async def client(url, ring, command, /, *, start=(), **arguments):
    """A process that is ready to go; ``start`` is a program that begins it."""
    environment = {**os.environ, "FLOWPERSIST_KEYS": ring.export()}
    begun = (
        begun_by(start, url, command, environment)
        if start
        else forked_async(CLIENT, url, command, environment=environment)
    )
    async with begun as process:
        process.stdin.write(json.dumps(arguments).encode() + b"\n")
        assert await process.stdout.readline() == b"ready\n"
        yield process


@asynccontextmanager
async def begun_by(start, url, command, environment):
    """A process that another program begins, of an interpreter of its own."""
    environment = {**environment, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = await asyncio.create_subprocess_exec(
        *start, sys.executable, str(CLIENT), url, command, stdin=-1, stdout=-1, limit=2**24, env=environment
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        process.stdin.close()
        await process.wait()


async def all_at_once(url, ring, command, arguments, start=()):
    async with asyncio.timeout(60), AsyncExitStack() as stack:
        clients = [client(url, ring, command, start=start, **given) for given in arguments]
        processes = await asyncio.gather(*map(stack.enter_async_context, clients))
        for process in processes:
            process.stdin.write(b"go\n")
        told = await asyncio.gather(*(process.stdout.readline() for process in processes))
        await asyncio.gather(*(process.wait() for process in processes))
    return [json.loads(line) for line in told]
