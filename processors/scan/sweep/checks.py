"""Checks: hosts that answered are asked again at the same port while a sweep goes on, to see what gets lost now. Pure.

The first hosts that answered are the canaries, asked in every check; the others of a check are drawn at random. A check has its own
source port, so that its answers are told from those of probes. What a check costs is a hundredth of the probes since the
last, but eight at least.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from processors.scan.sweep.ledger import Key
from processors.scan.sweep.order import Indices

NUMBERS = 8
"""So many checks have source ports of their own, before the first is used again."""
CANARIES = 4
LEAST, MOST = 8, 512
PER_PROBES = 100


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many were asked and lost, and the hosts, by place, that answered and that did not."""

    checked: int
    lost: int
    alive: Indices
    silent: Indices


class Watch(Protocol):
    """Who wants some hosts asked again, to see whether they still answer."""

    def due(self, most: int) -> list[Key]:
        """Up to so many ports to ask now."""

    def note(self, address: str, answered: bool) -> None:
        """What became of an ask."""

    def judge(self) -> None:
        """Raises Halted where a host stopped answering."""


class Checks:
    """The checks of one sweep over so many hosts. `number` is that of the check under way; times are seconds of any steady clock."""

    def __init__(self, hosts: int, seed: int) -> None:
        self._witness: NDArray[np.int64] = np.full(hosts, -1, dtype=np.int64)
        self._canaries: list[int] = []
        self._asked: NDArray[np.float64] = np.full(hosts, np.nan)
        self._random = random.Random(seed)  # noqa: S311  a sample, not a secret
        self.number = 0
        self.round_trip: float | None = None

    def answered(self, hosts: Indices, columns: Indices) -> None:
        """Note that these hosts answered at these ports, so that they can be asked again there."""
        new = self._witness[hosts] < 0
        self._witness[hosts[new]] = columns[new]
        if len(self._canaries) < CANARIES:
            self._canaries += [int(host) for host in dict.fromkeys(hosts[new].tolist())][: CANARIES - len(self._canaries)]

    def draw(self, probes: int, wanted: Sequence[tuple[int, int]] = ()) -> tuple[Indices, Indices]:
        """Hosts to ask now, after so many probes since the last check, and the port of each, both by place. None where none answered.

        `wanted`: hosts, and their ports, that are asked in any case.
        """
        known = np.flatnonzero(self._witness >= 0)
        count = min(len(known), max(LEAST, min(MOST, probes // PER_PROBES)))
        drawn = known[self._random.sample(range(len(known)), count)].tolist()
        chosen = list(dict.fromkeys([*self._canaries, *drawn]))[:count]
        keys = {host: int(self._witness[host]) for host in chosen} | dict(wanted)
        self.number = (self.number + 1) % NUMBERS
        self._asked[:] = np.nan
        return np.array(list(keys), dtype=np.uint32), np.array(list(keys.values()), dtype=np.uint32)

    def asked(self, hosts: Indices, now: float) -> None:
        """Note when these were asked."""
        self._asked[hosts] = now

    def heard(self, hosts: Indices, number: int, now: float) -> None:
        """Note answers to a check of this number; answers to an older one are late, and do not count."""
        if number != self.number:
            return
        waited = now - self._asked[hosts]
        waited = waited[~np.isnan(waited) & ~np.isinf(waited)]
        if len(waited):
            self.round_trip = max(self.round_trip or 0.0, float(waited.max()))
        self._asked[hosts[~np.isnan(self._asked[hosts])]] = -np.inf

    def waiting(self) -> int:
        """How many have not answered yet."""
        return int(np.count_nonzero(np.isfinite(self._asked)))

    def end(self) -> Verdict:
        """What the check under way showed; it is over."""
        alive, silent = np.flatnonzero(np.isneginf(self._asked)), np.flatnonzero(np.isfinite(self._asked))
        self._asked[:] = np.nan
        return Verdict(len(alive) + len(silent), len(silent), alive.astype(np.uint32), silent.astype(np.uint32))
