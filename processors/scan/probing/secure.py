"""TLS on a non-blocking socket, without asyncio's transports: these cost more than the handshake, and a handshake that is given up
leaves one behind that keeps the number of the closed socket for 30 s, in which asyncio refuses each new socket that gets it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

RECORD = 16_384 + 256  # a TLS record at most (RFC 8446, 5.2)
Done = TypeVar("Done")


class Secure:
    """A TLS session over a connected socket."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, name: str) -> None:
        self._socket, self._loop = sock, asyncio.get_running_loop()
        self._arrived, self._leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context.wrap_bio(self._arrived, self._leaving, server_hostname=name or None)

    async def shake_hands(self) -> None:
        """Raises OSError (ssl.SSLError among them) where the other side will not, or ends."""
        await self._until_done(self.session.do_handshake)

    async def send(self, data: bytes) -> None:
        """Send a few bytes. Raises OSError."""
        await self._until_done(lambda: self.session.write(data))

    async def receive(self, most: int) -> bytes:
        """What was said, b"" at the end. Raises OSError."""
        try:
            return await self._until_done(lambda: self.session.read(most))
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return b""

    async def _until_done(self, step: Callable[[], Done]) -> Done:
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                await self._flush()
                arrived = await self._loop.sock_recv(self._socket, RECORD)
                if arrived:
                    self._arrived.write(arrived)
                else:
                    self._arrived.write_eof()
                continue
            except ssl.SSLError:
                await self._flush()  # the alert that says why
                raise
            await self._flush()
            return done

    async def _flush(self) -> None:
        if self._leaving.pending:
            await self._loop.sock_sendall(self._socket, self._leaving.read())
