"""What a conversation costs: every segment that leaves is paid for, and who makes us send far more than he says is hung up on."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from weakref import WeakKeyDictionary

SEGMENT_BYTES = 1000  # of an honest answer; each is acknowledged at most once
DRIPS = 16  # segments beyond that, after which who sends them is hung up on
LOOK_SECONDS = 0.02
RESET = 1


class Account:
    """What one conversation has sent, as the kernel counts it, and what of that is paid for.

    The kernel acknowledges by segments, not by bytes: who drips his answer gets as many acknowledgements as he wrote bytes.
    """

    def __init__(self, sock: socket.socket, paid: int) -> None:
        self._socket, self._paid, self._cost = sock, paid, paid

    def paid(self, packets: int) -> None:
        """So many more were paid for, before they left."""
        self._paid += packets
        self._cost += packets

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
            self.hang_up()

    def hang_up(self) -> None:
        """End the conversation: who talks or listens meanwhile finds its end."""
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


class Watchman:
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


_watchmen: WeakKeyDictionary[asyncio.AbstractEventLoop, Watchman] = WeakKeyDictionary()


def watchman() -> Watchman:
    """The running event loop's."""
    return _watchmen.setdefault(asyncio.get_running_loop(), Watchman())
