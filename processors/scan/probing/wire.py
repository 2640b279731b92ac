"""A conversation with one port: capped in bytes and time, paid for at the gate, always reset at the end."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import cast
from weakref import WeakKeyDictionary

CONNECT_SECONDS = 3.0
CHUNK = 4096
SEGMENT_BYTES = 1000  # of an honest answer; each is acknowledged at most once
DRIPS = 16  # segments beyond that, after which who sends them is hung up on
LOOK_SECONDS = 0.02
RESET = 1
RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class Wire:
    """An open connection. Failures of the other side (reset, end, silence) are short or empty reads, never exceptions."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, admit: Callable[[int], Awaitable[None]], account: Account
    ) -> None:
        self._reader, self._writer, self._admit, self._account = reader, writer, admit, account
        self._read = 0

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
        """Pay for what our side sent since it was last paid for, before more is read."""
        self._read += size
        owed = self._account.owed(self._read)
        if owed > 0:
            await self._admit(owed)


class Account:
    """What one conversation has sent, as the kernel counts it, and what of that is paid for.

    The kernel acknowledges by segments, not by bytes: who drips his answer gets as many acknowledgements as he wrote bytes.
    """

    def __init__(self, sock: socket.socket, paid: int) -> None:
        self._socket, self._paid, self._cost = sock, paid, paid

    def owed(self, read: int) -> int:
        """Packets that left and were not paid for, of a conversation in which so many bytes were read; they count as paid now."""
        sent, _ = counted(self._socket) or (self._cost + read // SEGMENT_BYTES, read)
        owed = max(0, sent + RESET - self._paid)
        self._paid += owed
        return owed

    def hang_up_on_drips(self) -> None:
        """If more left than what was said to us can explain: whatever comes after this is answered with a reset."""
        sent, received = counted(self._socket) or (0, 0)
        if sent > self._cost + DRIPS + received // SEGMENT_BYTES:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


def counted(sock: socket.socket) -> tuple[int, int] | None:
    """Segments sent and bytes received on a TCP connection (struct tcp_info of linux/tcp.h); None where the kernel does not tell."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 144)
    except (OSError, AttributeError):
        return None
    if len(info) < 144:
        return None
    received, sent = struct.unpack_from("=QI", info, 128)
    return sent, received


class _Watchman:
    """Hangs up on whoever makes us send far more than he says. One of an event loop: a task for each conversation cost most of a core."""

    def __init__(self) -> None:
        self._watched: set[Account] = set()
        self._rounds: asyncio.TimerHandle | None = None

    @contextmanager
    def watching(self, account: Account) -> Iterator[None]:
        """Watch this conversation meanwhile."""
        self._watched.add(account)
        if self._rounds is None:
            self._rounds = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)
        try:
            yield
        finally:
            self._watched.discard(account)

    def _look(self) -> None:
        for account in self._watched:
            account.hang_up_on_drips()
        self._rounds = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look) if self._watched else None


_watchmen: WeakKeyDictionary[asyncio.AbstractEventLoop, _Watchman] = WeakKeyDictionary()


class _Unheard(asyncio.StreamReaderProtocol):
    """A stream that reads nothing until it is told to: the first bytes may be TLS."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep still."""
        super().connection_made(transport)
        cast("asyncio.ReadTransport", transport).pause_reading()


@asynccontextmanager
async def dial(
    address: str, port: int, admit: Callable[[int], Awaitable[None]], cost: int, tls: ssl.SSLContext | None = None, name: str = ""
) -> AsyncIterator[Wire]:
    """Connect once the gate has admitted `cost` packets; what left beyond them is paid for afterwards.

    Who makes us send far more than he says is hung up on. Raises OSError (also for a failed handshake), OutOfScope, Halted.
    """
    await admit(cost)
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
    account, transport = Account(sock, cost), None
    try:
        with _watchmen.setdefault(loop, _Watchman()).watching(account):
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.sock_connect(sock, (address, port))
                reader = asyncio.StreamReader(limit=2 * CHUNK)
                # Not TLS at once: a handshake that is given up leaves a transport that keeps the number of the closed socket for 30 s,
                # in which asyncio refuses each new socket that gets this number.
                transport, protocol = await loop.create_connection(lambda: _Unheard(reader), sock=sock)
                writer = asyncio.StreamWriter(transport, protocol, reader, loop)
                if tls is not None:
                    await writer.start_tls(tls, server_hostname=name or None)
                else:
                    transport.resume_reading()
            yield Wire(reader, writer, admit, account)
    finally:
        owed = account.owed(0)
        if transport is not None:
            transport.abort()
        else:
            sock.close()
        if owed:
            await admit(owed)
