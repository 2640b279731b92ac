"""A conversation with one port: capped in bytes and time, paid for at the gate, always reset at the end."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

CONNECT_SECONDS = 3.0
FREE_BYTES = 8192  # what an admitted conversation may read before it asks the gate for the further ACKs
ACKS_PER_BLOCK = 3  # of 8 KB: one ACK for every second segment
CHUNK = 4096


class Wire:
    """An open connection. Failures of the other side (reset, end, silence) are short or empty reads, never exceptions."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, admit: Callable[[int], Awaitable[None]]) -> None:
        self._reader, self._writer, self._admit = reader, writer, admit
        self._read, self._paid = 0, FREE_BYTES

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS session, for probes that look at the handshake."""
        found = self._writer.get_extra_info("ssl_object")
        return found if isinstance(found, ssl.SSLObject) else None

    async def send(self, data: bytes) -> None:
        """Send a few bytes."""
        self._writer.write(data)

    async def read(self, *, until: bytes = b"", limit: int = CHUNK, seconds: float = 2.0) -> bytes:
        """Read until `until` was seen (b"": anything), the end, `limit` bytes or `seconds`, whichever is first."""
        found = bytearray()
        try:
            async with asyncio.timeout(seconds):
                while len(found) < limit:
                    chunk = await self._reader.read(min(CHUNK, limit - len(found)))
                    found += chunk
                    if not chunk or not until or until in found:
                        break
                    await self._pay(len(chunk))
        except (TimeoutError, OSError):
            pass
        return bytes(found)

    async def read_all(self, *, limit: int, seconds: float) -> bytes:
        """Read to the end, at most `limit` bytes and `seconds`."""
        return await self.read(until=b"\0never\0" * 8, limit=limit, seconds=seconds)

    async def _pay(self, size: int) -> None:
        self._read += size
        while self._read > self._paid:
            self._paid += FREE_BYTES
            await self._admit(ACKS_PER_BLOCK)


@asynccontextmanager
async def dial(
    address: str, port: int, admit: Callable[[int], Awaitable[None]], cost: int, tls: ssl.SSLContext | None = None, name: str = ""
) -> AsyncIterator[Wire]:
    """Connect once the gate has admitted `cost` packets. Raises OSError (also for a failed handshake), OutOfScope, Halted."""
    await admit(cost)
    async with asyncio.timeout(CONNECT_SECONDS):
        reader, writer = await asyncio.open_connection(
            address,
            port,
            limit=2 * CHUNK,
            ssl=tls,
            server_hostname=(name or "") if tls else None,
            ssl_handshake_timeout=CONNECT_SECONDS if tls else None,
        )
    try:
        yield Wire(reader, writer, admit)
    finally:
        writer.transport.abort()
