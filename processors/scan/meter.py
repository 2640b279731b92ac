"""A unit's own view of the gate: asks it before each packet, counts what it let through, and can ask again about the last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from processors.scan.scope.gate import Gate, OutOfScope
from processors.scan.scope.mask import Addresses, Ports, ScopeMask
from schemas.events.targets import WorkUnit
from schemas.scope import Ask


class Meter:
    """Admits and counts the packets of one unit. `sent` counts what was let through, answers' acknowledgements included.

    `by_host` counts what was admitted one by one, not a sweep's batches.
    """

    def __init__(self, gate: Gate, unit: WorkUnit) -> None:
        self._gate, self._unit = gate, unit
        self._last: tuple[str, Ask] | None = None
        self._talks: dict[object, tuple[str, Ask, Callable[[], None]]] = {}
        self.sent = self.control_sent = 0
        self.by_host: Counter[str] = Counter()

    async def admit(self, address: str, ask: Ask, packets: int = 1) -> None:
        """Wait for the budget, then check. Raises OutOfScope or Halted. Several are all paid for before the first leaves."""
        await self._gate.admit(self._unit, address, ask, packets)
        self.sent += packets
        self.by_host[address] += packets
        self._last = (address, ask)

    async def admit_some(self, most: int) -> int:
        """Wait for the budgets; how many packets, up to `most`, may leave at once. Raises Halted."""
        count = await self._gate.admit_some(self._unit, most)
        self.sent += count
        return count

    async def control(self, most: int) -> int:
        """The same for frames that are no probes: they ask neighbours where they are, and are counted apart. Raises Halted."""
        count = await self._gate.admit_some(self._unit, most)
        self._gate.control(self._unit, count)
        self.control_sent += count
        return count

    def unsent(self, packets: int) -> None:
        """Take back so many that were let through and did not leave after all."""
        self._gate.unsent(self._unit, packets)
        self.sent -= packets

    def touched(self, addresses: Addresses, ports: Ports) -> None:
        """Tell of TCP packets, a row each, that left past the kernel's taps (AF_XDP, PACKET_QDISC_BYPASS). What a tap sees is not told."""
        self._gate.sent(addresses, ports)

    def owe(self, packets: int) -> None:
        """Pay at once for so many packets that the kernel sent by itself: what is asked for next waits until they are paid."""
        self._gate.unsent(self._unit, -packets)
        self.sent += packets

    def owe_at(self, address: str, ask: Ask, packets: int) -> None:
        """The same of packets to one host (ACK, RST) because a port of it answered."""
        self._gate.owe(self._unit, address, ask, packets)
        self.sent += packets
        self.by_host[address] += packets

    def recheck_unit(self) -> None:
        """Raises Halted if the unit must stop."""
        self._gate.check_unit()

    def mask(self) -> ScopeMask:
        """Which packets are covered now."""
        return self._gate.mask(self._unit)

    def refusal(self, address: str, ask: Ask) -> str:
        """Why a packet is not covered."""
        return self._gate.refusal(self._unit, address, ask)

    def per_host(self) -> float:
        """Packets a second that a host may get."""
        return self._gate.per_host(self._unit)

    async def settle(self, address: str, ask: Ask, packets: int) -> None:
        """Pay afterwards for what the kernel sent by itself (ACK, RST) because a port answered. Raises Halted only."""
        try:
            await self.admit(address, ask, packets)
        except OutOfScope:
            self.sent += packets

    def hold(self, reason: str) -> None:
        """Halt this unit and all of its subnet for a while."""
        self._gate.hold(self._unit, reason)

    def check(self, address: str, ask: Ask) -> None:
        """Check without waiting or counting. Raises OutOfScope or Halted."""
        self._gate.check(self._unit, address, ask)

    @contextmanager
    def talking(self, address: str, ask: Ask, hang_up: Callable[[], None]) -> Iterator[None]:
        """Meanwhile there is a conversation, which `recheck` ends once it is no longer covered."""
        talk = object()
        self._talks[talk] = address, ask, hang_up
        try:
            yield
        finally:
            del self._talks[talk]

    def recheck(self) -> None:
        """Check every conversation, and the packet that was let through last, once more. Raises Halted if the unit must stop."""
        for address, ask, hang_up in tuple(self._talks.values()):
            try:
                self.check(address, ask)
            except OutOfScope:
                hang_up()
        if self._last is None:
            return
        try:
            self.check(*self._last)
        except OutOfScope:
            self._last = None
