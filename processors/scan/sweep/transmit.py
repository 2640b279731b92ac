"""Sends rows of bytes with as few system calls as can be: sendmmsg(2) through ctypes, a thousand packets a call.

Two ways out that every Linux has: a raw IP socket, whose rows begin at the IP header, and which leaves routes and neighbours to the
kernel; and a packet socket, whose rows begin at the Ethernet header, and which passes by the machine's own firewall.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from processors.scan.scope.mask import Addresses
from processors.scan.sweep.frames import Frames

AT_ONCE: Final = 1024
SEND_BUFFER: Final = 1 << 16
"""Bytes that may wait behind a socket, some hundred frames: what a slow link holds back leaves even when it must not any more."""
FULL_WAIT_MS: Final = 10
WORTH_TWO: Final = 1024
PATIENCE: Final = 5.0  # seconds without a packet that leaves, after which the way out counts as broken
SOL_PACKET: Final = 263
BUSY = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.EINTR, errno.EBUSY})
IOVEC = np.dtype([("base", np.uint64), ("length", np.uint64)])
# struct mmsghdr of 64-bit Linux: a msghdr of 56 bytes, and the number of bytes that were sent
MMSGHDR = np.dtype(
    {
        "names": ["name", "name_length", "vector", "vector_length", "control", "control_length", "flags", "sent"],
        "formats": [np.uint64, np.uint32, np.uint64, np.uint64, np.uint64, np.uint64, np.int32, np.uint32],
        "offsets": [0, 8, 16, 24, 32, 40, 48, 56],
        "itemsize": 64,
    }
)
libc = ctypes.CDLL(None, use_errno=True)
Recheck = Callable[[], None]
"""Raises what must end the sending: what was allowed when the rows were written may not be so any more."""


class Sender(Protocol):
    """A way out for rows that a writer wrote. `ethernet`: the rows begin at the Ethernet header, else at the IP header.

    `unseen`: a capture on this machine does not see what leaves.
    """

    name: str
    ethernet: bool
    unseen: bool

    def send(self, frames: Frames, addresses: Addresses, recheck: Recheck) -> int:
        """Send all rows, waiting where the way out is full; none is left waiting. Returns how many left; raises OSError.

        `recheck` is called before each thousand and after each wait; what it raises ends the sending.
        """

    def close(self) -> None:
        """Give it back."""


class _Messages:
    """The vectors of sendmmsg(2), and the socket that they go to."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._vectors = np.zeros(AT_ONCE, dtype=IOVEC)
        self._headers = np.zeros(AT_ONCE, dtype=MMSGHDR)
        self._headers["vector"] = self._vectors.ctypes.data + IOVEC.itemsize * np.arange(AT_ONCE, dtype=np.uint64)
        self._headers["vector_length"] = 1

    def send(self, part: Frames, names: NDArray[Any] | None, recheck: Recheck) -> int:
        """Send up to `AT_ONCE` rows, each to its name (struct sockaddr) if there are any."""
        recheck()
        count, width = part.shape
        self._vectors["base"][:count] = part.ctypes.data + width * np.arange(count, dtype=np.uint64)
        self._vectors["length"][:count] = width
        if names is not None:
            self._headers["name"][:count] = names.ctypes.data + names.strides[0] * np.arange(count, dtype=np.uint64)
            self._headers["name_length"][:count] = names.strides[0]
        done, moved = 0, time.monotonic()
        while done < count:
            where = self._headers.ctypes.data + MMSGHDR.itemsize * done
            sent = libc.sendmmsg(self.socket.fileno(), ctypes.c_void_p(where), count - done, 0)
            if sent > 0:
                done, moved = done + sent, time.monotonic()
                continue
            give_up_if_stuck(moved)
            select.select([], [self.socket], [], FULL_WAIT_MS / 1000)
            recheck()
        return done


def give_up_if_stuck(moved: float) -> None:
    """After a call that failed: raise OSError unless the way out is only full, and was not so for long."""
    number = ctypes.get_errno()
    if number not in BUSY or time.monotonic() - moved > PATIENCE:
        raise OSError(number, os.strerror(number))


class RawSender:
    """A raw IP socket: the kernel finds route and neighbour. The one way to this machine's own addresses. Needs CAP_NET_RAW."""

    name, ethernet, unseen = "raw", False, False

    def __init__(self, version: int) -> None:
        self._version = version
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        self._out = _Messages(socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW))

    def send(self, frames: Frames, addresses: Addresses, recheck: Recheck) -> int:
        """Send all rows, waiting where the way out is full. Returns how many the kernel took; raises OSError for what it refuses."""
        frames = np.ascontiguousarray(frames)
        parts = (slice(start, start + AT_ONCE) for start in range(0, len(frames), AT_ONCE))
        return sum(self._out.send(frames[part], self._names(addresses[part]), recheck) for part in parts)

    def close(self) -> None:
        """Give the socket back."""
        self._out.socket.close()

    def _names(self, addresses: Addresses) -> NDArray[Any]:
        """sockaddr_in, or sockaddr_in6, of each destination; the port stays 0."""
        if self._version == 4:
            names = np.zeros(len(addresses), dtype=[("family", np.uint16), ("port", np.uint16), ("address", ">u4"), ("zero", "S8")])
            names["family"] = socket.AF_INET
        else:
            names = np.zeros(
                len(addresses),
                dtype=[("family", np.uint16), ("port", np.uint16), ("flow", np.uint32), ("address", "S16"), ("scope", np.uint32)],
            )
            names["family"] = socket.AF_INET6
        names["address"] = addresses
        return names


class PacketSender:
    """Packet sockets on one interface (packet(7)), by its queue, so that a capture on this machine sees the frames. Needs CAP_NET_RAW.

    Half of a large batch leaves by a second socket in a second thread: the system calls, where the time goes, run side by side.
    """

    name, ethernet, unseen = "sendmmsg", True, False

    def __init__(self, interface: int) -> None:
        self._outs = [_Messages(packet_socket()) for _ in range(2 if two_cores() else 1)]
        for out in self._outs:
            bind_to(out.socket, interface)
        self._second: ThreadPoolExecutor | None = None

    def send(self, frames: Frames, addresses: Addresses, recheck: Recheck) -> int:
        """Send all rows, waiting where the way out is full. Returns how many the kernel took; raises OSError for what it refuses."""
        frames = np.ascontiguousarray(frames)
        if len(self._outs) == 1 or len(frames) < WORTH_TWO:
            return _send_all(self._outs[0], frames, recheck)
        self._second = self._second or ThreadPoolExecutor(1, "sender")
        half = len(frames) // 2
        other = self._second.submit(_send_all, self._outs[1], frames[half:], recheck)
        try:
            sent = _send_all(self._outs[0], frames[:half], recheck)
        finally:
            rest = other.result()  # none may leave after this returns
        return sent + rest

    def close(self) -> None:
        """Give the sockets back."""
        if self._second is not None:
            self._second.shutdown()
        for out in self._outs:
            out.socket.close()


def _send_all(out: _Messages, frames: Frames, recheck: Recheck) -> int:
    return sum(out.send(frames[start : start + AT_ONCE], None, recheck) for start in range(0, len(frames), AT_ONCE))


def two_cores() -> bool:
    """Whether two threads of this process can run side by side."""
    return len(os.sched_getaffinity(0)) > 1


def packet_socket() -> socket.socket:
    """A packet socket for frames that are whole, which hears nothing."""
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)


def bind_to(sock: socket.socket, interface: int, protocol: int = 0) -> None:
    """Bind a packet socket to an interface by its number, 0 for all (struct sockaddr_ll); Python's own bind wants a name."""
    address = struct.pack("=HHiHBB8s", socket.AF_PACKET, socket.htons(protocol), interface, 0, 0, 0, b"")
    if libc.bind(sock.fileno(), address, len(address)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
