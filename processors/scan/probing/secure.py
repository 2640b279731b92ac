"""TLS on a non-blocking socket, without asyncio's transports: these cost more than the handshake, and a handshake that is given up
leaves one behind that keeps the number of the closed socket for 30 s, in which asyncio refuses each new socket that gets it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import TypeVar

RECORD = 16_384 + 256  # a TLS record at most (RFC 8446, 5.2)
MOST_SHAKING = 128 * 1024  # bytes of a handshake: OpenSSL takes certificates of 100 KB at most, and HelloRequests without end
Done = TypeVar("Done")


class Secure:
    """A TLS session over a connected socket. `pay` is called with the size of what arrived once hands are shaken, before more is read."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, name: str, pay: Callable[[int], Awaitable[None]]) -> None:
        self._socket, self._loop, self._pay = sock, asyncio.get_running_loop(), pay
        self._arrived, self._leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context.wrap_bio(self._arrived, self._leaving, server_hostname=name or None)

    async def shake_hands(self) -> None:
        """Raises OSError (ssl.SSLError among them) where the other side will not, ends, or comes to no end."""
        left = MOST_SHAKING

        async def bounded(size: int) -> None:
            nonlocal left
            left -= size
            if left < 0:
                raise ConnectionAbortedError("its handshake comes to no end")

        await self._until_done(self.session.do_handshake, bounded)

    async def send(self, data: bytes) -> None:
        """Send a few bytes. Raises OSError."""
        await self._until_done(lambda: self.session.write(data), self._pay)

    async def receive(self, most: int) -> bytes:
        """What was said, b"" at the end. Raises OSError, and what paying raises."""
        try:
            return await self._until_done(lambda: self.session.read(most), self._pay)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return b""

    async def _until_done(self, step: Callable[[], Done], account: Callable[[int], Awaitable[None]]) -> Done:
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                await self._flush()
                await asyncio.sleep(0)  # sock_recv does not wait for who always has more to say: no time limit and no halt would end it
                arrived = await self._loop.sock_recv(self._socket, RECORD)
                await account(len(arrived))
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
