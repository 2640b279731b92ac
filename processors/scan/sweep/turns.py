"""Which hosts sit out a turn: those to whom the kernel sent a reset that no turn was planned for. Pure.

A turn is what a host's limit allows. Where a port answers SYN/ACK the kernel resets it, so a host with many open ports would get twice its
limit. So for each reset a host sits out one turn, and what it would have been asked then is asked after the others are done.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from processors.scan.sweep.order import Indices


class Turns:
    """What hosts, numbered from 0, owe. `missed` counts by host the turns that it sat out and has not had since."""

    def __init__(self, hosts: int) -> None:
        self._owed: NDArray[np.int64] = np.zeros(hosts, dtype=np.int64)
        self.missed: NDArray[np.int64] = np.zeros(hosts, dtype=np.int64)
        self._put_off: tuple[Indices, Indices] = (np.zeros(0, np.uint32), np.zeros(0, np.uint32))

    def owe(self, hosts: NDArray[np.integer]) -> None:
        """Note a packet beside the turns for each of these; a host may be named more than once."""
        self._owed += np.bincount(hosts, minlength=len(self._owed))

    def take(self, hosts: Indices, ports: Indices) -> tuple[Indices, Indices]:
        """Those whose turn it is. The others pay for one turn each, and are put off."""
        sits_out = self._owed[hosts] > 0
        if not sits_out.any():
            return hosts, ports
        late = hosts[sits_out]
        self._owed[late] -= 1  # once also where a host stands there twice
        self.missed += np.bincount(late, minlength=len(self.missed))
        self._put_off = np.concatenate((self._put_off[0], late)), np.concatenate((self._put_off[1], ports[sits_out]))
        return hosts[~sits_out], ports[~sits_out]

    def again(self) -> tuple[Indices, Indices]:
        """What was put off, one of each host; none when all had their turn."""
        hosts, ports = self._put_off
        first = np.zeros(len(hosts), dtype=bool)
        first[np.unique(hosts, return_index=True)[1]] = True
        self._put_off = hosts[~first], ports[~first]
        self.missed[hosts[first]] -= 1
        return hosts[first], ports[first]
