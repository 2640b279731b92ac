"""A conversation with one port: capped in bytes and time, paid for at the gate, always reset at the end."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext

from processors.scan.probing.account import Account, watchman
from processors.scan.probing.secure import Secure

CONNECT_SECONDS = 3.0
CHUNK = 4096
RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class Wire:
    """An open connection. Failures of the other side (reset, end, silence) are short or empty reads, never exceptions."""

    def __init__(self, sock: socket.socket, admit: Callable[[int], Awaitable[None]], account: Account) -> None:
        self._socket, self._admit, self._account = sock, admit, account
        self._secure: Secure | None = None
        self._loop = asyncio.get_running_loop()
        self._read = 0

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS session, for probes that look at the handshake."""
        return self._secure.session if self._secure else None

    async def secure(self, context: ssl.SSLContext, name: str) -> None:
        """Talk TLS from now on. Raises OSError where the handshake fails."""
        self._secure = Secure(self._socket, context, name, self._pay)
        await self._secure.shake_hands()

    async def send(self, data: bytes) -> None:
        """Send a few bytes."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await (self._secure.send(data) if self._secure else self._loop.sock_sendall(self._socket, data))
        except (TimeoutError, OSError):
            pass

    async def read(self, *, until: bytes = b"", limit: int = CHUNK, seconds: float = 2.0) -> bytes:
        """Read until `until` was seen (b"": anything), the end, `limit` bytes or `seconds`, whichever is first."""
        found = bytearray()
        try:
            async with asyncio.timeout(seconds):
                while len(found) < limit:
                    most = min(CHUNK, limit - len(found))
                    chunk = await (self._secure.receive(most) if self._secure else self._loop.sock_recv(self._socket, most))
                    found += chunk
                    if not chunk or not until or until in found:
                        break
                    if not self._secure:  # which has paid for what arrived, whether it was meant for us or for TLS itself
                        await self._pay(len(chunk))
        except (TimeoutError, OSError):
            pass
        return bytes(found)

    async def read_all(self, *, limit: int, seconds: float) -> bytes:
        """Read to the end, at most `limit` bytes and `seconds`."""
        return await self.read(until=b"\0never\0" * 8, limit=limit, seconds=seconds)

    async def go_on(self, cost: int) -> None:
        """Pay for what another probe will send on this connection. Raises OutOfScope, Halted."""
        await self._admit(cost)
        self._account.paid(cost)

    async def _pay(self, size: int) -> None:
        """Pay for what our side sent since it was last paid for, before more is read."""
        self._read += size
        owed = self._account.owed(self._read)
        if owed > 0:
            await self._admit(owed)


@asynccontextmanager
async def dial(
    address: str,
    port: int,
    admit: Callable[[int], Awaitable[None]],
    cost: int,
    tls: ssl.SSLContext | None = None,
    name: str = "",
    watching: Callable[[Callable[[], None]], AbstractContextManager[object]] = nullcontext,
) -> AsyncIterator[Wire]:
    """Connect once the gate has admitted `cost` packets; what left beyond them is paid for afterwards.

    `watching` is given what hangs up, and may call it for as long as the conversation lasts.
    Who makes us send far more than he says is hung up on. Raises OSError (also for a failed handshake), OutOfScope, Halted.
    """
    await admit(cost)
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        account = Account(sock, cost)
        try:
            with watchman().watching(account), watching(account.hang_up):
                wire = Wire(sock, admit, account)
                async with asyncio.timeout(CONNECT_SECONDS):
                    await asyncio.get_running_loop().sock_connect(sock, (address, port))
                    if tls is not None:
                        await wire.secure(tls, name)
                yield wire
        finally:
            owed = account.owed(0)
            sock.close()
            if owed:
                await admit(owed)
