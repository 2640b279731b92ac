"""Reads the answers of a sweep: a ring that the kernel fills (TPACKET_V3, packet(7)) behind a BPF filter, read as arrays.

The filter passes TCP answers to our source ports and cuts each to its headers. So all packets of a block are of one length, and a block
is a matrix. What a router says (ICMP unreachable) is rare, and comes through a socket of its own.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from processors.scan.sweep import filters
from processors.scan.sweep.answers import Rows
from processors.scan.sweep.ring import Ring

BLOCK_BYTES: Final = 1 << 16
LEAST_BLOCKS, MOST_BLOCKS = 8, 512
ANSWER_BYTES: Final = 192
RETIRE_MS: Final = 4
NETWORK: Final = 26  # offset in struct tpacket3_hdr
HEADERS: Final = {4: 40, 6: 60}
"""Bytes of the network and TCP header without options: all that an answer has to tell."""


class Ears:
    """The ring of one sweep, on all interfaces of the namespace, with room for this many answers up to a limit. Needs CAP_NET_RAW."""

    def __init__(self, version: int, first_port: int, ports: int, answers: int) -> None:
        self._version = version
        blocks = min(MOST_BLOCKS, LEAST_BLOCKS + answers * ANSWER_BYTES // BLOCK_BYTES)
        program = filters.answers(version, first_port, first_port + ports - 1, HEADERS[version])
        self._ring = Ring(program, blocks, BLOCK_BYTES, RETIRE_MS)

    def fileno(self) -> int:
        """For who waits until a block is full, or `RETIRE_MS` old."""
        return self._ring.fileno()

    def hear(self) -> list[Rows]:
        """The headers of the packets of all blocks that are ready, a row each, a matrix a block."""
        return [self._rows(*block) for block in self._ring.blocks()]

    def _rows(self, block: NDArray[np.uint8], count: int, first: int) -> Rows:
        width = HEADERS[self._version]
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
        """How many answers found no room in the ring since this was last asked."""
        return self._ring.drops()

    def close(self) -> None:
        """Give the ring back."""
        self._ring.close()
