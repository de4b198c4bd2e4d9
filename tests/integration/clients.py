"""Clients of a hub in processes of their own, which begin at the same moment."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path

CLIENT = Path(__file__).with_name("hub_client.py")


@asynccontextmanager
async def client(url, ring, command, **arguments):
    """A process that is ready to go."""
    environment = {
        **os.environ,
        "FLOWPERSIST_KEYS": ring.export(),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(CLIENT), url, command, stdin=-1, stdout=-1, limit=2**24, env=environment
    )
    try:
        process.stdin.write(json.dumps(arguments).encode() + b"\n")
        assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        process.stdin.close()
        await process.wait()


async def all_at_once(url, ring, command, arguments):
    async with asyncio.timeout(60):
        clients = [client(url, ring, command, **given) for given in arguments]
        processes = await asyncio.gather(*(one.__aenter__() for one in clients))
        for process in processes:
            process.stdin.write(b"go\n")
        told = await asyncio.gather(*(process.stdout.readline() for process in processes))
        await asyncio.gather(*(process.wait() for process in processes))
        await asyncio.gather(*(one.__aexit__(None, None, None) for one in clients))
    return [json.loads(line) for line in told]
