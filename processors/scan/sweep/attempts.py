"""Connection attempts under way: thousands of sockets behind one epoll, each given up after the same time.

A task, a timer and a future for each socket would take some 10 KB; here an attempt is a socket and an entry in a table.
"""

from __future__ import annotations

import asyncio
import errno
import select
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from processors.scan.sweep.ledger import Key

TURN = 0.01  # seconds between two looks at what is late
MOST_EVENTS = 512


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt ended: connected, with an error (an errno), or `late`. `to_itself`: the kernel connected the socket to itself."""

    key: Key
    error: int = 0
    late: bool = False
    to_itself: bool = False


class Attempts:
    """At most `most` attempts of `seconds` each. `note` is told how each ended, in the event loop. Leaving the block closes all sockets."""

    def __init__(self, seconds: float, most: int, note: Callable[[Ended], None]) -> None:
        self._seconds, self._note = seconds, note
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._open: dict[int, tuple[socket.socket, Key]] = {}
        self._due: deque[tuple[float, int, socket.socket]] = deque()
        self._room = asyncio.Semaphore(most)
        self._none = asyncio.Event()
        self._none.set()
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Attempts:
        """Begin to watch."""
        self._loop.add_reader(self._epoll.fileno(), self._look)
        self._timer = self._loop.call_later(TURN, self._give_up)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close everything."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        for sock, _ in self._open.values():
            sock.close()
        self._open.clear()

    async def room(self) -> None:
        """Wait until another attempt may begin, and hold its place: `begin` uses it, `leave` gives it back."""
        await self._room.acquire()

    def leave(self) -> None:
        """Give a place back."""
        self._room.release()

    async def all_ended(self) -> None:
        """Wait until no attempt is under way."""
        await self._none.wait()

    def begin(self, key: Key, sock: socket.socket) -> None:
        """Connect in the place that is held: one SYN leaves. The socket is ours from now on."""
        number = sock.connect_ex(key)
        if number != errno.EINPROGRESS:
            self._end(sock, key, number)
            return
        handle = sock.fileno()
        self._open[handle] = sock, key
        self._none.clear()
        self._due.append((self._loop.time() + self._seconds, handle, sock))
        self._epoll.register(handle, select.EPOLLOUT | select.EPOLLONESHOT)

    def _look(self) -> None:
        for handle, _ in self._epoll.poll(0, MOST_EVENTS):
            sock, key = self._open.pop(handle)
            self._end(sock, key, sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _give_up(self) -> None:
        """End what is late. An ICMP error that came meanwhile is kept by the kernel as a soft error, which only this call shows."""
        now = self._loop.time()
        while self._due and self._due[0][0] <= now:
            _, handle, sock = self._due.popleft()
            found = self._open.get(handle)
            if found is not None and found[0] is sock:
                del self._open[handle]
                self._end(sock, found[1], sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), late=True)
        self._timer = self._loop.call_later(TURN, self._give_up)

    def _end(self, sock: socket.socket, key: Key, number: int, *, late: bool = False) -> None:
        with sock:
            ended = Ended(key, number, late, not number and not late and is_to_itself(sock))
        self._note(ended)
        self._room.release()
        if not self._open:
            self._none.set()


def is_to_itself(sock: socket.socket) -> bool:
    """Whether a connected socket is its own other end. One that was reset already has no other end."""
    try:
        return bool(sock.getsockname()[:2] == sock.getpeername()[:2])
    except OSError:
        return False
