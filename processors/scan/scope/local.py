"""The gate of a sweep that runs by itself: one grant, one budget, no broker. What it lets out is judged by the same mask as any unit's.

It halts when the grant expires or its window closes, when the person at the keyboard stops it, when what this machine's scanners keep on
their disks says so (`remembered.py`), and a subnet of it when a host there stops answering. What halted it once halts it for good.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Callable
from datetime import UTC, datetime

from processors.scan.scope.gate import Halted, OutOfScope
from processors.scan.scope.mask import Addresses, Ports, ScopeMask, compile_mask
from processors.scan.scope.pacing import Bucket, bucket, filled, spend, wait
from schemas.events.targets import WorkUnit
from schemas.ids import Network
from schemas.scope import Ask, GrantBook, contains, standing

STOPPED = "stopped"
SLICE_SECONDS = 0.25  # longest sleep between two looks at the halts
NEWS_SECONDS = 0.5  # between two looks at what the machine has heard
MOST_SUBNETS = 4
"""So many are halted one by one. When hosts fall silent in more, the way to them all may have broken."""


def _present() -> datetime:
    return datetime.now(UTC)


def _no_news() -> str | None:
    return None


class LocalGate:
    """The gate of one grant of a book, at no more than `rate` packets a second in all, and `per_host` to one host.

    `stopping` is set to halt it. `news` is asked twice a second why it must halt by what the machine has heard. `halted` are the subnets
    in which a host stopped answering, and why; `failure` is what this machine refused to do.
    """

    def __init__(
        self, book: GrantBook, grant_id: str, zone: str, rate: int, now: Callable[[], datetime] = _present, per_host: int | None = None
    ) -> None:
        self.stopping = False
        self.packets = 0
        self.news: Callable[[], str | None] = _no_news
        self.failure: OSError | None = None
        self.halted: dict[Network, str] = {}
        self._news_at = 0.0
        self._held: str | None = None
        self._book, self._entry, self._zone, self._now = book, book.known[grant_id], zone, now
        intensity = self._entry.grant.intensity
        self._per_host = min(intensity.per_host_per_second, rate, per_host or rate)
        self._bucket = bucket(min(rate, intensity.packets_per_second), time.monotonic())
        self._hosts: dict[str, Bucket] = {}
        self._queue = asyncio.Lock()
        self._mask: tuple[object, ScopeMask] | None = None

    def halt(self) -> str | None:
        """Why nothing may leave now, or None."""
        if self._held is None:
            self._held = self._heard() or standing(self._entry, self._zone, self._now())
        return STOPPED if self.stopping else self._held

    def check_unit(self) -> None:
        """Raises Halted if nothing may leave now."""
        reason = self.halt()
        if reason is not None:
            raise Halted(reason)

    def check(self, unit: WorkUnit, address: str, ask: Ask) -> None:
        """Check one packet without waiting. Raises OutOfScope or Halted."""
        self.check_unit()
        problem = self._problem(address, ask)
        if problem is not None:
            raise OutOfScope(problem)

    def allows_intrusive(self) -> bool:
        """A sweep only looks."""
        return False

    async def admit(self, unit: WorkUnit, address: str, ask: Ask, packets: int = 1) -> None:
        """Wait until the budgets of host and grant allow `packets` more, then check. Raises OutOfScope or Halted."""
        self.check(unit, address, ask)
        host = self._hosts.setdefault(address, bucket(self._per_host, time.monotonic()))
        self._hosts[address] = spend(host, time.monotonic(), packets)  # its next packet waits until this one is paid
        await self._pause(wait(host, time.monotonic(), packets))
        async with self._queue:
            while (seconds := wait(self._bucket, time.monotonic(), packets)) > 0:
                await self._pause(seconds)
            self.check(unit, address, ask)
            self._take(packets)

    async def admit_some(self, unit: WorkUnit, most: int) -> int:
        """Wait until the budget allows a packet; take the tokens of as many as it allows, up to `most`. Raises Halted."""
        async with self._queue:
            while (seconds := wait(self._bucket, time.monotonic(), 1)) > 0:
                await self._pause(seconds)
            self.check_unit()
            count = max(1, min(most, int(filled(self._bucket, time.monotonic()).tokens)))
            self._take(count)
            return count

    def unsent(self, unit: WorkUnit, packets: int) -> None:
        """Take back so many packets that `admit_some` let through and that did not leave after all."""
        self._take(-packets)

    def owe(self, unit: WorkUnit, address: str, ask: Ask, packets: int) -> None:
        """Book packets that the kernel sent by itself."""
        self._take(packets)

    def control(self, unit: WorkUnit, packets: int) -> None:
        """So many of those that `admit_some` let through are no probes but ask neighbours where they are. They count all the same."""

    def sent(self, addresses: Addresses, ports: Ports) -> None:
        """TCP packets have left past the kernel's taps. No account is kept here."""

    def hold(self, unit: WorkUnit, reason: str) -> None:
        """Let nothing more out at all: this sweep is over."""
        self._held = self._held or reason

    def hold_subnet(self, unit: WorkUnit, subnet: Network, reason: str) -> None:
        """Let nothing more out to this subnet; and nothing at all once there are too many."""
        self.halted.setdefault(subnet, reason)
        self._mask = None
        if len(self.halted) > MOST_SUBNETS:
            self.hold(unit, f"{reason}, and hosts in {MOST_SUBNETS} other subnets did")

    def fail(self, unit: WorkUnit, error: OSError) -> None:
        """Let nothing more out: this machine can't send any more."""
        self.failure = self.failure or error
        self.hold(unit, f"this machine refuses: {error.strerror or error}")

    def mask(self, unit: WorkUnit) -> ScopeMask:
        """Which packets are covered now; made anew whenever the valid grants of the zone are others."""
        now = self._now()
        version = tuple((one.grant.grant_id, one.grant.revision) for one in self._book.of_zone(self._zone, now))
        if self._mask is None or self._mask[0] != version:
            self._mask = version, compile_mask(self._book, self._zone, self._entry.grant.grant_id, now, self.halted)
        return self._mask[1]

    def refusal(self, unit: WorkUnit, address: str, ask: Ask) -> str:
        """Why a packet that the mask does not allow is not covered."""
        return self._problem(address, ask) or "the grants have changed"

    def per_host(self, unit: WorkUnit) -> float:
        """Packets a second that a host may get."""
        return float(self._per_host)

    def _heard(self) -> str | None:
        now = time.monotonic()
        if now < self._news_at:
            return None
        self._news_at = now + NEWS_SECONDS
        return self.news()

    def _problem(self, address: str, ask: Ask) -> str | None:
        for subnet, reason in self.halted.items():
            if contains((subnet,), ipaddress.ip_address(address)):
                return reason
        return self._book.refusal(self._zone, self._entry.grant.grant_id, address, ask, self._now())

    def _take(self, packets: int) -> None:
        self._bucket = spend(self._bucket, time.monotonic(), packets)
        self.packets += packets

    async def _pause(self, seconds: float) -> None:
        """Sleep, looking at the halts all along. Raises Halted."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left, SLICE_SECONDS))
            self.check_unit()
