"""The one way out: every packet of a unit passes a gate that paces it and checks it against the grant, right before it leaves."""

from __future__ import annotations

from typing import Protocol

from processors.scan.scope.mask import Addresses, Ports, ScopeMask
from schemas.events.targets import WorkUnit
from schemas.scope import Ask


class OutOfScope(Exception):
    """No valid grant covers this packet; it was not sent."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Halted(Exception):
    """The whole unit must stop now: revoked, frozen, cut off from the broker, partition taken, or the role ends."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Gate(Protocol):
    """What probes ask before they send."""

    def check(self, unit: WorkUnit, address: str, ask: Ask) -> None:
        """Check one packet without waiting. Raises OutOfScope or Halted."""

    def allows_intrusive(self) -> bool:
        """Whether the unit's grant allows probes that do more than look."""

    async def admit(self, unit: WorkUnit, address: str, ask: Ask, packets: int = 1) -> None:
        """Wait until the budgets of scanner, unit and host allow `packets` more, then check. Raises OutOfScope or Halted."""

    async def admit_some(self, unit: WorkUnit, most: int) -> int:
        """Wait until the budgets of scanner and unit allow a packet; say how many, up to `most`, may leave at once. Raises Halted.

        For a sweep, which writes packets by the batch: it keeps each host's pace itself, and asks `mask` which of them are covered.
        """

    def unsent(self, unit: WorkUnit, packets: int) -> None:
        """Take back so many packets that `admit_some` let through and that did not leave after all."""

    def owe(self, unit: WorkUnit, address: str, ask: Ask, packets: int) -> None:
        """Book packets that the kernel sent to a host by itself. Who asks next waits until they are paid for."""

    def control(self, unit: WorkUnit, packets: int) -> None:
        """Count so many of those that `admit_some` let through apart: they are no probes."""

    def sent(self, addresses: Addresses, ports: Ports) -> None:
        """TCP packets to these addresses and ports, a row each, have left past the kernel's taps: told by an engine that bypasses them."""

    def hold(self, unit: WorkUnit, reason: str) -> None:
        """Let nothing more out to the unit's subnet for a while."""

    def check_unit(self) -> None:
        """Raises Halted if nothing of the unit may leave now."""

    def mask(self, unit: WorkUnit) -> ScopeMask:
        """Which packets are covered now."""

    def refusal(self, unit: WorkUnit, address: str, ask: Ask) -> str:
        """Why a packet that the mask does not allow is not covered."""

    def per_host(self, unit: WorkUnit) -> float:
        """Packets a second that a host of this unit may get."""
