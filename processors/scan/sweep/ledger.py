"""What a sweep knows so far: a matrix of port states, a row a host, and the answers by attempt. Pure; both sweeps write it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from processors.scan.sweep.hosts import HostList
from processors.scan.sweep.order import Indices
from schemas.events.base import PortRange
from schemas.portset import ranges

if TYPE_CHECKING:  # to build the observations' models takes 17 ms, which a sweep by hand would wait for
    from schemas.events.observations import HostPorts

Key = tuple[str, int]
Flags = NDArray[np.bool_]


class PortState(IntEnum):
    """What a probed port did. `OPEN`: nothing is known yet, it was not probed or not to the end; `REFUSED`: no grant covers it."""

    OPEN = 0
    SILENT = 1
    ANSWERED = 2
    CLOSED = 3
    UNREACHABLE = 4
    REFUSED = 5


class Ledger:
    """States of addresses × ports. The first answer of a port stays; silence gives way to a late answer.

    `checked` ports that had answered were asked again, `lost` of them in vain; `drops` answers found no room in the kernel.
    """

    def __init__(self, addresses: HostList | Iterable[str], ports: Iterable[int], attempts: int) -> None:
        self.addresses = addresses if isinstance(addresses, HostList) else HostList.of_texts(addresses)
        self.ports = tuple(sorted(set(ports)))
        self.states: NDArray[np.uint8] = np.zeros((len(self.addresses), len(self.ports)), dtype=np.uint8)
        self.refused: dict[Key, str] = {}
        self.quarantined: dict[str, str] = {}
        self.answers_by_attempt = [0] * attempts
        self.checked = self.lost = self.drops = 0
        self._column = {port: column for column, port in enumerate(self.ports)}

    def state(self, key: Key) -> PortState:
        """What is known of one port."""
        return PortState(int(self.states[self._place(key)]))

    def open_keys(self) -> Iterator[Key]:
        """What has no state yet and was not refused, hosts taking turns, so that no host gets its probes in one burst."""
        names = tuple(self.addresses)
        columns, rows = np.nonzero(self.states.T == PortState.OPEN)
        return ((names[row], self.ports[column]) for row, column in zip(rows, columns, strict=True))

    def note(self, key: Key, state: PortState, attempt: int = 1) -> None:
        """Record what a port did at an attempt (from 1). Only answers of the port itself count as samples of loss."""
        row, column = self._place(key)
        self.note_all(np.array([row], dtype=np.uint32), np.array([column], dtype=np.uint32), state, attempt)

    def has(self, key: Key) -> bool:
        """Whether this is one of the ports that are to be probed."""
        return key[0] in self.addresses and key[1] in self._column

    def begin(self, attempt: int) -> None:
        """Note that an attempt (from 1) begins; there may be more than was planned."""
        self.answers_by_attempt += [0] * (attempt - len(self.answers_by_attempt))

    def note_rows(self, rows: Indices, state: PortState) -> None:
        """Record the same of all ports, of these hosts, that have no state yet."""
        states = self.states[rows]
        states[states == PortState.OPEN] = state
        self.states[rows] = states

    def quarantine(self, address: str, reason: str) -> None:
        """Take a host out, whose answers can't be believed: nothing is said of its ports, and no more is sent there."""
        self.states[self.addresses.row(address)] = PortState.REFUSED
        self.quarantined[address] = reason

    def note_all(self, rows: Indices, columns: Indices, state: PortState, attempt: int) -> Flags:
        """Record the same of many ports, each named once, by their places in `addresses` and `ports`. Returns of which it is news."""
        fresh: Flags = self.states[rows, columns] <= PortState.SILENT
        self.states[rows[fresh], columns[fresh]] = state
        if state in (PortState.ANSWERED, PortState.CLOSED):
            self.answers_by_attempt[attempt - 1] += int(np.count_nonzero(fresh))
        return fresh

    def silence(self, keys: Iterable[Key] | None = None) -> None:
        """Record that these (without any: all that are open) were probed to the end and did not answer.

        Routers limit how often they say that a host is unreachable (RFC 1812, 4.3.2.8): where they said so and the host itself
        said nothing, all its silent ports are unreachable too.
        """
        quiet = self.states == PortState.OPEN
        if keys is not None:
            named = np.zeros_like(quiet)
            for address, port in keys:
                named[self._place((address, port))] = True
            quiet &= named
        spoke = ((self.states == PortState.ANSWERED) | (self.states == PortState.CLOSED)).any(axis=1)
        cut_off = (self.states == PortState.UNREACHABLE).any(axis=1) & ~spoke
        self.states[quiet & cut_off[:, None]] = PortState.UNREACHABLE
        self.states[quiet & ~cut_off[:, None]] = PortState.SILENT

    def refuse(self, key: Key, reason: str) -> None:
        """Record that no grant covers this port, so that nothing was sent to it."""
        self.states[self._place(key)] = PortState.REFUSED
        self.refused.setdefault(key, reason)

    def answered(self) -> dict[str, tuple[int, ...]]:
        """Answered ports by address, hosts without one left out."""
        found = self.states == PortState.ANSWERED
        return {self.addresses[row]: self._ports(found[row]) for row in np.flatnonzero(found.any(axis=1)).tolist()}

    def probed(self) -> tuple[str, ...]:
        """Addresses of which at least one port was probed to the end."""
        some = ((self.states != PortState.OPEN) & (self.states != PortState.REFUSED)).any(axis=1)
        return tuple(self.addresses[row] for row in np.flatnonzero(some).tolist())

    def hosts(self) -> tuple[HostPorts, ...]:
        """The hosts that have more to tell than silence on every port."""
        return tuple(self._host(int(row)) for row in np.flatnonzero((self.states != PortState.SILENT).any(axis=1)))

    def _place(self, key: Key) -> tuple[int, int]:
        """Row and column. Raises KeyError for a port that is not to be probed."""
        return self.addresses.row(key[0]), self._column[key[1]]

    def _host(self, row: int) -> HostPorts:
        from schemas.events.observations import HostPorts

        states = self.states[row]
        return HostPorts(
            address=self.addresses[row],
            answered=self._ports(states == PortState.ANSWERED),
            closed=self._ranges(states == PortState.CLOSED),
            unreachable=self._ranges(states == PortState.UNREACHABLE),
            not_probed=self._ranges((states == PortState.OPEN) | (states == PortState.REFUSED)),
        )

    def _ports(self, columns: NDArray[np.bool_]) -> tuple[int, ...]:
        return tuple(self.ports[column] for column in np.flatnonzero(columns))

    def _ranges(self, columns: NDArray[np.bool_]) -> tuple[PortRange, ...]:
        return ranges(self._ports(columns))
