"""A relay that speaks TLS, before a server that speaks none."""

import asyncio
import ssl
from contextlib import asynccontextmanager, suppress

HOST = "127.0.0.1"


@asynccontextmanager
async def relay(target, certificate):
    """The address of a port that speaks nothing but TLS, and passes on to a host and port what is in it."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    links = set()

    async def pump(reader, writer):
        with suppress(OSError):
            while data := await reader.read(64 * 1024):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader, writer):
        there, back = await asyncio.open_connection(*target)
        try:
            await asyncio.gather(pump(reader, back), pump(there, writer))
        except asyncio.CancelledError:
            for one in (back, writer):
                one.transport.abort()
            raise

    def accept(reader, writer):
        link = asyncio.ensure_future(serve(reader, writer))
        links.add(link)

    async with await asyncio.start_server(accept, HOST, 0, ssl=context) as listener:
        yield f"{HOST}:{listener.sockets[0].getsockname()[1]}"
        listener.close()
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)
