"""A blocking hub in processes that are interrupted, killed, forked, or end without closing it: nothing stays open."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import asyncpg
import pytest

from flowpersist import AwaitInput, SuspensionId
from flowpersist.blocking import open_hub

START = r"""
import os, sys, threading, time
from flowpersist import AwaitInput
from flowpersist.blocking import open_hub

ASK = AwaitInput(id="ask", prompt="Go on?", schema=bool)

def say(*words):
    # In one piece: several threads speak.
    os.write(1, (" ".join(map(str, words)) + "\n").encode())

def threads():
    return sorted(one.name for one in threading.enumerate())

def ready(hub, state):
    new = hub.suspend(state, awaiting=ASK)
    hub.answer(new.key, True)
    return new.id
"""


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request):
    return request.param


@pytest.fixture
def place(backend, url, prefix):
    return url if backend == "sqlite" else f"{url}&application_name={prefix}"


@pytest.fixture
def start(place, tmp_path):
    """Run a program on the store; what it has said is in its stdout, and each line of it may be waited for."""
    started = []

    def run(text, *, traced=True):
        program = tmp_path / "program.py"
        program.write_text(START + text)
        # What -W names is what a process would leave open; forks of a process with threads are what is tested.
        flags = ["-W", "always::ResourceWarning", "-W", "ignore::DeprecationWarning"]
        environment = {name: value for name, value in os.environ.items() if traced or "COVERAGE" not in name}
        started.append(
            subprocess.Popen(
                [sys.executable, *flags, str(program), place],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=tmp_path,
                env=environment,
            )
        )
        return started[-1]

    yield run
    for one in started:
        one.kill()
        one.communicate()


@pytest.fixture
def connections(backend, server, prefix):
    """Wait until the store has no connection of the program any more; where it is a file nobody counts them."""

    async def gone():
        if backend == "sqlite":
            return
        admin = await asyncpg.connect(server("postgres"))
        try:
            async with asyncio.timeout(10):
                while await admin.fetchval("select count(*) from pg_stat_activity where application_name = $1", prefix):
                    await asyncio.sleep(0.02)
        finally:
            await admin.close()

    return lambda: asyncio.run(gone())


def ended(process):
    """Its exit code, the rest of its lines, and what it told on standard error."""
    out, err = process.communicate(timeout=30)
    return process.returncode, out.splitlines(), err


def status(place, name):
    with open_hub(place, keyring=None) as hub:
        return str(hub.inspect(SuspensionId.parse(name).unwrap()).status)


def test_a_program_that_never_closes_ends_and_gives_back_what_it_holds(start, place, connections):
    program = start("""
hub = open_hub(sys.argv[1], keyring=None)
name = ready(hub, "s")
block = hub.running(name)
run = block.__enter__()
items = hub.iterate()
next(items)
say(name)
""")
    code, (name,), err = ended(program)
    assert (code, err) == (0, "")
    assert status(place, name) == "answered"
    connections()


def test_ctrl_c_ends_a_worker_and_its_handlers_before_the_program_goes_on(start, place, connections):
    program = start("""
with open_hub(sys.argv[1], keyring=None) as hub:
    name = ready(hub, "s")
    interrupted = threading.Event()

    def handle(run):
        say(run.suspension.id)
        interrupted.wait(20)
        hub.complete(run, "done")

    try:
        threading.Thread(target=lambda: (sys.stdin.read(), interrupted.set()), daemon=True).start()
        hub.work(handle)
    except KeyboardInterrupt:
        say(hub.outcome(name))
say(*threads())
""")
    name = program.stdout.readline().strip()
    program.send_signal(signal.SIGINT)
    # The end of its input lets the handler go on.
    code, lines, err = ended(program)
    assert (code, lines, err) == (0, ["done", "MainThread"], "")
    assert status(place, name) == "completed"
    connections()


def test_ctrl_c_in_any_verb_leaves_the_hub_usable_and_ends_the_program_clean(start, connections):
    program = start("""
with open_hub(sys.argv[1], keyring=None) as hub:
    try:
        say("ready")
        while True:
            hub.suspend("s")
    except KeyboardInterrupt:
        say(len(hub.query(limit=1).items))
say(*threads())
""")
    assert program.stdout.readline() == "ready\n"
    program.send_signal(signal.SIGINT)
    code, lines, err = ended(program)
    assert (code, lines[-1], err) == (0, "MainThread", "")
    connections()


def test_an_uncaught_ctrl_c_closes_the_hub(start, connections):
    program = start("""
with open_hub(sys.argv[1], keyring=None) as hub:
    say("ready")
    hub.work(lambda run: None)
""")
    assert program.stdout.readline() == "ready\n"
    program.send_signal(signal.SIGINT)
    code, _, err = ended(program)
    assert code == -signal.SIGINT
    assert err.strip().endswith("KeyboardInterrupt")
    assert "ResourceWarning" not in err
    connections()


def test_a_killed_program_leaves_nothing_open(start, place, connections):
    program = start("""
hub = open_hub(sys.argv[1], keyring=None)
name = ready(hub, "s")
with hub.running(name):
    say(name)
    time.sleep(60)
""")
    name = program.stdout.readline().strip()
    program.kill()
    assert ended(program)[0] == -signal.SIGKILL
    assert status(place, name) == "running"
    connections()


def test_a_fork_is_refused_and_harms_nothing(start, connections):
    program = start("""
with open_hub(sys.argv[1], keyring=None) as hub:
    name = ready(hub, "s")
    items = hub.iterate()
    next(items)
    child = os.fork()
    if not child:
        for call in (hub.query, lambda: next(items), lambda: hub.running(name).__enter__()):
            try:
                call()
            except RuntimeError as error:
                say(error)
        hub.close()
        with open_hub(sys.argv[1], keyring=None) as own:
            say(own.inspect(name).status)
        sys.exit(3)
    say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    say(hub.inspect(name).status)
""")
    code, lines, err = ended(program)
    refusal = "the hub was opened before a fork: open one in this process"
    assert lines == [refusal] * 3 + ["answered", "3", "answered"]
    assert (code, err) == (0, "")
    connections()


def test_threads_that_end_anyhow_leave_nothing_open(start, connections):
    """One raises in a block, one gets an exception from outside, one drops an iterator; the hub of one is its own."""
    # While an exception for one thread is pending, CPython 3.11 keeps other traced threads at the entry of a function;
    # the first waits for the hub's thread, so both would stay there.
    text = """
import ctypes

class Stopped(BaseException):
    pass

threading.excepthook = lambda told: say(told.exc_type.__name__)

def raises(hub):
    with hub.running(ready(hub, 1)):
        raise ValueError

def opens(_):
    with open_hub(sys.argv[1], keyring=None) as own:
        own.suspend(2)
        raise LookupError

def loops(hub):
    items = hub.iterate()
    next(items)
    begun.set()
    while True:
        hub.query()

begun = threading.Event()
with open_hub(sys.argv[1], keyring=None) as hub:
    for target in (raises, opens, loops):
        thread = threading.Thread(target=target, args=(hub,))
        thread.start()
        if target is loops:
            begun.wait(20)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Stopped))
        thread.join()
    say(*(one.status for one in hub.iterate()))
say(*threads())
"""
    program = start(text, traced=False)
    code, lines, err = ended(program)
    assert lines == ["ValueError", "LookupError", "Stopped", "answered waiting", "MainThread"]
    assert (code, err) == (0, "")
    connections()


def test_a_thread_that_works_while_the_program_ends_is_ended(start, connections):
    program = start("""
hub = open_hub(sys.argv[1], keyring=None)
begun = threading.Event()
ready(hub, 1)
threading.Thread(target=lambda: say("ended", hub.work(lambda run: begun.set()))).start()
begun.wait(20)
""")
    code, lines, err = ended(program)
    assert (code, lines, err) == (0, ["ended None"], "")
    connections()


def test_two_processes_share_the_work(start, place):
    """Plain handlers of two processes: each run is handled once."""
    ask = AwaitInput(id="ask", prompt="Go on?", schema=bool)
    with open_hub(place, keyring=None) as hub:
        for number in range(20):
            hub.answer(hub.suspend(number, awaiting=ask).key, value=True)
    text = """
import signal

with open_hub(sys.argv[1], keyring=None) as hub:
    def handle(run):
        say(run.state)
        return run.state

    def watch():
        while any(str(one.status) != "completed" for one in hub.iterate()):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    try:
        threading.Thread(target=watch).start()
        hub.work(handle, concurrency=3)
    except KeyboardInterrupt:
        pass
"""
    programs = [start(text) for _ in range(2)]
    handled = [line for one in programs for line in ended(one)[1]]
    assert sorted(map(int, handled)) == list(range(20))
