"""The order of a sweep: a keyed permutation of (host × port) that is computed, not drawn, so that one integer says where it stands.

Positions run in rounds. Each round visits every host once, in one keyed order of hosts, and each host at another of its ports; so two
probes of one host are always as far apart as there are hosts, and the pace of the whole gives the pace of each host. Both orders are
Feistel networks over the next power of two, walked until they land inside (Black and Rogaway, Ciphers with Arbitrary Finite Domains,
CT-RSA 2002), as masscan's and zmap's are; each host begins at a keyed place of the order of ports.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.uint32]
Words = NDArray[np.uint64]
MOST: Final = 1 << 32
ROUNDS: Final = 6
GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)


def mixed(values: Words) -> Words:
    """A 64-bit finaliser, in which each bit moves half of them (Steele et al., Fast Splittable Random Number Generators, OOPSLA 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def round_keys(key: int, count: int) -> Words:
    """So many words from one of 64 bits."""
    return mixed(np.uint64(key & 0xFFFFFFFFFFFFFFFF) + GOLDEN * np.arange(1, count + 1, dtype=np.uint64))


def permutation(size: int, key: int) -> Indices:
    """0 … size - 1 in the order of the key, 4 bytes each. Raises ValueError for a size that is not between 1 and 2^32."""
    if not 1 <= size <= MOST:
        raise ValueError(f"an order of {size} things can't be made")
    bits = max(2, (size - 1).bit_length())
    halves = np.uint64(bits // 2), np.uint64(bits - bits // 2)
    keys = round_keys(key, ROUNDS)
    found = _shuffled(np.arange(size, dtype=np.uint64), halves, keys)
    while (outside := np.flatnonzero(found >= np.uint64(size))).size:
        found[outside] = _shuffled(found[outside], halves, keys)
    return found.astype(np.uint32)


def _shuffled(values: Words, halves: tuple[np.uint64, np.uint64], keys: Words) -> Words:
    """One pass of the network: a bijection of the numbers of so many bits. The two parts take turns to be changed by the other."""
    low, high = halves
    one = np.uint64(1)
    left, right = values & ((one << low) - one), values >> low
    for number, key in enumerate(keys):
        if number % 2 == 0:
            left = left ^ (mixed(right ^ key) & ((one << low) - one))
        else:
            right = right ^ (mixed(left ^ key) & ((one << high) - one))
    return left | right << low


class Order:
    """The order in which `hosts` × `ports` are probed under a key; equal keys give equal orders on every machine.

    `hosts` is the order of hosts in each round.
    """

    def __init__(self, hosts: int, ports: int, key: int) -> None:
        self.size = hosts * ports
        self.hosts, self._ports = permutation(hosts, key), permutation(ports, ~key)
        self._begin = (mixed(np.arange(hosts, dtype=np.uint64) * GOLDEN ^ np.uint64(key & 0xFFFFFFFFFFFFFFFF)) % np.uint64(ports)).astype(
            np.int64
        )

    def slice(self, start: int, stop: int) -> tuple[Indices, Indices]:
        """The host's and the port's index at each position from `start` up to `stop` (or the end)."""
        positions = np.arange(start, min(stop, self.size), dtype=np.int64)
        rounds = positions // len(self.hosts)
        places = positions - rounds * len(self.hosts)
        turns = rounds + self._begin[places]  # below twice the number of ports
        turns -= (turns >= len(self._ports)) * len(self._ports)
        return self.hosts[places], self._ports[turns]
