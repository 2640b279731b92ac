"""Reads the answers of a sweep: a ring that the kernel fills (TPACKET_V3, packet(7)) behind a BPF filter, read as arrays.

The filter passes TCP answers to our source ports and cuts each to its headers. So all packets of a block are of one length, and a block
is a matrix. What a router says (ICMP unreachable) is rare, and comes through a socket of its own.
"""

from __future__ import annotations

import mmap
import socket
import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processors.scan.sweep import filters
from processors.scan.sweep.answers import Rows
from processors.scan.sweep.transmit import SOL_PACKET, bind_to

PACKET_RX_RING: Final = 5
PACKET_VERSION: Final = 10
TPACKET_V3: Final = 2
PACKET_STATISTICS: Final = 6
ETH_P_ALL: Final = 3
BLOCK_BYTES: Final = 1 << 16
LEAST_BLOCKS, MOST_BLOCKS = 8, 512
ANSWER_BYTES: Final = 192
FRAME_BYTES: Final = 2048
RETIRE_MS: Final = 4
# offsets in struct tpacket_block_desc and struct tpacket3_hdr
STATUS, PACKETS, FIRST = 8, 12, 16
NETWORK = 26
TO_USER = 1
HEADERS: Final = {4: 40, 6: 60}
"""Bytes of the network and TCP header without options: all that an answer has to tell."""


class Ears:
    """The ring of one sweep, on all interfaces of the namespace, with room for this many answers up to a limit. Needs CAP_NET_RAW."""

    def __init__(self, version: int, first_port: int, ports: int, answers: int) -> None:
        self._version, self._next = version, 0
        self._blocks = min(MOST_BLOCKS, LEAST_BLOCKS + answers * ANSWER_BYTES // BLOCK_BYTES)
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        try:
            self._listen(filters.answers(version, first_port, first_port + ports - 1, HEADERS[version]))
        except BaseException:
            self._socket.close()
            raise
        self._bytes = np.frombuffer(self._map, dtype=np.uint8)

    def _listen(self, program: filters.Program) -> None:
        self._socket.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V3)
        frames = BLOCK_BYTES * self._blocks // FRAME_BYTES
        ring = struct.pack("7I", BLOCK_BYTES, self._blocks, FRAME_BYTES, frames, RETIRE_MS, 0, 0)
        self._socket.setsockopt(SOL_PACKET, PACKET_RX_RING, ring)
        filters.attach(self._socket, program)
        self._map = mmap.mmap(self._socket.fileno(), BLOCK_BYTES * self._blocks)
        bind_to(self._socket, 0, ETH_P_ALL)  # only now that filter and ring stand

    def fileno(self) -> int:
        """For who waits until a block is full, or `RETIRE_MS` old."""
        return self._socket.fileno()

    def hear(self) -> Rows | None:
        """The headers of one block's packets, a row each; None if no block is ready."""
        start = self._next * BLOCK_BYTES
        block = self._bytes[start : start + BLOCK_BYTES]
        words = block[:64].view(np.uint32)
        if not words[STATUS // 4] & TO_USER:
            return None
        rows = self._rows(block, int(words[PACKETS // 4]), int(words[FIRST // 4]))
        words[STATUS // 4] = 0
        self._next = (self._next + 1) % self._blocks
        return rows

    def _rows(self, block: NDArray[np.uint8], count: int, first: int) -> Rows:
        width = HEADERS[self._version]
        if count == 0:
            return np.zeros((0, width), dtype=np.uint8)
        network = int(block[first + NETWORK : first + NETWORK + 2].view(np.uint16)[0])
        places = self._places(block, count, first) + network
        # A packet may be shorter than its headers should be: what is read in their place is no answer, but must not lie outside.
        rows: Rows = block[np.minimum(places[:, None] + np.arange(width), BLOCK_BYTES - 1)]
        return rows

    @staticmethod
    def _places(block: NDArray[np.uint8], count: int, first: int) -> NDArray[np.int64]:
        """Where each packet's header begins: evenly spaced, unless one is shorter than the headers."""
        step = int(block[first : first + 4].view(np.uint32)[0])
        places = first + step * np.arange(count, dtype=np.int64)
        if places[-1] + 48 <= BLOCK_BYTES:
            steps = block[places[:-1, None] + np.arange(4)].copy().view(np.uint32)
            if (steps == step).all():
                return places
        walked = [first]
        for _ in range(count - 1):
            walked.append(walked[-1] + int(block[walked[-1] : walked[-1] + 4].view(np.uint32)[0]))
        return np.array(walked, dtype=np.int64)

    def drops(self) -> int:
        """How many answers found no room in the ring since this was last asked (struct tpacket_stats_v3)."""
        return int(struct.unpack("III", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 12))[1])

    def close(self) -> None:
        """Give ring and socket back."""
        del self._bytes
        self._map.close()
        self._socket.close()
