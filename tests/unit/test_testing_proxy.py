"""The proxy passes bytes as they are, and fails exactly as it was asked to, over real sockets."""

import asyncio
import time
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import pytest_asyncio

from flowpersist.testing.proxy import Proxy, Side, address_of, rerouted


async def serve(reader, writer):
    """Answer each line by itself, in capitals; ``big N`` by so many bytes."""
    try:
        while (line := await reader.readline()).endswith(b"\n"):
            done.append(line)
            writer.write(b"x" * int(line[4:]) if line.startswith(b"big ") else line.upper())
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


done = []


@pytest_asyncio.fixture(loop_scope="module")
async def proxy():
    done.clear()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with Proxy(*server.sockets[0].getsockname()) as proxy:
        yield proxy
    server.close()


class Client:
    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def ask(self, line):
        self.writer.write(line + b"\n")
        return (await self.reader.readline()).rstrip()


@asynccontextmanager
async def connected(proxy):
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


async def test_bytes_pass_as_they_are(proxy):
    async with connected(proxy) as one, connected(proxy) as two:
        assert [await one.ask(b"a"), await two.ask(b"b"), await one.ask(b"c")] == [b"A", b"B", b"C"]
        one.writer.write(b"big 1000000\n")
        assert await one.reader.readexactly(1_000_000) == b"x" * 1_000_000
        assert (proxy.connections, proxy.accepted) == (2, 2)


async def test_the_end_of_a_stream_passes(proxy):
    async with connected(proxy) as one:
        one.writer.write(b"last\n")
        one.writer.write_eof()
        assert await one.reader.read() == b"LAST\n"


@pytest.mark.parametrize("reset", [False, True])
async def test_a_lost_reply_was_a_request_that_is_done(proxy, reset):
    proxy.reset = reset
    async with connected(proxy) as one, connected(proxy) as other:
        assert await one.ask(b"a") == b"A"
        proxy.lose(2)
        assert await one.ask(b"b") == b"B"
        assert proxy.armed
        if reset:
            with pytest.raises(ConnectionResetError):
                await one.ask(b"c")
        else:
            assert await one.ask(b"c") == b""
        assert done == [b"a\n", b"b\n", b"c\n"]
        assert not proxy.armed
        assert await other.ask(b"d") == b"D"


async def test_a_long_reply_counts_once(proxy):
    async with connected(proxy) as one:
        proxy.lose(2)
        one.writer.write(b"big 300000\n")
        await one.reader.readexactly(300_000)
        assert proxy.armed
        assert await one.ask(b"a") == b""


@pytest.mark.parametrize("size", [0, 1, 100_000])
async def test_a_reply_is_cut_after_so_many_bytes(proxy, size):
    async with connected(proxy) as one:
        proxy.cut_after(size)
        one.writer.write(b"big 300000\n")
        assert await one.reader.read() == b""[:size] + b"x" * size


async def test_a_request_is_cut_after_so_many_bytes(proxy):
    async with connected(proxy) as one:
        proxy.cut_after(3, Side.CLIENT)
        assert await one.ask(b"abcdef") == b""
        assert done == []


async def test_what_is_disarmed_does_not_come(proxy):
    proxy.lose()
    proxy.cut_after(0)
    proxy.disarm()
    async with connected(proxy) as one:
        assert await one.ask(b"a") == b"A"


async def test_all_are_cut_and_new_ones_may_come(proxy):
    async with connected(proxy) as one, connected(proxy) as two:
        await one.ask(b"a")
        await two.ask(b"b")
        assert proxy.cut() == 2
        assert [await one.reader.read(), await two.reader.read()] == [b"", b""]
    async with connected(proxy) as three:
        assert await three.ask(b"c") == b"C"


async def test_a_server_that_is_away_refuses_and_comes_back_on_its_port(proxy):
    async with connected(proxy) as one:
        await one.ask(b"a")
        async with proxy.away():
            assert await one.reader.read() == b""
            for _ in range(2):
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection(proxy.host, proxy.port)
    async with connected(proxy) as two:
        assert await two.ask(b"b") == b"B"


async def test_a_stalled_connection_stays_and_goes_on(proxy):
    async with connected(proxy) as one:
        await one.ask(b"a")
        proxy.stall()
        asked = asyncio.ensure_future(one.ask(b"b"))
        await asyncio.sleep(0.02)
        assert not asked.done()
        proxy.resume()
        assert await asked == b"B"


async def test_delay_and_rate(proxy):
    async with connected(proxy) as one:
        proxy.delay = timedelta(milliseconds=10)
        began = time.monotonic()
        assert await one.ask(b"a") == b"A"
        assert time.monotonic() - began >= 0.02
        proxy.delay = timedelta(0)
        proxy.bytes_per_second = 1_000_000
        began = time.monotonic()
        one.writer.write(b"big 20000\n")
        await one.reader.readexactly(20_000)
        assert time.monotonic() - began >= 0.02


async def test_a_server_that_is_not_there_cuts_its_clients():
    async with Proxy("127.0.0.1", 1) as proxy, connected(proxy) as one:
        assert await one.reader.read() == b""


def test_senseless_faults_are_refused():
    proxy = Proxy("127.0.0.1", 1)
    with pytest.raises(ValueError, match="counted from 1"):
        proxy.lose(0)
    with pytest.raises(ValueError, match="from 0 on"):
        proxy.cut_after(-1)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://u:p@h:1/0?prefix=x", ("h", 1)),
        ("rediss://h", ("h", 6379)),
        ("postgresql://[::1]/db", ("::1", 5432)),
        ("mongodb://a:1,b:2/db", None),
        ("mongodb+srv://a/db", None),
        ("redis://h:1?cluster=on", None),
        ("sqlite:///x.db", None),
        ("file:x", None),
        ("memory://x", None),
    ],
)
def test_the_address_in_a_url(url, address):
    assert address_of(url) == address


@pytest.mark.parametrize(
    ("url", "other"),
    [
        ("redis://u:p%40@h:1/0?prefix=x", "redis://u:p%40@127.0.0.1:9/0?prefix=x"),
        ("postgresql://h/db", "postgresql://127.0.0.1:9/db"),
        ("neo4j://u:p@h:1", "bolt://u:p@127.0.0.1:9"),
        ("neo4j+ssc://h:1", "bolt+ssc://127.0.0.1:9"),
        ("mongodb://h:1/db?w=1", "mongodb://127.0.0.1:9/db?w=1&directConnection=true"),
    ],
)
def test_a_url_through_a_proxy(url, other):
    assert rerouted(url, "127.0.0.1:9") == other
