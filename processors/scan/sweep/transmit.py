"""Sends rows of bytes with as few system calls as can be: sendmmsg(2) through ctypes, a thousand packets a call.

The packets begin at the IP header; the kernel routes them and finds the neighbour.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from processors.scan.scope.mask import Addresses
from processors.scan.sweep.frames import Frames

AT_ONCE: Final = 1024
SEND_BUFFER: Final = 8 << 20
FULL_WAIT_MS: Final = 10
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
_libc = ctypes.CDLL(None, use_errno=True)


class RawSender:
    """The way out for the rows that a `SynWriter` wrote. Needs CAP_NET_RAW."""

    def __init__(self, version: int) -> None:
        self._version = version
        self._socket = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._vectors = np.zeros(AT_ONCE, dtype=IOVEC)
        self._headers = np.zeros(AT_ONCE, dtype=MMSGHDR)
        self._headers["vector"] = self._vectors.ctypes.data + IOVEC.itemsize * np.arange(AT_ONCE, dtype=np.uint64)
        self._headers["vector_length"] = 1

    def send(self, frames: Frames, addresses: Addresses) -> int:
        """Send all rows, waiting where the way out is full. Returns how many the kernel took; raises OSError for what it refuses."""
        frames = np.ascontiguousarray(frames)
        width, taken = frames.shape[1], 0
        for start in range(0, len(frames), AT_ONCE):
            part = frames[start : start + AT_ONCE]
            names = self._names(addresses[start : start + AT_ONCE])
            self._vectors["base"][: len(part)] = part.ctypes.data + width * np.arange(len(part), dtype=np.uint64)
            self._vectors["length"][: len(part)] = width
            self._headers["name"][: len(part)] = names.ctypes.data + names.strides[0] * np.arange(len(part), dtype=np.uint64)
            self._headers["name_length"][: len(part)] = names.strides[0]
            taken += self._send_part(len(part))
        return taken

    def _send_part(self, count: int) -> int:
        """Send the first headers, from the first on that is not sent yet."""
        done = 0
        while done < count:
            where = self._headers.ctypes.data + MMSGHDR.itemsize * done
            sent = _libc.sendmmsg(self._socket.fileno(), ctypes.c_void_p(where), count - done, 0)
            if sent > 0:
                done += sent
                continue
            number = ctypes.get_errno()
            if number not in (errno.EAGAIN, errno.ENOBUFS, errno.EINTR):
                raise OSError(number, os.strerror(number))
            select.select([], [self._socket], [], FULL_WAIT_MS / 1000)
        return done

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def _names(self, addresses: Addresses) -> NDArray[Any]:
        """sockaddr_in, or sockaddr_in6, of each destination; the port stays 0."""
        if self._version == 4:
            names = np.zeros(len(addresses), dtype=[("family", np.uint16), ("port", np.uint16), ("address", ">u4"), ("zero", "S8")])
            names["family"] = socket.AF_INET
            names["address"] = addresses
            return names
        names = np.zeros(
            len(addresses),
            dtype=[("family", np.uint16), ("port", np.uint16), ("flow", np.uint32), ("address", "V16"), ("scope", np.uint32)],
        )
        names["family"] = socket.AF_INET6
        names["address"] = np.frombuffer(addresses.tobytes(), dtype="V16")
        return names
