"""Sends frames through an AF_XDP socket (kernel documentation, networking/af_xdp; struct names from linux/if_xdp.h).

Copy mode only, so that no driver reconfigures its queues for us, and for sending only, so that no program is loaded into the kernel.
A capture on this machine does not see these frames; one on the other side does. An interface's queue has one such socket: all sweeps of
a process share it, and a second process takes the next way out.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import socket
import struct
import time
from typing import Final
from weakref import WeakValueDictionary, finalize

import numpy as np

from processors.scan.scope.mask import Addresses
from processors.scan.sweep.frames import Frames
from processors.scan.sweep.transmit import Recheck, give_up_if_stuck, libc

AF_XDP: Final = 44
SOL_XDP: Final = 283
MMAP_OFFSETS, TX_RING, UMEM_REG, FILL_RING, COMPLETION_RING, MOST_AT_ONCE = 1, 3, 4, 5, 6, 9
TX_PAGES, COMPLETION_PAGES = 0x80000000, 0x180000000
COPY: Final = 2
CHUNK, SLOTS = 2048, 2048
FRAMES_IN_FLIGHT: Final = 8 << 20  # bytes; they wait in no queue but the device's own
DESCRIPTOR = np.dtype([("address", np.uint64), ("length", np.uint32), ("options", np.uint32)])
MSG_DONTWAIT = 0x40
FULL_WAIT = 0.0005
LET_GO = 0.05  # seconds in which the kernel lets go of a queue whose socket was closed


class _Port:
    """The one socket of an interface's first queue: frames in memory that the kernel knows, and the two rings that tell of them."""

    def __init__(self, interface: int) -> None:
        self.socket = socket.socket(AF_XDP, socket.SOCK_RAW, 0)
        try:
            self._open(interface)
        except BaseException:
            self.socket.close()
            raise
        finalize(self, self.socket.close)

    def _open(self, interface: int) -> None:
        sock = self.socket
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, FRAMES_IN_FLIGHT)
        self._memory = mmap.mmap(-1, SLOTS * CHUNK)
        self._chunks = np.frombuffer(self._memory, dtype=np.uint8).reshape(SLOTS, CHUNK)
        sock.setsockopt(SOL_XDP, UMEM_REG, struct.pack("QQIIII", self._chunks.ctypes.data, SLOTS * CHUNK, CHUNK, 0, 0, 0))
        for ring in (FILL_RING, COMPLETION_RING, TX_RING):
            sock.setsockopt(SOL_XDP, ring, struct.pack("I", SLOTS))
        with contextlib.suppress(OSError):  # since Linux 6.17; before it, a call sends 32
            sock.setsockopt(SOL_XDP, MOST_AT_ONCE, struct.pack("I", SLOTS))
        offsets = struct.unpack("16Q", sock.getsockopt(SOL_XDP, MMAP_OFFSETS, 128))
        self._rings = []
        for (produced, consumed, first, _), pages, item in ((offsets[4:8], TX_PAGES, 16), (offsets[12:16], COMPLETION_PAGES, 8)):
            memory = np.frombuffer(mmap.mmap(sock.fileno(), first + SLOTS * item, offset=pages), dtype=np.uint8)
            self._rings.append((memory[produced : produced + 4].view(np.uint32), memory[consumed : consumed + 4].view(np.uint32)))
            if pages == TX_PAGES:
                descriptors = memory[first : first + SLOTS * item].view(DESCRIPTOR)
        descriptors["address"] = CHUNK * np.arange(SLOTS)
        self._lengths = descriptors["length"]
        self._sent = 0
        address = struct.pack("=HHIII", AF_XDP, COPY, interface, 0, 0)
        deadline = time.monotonic() + LET_GO
        while libc.bind(sock.fileno(), address, len(address)) != 0:
            number = ctypes.get_errno()
            if number != errno.EBUSY or time.monotonic() > deadline:
                raise OSError(number, os.strerror(number))
            time.sleep(FULL_WAIT)

    def send(self, frames: Frames, recheck: Recheck) -> int:
        """Send all rows; returns when the kernel has taken each. Raises OSError for what it refuses."""
        done = 0
        while done < len(frames):
            place = self._sent % SLOTS
            count = min(len(frames) - done, SLOTS - place)
            self._wait_for(COMPLETION_RING, count - SLOTS)
            recheck()
            self._chunks[place : place + count, : frames.shape[1]] = frames[done : done + count]
            self._lengths[place : place + count] = frames.shape[1]
            self._sent += count
            self._rings[0][0][0] = self._sent & 0xFFFFFFFF
            self._wait_for(TX_RING, 0)
            done += count
        return done

    def _wait_for(self, ring: int, lead: int) -> None:
        """Kick the kernel until it has consumed (or completed) all but `-lead` of what was sent."""
        (_, taken), (completed, seen) = self._rings
        moved = time.monotonic()
        while True:
            seen[0] = completed[0]
            behind = (self._sent - int(taken[0] if ring == TX_RING else completed[0])) & 0xFFFFFFFF
            if behind <= -lead:
                return
            if libc.sendto(self.socket.fileno(), None, 0, MSG_DONTWAIT, None, 0) < 0:
                give_up_if_stuck(moved)
                time.sleep(FULL_WAIT)
            elif time.monotonic() - moved > 1.0:
                ctypes.set_errno(errno.EAGAIN)
                give_up_if_stuck(moved)
                time.sleep(FULL_WAIT)


_ports: WeakValueDictionary[int, _Port] = WeakValueDictionary()


class XdpSender:
    """A sweep's share of an interface's AF_XDP socket. Needs CAP_NET_RAW, and a queue that nobody else has."""

    name, ethernet, unseen = "af_xdp", True, True

    def __init__(self, interface: int) -> None:
        port = _ports.get(interface)
        if port is None:
            port = _ports[interface] = _Port(interface)
        self._port = port

    def send(self, frames: Frames, addresses: Addresses, recheck: Recheck) -> int:
        """Send all rows, waiting where the ring is full. Returns how many left; raises OSError for what the kernel refuses."""
        return self._port.send(frames, recheck)

    def close(self) -> None:
        """Give the share back; with the last one the socket goes."""
        del self._port
