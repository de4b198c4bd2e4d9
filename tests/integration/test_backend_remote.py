"""The suite's network chapter with no server but our own: a right client passes it, and each wrong one is found."""

import asyncio
import pickle
from datetime import timedelta
from functools import partial, partialmethod

import pytest

from flowpersist.backends.kit import Home
from flowpersist.backends.memory import MemoryBackend
from flowpersist.errors import BackendUnavailable, PersistenceError, UnknownOutcome
from flowpersist.testing.proxy import Proxy
from flowpersist.testing.suite.ground import SCHEMA
from flowpersist.testing.suite.network import Network


async def answer(store, reader, writer):
    """Do what one connection asks for: a pickle up to the end of the stream, answered by another."""
    try:
        operation, args, options = pickle.loads(await reader.read())
        try:
            result = await getattr(store, operation)(*args, **options)
        except PersistenceError as error:
            result = error
        writer.write(pickle.dumps(result))
    except (OSError, EOFError, pickle.UnpicklingError):
        pass  # it was cut before it had said all
    finally:
        writer.close()


@pytest.fixture
async def serving():
    """Host and port of a store in memory."""
    store = MemoryBackend()
    await store.open(SCHEMA)
    server = await asyncio.start_server(partial(answer, store), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()
    server.close()


class Remote:
    """A connection for each request, sixteen at most."""

    name = "memory"
    capabilities = frozenset()
    clock_offset = timedelta(0)

    def __init__(self, port):
        self._port = port
        self._home = Home(self.name)
        self._slots = asyncio.Semaphore(16)

    async def open(self, schema):
        async with self._home.opening():
            await self._asked("ping")

    async def close(self):
        async with self._home.closing():
            pass

    async def _ask(self, operation, *args, **options):
        self._home.check()
        return await self._asked(operation, *args, **options)

    async def _asked(self, operation, *args, **options):
        async with self._slots:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError as error:
                raise BackendUnavailable("nobody listens", self.name, True) from error
            try:
                writer.write(pickle.dumps((operation, args, options)))
                writer.write_eof()
                result = pickle.loads(await reader.read())
            except (OSError, EOFError, pickle.UnpicklingError) as error:
                raise self.lost(operation) from error
            finally:
                writer.transport.abort()
        if isinstance(result, PersistenceError):
            raise result
        return result

    def lost(self, operation):
        if operation in {"put", "delete"}:
            return UnknownOutcome("the reply was lost", self.name)
        return BackendUnavailable("the reply was lost", self.name, True)

    get = partialmethod(_ask, "get")
    put = partialmethod(_ask, "put")
    delete = partialmethod(_ask, "delete")
    query = partialmethod(_ask, "query")
    purge = partialmethod(_ask, "purge")
    ping = partialmethod(_ask, "ping")


class TestRemote(Network):
    @pytest.fixture
    def address(self, serving):
        return serving

    @pytest.fixture
    def make_backend(self, address):
        return partial(Remote, address[1])

    @pytest.fixture
    def make_proxied(self, proxy):
        return partial(Remote, proxy.port)


class SaysThatNothingWasDone(Remote):
    def lost(self, operation):
        return BackendUnavailable("the reply was lost", self.name, True)


class SaysThatItIsForGood(Remote):
    def lost(self, operation):
        return BackendUnavailable("the reply was lost", self.name)


class Repeats(Remote):
    """Asks again where it has not heard, and finds its own write."""

    async def _again(self, operation, *args, **options):
        try:
            return await self._ask(operation, *args, **options)
        except UnknownOutcome:
            return await self._ask(operation, *args, **options)

    put = partialmethod(_again, "put")
    delete = partialmethod(_again, "delete")


class GivesWhatCame(Remote):
    """Takes a reply that was cut for one of nothing."""

    async def get(self, ref, *, body=True):
        try:
            return await self._ask("get", ref, body=body)
        except BackendUnavailable:
            return await self._ask("get", ref, body=False)


class HoldsOn(Remote):
    """Waits for the reply also when it is cancelled."""

    async def _ask(self, *args, **options):
        asking = asyncio.ensure_future(super()._ask(*args, **options))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            await asyncio.gather(asking, return_exceptions=True)
            raise

    get = partialmethod(_ask, "get")


@pytest.mark.parametrize(
    ("kind", "test", "match"),
    [
        (SaysThatNothingWasDone, "test_lost_acknowledgements_of_puts", "that is an UnknownOutcome"),
        (SaysThatNothingWasDone, "test_lost_acknowledgements_of_deletions", "that is an UnknownOutcome"),
        (SaysThatItIsForGood, "test_lost_acknowledgements_of_puts", "not retryable"),
        (Repeats, "test_lost_acknowledgements_of_puts", "RevisionConflict"),
        (Repeats, "test_lost_acknowledgements_of_deletions", "was there, and this caller"),
        (GivesWhatCame, "test_cut_while_a_large_body_comes", ""),
        (HoldsOn, "test_a_stalled_operation_ends_promptly_when_cancelled", "after they were cancelled"),
    ],
)
async def test_a_wrong_client_is_found(serving, monkeypatch, kind, test, match):
    monkeypatch.setattr("flowpersist.testing.suite.network.PROMPT", 0.2)
    async with Proxy(*serving) as proxy:
        backend, proxied = Remote(serving[1]), kind(proxy.port)
        given = {"backend": backend, "proxied": proxied, "proxy": proxy}
        for one in (backend, proxied):
            await one.open(SCHEMA)
        law = getattr(Network(), test)
        taken = {name: given[name] for name in law.__code__.co_varnames if name in given}
        with pytest.raises((AssertionError, PersistenceError)) as found:
            await law(**taken)
    assert match in f"{type(found.value).__name__} {found.value}"
