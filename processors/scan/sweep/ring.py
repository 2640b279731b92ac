"""A ring that the kernel fills with what passes a filter (TPACKET_V3, packet(7)), read a block at a time without a copy."""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import struct
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processors.scan.sweep.filters import Program, attach
from processors.scan.sweep.transmit import SOL_PACKET, bind_to, libc

PACKET_RX_RING, PACKET_STATISTICS, PACKET_VERSION, TPACKET_V3 = 5, 6, 10, 2
ETH_P_ALL: Final = 3
FRAME_BYTES: Final = 2048
# offsets in struct tpacket_block_desc
STATUS, PACKETS, FIRST = 8, 12, 16
TO_USER: Final = 1
Block = tuple[NDArray[np.uint8], int, int]
"""The bytes of a block, how many packets are in it (at least one), and where the header of the first begins (struct tpacket3_hdr)."""


class Ring:
    """Packets of all interfaces of the namespace, in blocks; a block is handed over when it is full, or so old.

    Raises OSError without CAP_NET_RAW.
    """

    def __init__(self, program: Program, blocks: int, block_bytes: int, retire_ms: int) -> None:
        self._blocks, self._size, self._next = blocks, block_bytes, 0
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        try:
            self._socket.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V3)
            sizes = struct.pack("7I", block_bytes, blocks, FRAME_BYTES, block_bytes // FRAME_BYTES * blocks, retire_ms, 0, 0)
            # Not Python's own setsockopt: no other thread would run while the kernel waits until none of its cores uses the socket.
            if libc.setsockopt(self._socket.fileno(), SOL_PACKET, PACKET_RX_RING, sizes, len(sizes)) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
            self.filter(program)
            self._map = mmap.mmap(self._socket.fileno(), block_bytes * blocks)
            bind_to(self._socket, 0, ETH_P_ALL)  # only now that filter and ring stand
        except BaseException:
            self._socket.close()
            raise
        self._bytes = np.frombuffer(self._map, dtype=np.uint8)

    def filter(self, program: Program) -> None:
        """Let this pass from now on, and nothing else."""
        attach(self._socket, program)

    def fileno(self) -> int:
        """For who waits until a block is handed over."""
        return self._socket.fileno()

    def blocks(self) -> Iterator[Block]:
        """The blocks that were handed over, once around the ring at most. Each goes back to the kernel when the next is asked for."""
        for _ in range(self._blocks):
            block = self._bytes[self._next * self._size : (self._next + 1) * self._size]
            words = block[:64].view(np.uint32)
            if not words[STATUS // 4] & TO_USER:
                return
            if words[PACKETS // 4]:
                yield block, int(words[PACKETS // 4]), int(words[FIRST // 4])
            words[STATUS // 4] = 0
            self._next = (self._next + 1) % self._blocks

    def drops(self) -> int:
        """How many packets found no room since this was last asked (struct tpacket_stats_v3)."""
        return int(struct.unpack("3I", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 12))[1])

    def close(self) -> None:
        """Give ring and socket back."""
        del self._bytes
        self._map.close()
        self._socket.close()
