"""Sends frames through a ring that the kernel reads (PACKET_TX_RING, version 2; packet(7)): one system call for a whole ring.

They go past the interface's queue, so a capture on this machine does not see them; one on the other side does.
"""

from __future__ import annotations

import mmap
import select
import struct
import time
from typing import Final

import numpy as np

from processors.scan.scope.mask import Addresses
from processors.scan.sweep.frames import Frames
from processors.scan.sweep.transmit import FULL_WAIT_MS, SOL_PACKET, Recheck, bind_to, give_up_if_stuck, libc, packet_socket

PACKET_VERSION: Final = 10
PACKET_TX_RING: Final = 13
PACKET_QDISC_BYPASS: Final = 20
TPACKET_V2: Final = 1
SLOT_BYTES, SLOTS = 128, 8192
BLOCK_BYTES = 1 << 20
# offsets in a slot: struct tpacket2_hdr, then the frame (TPACKET2_HDRLEN less a sockaddr_ll)
STATUS, LENGTH, FRAME = 0, 4, 32
FREE, TO_SEND, WRONG = 0, 1, 4


class RingSender:
    """The ring of one sweep on one interface. Needs CAP_NET_RAW."""

    name, ethernet, unseen = "tx_ring", True, True

    def __init__(self, interface: int) -> None:
        self._socket = packet_socket()
        try:
            self._socket.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
            self._socket.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
            ring = struct.pack("4I", BLOCK_BYTES, SLOTS * SLOT_BYTES // BLOCK_BYTES, SLOT_BYTES, SLOTS)
            self._socket.setsockopt(SOL_PACKET, PACKET_TX_RING, ring)
            self._map = mmap.mmap(self._socket.fileno(), SLOTS * SLOT_BYTES)
            bind_to(self._socket, interface)
        except BaseException:
            self._socket.close()
            raise
        self._slots = np.frombuffer(self._map, dtype=np.uint8).reshape(SLOTS, SLOT_BYTES)
        self._status = self._slots[:, STATUS : STATUS + 4].view(np.uint32)[:, 0]
        self._length = self._slots[:, LENGTH : LENGTH + 4].view(np.uint32)[:, 0]
        self._next = 0

    def send(self, frames: Frames, addresses: Addresses, recheck: Recheck) -> int:
        """Send all rows, waiting where the ring is full. Returns how many left; raises OSError for what the kernel refuses."""
        done = 0
        while done < len(frames):
            count = min(len(frames) - done, SLOTS - self._next)
            slots = slice(self._next, self._next + count)
            self._push(slots, recheck)  # what an earlier round left there
            recheck()
            self._slots[slots, FRAME : FRAME + frames.shape[1]] = frames[done : done + count]
            self._length[slots] = frames.shape[1]
            self._status[slots] = TO_SEND
            self._push(slots, recheck)
            self._next = (self._next + count) % SLOTS
            done += count
        return done

    def _push(self, slots: slice, recheck: Recheck) -> None:
        """Have the kernel read the ring until all of these are free again."""
        moved = time.monotonic()
        while (self._status[slots] != FREE).any():
            if libc.send(self._socket.fileno(), None, 0, 0) < 0:
                give_up_if_stuck(moved)
                select.select([], [self._socket], [], FULL_WAIT_MS / 1000)
                recheck()
            if (self._status[slots] & WRONG).any():
                raise OSError(22, "the kernel found a frame in the ring wrong")

    def close(self) -> None:
        """Give ring and socket back."""
        del self._slots, self._status, self._length
        self._map.close()
        self._socket.close()
