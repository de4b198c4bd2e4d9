"""A process that writes and says what was acknowledged, until it is killed."""

import asyncio
import os
import sys
from datetime import timedelta

from flowpersist.backends._sqlite import checkpoints
from flowpersist.backends.base import NamespaceSchema, RecordChange, RecordRef
from flowpersist.backends.registry import backend_from_url

NAMESPACE = "crash"
SCHEMA = [NamespaceSchema(NAMESPACE, {"status": str})]


def content(key, revision):
    """Head and body of one revision; every third body is large enough to stand apart."""
    mark = f"{key}@{revision};".encode()
    return mark, mark * (5000 if revision % 3 == 0 else 10)


async def write(backend, worker, life):
    """Make, change and delete records; each acknowledged step is a line: key, revision (0: deleted)."""
    number = 0
    while True:
        key = f"{worker}-{life}-{number}"
        revision = 0
        for step in range(4):
            head, body = content(key, step + 1)
            change = RecordChange(os.urandom(8).hex(), attributes={"status": f"s{step}"}, head=head, body=body)
            revision = (await backend.put(RecordRef(NAMESPACE, key), change, if_revision=revision)).revision
            say(f"{key} {step + 1}")
        if number % 3 == 0:
            await backend.delete(RecordRef(NAMESPACE, key), if_revision=revision)
            say(f"{key} 0")
        number += 1


def say(line):
    os.write(1, f"{line}\n".encode())


async def main(url, life, workers):
    # So that SQLite is killed in the middle of many.
    checkpoints.CHECKPOINT_BYTES = 512 * 1024
    backend = backend_from_url(url, clock_offset=timedelta(0))
    await backend.open(SCHEMA)
    say("open 0")
    await asyncio.gather(*(write(backend, worker, life) for worker in range(workers)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
