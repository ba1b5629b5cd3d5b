"""TLS before a server that speaks none."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

from certificate import write_certificate


@contextlib.contextmanager
def tls_relay(port: int, certificate: Path) -> Iterator[str]:
    """An address whose connections go to a port of this machine.

    Args:
        port: Of the server.
        certificate: A file that is written: who trusts it trusts the address.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(write_certificate(certificate))
    loop = asyncio.new_event_loop()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_copy(reader, here), _copy(there, writer))

    async def start() -> int:
        server = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)
        own: int = server.sockets[0].getsockname()[1]
        return own

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        own = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
        yield f"https://127.0.0.1:{own}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(2**16):
            writer.write(piece)
            await writer.drain()
    writer.close()
