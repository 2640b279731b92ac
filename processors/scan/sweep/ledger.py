"""What a sweep knows so far: the state of every address and port, and the answers by attempt. Pure; both sweeps write it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum

from schemas.events.observations import HostPorts
from schemas.portset import ranges

Key = tuple[str, int]


class PortState(StrEnum):
    """What a probed port did. A key without a state was not probed (or not to the end)."""

    ANSWERED = "answered"
    CLOSED = "closed"
    UNREACHABLE = "unreachable"
    SILENT = "silent"


class Ledger:
    """States of addresses × ports. The first answer of a port stays; silence gives way to a late answer."""

    def __init__(self, addresses: Iterable[str], ports: Iterable[int], attempts: int) -> None:
        self.addresses = tuple(dict.fromkeys(addresses))
        self.ports = tuple(sorted(set(ports)))
        self.states: dict[Key, PortState] = {}
        self.refused: dict[Key, str] = {}
        self.answers_by_attempt = [0] * attempts

    def open_keys(self) -> Iterator[Key]:
        """What has no state yet and was not refused, hosts taking turns, so that no host gets its probes in one burst."""
        keys = ((address, port) for port in self.ports for address in self.addresses)
        return (key for key in keys if key not in self.states and key not in self.refused)

    def note(self, key: Key, state: PortState, attempt: int = 1) -> None:
        """Record what a port did at an attempt (from 1). Only answers of the port itself count as samples of loss."""
        if self.states.get(key, PortState.SILENT) is not PortState.SILENT:
            return
        self.states[key] = state
        if state in (PortState.ANSWERED, PortState.CLOSED):
            self.answers_by_attempt[attempt - 1] += 1

    def silence(self, keys: Iterable[Key]) -> None:
        """Record that these were probed to the end and did not answer.

        Routers limit how often they say that a host is unreachable (RFC 1812, 4.3.2.8): where they said so and the host itself
        said nothing, all its silent ports are unreachable too.
        """
        spoke = {key[0] for key, state in self.states.items() if state in (PortState.ANSWERED, PortState.CLOSED)}
        cut_off = {key[0] for key, state in self.states.items() if state is PortState.UNREACHABLE} - spoke
        for key in keys:
            self.note(key, PortState.UNREACHABLE if key[0] in cut_off else PortState.SILENT)

    def refuse(self, key: Key, reason: str) -> None:
        """Record that no grant covers this port, so that nothing was sent to it."""
        self.refused.setdefault(key, reason)

    def answered(self) -> dict[str, tuple[int, ...]]:
        """Answered ports by address, hosts without one left out."""
        found = {address: self._ports(address, PortState.ANSWERED) for address in self.addresses}
        return {address: ports for address, ports in found.items() if ports}

    def probed(self) -> tuple[str, ...]:
        """Addresses of which at least one port was probed to the end."""
        return tuple(address for address in self.addresses if any((address, port) in self.states for port in self.ports))

    def hosts(self) -> tuple[HostPorts, ...]:
        """The hosts that have more to tell than silence on every port."""
        return tuple(
            host for host in map(self._host, self.addresses) if host.answered or host.closed or host.unreachable or host.not_probed
        )

    def _host(self, address: str) -> HostPorts:
        return HostPorts(
            address=address,
            answered=self._ports(address, PortState.ANSWERED),
            closed=ranges(self._ports(address, PortState.CLOSED)),
            unreachable=ranges(self._ports(address, PortState.UNREACHABLE)),
            not_probed=ranges(self._ports(address, None)),
        )

    def _ports(self, address: str, state: PortState | None) -> tuple[int, ...]:
        return tuple(port for port in self.ports if self.states.get((address, port)) is state)
