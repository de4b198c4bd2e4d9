"""Programs in processes that come from one which has imported everything: to start one takes hardly any time.

For tests whose programs need processes of their own, and no interpreter of their own. What measures an interpreter,
gives it options, or is begun by another program starts ``sys.executable`` instead.
"""

from __future__ import annotations

import asyncio
import os
import runpy
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

from flowpersist.testing.suite.processes import CONTEXT, PRELOADED

CONTEXT.set_forkserver_preload(
    [*PRELOADED, *(f"flowpersist.{name}" for name in ("dynamicflow", "stores", "testing.hubs", "tools"))]
)


class Program:
    """A process that runs a program (a path, or the text of one), with what tests use of ``subprocess.Popen``.

    Its output is text, and so are its errors where ``errors`` is true.
    """

    def __init__(self, program, *arguments, environment=None, directory=None, errors=False):
        theirs, ours = {}, {}
        for number in (0, 1, 2) if errors else (0, 1):
            receiving, sending = CONTEXT.Pipe(duplex=False)
            theirs[number], ours[number] = (sending, receiving) if number else (receiving, sending)
        given = (
            program,
            arguments,
            dict(os.environ if environment is None else environment),
            str(directory or Path.cwd()),
        )
        self.process = CONTEXT.Process(target=_run, args=(*given, theirs), daemon=True)
        self.process.start()
        self.pid = self.process.pid
        for pipe in theirs.values():
            pipe.close()
        self.stdin = os.fdopen(_taken(ours[0]), "wb", buffering=0)
        self.stdout = os.fdopen(_taken(ours[1]), encoding="utf-8")
        self.stderr = os.fdopen(_taken(ours[2]), encoding="utf-8") if errors else None

    @property
    def returncode(self):
        return self.process.exitcode

    def poll(self):
        return self.returncode

    def wait(self, timeout=None):
        self.process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("a program", timeout)
        return self.returncode

    def communicate(self, timeout=None):
        """What it still writes until it ends."""
        self.stdin.close()
        errors = []
        reading = threading.Thread(target=lambda: errors.append(self.stderr and self.stderr.read()))
        reading.start()
        ending = threading.Timer(timeout or threading.TIMEOUT_MAX, self.kill)
        ending.start()
        told = self.stdout.read()
        reading.join()
        ending.cancel()
        ending.join()
        self.wait()
        return told, errors[0]

    def send_signal(self, number):
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def close(self):
        """Kill it where it still runs, and close what leads to it."""
        self.kill()
        self.process.join()
        for file in (self.stdin, self.stdout, self.stderr):
            if file is not None:
                file.close()


def _taken(connection):
    """The pipe of a connection, which is nobody else's then."""
    with connection:
        return os.dup(connection.fileno())


def _run(program, arguments, environment, directory, pipes):
    """In the process: the program, with its arguments, environment, directory and pipes."""
    # A process that is killed writes no measurements.
    sys.settrace(None)
    threading.settrace(None)
    for number, pipe in pipes.items():
        os.dup2(pipe.fileno(), number)
        pipe.close()
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    sys.argv = [str(program), *map(str, arguments)]
    if isinstance(program, Path):
        runpy.run_path(str(program), run_name="__main__")
    else:
        exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})  # noqa: S102 - a test's own text


@contextmanager
def forked(program, *arguments, **options):
    """A process that runs a program until the end of the block."""
    started = Program(program, *arguments, **options)
    try:
        yield started
    finally:
        started.close()


async def run_forked(program, *arguments):
    """A process for each of these arguments, all at once, until their ends: what those have said that failed."""
    with ExitStack() as stack:
        started = [stack.enter_context(forked(program, *given, errors=True)) for given in arguments]
        errors = [(await asyncio.to_thread(one.communicate))[1] for one in started]
        return [error for one, error in zip(started, errors, strict=True) if one.returncode]


class AsyncProgram:
    """The same with what tests use of ``asyncio.subprocess.Process``: its output is bytes."""

    def __init__(self, program, stdout):
        self._program = program
        self.stdin, self.stdout = program.stdin, stdout
        self.send_signal, self.kill, self.pid = program.send_signal, program.kill, program.pid

    @property
    def returncode(self):
        return self._program.returncode

    async def wait(self):
        loop, sentinel = asyncio.get_running_loop(), self._program.process.sentinel
        while self.returncode is None:
            ended = asyncio.Event()
            loop.add_reader(sentinel, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(sentinel)
        return self.returncode

    async def communicate(self, data=b""):
        """Give it its input, and all that it still writes until it ends."""
        self.stdin.write(data)
        self.stdin.close()
        told = await self.stdout.read()
        await self.wait()
        return told


@asynccontextmanager
async def forked_async(program, *arguments, **options):
    """A process that runs a program until the end of the block."""
    with forked(program, *arguments, **options) as started:
        reader = asyncio.StreamReader(limit=2**24)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, started.stdout)
        try:
            yield AsyncProgram(started, reader)
        finally:
            transport.close()
